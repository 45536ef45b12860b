//! From bytes to MQTT packets of a publisher: finds packet boundaries, judges a packet's length before it is kept,
//! and hands the body to `mqtt-protocol-core`, with the checks that the standards ask for beyond it. Everything here
//! works on bytes from outside, so everything here may refuse and nothing may panic. Writes nothing.
//!
//! Topic and payload of a publish stay slices of the bytes read from the socket.

use bytes::{Buf, Bytes, BytesMut};
use mqtt_protocol_core::mqtt::packet::{Properties, Property, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::prelude::PropertyValueAccess;
use mqtt_protocol_core::mqtt::result_code::MqttError;
use shared::identity::Said;

use super::fault::Fault;

/// Which of the two standards a connection speaks. MQTT 3.1 (level 3) is read as 3.1.1: a publisher cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V3,
    V5,
}

/// Quality of service of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Qos {
    Zero,
    One,
    Two,
}

/// A packet as framed: first byte and body.
#[derive(Debug)]
pub(super) struct Frame {
    first: u8,
    pub(super) body: Bytes,
}

/// What stands at the front of a connection's bytes.
#[derive(Debug)]
pub(super) enum Framing {
    /// A whole packet, taken out.
    Whole(Frame),
    /// Not yet a packet: so many bytes are needed in all (at least; where the length is not read yet, one more).
    Partial(usize),
    /// Not a packet, or a longer one than is taken.
    Wrong(Fault),
}

/// Takes the first packet out of `bytes`. A packet longer than `packet_bytes_max` is refused as soon as its length is
/// read, before its body is waited for.
pub(super) fn take_frame(bytes: &mut BytesMut, packet_bytes_max: usize) -> Framing {
    let mut length = 0_usize;
    for at in 1..=4 {
        let Some(&byte) = bytes.get(at) else {
            return Framing::Partial(bytes.len() + 1);
        };
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            let whole = at + 1 + length;
            if whole > packet_bytes_max {
                return Framing::Wrong(Fault::PacketTooLarge);
            }
            if bytes.len() < whole {
                return Framing::Partial(whole);
            }
            let mut frame = bytes.split_to(whole).freeze();
            let first = frame[0];
            frame.advance(at + 1);
            return Framing::Whole(Frame { first, body: frame });
        }
    }
    Framing::Wrong(Fault::Malformed)
}

#[cfg(test)]
impl Frame {
    pub(super) fn new(first: u8, body: Bytes) -> Self {
        Self { first, body }
    }
}

/// A packet that a publisher may send once connected.
#[derive(Debug)]
pub(super) enum Packet {
    Publish(Publish),
    Pubrel { packet: u16 },
    Subscribe { packet: u16, filters: usize },
    Unsubscribe { packet: u16, filters: usize },
    Pingreq,
    Disconnect { code: u8, session_expiry_s: Option<u32> },
}

/// A publish as sent.
#[derive(Debug)]
pub(super) struct Publish {
    /// Empty where an alias stands for it.
    pub(super) topic: Bytes,
    pub(super) alias: Option<u16>,
    pub(super) payload: Bytes,
    pub(super) qos: Qos,
    /// 0 for QoS 0.
    pub(super) packet: u16,
    pub(super) resent: bool,
    /// The payload is declared to be UTF-8.
    pub(super) is_text: bool,
    properties: Properties,
}

impl Publish {
    /// What the publish says about itself.
    pub(super) fn said(&self) -> Said<'_> {
        said(&self.properties)
    }
}

/// The user properties that identify a reading; of a name given twice the first counts.
pub(super) fn said(properties: &[Property]) -> Said<'_> {
    let mut said = Said::default();
    for (name, value) in properties.iter().filter_map(PropertyValueAccess::as_key_value) {
        let place = match name {
            "class" => &mut said.class,
            "publisher" => &mut said.publisher,
            "seq" => &mut said.seq,
            "epoch" => &mut said.epoch,
            "ts" => &mut said.ts,
            _ => continue,
        };
        place.get_or_insert(value);
    }
    said
}

/// Reads one packet of a connection that stands.
pub(super) fn read(version: Version, frame: Frame) -> Result<Packet, Fault> {
    let flags = frame.first & 0x0f;
    let kind = frame.first >> 4;
    let flags_wanted = match kind {
        3 => flags,
        6 | 8 | 10 => 0b0010,
        _ => 0,
    };
    if flags != flags_wanted {
        return Err(Fault::Malformed);
    }
    match kind {
        3 => publish(version, flags, frame.body).map(Packet::Publish),
        6 => pubrel(version, &frame.body),
        8 => subscribe(version, &frame.body),
        10 => unsubscribe(version, &frame.body),
        12 if frame.body.is_empty() => Ok(Packet::Pingreq),
        14 => disconnect(version, &frame.body),
        // A second CONNECT; acknowledgements of what this server never sends; AUTH without a method agreed on.
        1 | 4 | 5 | 7 => Err(Fault::Protocol),
        15 if version == Version::V5 => Err(Fault::Protocol),
        // Reserved, or a server's packet.
        _ => Err(Fault::Malformed),
    }
}

fn publish(version: Version, flags: u8, body: Bytes) -> Result<Publish, Fault> {
    let qos = match flags >> 1 & 3 {
        0 => Qos::Zero,
        1 => Qos::One,
        2 => Qos::Two,
        _ => return Err(Fault::Malformed),
    };
    let resent = flags & 0b1000 != 0;
    if resent && qos == Qos::Zero {
        return Err(Fault::Malformed);
    }
    let (packet, payload_bytes, properties) = match version {
        Version::V3 => {
            let (publish, _) = v3_1_1::Publish::parse(flags, body[..].into())?;
            (publish.packet_id(), publish.payload().len(), Properties::new())
        }
        Version::V5 => {
            let (publish, _) = v5_0::Publish::parse(flags, body[..].into())?;
            (publish.packet_id(), publish.payload().len(), publish.props)
        }
    };
    let packet = packet.unwrap_or(0);
    if packet == 0 && qos != Qos::Zero {
        return Err(Fault::Protocol);
    }
    // The parser found the topic whole and to be UTF-8, and the payload to be what the rest leaves.
    let topic_bytes = usize::from(u16::from_be_bytes([body[0], body[1]]));
    let topic = body.slice(2..2 + topic_bytes);
    let payload = body.slice(body.len() - payload_bytes..);
    let mut publish = Publish { topic, alias: None, payload, qos, packet, resent, is_text: false, properties };
    publish.judge()?;
    Ok(publish)
}

impl Publish {
    /// What the parser does not check: [MQTT-1.5.4-2], [MQTT-3.3.2-2], [MQTT-3.3.2-14], [MQTT-3.3.4-6].
    fn judge(&mut self) -> Result<(), Fault> {
        if self.topic.contains(&0) {
            return Err(Fault::Malformed);
        }
        if has_wildcard(&self.topic) {
            return Err(Fault::TopicName);
        }
        for property in &self.properties {
            match property {
                Property::TopicAlias(alias) => self.alias = Some(alias.val()),
                Property::PayloadFormatIndicator(format) => self.is_text = format.val() == 1,
                Property::ResponseTopic(topic) if has_wildcard(topic.val().as_bytes()) => return Err(Fault::Protocol),
                Property::SubscriptionIdentifier(_) => return Err(Fault::Protocol),
                _ => {}
            }
        }
        if self.topic.is_empty() && self.alias.is_none() {
            return Err(Fault::TopicName);
        }
        Ok(())
    }
}

pub(super) fn has_wildcard(topic: &[u8]) -> bool {
    topic.iter().any(|byte| matches!(byte, b'+' | b'#'))
}

fn pubrel(version: Version, body: &[u8]) -> Result<Packet, Fault> {
    let packet = match version {
        Version::V3 => whole(body, v3_1_1::Pubrel::parse(body)?)?.packet_id(),
        Version::V5 => whole(body, v5_0::Pubrel::parse(body)?)?.packet_id(),
    };
    let has_code = version == Version::V3 && body.len() != 2;
    if has_code {
        Err(Fault::Malformed)
    } else {
        Ok(Packet::Pubrel { packet })
    }
}

fn subscribe(version: Version, body: &[u8]) -> Result<Packet, Fault> {
    let (packet, filters) = match version {
        Version::V3 => {
            let subscribe = whole(body, v3_1_1::Subscribe::parse(body)?)?;
            (subscribe.packet_id(), subscribe.entries().len())
        }
        Version::V5 => {
            let subscribe = whole(body, v5_0::Subscribe::parse(body)?)?;
            (subscribe.packet_id(), subscribe.entries().len())
        }
    };
    if packet == 0 {
        Err(Fault::Protocol)
    } else {
        Ok(Packet::Subscribe { packet, filters })
    }
}

fn unsubscribe(version: Version, body: &[u8]) -> Result<Packet, Fault> {
    let (packet, filters) = match version {
        Version::V3 => {
            let unsubscribe = whole(body, v3_1_1::Unsubscribe::parse(body)?)?;
            (unsubscribe.packet_id(), unsubscribe.entries().len())
        }
        Version::V5 => {
            let unsubscribe = whole(body, v5_0::Unsubscribe::parse(body)?)?;
            (unsubscribe.packet_id(), unsubscribe.entries().len())
        }
    };
    if packet == 0 {
        Err(Fault::Protocol)
    } else {
        Ok(Packet::Unsubscribe { packet, filters })
    }
}

fn disconnect(version: Version, body: &[u8]) -> Result<Packet, Fault> {
    match version {
        Version::V3 if body.is_empty() => Ok(Packet::Disconnect { code: 0, session_expiry_s: None }),
        Version::V3 => Err(Fault::Malformed),
        Version::V5 => {
            let disconnect = whole(body, v5_0::Disconnect::parse(body)?)?;
            let code = disconnect.reason_code().map_or(0, |code| code as u8);
            let session_expiry_s = disconnect.props.iter().flatten().find_map(|property| match property {
                Property::SessionExpiryInterval(interval) => Some(interval.val()),
                _ => None,
            });
            Ok(Packet::Disconnect { code, session_expiry_s })
        }
    }
}

/// The packet, if it took its whole body.
pub(super) fn whole<T>(body: &[u8], (packet, taken): (T, usize)) -> Result<T, Fault> {
    if taken == body.len() { Ok(packet) } else { Err(Fault::Malformed) }
}

impl From<MqttError> for Fault {
    fn from(error: MqttError) -> Self {
        match error {
            MqttError::ProtocolError => Self::Protocol,
            MqttError::TopicNameInvalid => Self::TopicName,
            MqttError::TopicAliasInvalid => Self::TopicAlias,
            _ => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64: the same bytes in every run.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) % bound as u64) as usize
        }
    }

    const SEEDS: [&[u8]; 9] = [
        b"\x10\x1f\0\x04MQTT\x05\xc6\0\x0a\x05\x11\0\0\0\x01\0\x01a\0\0\x01w\0\x01p\0\x01u\0\x01p",
        b"\x10\x13\0\x04MQTT\x04\x06\0\x0a\0\x01a\0\x01w\0\x01p",
        b"\x3a\x1d\0\x03a/b\0\x09\x14\x23\0\x01\x26\0\x03seq\0\x017\x01\x01\x02\0\0\0\x05on",
        b"\x32\x09\0\x03a/b\0\x09on",
        b"\x62\x0c\0\x01\0\x08\x1f\0\x02ok\x26\0\0",
        b"\x82\x0b\0\x01\x02\x0b\x01\0\x03a/#\x01",
        b"\xa2\x09\0\x01\0\0\x04$sh/",
        b"\xe0\x07\x04\x05\x11\0\0\0\x09",
        b"\xf0\x05\x18\x03\x15\0\0",
    ];

    #[test]
    fn no_bytes_panic() {
        let mut chance = Chance(7);
        let (mut packets, mut faults) = (0_u32, 0_u32);
        for round in 0..300_000 {
            let mut bytes = SEEDS[round % SEEDS.len()].to_vec();
            for _ in 0..=chance.below(4) {
                let at = chance.below(bytes.len());
                match chance.below(5) {
                    0 => bytes[at] = chance.below(256) as u8,
                    1 => bytes[at] ^= 1 << chance.below(8),
                    2 => bytes.insert(at, chance.below(256) as u8),
                    3 if bytes.len() > 2 => drop(bytes.remove(at)),
                    _ => bytes.truncate(at.max(2)),
                }
            }
            // Half of them are framed right, so that the bodies are reached.
            if round % 2 == 0 {
                bytes[1] = (bytes.len() - 2).min(127) as u8;
            }
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Framing::Whole(frame) = take_frame(&mut buffer, 64) {
                let again = || Frame { first: frame.first, body: frame.body.clone() };
                let _ = super::super::connect::read(&again());
                for version in [Version::V3, Version::V5] {
                    match read(version, again()) {
                        Ok(_) => packets += 1,
                        Err(_) => faults += 1,
                    }
                }
            }
        }
        assert!(packets > 10_000 && faults > 10_000, "both are reached: {packets}, {faults}");
    }

    #[test]
    fn a_length_is_judged_before_its_body_is_there() {
        let framing = |bytes: &[u8], max| take_frame(&mut BytesMut::from(bytes), max);
        assert!(matches!(framing(b"\x30\x7e", 128), Framing::Partial(128)));
        assert!(matches!(framing(b"\x30\x7f", 128), Framing::Wrong(Fault::PacketTooLarge)));
        assert!(matches!(framing(b"\x30\xff\xff\xff\x7f", usize::MAX), Framing::Partial(268_435_460)));
        assert!(matches!(framing(b"\x30\xff\xff\xff\xff", 128), Framing::Wrong(Fault::Malformed)));
        assert!(matches!(framing(b"\x30\xff", 128), Framing::Partial(3)));
        assert!(matches!(framing(b"\x30", 128), Framing::Partial(2)));
    }
}
