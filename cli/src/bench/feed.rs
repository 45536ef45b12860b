//! Numbered readings for a site that is drilled: published as fast as they are acknowledged, known again by their numbers.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use tokio::net::TcpStream;

use super::drain::publish::publish_all;
use super::ingest::client::noise;
use super::ingest::dialects::mqtt::Mqtt;

/// Bytes of a reading.
pub(crate) const READING_BYTES: usize = 200;
/// Digits of its number.
const DIGITS: usize = 12;

/// Publishes the readings `numbers` to `server` as sensor `sensor`; returns once each is acknowledged.
pub(crate) async fn feed(server: SocketAddr, sensor: u8, mut numbers: Range<u64>) -> io::Result<()> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let mqtt = Mqtt::on(format!("drill-{sensor}-{}", numbers.start), &format!("drill/{sensor}"), READING_BYTES);
    let rest: Vec<u8> = noise(sensor.into(), READING_BYTES - DIGITS - 1).collect();
    publish_all(stream, mqtt, move |payload| match numbers.next() {
        Some(number) => {
            payload.extend_from_slice(format!("{number:0DIGITS$} ").as_bytes());
            payload.extend_from_slice(&rest);
            true
        }
        None => false,
    })
    .await
}

/// The number of the reading with this payload; `None` where it is none of ours.
pub(crate) fn number(payload: &[u8]) -> Option<u64> {
    let is_ours = payload.len() == READING_BYTES && payload.get(DIGITS) == Some(&b' ');
    let digits = payload.get(..DIGITS).filter(|_| is_ours)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_known_by_their_numbers_and_others_are_not() {
        let mut payload = format!("{:012} ", 4711).into_bytes();
        payload.resize(READING_BYTES, b'x');
        assert_eq!(number(&payload), Some(4711));
        assert_eq!(number(&payload[1..]), None);
        payload[3] = b'-';
        assert_eq!(number(&payload), None);
    }
}
