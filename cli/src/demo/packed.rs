//! The log that comes with the demo, in a compact form: columns of differences, compressed. Owns that format, which
//! only this file reads and writes; `cli/assets/README.md` says where the data came from.
//!
//! ```text
//! "RSLOG1" | length of what follows once decompressed, u32 little-endian | LZ4 block:
//!   devices: count, then (length, bytes) each | events: count | four columns, one value an event:
//!   time minus the time before | device | event | parameter
//! ```
//!
//! Numbers are LEB128, signed ones in zigzag.

use std::fmt;

use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};

use super::log::{DEVICE_BYTES_MAX, DEVICES_MAX, EVENTS_MAX, Log, LogEvent};

const MAGIC: &[u8] = b"RSLOG1";
/// Bytes of a packed log once decompressed: bounds what a damaged one may allocate.
const RAW_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Two hours of one real signal controller.
static CONTROLLER: &[u8] = include_bytes!("../../assets/hires-events.rslog");

/// The bytes are no packed log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPack;

impl fmt::Display for BadPack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the packed log is damaged")
    }
}

impl std::error::Error for BadPack {}

/// The log that comes with the demo: 37,152 events over two hours.
pub fn controller() -> Result<Log, BadPack> {
    unpack(CONTROLLER)
}

/// `log` as bytes that [`unpack`] reads.
pub fn pack(log: &Log) -> Vec<u8> {
    let mut raw = Vec::new();
    put(&mut raw, log.devices.len() as u64);
    for device in &log.devices {
        put(&mut raw, device.len() as u64);
        raw.extend_from_slice(device.as_bytes());
    }
    put(&mut raw, log.events.len() as u64);
    let mut before = 0_i64;
    for event in &log.events {
        put(&mut raw, zigzag(event.at_ms.wrapping_sub(before)));
        before = event.at_ms;
    }
    log.events.iter().for_each(|event| put(&mut raw, u64::from(event.device)));
    log.events.iter().for_each(|event| put(&mut raw, zigzag(event.event)));
    log.events.iter().for_each(|event| put(&mut raw, zigzag(event.param)));
    let head = MAGIC.len() + 4;
    let mut bytes = vec![0; head + get_maximum_output_size(raw.len())];
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    let length = u32::try_from(raw.len()).expect("events and devices are bounded to less than 4 GiB");
    bytes[MAGIC.len()..head].copy_from_slice(&length.to_le_bytes());
    let packed = compress_into(&raw, &mut bytes[head..]).expect("the block has room for the worst case");
    bytes.truncate(head + packed);
    bytes
}

/// The log in `bytes`. Refused: anything that [`pack`] does not write.
pub fn unpack(bytes: &[u8]) -> Result<Log, BadPack> {
    let body = bytes.strip_prefix(MAGIC).ok_or(BadPack)?;
    let (length, body) = body.split_first_chunk().ok_or(BadPack)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| BadPack)?;
    if length > RAW_BYTES_MAX {
        return Err(BadPack);
    }
    let mut raw = vec![0; length];
    if !decompress_into(body, &mut raw).is_ok_and(|written| written == length) {
        return Err(BadPack);
    }
    let mut rest = Rest(&raw);
    let mut log = Log::default();
    for _ in 0..rest.count(DEVICES_MAX)? {
        let length = rest.count(DEVICE_BYTES_MAX)?;
        let name = rest.bytes(length)?;
        log.devices.push(std::str::from_utf8(name).map_err(|_| BadPack)?.to_owned());
    }
    let count = rest.count(EVENTS_MAX)?;
    // Each event takes four bytes or more: a count that the bytes cannot hold allocates nothing.
    if count > rest.0.len() / 4 {
        return Err(BadPack);
    }
    let mut at_ms = 0_i64;
    for _ in 0..count {
        at_ms = at_ms.wrapping_add(rest.signed()?);
        log.events.push(LogEvent { at_ms, device: 0, event: 0, param: 0 });
    }
    let devices = log.devices.len();
    for event in &mut log.events {
        let index = rest.number()?;
        event.device = u32::try_from(index).ok().filter(|_| index < devices as u64).ok_or(BadPack)?;
    }
    for event in &mut log.events {
        event.event = rest.signed()?;
    }
    for event in &mut log.events {
        event.param = rest.signed()?;
    }
    if rest.0.is_empty() { Ok(log) } else { Err(BadPack) }
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn put(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// What has not been read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn number(&mut self) -> Result<u64, BadPack> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(BadPack)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(BadPack)
    }

    fn signed(&mut self) -> Result<i64, BadPack> {
        let value = self.number()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    fn count(&mut self, most: usize) -> Result<usize, BadPack> {
        let count = usize::try_from(self.number()?).map_err(|_| BadPack)?;
        if count <= most { Ok(count) } else { Err(BadPack) }
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], BadPack> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(BadPack)?;
        self.0 = rest;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the asset is, and where [`rebuild`] finds the CSV it is made from.
    const ASSET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/hires-events.rslog");
    const CSV_VARIABLE: &str = "HIRES_EVENTS_CSV";

    fn odd() -> Log {
        let event = |at_ms, device, event, param| LogEvent { at_ms, device, event, param };
        Log {
            devices: vec!["1136".to_owned(), "ü".repeat(32)],
            events: vec![
                event(0, 0, 82, 5),
                event(i64::MAX, 1, i64::MIN, i64::MAX),
                event(i64::MIN, 0, -1, 0),
                event(-1, 1, 127, 128),
            ],
        }
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        for log in [Log::default(), odd()] {
            assert_eq!(unpack(&pack(&log)), Ok(log));
        }
    }

    #[test]
    fn no_damage_makes_it_panic() {
        let bytes = pack(&odd());
        for at in 0..bytes.len() {
            assert!(unpack(&bytes[..at]).is_err(), "cut at {at}");
            for wrong in 0..=255 {
                let mut spoiled = bytes.clone();
                spoiled[at] = wrong;
                let _ = unpack(&spoiled);
            }
        }
        let mut huge = MAGIC.to_vec();
        huge.extend(u32::MAX.to_le_bytes());
        assert_eq!(unpack(&huge), Err(BadPack));
    }

    #[test]
    fn the_log_that_comes_with_the_demo_is_whole() {
        let log = controller().unwrap();
        assert_eq!((log.events.len(), log.devices.as_slice()), (37_152, &["1136".to_owned()][..]));
        let (first, last) = (log.events[0], log.events[37_151]);
        // 2024-04-15T12:00:00.000,1136,0,5 and 2024-04-15T13:59:58.500,1136,65,6
        assert_eq!((first.at_ms, first.event, first.param), (1_713_182_400_000, 0, 5));
        assert_eq!((last.at_ms, last.event, last.param), (1_713_189_598_500, 65, 6));
        let actuations = log.events.iter().filter(|event| event.event == 82).count();
        assert_eq!(actuations, 12_595);
        assert!(CONTROLLER.len() < 200 * 1024, "{} bytes", CONTROLLER.len());
    }

    /// `HIRES_EVENTS_CSV=hires-events.csv cargo test -p cli -- --ignored rebuild` makes the asset anew.
    #[test]
    #[ignore = "makes the asset anew from the CSV"]
    fn rebuild() {
        let path = std::env::var(CSV_VARIABLE).expect("the variable names the CSV");
        let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
        let log = Log::read_csv(file).unwrap();
        let bytes = pack(&log);
        assert_eq!(unpack(&bytes), Ok(log));
        std::fs::write(ASSET, bytes).unwrap();
    }
}
