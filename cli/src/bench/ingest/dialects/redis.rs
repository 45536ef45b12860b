//! Redis: XADD into one stream, many in one write, then WAIT until a replica has them too. WAIT speaks for all commands of
//! its connection before it, and blocks those after it: so publishes go in bursts.

use std::io;

use tokio::net::TcpStream;

use super::line;
use crate::bench::ingest::client::{Dialect, broken};

/// Waits for one replica, for ever.
const WAIT: &[u8] = b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n";

/// A publisher.
#[derive(Debug)]
pub(in crate::bench::ingest) struct Redis {
    /// An XADD up to its payload.
    head: Vec<u8>,
    /// Added, and not waited for yet.
    burst: Vec<u16>,
}

impl Redis {
    /// A connection with payloads of `payload` bytes.
    pub(in crate::bench::ingest) fn new(payload: usize) -> Self {
        let head = format!("*5\r\n$4\r\nXADD\r\n$5\r\nbench\r\n$1\r\n*\r\n$1\r\np\r\n${payload}\r\n");
        Self { head: head.into_bytes(), burst: Vec::new() }
    }
}

impl Dialect for Redis {
    const IN_BURSTS: bool = true;

    async fn greet(&mut self, _stream: &mut TcpStream) -> io::Result<()> {
        Ok(())
    }

    fn publish(&mut self, slot: u16, payload: &[u8], to: &mut Vec<u8>) {
        self.burst.push(slot);
        to.extend_from_slice(&self.head);
        to.extend_from_slice(payload);
        to.extend_from_slice(b"\r\n");
    }

    fn end_burst(&mut self, to: &mut Vec<u8>) {
        to.extend_from_slice(WAIT);
    }

    fn read(&mut self, bytes: &[u8], done: &mut Vec<u16>, _answer: &mut Vec<u8>) -> io::Result<usize> {
        let mut at = 0;
        while let Some((head, length)) = line(&bytes[at..]) {
            match head.split_first() {
                // The identifier of an entry: a bulk string, its length and then itself.
                Some((b'$', _)) => match line(&bytes[at + length..]) {
                    Some((_, entry)) => at += length + entry,
                    None => break,
                },
                Some((b':', replicas)) if replicas != b"0" => {
                    at += length;
                    done.append(&mut self.burst);
                }
                _ => return Err(broken(String::from_utf8_lossy(head))),
            }
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_acknowledged_by_its_wait_and_not_before() {
        let mut redis = Redis::new(2);
        let mut packet = Vec::new();
        redis.publish(0, b"xy", &mut packet);
        assert!(packet.ends_with(b"XADD\r\n$5\r\nbench\r\n$1\r\n*\r\n$1\r\np\r\n$2\r\nxy\r\n"));
        redis.publish(1, b"xy", &mut packet);
        let (mut done, mut answer) = (Vec::new(), Vec::new());
        let added = b"$15\r\n1526919030474-0\r\n$15\r\n1526919030474-1\r\n:1";
        let used = redis.read(added, &mut done, &mut answer).unwrap();
        assert_eq!((used, done.len()), (added.len() - 2, 0));
        assert_eq!(redis.read(b":1\r\n", &mut done, &mut answer).unwrap(), 4);
        assert_eq!(done, [0, 1]);
        for refused in [&b":0\r\n"[..], b"-ERR no\r\n"] {
            assert!(redis.read(refused, &mut done, &mut answer).is_err());
        }
    }
}
