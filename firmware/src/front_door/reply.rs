//! What the front door says: CONNACK, acknowledgements, refusals of subscriptions, DISCONNECT. Appends bytes to what
//! a connection will write in one go; decides nothing.
//!
//! Acknowledgements of publishes are four or five bytes and the hot path, so they are written here; everything with
//! properties is built by `mqtt-protocol-core`.

use bytes::{BufMut, BytesMut};
use mqtt_protocol_core::mqtt::packet::{
    AssignedClientIdentifier, MaximumPacketSize, Property, ReasonString, ReceiveMaximum, ServerKeepAlive,
    SessionExpiryInterval, SharedSubscriptionAvailable, SubscriptionIdentifierAvailable, TopicAliasMaximum,
    WildcardSubscriptionAvailable, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::{
    ConnectReasonCode, MqttError, SubackReasonCode, SubackReturnCode, UnsubackReasonCode,
};
use shared::limits::{DOOR_IN_FLIGHT_MAX, DOOR_PACKET_BYTES_MAX, DOOR_TOPIC_ALIASES_MAX};
use shared::record::RecordRefusal;

use super::fault::Fault;
use super::packet::{Qos, Version};
use super::session::{Reply, Verdict};

/// Said with every refused subscription, to clients that want to know.
const PUBLISHES_ONLY: &str = "this server takes publishes only";

/// What a CONNACK of MQTT 5 tells beyond success. `None`: as the client asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Granted {
    pub(super) session_present: bool,
    pub(super) assigned_client: Option<String>,
    pub(super) session_expiry_s: Option<u32>,
    pub(super) keep_alive_s: Option<u16>,
}

/// Appends the CONNACK of an accepted connection.
pub(super) fn connack(version: Version, granted: &Granted, out: &mut BytesMut) {
    match version {
        Version::V3 => out.put_slice(&[0x20, 2, u8::from(granted.session_present), 0]),
        Version::V5 => {
            let bytes = connack_v5(granted).expect("every value granted is within its property's range");
            out.put_slice(&bytes);
        }
    }
}

fn connack_v5(granted: &Granted) -> Result<Vec<u8>, MqttError> {
    let mut properties = vec![
        Property::ReceiveMaximum(ReceiveMaximum::new(DOOR_IN_FLIGHT_MAX as u16)?),
        Property::MaximumPacketSize(MaximumPacketSize::new(DOOR_PACKET_BYTES_MAX as u32)?),
        Property::TopicAliasMaximum(TopicAliasMaximum::new(DOOR_TOPIC_ALIASES_MAX)?),
        Property::WildcardSubscriptionAvailable(WildcardSubscriptionAvailable::new(0)?),
        Property::SubscriptionIdentifierAvailable(SubscriptionIdentifierAvailable::new(0)?),
        Property::SharedSubscriptionAvailable(SharedSubscriptionAvailable::new(0)?),
    ];
    if let Some(client) = &granted.assigned_client {
        properties.push(Property::AssignedClientIdentifier(AssignedClientIdentifier::new(client)?));
    }
    if let Some(seconds) = granted.session_expiry_s {
        properties.push(Property::SessionExpiryInterval(SessionExpiryInterval::new(seconds)?));
    }
    if let Some(seconds) = granted.keep_alive_s {
        properties.push(Property::ServerKeepAlive(ServerKeepAlive::new(seconds)?));
    }
    let connack = v5_0::Connack::builder()
        .session_present(granted.session_present)
        .reason_code(ConnectReasonCode::Success)
        .props(properties)
        .build()?;
    Ok(connack.to_continuous_buffer())
}

/// Appends PUBACK or PUBREC. False where the answer has no word in this version: the connection must end.
#[must_use]
pub(super) fn acknowledge(version: Version, reply: Reply, out: &mut BytesMut) -> bool {
    let kind = match reply.qos {
        Qos::One => 0x40,
        Qos::Two => 0x50,
        Qos::Zero => return true,
    };
    let [high, low] = reply.packet.to_be_bytes();
    match (reply.verdict, version) {
        (Verdict::Taken, _) => out.put_slice(&[kind, 2, high, low]),
        (Verdict::Refused(code), Version::V5) => out.put_slice(&[kind, 3, high, low, code]),
        (Verdict::Refused(_), Version::V3) => return false,
    }
    true
}

/// The reason code of a refused record. PUBACK and PUBREC know no "packet too large": "quota exceeded" is their word for a limit of the server.
pub(super) const fn refusal_code(refusal: RecordRefusal) -> u8 {
    match refusal {
        RecordRefusal::Topic => 0x90,
        RecordRefusal::Payload => 0x97,
        RecordRefusal::Publisher => 0x87,
    }
}

/// Appends PUBCOMP.
pub(super) fn pubcomp(version: Version, packet: u16, was_known: bool, out: &mut BytesMut) {
    let [high, low] = packet.to_be_bytes();
    if was_known || version == Version::V3 {
        out.put_slice(&[0x70, 2, high, low]);
    } else {
        // Packet Identifier not found.
        out.put_slice(&[0x70, 3, high, low, 0x92]);
    }
}

/// Appends PINGRESP.
pub(super) fn pingresp(out: &mut BytesMut) {
    out.put_slice(&[0xd0, 0]);
}

/// The SUBACK that refuses `filters` filters. 0x80 in both versions: MQTT 3.1.1 has no other, and MQTT 5's codes that say
/// more blame the filter or the user, neither of which would do with another one.
pub(super) fn suback(version: Version, packet: u16, filters: usize, with_reason: bool) -> Vec<u8> {
    let built = match version {
        Version::V3 => v3_1_1::Suback::builder()
            .packet_id(packet)
            .return_codes(vec![SubackReturnCode::Failure; filters])
            .build()
            .map(|suback| suback.to_continuous_buffer()),
        Version::V5 => reasons(with_reason).and_then(|properties| {
            v5_0::Suback::builder()
                .packet_id(packet)
                .reason_codes(vec![SubackReasonCode::UnspecifiedError; filters])
                .props(properties)
                .build()
                .map(|suback| suback.to_continuous_buffer())
        }),
    };
    built.expect("a packet identifier and at least one filter, as the parser found them")
}

/// The UNSUBACK that finds no subscription for `filters` filters.
pub(super) fn unsuback(version: Version, packet: u16, filters: usize, with_reason: bool) -> Vec<u8> {
    let built = match version {
        Version::V3 => v3_1_1::Unsuback::builder()
            .packet_id(packet)
            .build()
            .map(|unsuback| unsuback.to_continuous_buffer()),
        Version::V5 => reasons(with_reason).and_then(|properties| {
            v5_0::Unsuback::builder()
                .packet_id(packet)
                .reason_codes(vec![UnsubackReasonCode::NoSubscriptionExisted; filters])
                .props(properties)
                .build()
                .map(|unsuback| unsuback.to_continuous_buffer())
        }),
    };
    built.expect("a packet identifier and at least one filter, as the parser found them")
}

fn reasons(with_reason: bool) -> Result<Vec<Property>, MqttError> {
    if !with_reason {
        return Ok(Vec::new());
    }
    Ok(vec![Property::ReasonString(ReasonString::new(PUBLISHES_ONLY)?)])
}

/// Appends the DISCONNECT that says why; MQTT 3.1.1 has none.
pub(super) fn disconnect(version: Version, fault: Fault, out: &mut BytesMut) {
    if version == Version::V5 {
        out.put_slice(&[0xe0, 1, fault.code()]);
    }
}
