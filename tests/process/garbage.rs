//! Bytes that no honest peer sends: noise, and packets that begin well and end too soon. By seed, so that what did harm
//! can be sent again.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use tests::dice::Dice;

use crate::mqtt::{self, Publish, Version};

/// Bytes of a datagram that crosses an Ethernet whole.
const DATAGRAM_BYTES_MAX: u64 = 1400;
/// Nobody waits longer for an answer to garbage.
const ANSWER_MAX: Duration = Duration::from_millis(20);

/// Up to `most` random bytes.
pub(crate) fn noise(dice: &mut Dice, most: u64) -> Vec<u8> {
    let count = dice.below(most + 1);
    (0..count).map(|_| dice.word() as u8).collect()
}

/// Opens a connection, sends `bytes`, looks whether there is an answer and leaves.
pub(crate) fn say(target: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(target).expect("the port is open");
    stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
    stream.set_write_timeout(Some(ANSWER_MAX)).unwrap();
    // The other end may hang up half-way: that is its right.
    let _ = stream.write_all(bytes);
    let _ = stream.read(&mut [0; 512]);
}

/// One of the things that a front door should never be told.
pub(crate) fn mqtt_nonsense(dice: &mut Dice) -> Vec<u8> {
    let version = if dice.coin() { Version::V3 } else { Version::V5 };
    let mut bytes = mqtt::connect("garbage", version);
    match dice.below(6) {
        0 => return noise(dice, 4096),
        // A packet that claims 256 MiB, and more than the encoding allows.
        1 => return vec![0x10, 0xff, 0xff, 0xff, 0x7f, 0, 4],
        2 => return vec![0x10, 0xff, 0xff, 0xff, 0xff, 0xff],
        3 => {}
        // A good beginning, then noise.
        4 => {
            bytes.extend(noise(dice, 4096));
            return bytes;
        }
        _ => bytes.extend(a_publish(version)),
    }
    // The last one, cut off somewhere, or with one bit turned.
    let at = dice.below(bytes.len() as u64) as usize;
    if dice.coin() {
        bytes.truncate(at);
    } else {
        bytes[at] ^= 1 << dice.below(8);
    }
    bytes
}

fn a_publish(version: Version) -> Vec<u8> {
    let publish = Publish { topic: "garbage", payload: b"g", packet: 1, dup: false, seq: None };
    mqtt::encode(&publish, version)
}

/// One of the things that a page should never be asked.
pub(crate) fn http_nonsense(dice: &mut Dice) -> Vec<u8> {
    match dice.below(5) {
        0 => noise(dice, 4096),
        1 => b"GET /status HT".to_vec(),
        2 => b"GET /status HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nx".to_vec(),
        3 => [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; 64 * 1024]].concat(),
        _ => [b"POST /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), noise(dice, 512)].concat(),
    }
}

/// Sends `count` datagrams to a QUIC port: noise, and long headers of version 1 (RFC 9000, 17.2) with noise behind them.
pub(crate) fn throw_datagrams(target: SocketAddr, dice: &mut Dice, count: u32) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..count {
        let mut datagram = noise(dice, DATAGRAM_BYTES_MAX);
        if dice.coin() {
            let head = [0xc0 | (dice.word() as u8 & 0x3f), 0, 0, 0, 1, 8];
            datagram.splice(0..0, head);
            datagram.resize(1200, 0);
        }
        // A full buffer on the way drops some: so does a network.
        let _ = socket.send_to(&datagram, target);
    }
}
