//! One client's conversation once it is connected: what each packet means for its session, what is offered to the node
//! and what is said back. No socket and no clock: bytes and packets in, offers and bytes out.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use shared::action::Offer;
use shared::identity::{self, Said};
use shared::limits::{DOOR_TOPIC_ALIASES_MAX, PAYLOAD_BYTES_MAX, TOPIC_BYTES_MAX};
use shared::record::Record;
use shared::time::WallMillis;

use super::connect::Will;
use super::counters::{DoorCounters, add};
use super::fault::Fault;
use super::packet::{Frame, Packet, Publish, Qos, Version, read};
use super::reply;
use super::session::{Arrival, Session, Verdict};

/// Publishes of one connection on their way to the node.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) offers: Vec<Offer>,
    /// Bytes that they keep from being freed.
    pub(super) bytes: usize,
}

/// How the client took its leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Farewell {
    /// Whether its will is to be published all the same.
    pub(super) with_will: bool,
}

/// A connected client.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) version: Version,
    pub(super) session: Session,
    /// Life of the session after the connection, seconds, as granted.
    pub(super) session_expiry_s: u32,
    client: Bytes,
    session_expiry_max_s: u32,
    packet_bytes_max: usize,
    wants_reasons: bool,
    /// Topics by alias, from 1.
    aliases: Vec<Option<Bytes>>,
    counters: Arc<DoorCounters>,
}

/// What a conversation is begun with.
pub(super) struct Terms {
    pub(super) version: Version,
    pub(super) client: Bytes,
    pub(super) session_expiry_s: u32,
    pub(super) session_expiry_max_s: u32,
    pub(super) packet_bytes_max: usize,
    pub(super) wants_reasons: bool,
}

impl Conversation {
    pub(super) fn new(terms: Terms, session: Session, counters: Arc<DoorCounters>) -> Self {
        let Terms { version, client, session_expiry_s, session_expiry_max_s, packet_bytes_max, wants_reasons } = terms;
        Self {
            version,
            session,
            session_expiry_s,
            client,
            session_expiry_max_s,
            packet_bytes_max,
            wants_reasons,
            aliases: Vec::new(),
            counters,
        }
    }

    /// A packet arrived. What it offers goes to `batch`, what it is answered to `out`.
    pub(super) fn handle_frame(
        &mut self,
        frame: Frame,
        taken: WallMillis,
        batch: &mut Batch,
        out: &mut BytesMut,
    ) -> Result<Option<Farewell>, Fault> {
        let frame_bytes = frame.body.len();
        match read(self.version, frame)? {
            Packet::Publish(publish) => {
                if let Some(offer) = self.handle_publish(publish, taken)? {
                    batch.offers.push(offer);
                    batch.bytes += frame_bytes;
                }
            }
            Packet::Pubrel { packet } => {
                let was_known = self.session.handle_release(packet);
                reply::pubcomp(self.version, packet, was_known, out);
            }
            Packet::Subscribe { packet, filters } => {
                add(&self.counters.subscriptions_refused, filters as u64);
                self.say(out, |with_reason| reply::suback(self.version, packet, filters, with_reason));
            }
            Packet::Unsubscribe { packet, filters } => {
                self.say(out, |with_reason| reply::unsuback(self.version, packet, filters, with_reason));
            }
            Packet::Pingreq => reply::pingresp(out),
            Packet::Disconnect { code, session_expiry_s } => {
                return self.handle_disconnect(code, session_expiry_s).map(Some);
            }
        }
        Ok(None)
    }

    /// Says it with the reason in words where the client wants it and it fits, else without [MQTT-3.9.2-1].
    fn say(&self, out: &mut BytesMut, words: impl Fn(bool) -> Vec<u8>) {
        let mut said = words(self.wants_reasons);
        if said.len() > self.packet_bytes_max {
            said = words(false);
        }
        if said.len() <= self.packet_bytes_max {
            out.extend_from_slice(&said);
        }
    }

    fn handle_disconnect(&mut self, code: u8, session_expiry_s: Option<u32>) -> Result<Farewell, Fault> {
        if let Some(seconds) = session_expiry_s {
            // [MQTT-3.14.2-2] a session that was to end with the connection cannot be prolonged at its end.
            if self.session_expiry_s == 0 && seconds != 0 {
                return Err(Fault::Protocol);
            }
            self.session_expiry_s = seconds.min(self.session_expiry_max_s);
        }
        Ok(Farewell { with_will: code != 0 })
    }

    fn handle_publish(&mut self, mut publish: Publish, taken: WallMillis) -> Result<Option<Offer>, Fault> {
        self.resolve_alias(&mut publish)?;
        self.counters.count_publishes(publish.qos, 1);
        if publish.qos != Qos::Zero {
            if self.session.is_over_quota() {
                return Err(Fault::Quota);
            }
            // MQTT 3.1.1 announces no maximum: there the connection is not read instead.
            if self.version == Version::V5 && self.session.is_full() {
                return Err(Fault::ReceiveMaximum);
            }
        }
        if let Some(fault) = unfit(&publish) {
            add(&self.counters.rejected, 1);
            return self.reject(&publish, fault).map(|()| None);
        }
        let Publish { packet, qos, resent, .. } = publish;
        let record = self.record(&publish.topic, &publish.payload, (packet, resent), publish.said(), taken);
        if qos == Qos::Zero {
            return Ok(Some(Offer { ticket: None, record }));
        }
        match self.session.handle_publish(packet, qos, resent, &record.key) {
            Arrival::New(ticket) => Ok(Some(Offer { ticket: Some(ticket), record })),
            Arrival::Known => {
                add(&self.counters.redelivered, 1);
                Ok(None)
            }
        }
    }

    fn resolve_alias(&mut self, publish: &mut Publish) -> Result<(), Fault> {
        let Some(alias) = publish.alias else { return Ok(()) };
        if alias == 0 || alias > DOOR_TOPIC_ALIASES_MAX {
            return Err(Fault::TopicAlias);
        }
        let place = usize::from(alias) - 1;
        if publish.topic.is_empty() {
            let known = self.aliases.get(place).cloned().flatten();
            publish.topic = known.ok_or(Fault::TopicAlias)?;
            return Ok(());
        }
        if self.aliases.len() <= place {
            self.aliases.resize(place + 1, None);
        }
        // Copied, because a slice would keep a whole read buffer for as long as the alias stands.
        self.aliases[place] = Some(Bytes::copy_from_slice(&publish.topic));
        Ok(())
    }

    /// Refuses one publish: by its acknowledgement where it gets one, else by ending the connection.
    fn reject(&mut self, publish: &Publish, fault: Fault) -> Result<(), Fault> {
        if publish.qos == Qos::Zero {
            return Err(fault);
        }
        let code = match fault {
            Fault::PacketTooLarge => Fault::Quota.code(),
            _ => fault.code(),
        };
        self.session.handle_refused(publish.packet, publish.qos, code);
        Ok(())
    }

    fn record(&self, topic: &Bytes, payload: &Bytes, sent: (u16, bool), said: Said<'_>, taken: WallMillis) -> Record {
        // The parser found both to be UTF-8.
        let client = std::str::from_utf8(&self.client).unwrap_or_default();
        let topic_text = std::str::from_utf8(topic).unwrap_or_default();
        let (packet, resent) = sent;
        let identity =
            identity::derive(&identity::Publish { client, topic: topic_text, payload, packet, resent, said });
        let publisher = if identity.publisher == client {
            self.client.clone()
        } else {
            Bytes::copy_from_slice(identity.publisher.as_bytes())
        };
        let (topic, payload) = (topic.clone(), payload.clone());
        Record { class: identity.class, publisher, key: identity.key, taken, topic, payload }
    }

    /// The client's will as an offer that nobody waits for.
    pub(super) fn will(&self, will: &Will, taken: WallMillis) -> Offer {
        let record = self.record(&will.topic, &will.payload, (0, false), will.said(), taken);
        Offer { ticket: None, record }
    }

    /// Appends the acknowledgements that are due to `out`, as far as it stays under `out_bytes_max`. False where one of
    /// them has no word in MQTT 3.1.1: the connection must end.
    #[must_use]
    pub(super) fn acknowledge(&mut self, out: &mut BytesMut, out_bytes_max: usize) -> bool {
        let mut taken = 0;
        let mut said = true;
        while said && out.len() < out_bytes_max {
            let Some(due) = self.session.next_reply() else { break };
            match due.verdict {
                Verdict::Taken => taken += 1,
                Verdict::Refused(_) => add(&self.counters.rejected, 1),
            }
            said = reply::acknowledge(self.version, due, out);
        }
        add(&self.counters.acknowledged, taken);
        said
    }
}

/// Why a publish is not a record this site takes.
fn unfit(publish: &Publish) -> Option<Fault> {
    if publish.topic.len() > TOPIC_BYTES_MAX {
        return Some(Fault::TopicName);
    }
    if publish.payload.len() > PAYLOAD_BYTES_MAX {
        return Some(Fault::PacketTooLarge);
    }
    let is_text = !publish.is_text || std::str::from_utf8(&publish.payload).is_ok();
    if is_text { None } else { Some(Fault::PayloadFormat) }
}
