//! The first packet: reads a CONNECT of either standard into one shape, judges it, and says how each standard words a
//! refusal. Decides who may publish; keeps nothing.

use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use mqtt_protocol_core::mqtt::packet::{Properties, Property, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::MqttError;
use shared::identity::Said;
use shared::limits::{PAYLOAD_BYTES_MAX, PUBLISHER_BYTES_MAX, TOPIC_BYTES_MAX};

use super::config::DoorConfig;
use super::packet::{Frame, Version, has_wildcard, said, whole};

/// A CONNECT, whatever standard it came in.
#[derive(Debug)]
pub(super) struct Connect {
    pub(super) version: Version,
    /// Empty: the server chooses.
    pub(super) client: String,
    /// Start without the session of last time.
    pub(super) is_clean: bool,
    /// 0: none.
    pub(super) keep_alive_s: u16,
    /// How long the session outlives the connection; `u32::MAX`: for ever.
    pub(super) session_expiry_s: u32,
    /// Larger packets must not be sent to this client.
    pub(super) packet_bytes_max: usize,
    /// Whether the client wants reasons in words beyond CONNACK and DISCONNECT.
    pub(super) wants_reasons: bool,
    pub(super) will: Option<Will>,
    user: Option<String>,
    password: Option<Bytes>,
}

/// What is published in the client's name when it is lost.
#[derive(Debug)]
pub(super) struct Will {
    pub(super) topic: Bytes,
    pub(super) payload: Bytes,
    /// How long after the connection's end.
    pub(super) delay_s: u32,
    properties: Properties,
}

impl Will {
    /// What the will says about itself.
    pub(super) fn said(&self) -> Said<'_> {
        said(&self.properties)
    }
}

/// Why a CONNECT is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No MQTT at all, or MQTT 3 that is malformed: closed without a word [MQTT-3.1.0-1 and following].
    Silent,
    /// A protocol level nobody here speaks. Told in the words of the level asked for, as far as they exist.
    Level {
        /// Whether the level is above 5, where CONNACK has the form of MQTT 5.
        above: bool,
    },
    /// Refused in MQTT 5's words: its reason code.
    V5(u8),
    /// Refused in MQTT 3.1.1's words: its return code.
    V3(u8),
}

impl Refusal {
    /// The word in counters.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Silent | Self::V5(0x81 | 0x82) => "malformed",
            Self::Level { .. } => "protocol_level",
            Self::V5(0x85) | Self::V3(2) => "client_id",
            Self::V5(0x86 | 0x87) | Self::V3(4 | 5) => "not_authorized",
            Self::V5(_) | Self::V3(_) => "other",
        }
    }

    const fn client_id(version: Version) -> Self {
        match version {
            Version::V3 => Self::V3(2),
            Version::V5 => Self::V5(0x85),
        }
    }
}

/// Reads a CONNECT.
pub(super) fn read(frame: &Frame) -> Result<Connect, Refusal> {
    let body = &frame.body[..];
    let (name, after) = match body {
        [0, 4, b'M', b'Q', b'T', b'T', after @ ..] => ("MQTT", after),
        [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', after @ ..] => ("MQIsdp", after),
        _ => return Err(Refusal::Silent),
    };
    let (&[level, flags], _) = after.split_first_chunk::<2>().ok_or(Refusal::Silent)?;
    let connect = match (name, level) {
        ("MQTT", 4) => v3(body),
        // MQTT 3.1 differs from 3.1.1 for a publisher in the name and number of the protocol only.
        ("MQIsdp", 3) => v3(&[b"\0\x04MQTT\x04", &after[1..]].concat()),
        ("MQTT", 5) => v5(body),
        (_, level) => return Err(Refusal::Level { above: level > 5 }),
    }?;
    let malformed = match connect.version {
        Version::V3 => Refusal::Silent,
        Version::V5 => Refusal::V5(0x81),
    };
    // [MQTT-3.1.2-3] reserved bit; will flags without a will, or a will of QoS 3.
    let (has_will, will_flags) = (flags & 0b100 != 0, flags & 0b11_1000);
    let bad_flags = flags & 1 != 0 || (!has_will && will_flags != 0) || will_flags & 0b1_1000 == 0b1_1000;
    if bad_flags || connect.client.contains('\0') {
        return Err(malformed);
    }
    connect.judge()
}

fn v3(body: &[u8]) -> Result<Connect, Refusal> {
    let parsed = v3_1_1::Connect::parse(body).map_err(|error| match error {
        MqttError::ClientIdentifierNotValid => Refusal::V3(2),
        MqttError::BadUserNameOrPassword => Refusal::V3(4),
        _ => Refusal::Silent,
    })?;
    let connect = whole(body, parsed).map_err(|_| Refusal::Silent)?;
    let is_clean = connect.clean_session();
    Ok(Connect {
        version: Version::V3,
        client: connect.client_id().to_owned(),
        is_clean,
        keep_alive_s: connect.keep_alive(),
        session_expiry_s: if is_clean { 0 } else { u32::MAX },
        packet_bytes_max: usize::MAX,
        wants_reasons: false,
        will: will(connect.will_topic(), connect.will_payload(), Properties::new()),
        user: connect.user_name().map(str::to_owned),
        password: connect.password().map(Bytes::copy_from_slice),
    })
}

/// A password without a user name, which MQTT 5 allows, is refused by the parser as a protocol error; here it could not
/// say who publishes either.
fn v5(body: &[u8]) -> Result<Connect, Refusal> {
    let parsed = v5_0::Connect::parse(body).map_err(|error| match error {
        MqttError::ProtocolError => Refusal::V5(0x82),
        MqttError::ClientIdentifierNotValid => Refusal::V5(0x85),
        MqttError::BadUserNameOrPassword => Refusal::V5(0x86),
        _ => Refusal::V5(0x81),
    })?;
    let parsed = whole(body, parsed).map_err(|_| Refusal::V5(0x81))?;
    let mut connect = Connect {
        version: Version::V5,
        client: parsed.client_id().to_owned(),
        is_clean: parsed.clean_start(),
        keep_alive_s: parsed.keep_alive(),
        session_expiry_s: 0,
        packet_bytes_max: usize::MAX,
        wants_reasons: true,
        will: None,
        user: parsed.user_name().map(str::to_owned),
        password: parsed.password().map(Bytes::copy_from_slice),
    };
    for property in parsed.props() {
        match property {
            Property::SessionExpiryInterval(interval) => connect.session_expiry_s = interval.val(),
            Property::MaximumPacketSize(bytes) => connect.packet_bytes_max = bytes.val() as usize,
            Property::RequestProblemInformation(wanted) => connect.wants_reasons = wanted.val() == 1,
            Property::AuthenticationMethod(_) => return Err(Refusal::V5(0x8c)),
            // [3.1.2.11.10] data without a method is a protocol error.
            Property::AuthenticationData(_) => return Err(Refusal::V5(0x82)),
            _ => {}
        }
    }
    connect.will = will(parsed.will_topic(), parsed.will_payload(), parsed.will_props.clone());
    Ok(connect)
}

fn will(topic: Option<&str>, payload: Option<&[u8]>, properties: Properties) -> Option<Will> {
    let delay_s = properties.iter().find_map(|property| match property {
        Property::WillDelayInterval(interval) => Some(interval.val()),
        _ => None,
    });
    Some(Will {
        topic: Bytes::copy_from_slice(topic?.as_bytes()),
        payload: Bytes::copy_from_slice(payload.unwrap_or_default()),
        delay_s: delay_s.unwrap_or(0),
        properties,
    })
}

impl Connect {
    fn judge(mut self) -> Result<Self, Refusal> {
        let (version, has_session) = (self.version, !self.is_clean);
        let nameless_session = self.client.is_empty() && version == Version::V3 && has_session;
        if nameless_session || self.client.len() > PUBLISHER_BYTES_MAX {
            return Err(Refusal::client_id(version));
        }
        let Some(will) = self.will.take() else { return Ok(self) };
        let topic_wrong = will.topic.is_empty() || will.topic.contains(&0) || has_wildcard(&will.topic);
        if topic_wrong || will.topic.len() > TOPIC_BYTES_MAX {
            return Err(if version == Version::V5 {
                Refusal::V5(0x90)
            } else {
                Refusal::Silent
            });
        }
        if will.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(if version == Version::V5 {
                Refusal::V5(0x95)
            } else {
                Refusal::Silent
            });
        }
        self.will = Some(will);
        Ok(self)
    }

    /// Whether this client may publish here. With users configured it must be one of them, unless it names none and
    /// `anonymous` is set; without users only clients on loopback may, unless `anonymous` is set.
    pub(super) fn authorize(&self, config: &DoorConfig, peer: IpAddr) -> Result<(), Refusal> {
        let (unknown, not_authorized) = match self.version {
            Version::V3 => (Refusal::V3(4), Refusal::V3(5)),
            Version::V5 => (Refusal::V5(0x86), Refusal::V5(0x87)),
        };
        match &self.user {
            Some(name) if !config.users.is_empty() => {
                let given = self.password.as_deref().unwrap_or_default();
                let is_known = config.users.iter().fold(false, |known, user| {
                    known | (user.name == *name && is_same(user.password.as_bytes(), given))
                });
                if is_known { Ok(()) } else { Err(unknown) }
            }
            Some(_) | None => {
                let on_loopback = config.users.is_empty() && peer.to_canonical().is_loopback();
                if config.anonymous || on_loopback {
                    Ok(())
                } else {
                    Err(not_authorized)
                }
            }
        }
    }
}

/// Compares in a time that does not depend on where the first difference is.
fn is_same(wanted: &[u8], given: &[u8]) -> bool {
    let differences = wanted.iter().zip(given).fold(0, |found, (left, right)| found | (left ^ right));
    wanted.len() == given.len() && differences == 0
}

/// The CONNACK that says the refusal; empty where none is sent.
pub(super) fn refuse(refusal: Refusal) -> BytesMut {
    let words: &[u8] = match refusal {
        Refusal::Silent => &[],
        Refusal::Level { above: false } => &[0x20, 2, 0, 1],
        Refusal::Level { above: true } => &[0x20, 3, 0, 0x84, 0],
        Refusal::V5(code) => &[0x20, 3, 0, code, 0],
        Refusal::V3(code) => &[0x20, 2, 0, code],
    };
    BytesMut::from(words)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::config::DoorUser;
    use super::*;

    fn frame(body: &[u8]) -> Frame {
        Frame::new(0x10, Bytes::copy_from_slice(body))
    }

    fn plain(level: u8, flags: u8, tail: &[u8]) -> Frame {
        let properties: &[u8] = if level == 5 { &[0] } else { &[] };
        frame(&[b"\0\x04MQTT", &[level, flags, 0, 10][..], properties, tail].concat())
    }

    #[test]
    fn each_standard_is_read() {
        for (level, version) in [(4, Version::V3), (5, Version::V5)] {
            let connect = read(&plain(level, 2, b"\0\x01a")).unwrap();
            assert_eq!((connect.version, &connect.client[..]), (version, "a"));
            assert_eq!((connect.keep_alive_s, connect.is_clean), (10, true));
        }
        let old = read(&frame(b"\0\x06MQIsdp\x03\x02\0\x0a\0\x01a")).unwrap();
        assert_eq!((old.version, old.keep_alive_s, &old.client[..]), (Version::V3, 10, "a"));
    }

    #[test]
    fn refusals_are_in_the_words_of_the_level_asked_for() {
        let refused = |frame: Frame| read(&frame).err();
        assert_eq!(refused(frame(b"GET / HTTP/1.1")), Some(Refusal::Silent));
        assert_eq!(refused(frame(b"")), Some(Refusal::Silent));
        assert_eq!(refused(frame(b"\0\x04MQTT")), Some(Refusal::Silent));
        assert_eq!(refused(plain(3, 2, b"\0\x01a")), Some(Refusal::Level { above: false }));
        assert_eq!(refused(plain(6, 2, b"\0\x01a")), Some(Refusal::Level { above: true }));
        assert_eq!(refused(plain(4, 0, b"\0\0")), Some(Refusal::V3(2)));
        assert_eq!(refused(plain(5, 0, b"\0\0")), None);
        assert_eq!(refused(plain(4, 3, b"\0\x01a")), Some(Refusal::Silent));
        assert_eq!(refused(plain(5, 3, b"\0\x01a")), Some(Refusal::V5(0x81)));
        assert_eq!(refused(plain(5, 0b1_1110, b"\0\x01a\0\0\x01t\0\0")), Some(Refusal::V5(0x81)));
        assert_eq!(refused(plain(5, 0b0_0110, b"\0\x01a\0\0\x01#\0\0")), Some(Refusal::V5(0x90)));
        assert_eq!(refused(plain(5, 2, b"\0\x01a!")), Some(Refusal::V5(0x81)));
        let long = [&[0, PUBLISHER_BYTES_MAX as u8 + 1][..], &[b'x'; PUBLISHER_BYTES_MAX + 1]].concat();
        assert_eq!(refused(plain(5, 2, &long)), Some(Refusal::V5(0x85)));
    }

    #[test]
    fn enhanced_authentication_is_refused() {
        let connect = frame(b"\0\x04MQTT\x05\x02\0\x0a\x04\x15\0\x01x\0\x01a");
        assert_eq!(read(&connect).err(), Some(Refusal::V5(0x8c)));
    }

    #[test]
    fn who_may_publish() {
        let (near, far) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from([10, 0, 0, 9]));
        let open = DoorConfig::new(([127, 0, 0, 1], 0).into());
        let nobody = read(&plain(4, 2, b"\0\x01a")).unwrap();
        assert_eq!(nobody.authorize(&open, near), Ok(()));
        assert_eq!(nobody.authorize(&open, far), Err(Refusal::V3(5)));
        assert_eq!(nobody.authorize(&DoorConfig { anonymous: true, ..open.clone() }, far), Ok(()));
        let user = DoorUser { name: "u".into(), password: "secret".into() };
        let closed = DoorConfig { users: vec![user], ..open };
        assert_eq!(nobody.authorize(&closed, near), Err(Refusal::V3(5)));
        let named = |password: &[u8]| read(&plain(4, 0xc2, &[b"\0\x01a\0\x01u", password].concat())).unwrap();
        assert_eq!(named(b"\0\x06secret").authorize(&closed, far), Ok(()));
        assert_eq!(named(b"\0\x06secreT").authorize(&closed, far), Err(Refusal::V3(4)));
        assert_eq!(named(b"\0\x05secre").authorize(&closed, near), Err(Refusal::V3(4)));
    }
}
