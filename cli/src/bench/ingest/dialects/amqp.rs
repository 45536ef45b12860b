//! AMQP 0-9-1: publishes into a quorum queue of RabbitMQ with publisher confirms.

use std::collections::BTreeMap;
use std::io;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::read_until;
use crate::bench::ingest::client::{Dialect, broken};

/// The queue, by which messages are routed on the default exchange.
const QUEUE: &str = "bench";
/// Frame types and the byte that ends every frame (AMQP 0-9-1, section 4.2.3).
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xce;
/// Bytes of a frame beside its payload.
const FRAME_BYTES: usize = 8;
/// Methods, as class and method together.
const START: u32 = 10 << 16 | 10;
const START_OK: u32 = 10 << 16 | 11;
const TUNE: u32 = 10 << 16 | 30;
const TUNE_OK: u32 = 10 << 16 | 31;
const OPEN: u32 = 10 << 16 | 40;
const OPEN_OK: u32 = 10 << 16 | 41;
const CHANNEL_OPEN: u32 = 20 << 16 | 10;
const CHANNEL_OPEN_OK: u32 = 20 << 16 | 11;
const DECLARE: u32 = 50 << 16 | 10;
const DECLARE_OK: u32 = 50 << 16 | 11;
const PUBLISH: u32 = 60 << 16 | 40;
const ACK: u32 = 60 << 16 | 80;
const SELECT: u32 = 85 << 16 | 10;
const SELECT_OK: u32 = 85 << 16 | 11;

/// A publisher.
#[derive(Debug)]
pub(in crate::bench::ingest) struct Amqp {
    /// All of a publish before its payload.
    head: Vec<u8>,
    next_tag: u64,
    unconfirmed: BTreeMap<u64, u16>,
}

impl Amqp {
    /// A connection with payloads of `payload` bytes.
    pub(in crate::bench::ingest) fn new(payload: usize) -> Self {
        let mut head = Vec::new();
        let publish = [&[0, 0][..], &short(""), &short(QUEUE), &[0]].concat();
        method(1, PUBLISH, &publish, &mut head);
        // Class 60, weight 0, the body's size, and of all properties the delivery mode: 2, persistent.
        let header = [&[0, 60, 0, 0][..], &(payload as u64).to_be_bytes(), &[0x10, 0, 2]].concat();
        frame(HEADER, 1, &header, &mut head);
        head.extend([BODY, 0, 1]);
        head.extend((payload as u32).to_be_bytes());
        Self { head, next_tag: 1, unconfirmed: BTreeMap::new() }
    }
}

impl Dialect for Amqp {
    async fn greet(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(b"AMQP\0\0\x09\x01").await?;
        expect(stream, START).await?;
        let login = [&0_u32.to_be_bytes()[..], &short("PLAIN"), &long(b"\0guest\0guest"), &short("en_US")].concat();
        send(stream, 0, START_OK, &login).await?;
        let mut tuning = expect(stream, TUNE).await?;
        // Its limits, and no heartbeats.
        let heartbeat = tuning.len().saturating_sub(2);
        tuning[heartbeat..].fill(0);
        send(stream, 0, TUNE_OK, &tuning).await?;
        send(stream, 0, OPEN, &[&short("/")[..], &short(""), &[0]].concat()).await?;
        expect(stream, OPEN_OK).await?;
        send(stream, 1, CHANNEL_OPEN, &short("")).await?;
        expect(stream, CHANNEL_OPEN_OK).await?;
        let arguments = [&short("x-queue-type")[..], b"S", &long(b"quorum")].concat();
        // Durable.
        let declare = [&[0, 0][..], &short(QUEUE), &[2], &long(&arguments)].concat();
        send(stream, 1, DECLARE, &declare).await?;
        expect(stream, DECLARE_OK).await?;
        send(stream, 1, SELECT, &[0]).await?;
        expect(stream, SELECT_OK).await.map(drop)
    }

    fn publish(&mut self, slot: u16, payload: &[u8], to: &mut Vec<u8>) {
        self.unconfirmed.insert(self.next_tag, slot);
        self.next_tag += 1;
        to.extend_from_slice(&self.head);
        to.extend_from_slice(payload);
        to.push(FRAME_END);
    }

    fn read(&mut self, bytes: &[u8], done: &mut Vec<u16>, _answer: &mut Vec<u8>) -> io::Result<usize> {
        let mut at = 0;
        while let Some((what, arguments, length)) = first_method(&bytes[at..])? {
            let (Some(tag), Some(multiple), ACK) = (arguments.first_chunk::<8>(), arguments.get(8), what) else {
                return Err(refusal(what, arguments));
            };
            let tag = u64::from_be_bytes(*tag);
            if multiple & 1 == 1 {
                let later = self.unconfirmed.split_off(&(tag + 1));
                done.extend(std::mem::replace(&mut self.unconfirmed, later).into_values());
            } else {
                done.extend(self.unconfirmed.remove(&tag));
            }
            at += length;
        }
        Ok(at)
    }
}

/// Whether RabbitMQ takes publishes into the queue on all of its nodes: it is declared here, if it is not yet.
pub(in crate::bench::ingest) async fn declare(stream: &mut TcpStream) -> io::Result<()> {
    Amqp::new(0).greet(stream).await
}

fn short(text: &str) -> Vec<u8> {
    [&[text.len() as u8][..], text.as_bytes()].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

fn frame(kind: u8, channel: u16, payload: &[u8], to: &mut Vec<u8>) {
    to.push(kind);
    to.extend(channel.to_be_bytes());
    to.extend((payload.len() as u32).to_be_bytes());
    to.extend(payload);
    to.push(FRAME_END);
}

fn method(channel: u16, what: u32, arguments: &[u8], to: &mut Vec<u8>) {
    frame(METHOD, channel, &[&what.to_be_bytes()[..], arguments].concat(), to);
}

async fn send(stream: &mut TcpStream, channel: u16, what: u32, arguments: &[u8]) -> io::Result<()> {
    let mut bytes = Vec::new();
    method(channel, what, arguments, &mut bytes);
    stream.write_all(&bytes).await
}

/// The arguments of the method `what`, which must come next and alone.
async fn expect(stream: &mut TcpStream, what: u32) -> io::Result<Vec<u8>> {
    let answer = read_until(stream, |bytes| matches!(first_method(bytes), Ok(Some(_)) | Err(_))).await?;
    match first_method(&answer)? {
        Some((found, arguments, _)) if found == what => Ok(arguments.to_vec()),
        Some((found, arguments, _)) => Err(refusal(found, arguments)),
        None => Err(broken("half an answer")),
    }
}

/// The whole method at the front of `bytes`: what it is, its arguments, and how many bytes its frame has.
fn first_method(bytes: &[u8]) -> io::Result<Option<(u32, &[u8], usize)>> {
    let Some(head) = bytes.first_chunk::<7>() else { return Ok(None) };
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    let Some(payload) = bytes.get(7..size + FRAME_BYTES) else { return Ok(None) };
    match payload.split_first_chunk::<4>() {
        Some((what, arguments)) if head[0] == METHOD && payload.last() == Some(&FRAME_END) => {
            let arguments = &arguments[..arguments.len() - 1];
            Ok(Some((u32::from_be_bytes(*what), arguments, size + FRAME_BYTES)))
        }
        _ => Err(broken("the server says something else than a method")),
    }
}

/// What a server says that takes no more: a close with its reason, or a method that was not expected.
fn refusal(what: u32, arguments: &[u8]) -> io::Error {
    let text: String = String::from_utf8_lossy(arguments)
        .chars()
        .filter(|letter| !letter.is_control())
        .collect();
    broken(format!("method {}.{}: {text}", what >> 16, what & 0xffff))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledged(tag: u64, multiple: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        method(1, ACK, &[&tag.to_be_bytes()[..], &[multiple]].concat(), &mut bytes);
        bytes
    }

    #[test]
    fn a_publish_is_three_frames() {
        let mut packet = Vec::new();
        Amqp::new(2).publish(0, b"xy", &mut packet);
        let method = [&[1, 0, 1, 0, 0, 0, 14, 0, 60, 0, 40, 0, 0, 0, 5][..], b"bench", &[0, FRAME_END]].concat();
        let header = [2, 0, 1, 0, 0, 0, 15, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x10, 0, 2, FRAME_END];
        let body = [3, 0, 1, 0, 0, 0, 2, b'x', b'y', FRAME_END];
        assert_eq!(packet, [&method[..], &header, &body].concat());
    }

    #[test]
    fn one_confirm_may_speak_for_all_before_it() {
        let mut amqp = Amqp::new(0);
        for slot in 10..15 {
            amqp.publish(slot, b"", &mut Vec::new());
        }
        let (mut done, mut answer) = (Vec::new(), Vec::new());
        let bytes = [acknowledged(2, 0), acknowledged(4, 1), acknowledged(5, 0)].concat();
        let used = amqp.read(&bytes[..bytes.len() - 1], &mut done, &mut answer).unwrap();
        assert_eq!((used, done.clone()), (bytes.len() * 2 / 3, vec![11, 10, 12, 13]));
        amqp.read(&bytes[used..], &mut done, &mut answer).unwrap();
        assert_eq!(done.last(), Some(&14));
        let mut refused = Vec::new();
        method(1, 60 << 16 | 120, &[0; 9], &mut refused);
        assert!(amqp.read(&refused, &mut done, &mut answer).is_err(), "a nack");
    }
}
