//! IPv4 packets as they pass through: whose they are, and their checksums, which a virtual cable's kernel leaves to a network
//! card that is not there.

use std::net::Ipv4Addr;

/// Bytes of an IPv4 header without options.
const HEADER_LEAST: usize = 20;
/// Protocol numbers (IANA), and where each has its checksum.
const TCP: (u8, usize) = (6, 16);
const UDP: (u8, usize) = (17, 6);

/// A whole, unbroken IPv4 packet.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    bytes: &'a mut [u8],
    header: usize,
}

impl<'a> Packet<'a> {
    /// The packet at the front of `bytes`; `None` where there is none, or a fragment.
    pub(super) fn read(bytes: &'a mut [u8]) -> Option<Self> {
        let head = bytes.get(..HEADER_LEAST)?;
        let header = usize::from(head[0] & 15) * 4;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        // All but "don't fragment" and the reserved bit.
        let is_fragment = u16::from_be_bytes([head[6], head[7]]) & 0x3fff != 0;
        let is_sound = head[0] >> 4 == 4 && header >= HEADER_LEAST && length >= header && !is_fragment;
        let bytes = bytes.get_mut(..length).filter(|_| is_sound)?;
        Some(Self { bytes, header })
    }

    /// Where it goes.
    pub(super) fn target(&self) -> Ipv4Addr {
        let at = &self.bytes[16..HEADER_LEAST];
        Ipv4Addr::new(at[0], at[1], at[2], at[3])
    }

    /// Gives it the checksum that it should have, where it carries TCP or UDP, and returns its bytes.
    pub(super) fn mended(self) -> &'a [u8] {
        let protocol = self.bytes[9];
        let (addresses, body) = self.bytes.split_at_mut(self.header);
        let place = [TCP, UDP].into_iter().find(|(number, _)| *number == protocol);
        if let Some((_, at)) = place
            && body.len() >= at + 2
        {
            body[at..at + 2].fill(0);
            let length = u32::try_from(body.len()).unwrap_or(0);
            let pseudo = sum(&addresses[12..HEADER_LEAST]) + u32::from(protocol) + length;
            let folded = !fold(pseudo + sum(body));
            // To UDP 0 means that there is none.
            let checksum = if folded == 0 && protocol == UDP.0 { u16::MAX } else { folded };
            body[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        }
        self.bytes
    }
}

/// 16-bit words added up (RFC 1071); 64 KiB of them fit.
fn sum(bytes: &[u8]) -> u32 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let whole: u32 = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    whole + rest.first().map_or(0, |last| u32::from(*last) << 8)
}

fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UDP packet from 10.0.0.1:1 to 10.0.0.2:2 that says `says`.
    fn udp(says: &[u8]) -> Vec<u8> {
        let length = (HEADER_LEAST + 8 + says.len()) as u16;
        let mut bytes = vec![0x45, 0];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0, 1, 0x40, 0, 64, UDP.0, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend([0, 1, 0, 2]);
        bytes.extend((8 + says.len() as u16).to_be_bytes());
        bytes.extend([0xab, 0xcd]);
        bytes.extend(says);
        bytes
    }

    #[test]
    fn a_checksum_makes_the_sum_whole() {
        for says in [&b"even"[..], b"odd", b""] {
            let mut bytes = udp(says);
            let packet = Packet::read(&mut bytes).unwrap();
            assert_eq!(packet.target(), Ipv4Addr::new(10, 0, 0, 2));
            let mended = packet.mended().to_vec();
            let pseudo = sum(&mended[12..20]) + u32::from(UDP.0) + (mended.len() - HEADER_LEAST) as u32;
            assert_eq!(fold(pseudo + sum(&mended[HEADER_LEAST..])), 0xffff);
        }
    }

    #[test]
    fn what_is_no_whole_packet_is_none() {
        let sound = udp(b"x");
        let with = |at: usize, byte: u8| {
            let mut bytes = sound.clone();
            bytes[at] = byte;
            Packet::read(&mut bytes).is_some()
        };
        assert!(with(0, 0x45));
        assert!(!with(0, 0x65) && !with(0, 0x44) && !with(3, 0xff) && !with(3, 3) && !with(6, 0x20) && !with(7, 1));
        assert!(Packet::read(&mut [0x45; 19]).is_none());
    }
}
