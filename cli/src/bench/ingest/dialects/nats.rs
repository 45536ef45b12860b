//! NATS: publishes into a JetStream stream with a reply subject each, by which the stream acknowledges.

use std::io::{self, Write as _};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{line, read_until};
use crate::bench::ingest::client::{Dialect, broken};

/// What a connection says first: answers to nobody, no echo, headers for the word that nobody listens.
const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false,\"headers\":true,\
                       \"no_responders\":true,\"protocol\":1,\"lang\":\"rust\",\"version\":\"0\"}\r\n";
/// The stream, of which all subjects below belong to it.
pub(in crate::bench) const STREAM: &str = "bench";

/// A publisher.
#[derive(Debug)]
pub(in crate::bench) struct Nats {
    subject: String,
    inbox: String,
    payload: usize,
}

impl Nats {
    /// Connection `number`, with payloads of `payload` bytes.
    pub(in crate::bench) fn new(number: usize, payload: usize) -> Self {
        Self { subject: format!("{STREAM}.{number}"), inbox: format!("_INBOX.b{number}"), payload }
    }

    /// The place that the answer in a MSG line's subject is for.
    fn slot(&self, subject: &[u8]) -> Option<u16> {
        let digits = subject.strip_prefix(self.inbox.as_bytes())?.strip_prefix(b".")?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }
}

impl Dialect for Nats {
    async fn greet(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        introduce(stream, &self.inbox).await
    }

    fn publish(&mut self, slot: u16, payload: &[u8], to: &mut Vec<u8>) {
        // Writing to a Vec fails never.
        let _ = write!(to, "PUB {} {}.{slot} {}\r\n", self.subject, self.inbox, self.payload);
        to.extend_from_slice(payload);
        to.extend_from_slice(b"\r\n");
    }

    fn read(&mut self, bytes: &[u8], done: &mut Vec<u16>, answer: &mut Vec<u8>) -> io::Result<usize> {
        let mut at = 0;
        while let Some(message) = next(&bytes[at..])? {
            match message.what {
                What::Ping => answer.extend_from_slice(b"PONG\r\n"),
                What::Other => {}
                What::Message { subject, body } => {
                    let slot = self
                        .slot(subject)
                        .ok_or_else(|| broken("an answer to nothing that was asked"))?;
                    if body.windows(6).any(|word| word == b"\"seq\":") {
                        done.push(slot);
                    } else {
                        return Err(broken(String::from_utf8_lossy(body)));
                    }
                }
            }
            at += message.length;
        }
        Ok(at)
    }
}

/// Connects as a client whose inbox is `inbox`, as far as the first PONG.
async fn introduce(stream: &mut TcpStream, inbox: &str) -> io::Result<()> {
    stream
        .write_all(format!("{CONNECT}SUB {inbox}.* 1\r\nPING\r\n").as_bytes())
        .await?;
    let answer = read_until(stream, |bytes| bytes.windows(6).any(|word| word == b"PONG\r\n")).await?;
    if answer.windows(4).any(|word| word == b"-ERR") {
        return Err(broken(String::from_utf8_lossy(&answer)));
    }
    Ok(())
}

/// Asks JetStream's API `what` with the JSON `body`; returns its answer.
pub(in crate::bench) async fn ask(stream: &mut TcpStream, what: &str, body: &str) -> io::Result<Vec<u8>> {
    introduce(stream, "_INBOX.ask").await?;
    let request = format!("PUB $JS.API.{what} _INBOX.ask.0 {}\r\n{body}\r\n", body.len());
    stream.write_all(request.as_bytes()).await?;
    let answer = read_until(stream, |bytes| !matches!(first_body(bytes), Ok(None))).await?;
    match first_body(&answer)? {
        Some(body) => Ok(body.to_vec()),
        None => Err(broken("half an answer")),
    }
}

/// Messages asked for at once.
const BATCH: u64 = 1000;

/// Reads all `count` messages of the stream `name`, each once.
pub(in crate::bench) async fn read_stream(
    stream: &mut TcpStream,
    name: &str,
    count: u64,
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    introduce(stream, "_INBOX.read").await?;
    let config = format!(
        "{{\"stream_name\":\"{name}\",\"config\":{{\"name\":\"reader\",\"deliver_policy\":\"all\",\
         \"ack_policy\":\"none\"}}}}"
    );
    let create = format!("PUB $JS.API.CONSUMER.CREATE.{name}.reader _INBOX.read.made {}\r\n{config}\r\n", config.len());
    stream.write_all(create.as_bytes()).await?;
    let next_batch = format!("{{\"batch\":{BATCH},\"expires\":5000000000}}");
    let ask = format!("PUB $JS.API.CONSUMER.MSG.NEXT.{name}.reader _INBOX.read.over {}\r\n", next_batch.len());
    let ask = format!("{ask}{next_batch}\r\n");
    let (mut bytes, mut read, mut in_vain) = (Vec::new(), 0, 0);
    while read < count {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        let (mut at, mut answer) = (0, Vec::new());
        while let Some(message) = next(&bytes[at..])? {
            match message.what {
                What::Ping => answer.extend_from_slice(b"PONG\r\n"),
                What::Message { subject: b"_INBOX.read.made", body } => {
                    if body.windows(8).any(|word| word == b"\"error\":") {
                        return Err(broken(String::from_utf8_lossy(body)));
                    }
                    answer.extend_from_slice(ask.as_bytes());
                }
                // It has no more for now.
                What::Message { subject: b"_INBOX.read.over", .. } if in_vain > 1 => {
                    return Err(broken("it does not bring what it holds"));
                }
                What::Message { subject: b"_INBOX.read.over", .. } => {
                    in_vain += 1;
                    answer.extend_from_slice(ask.as_bytes());
                }
                What::Message { body, .. } => {
                    each(body);
                    (read, in_vain) = (read + 1, 0);
                    if read % BATCH == 0 {
                        answer.extend_from_slice(ask.as_bytes());
                    }
                }
                What::Other => {}
            }
            at += message.length;
        }
        bytes.drain(..at);
        stream.write_all(&answer).await?;
    }
    Ok(())
}

/// The body of the first whole message; what a server says beside messages is passed over.
fn first_body(mut bytes: &[u8]) -> io::Result<Option<&[u8]>> {
    while let Some(message) = next(bytes)? {
        if let What::Message { body, .. } = message.what {
            return Ok(Some(body));
        }
        bytes = &bytes[message.length..];
    }
    Ok(None)
}

struct Message<'a> {
    what: What<'a>,
    length: usize,
}

enum What<'a> {
    Message { subject: &'a [u8], body: &'a [u8] },
    Ping,
    Other,
}

/// The whole protocol message at the front of `bytes`.
fn next(bytes: &[u8]) -> io::Result<Option<Message<'_>>> {
    let Some((head, length)) = line(bytes) else { return Ok(None) };
    let words: Vec<&[u8]> = head.split(|byte| *byte == b' ').collect();
    match words.first().copied() {
        Some(b"MSG" | b"HMSG") => {}
        Some(b"PING") => return Ok(Some(Message { what: What::Ping, length })),
        Some(b"-ERR") => return Err(broken(String::from_utf8_lossy(head))),
        _ => return Ok(Some(Message { what: What::Other, length })),
    }
    let size = words
        .last()
        .and_then(|word| std::str::from_utf8(word).ok()?.parse::<usize>().ok());
    let (Some(subject), Some(size)) = (words.get(1).copied(), size) else {
        return Err(broken("a message without subject or size"));
    };
    let Some(body) = bytes[length..].get(..size + 2) else { return Ok(None) };
    let what = What::Message { subject, body: &body[..size] };
    Ok(Some(Message { what, length: length + size + 2 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_names_its_place_and_a_refusal_is_one() {
        let mut nats = Nats::new(3, 2);
        let mut packet = Vec::new();
        nats.publish(17, b"xy", &mut packet);
        assert_eq!(packet, b"PUB bench.3 _INBOX.b3.17 2\r\nxy\r\n");
        let (mut done, mut answer) = (Vec::new(), Vec::new());
        let acknowledged = b"MSG _INBOX.b3.17 1 26\r\n{\"stream\":\"bench\",\"seq\":1}\r\nPING\r\nMSG _INB";
        assert_eq!(nats.read(acknowledged, &mut done, &mut answer).unwrap(), 23 + 28 + 6);
        assert_eq!((done, answer), (vec![17], b"PONG\r\n".to_vec()));
        let mixed = b"INFO {}\r\nPING\r\nMSG a 1 2\r\nhi\r\n";
        assert_eq!(first_body(mixed).unwrap(), Some(&b"hi"[..]));
        assert_eq!(first_body(&mixed[..mixed.len() - 1]).unwrap(), None);
        for refused in [
            &b"MSG _INBOX.b3.1 1 12\r\n{\"error\":{}}\r\n"[..],
            b"HMSG _INBOX.b3.1 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n",
            b"-ERR 'Authorization Violation'\r\n",
        ] {
            assert!(nats.read(refused, &mut Vec::new(), &mut Vec::new()).is_err());
        }
    }
}
