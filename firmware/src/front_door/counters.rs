//! What the front door counts. Read by `/metrics`; written by connections with relaxed atomics, because a counter
//! orders nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::connect::Refusal;
use super::fault::Fault;
use super::packet::Qos;

/// One number of the front door, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoorCount {
    /// Name within the front door: with its unit where it has one.
    pub name: &'static str,
    /// Name and value of its label, where it has one.
    pub label: Option<(&'static str, &'static str)>,
    /// Whether it may fall: a gauge, not a counter.
    pub is_gauge: bool,
    /// The number.
    pub value: u64,
}

/// Causes for which a CONNECT is refused, as labels.
const REFUSALS: [&str; 5] = ["malformed", "protocol_level", "client_id", "not_authorized", "other"];

/// Counters of the front door since it started.
#[derive(Debug, Default)]
pub struct DoorCounters {
    pub(super) open: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) over_limit: AtomicU64,
    pub(super) no_connect: AtomicU64,
    refused: [AtomicU64; REFUSALS.len()],
    ended: [AtomicU64; Fault::ALL.len()],
    publishes: [AtomicU64; 3],
    pub(super) acknowledged: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) redelivered: AtomicU64,
    pub(super) unacknowledged_dropped: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) wills: AtomicU64,
    pub(super) subscriptions_refused: AtomicU64,
    pub(super) takeovers: AtomicU64,
    pub(super) sessions: AtomicU64,
    pub(super) sessions_resumed: AtomicU64,
    pub(super) sessions_evicted: AtomicU64,
    pub(super) held_bytes: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Relaxed);
}

impl DoorCounters {
    pub(super) fn count_refused(&self, refusal: Refusal) {
        let place = REFUSALS
            .iter()
            .position(|word| *word == refusal.as_str())
            .unwrap_or(REFUSALS.len() - 1);
        add(&self.refused[place], 1);
    }

    pub(super) fn count_ended(&self, fault: Fault) {
        // The discriminant is the place in `ALL`: one list, one order.
        add(&self.ended[fault as usize], 1);
    }

    pub(super) fn count_publishes(&self, qos: Qos, count: u64) {
        add(&self.publishes[qos as usize], count);
    }

    /// Every number, in a fixed order.
    pub fn all(&self) -> Vec<DoorCount> {
        let one = |name, is_gauge, counter: &AtomicU64| DoorCount {
            name,
            label: None,
            is_gauge,
            value: counter.load(Relaxed),
        };
        let labelled = |name, label, value, counter: &AtomicU64| DoorCount {
            label: Some((label, value)),
            ..one(name, false, counter)
        };
        let mut all = vec![
            one("connections", true, &self.open),
            one("connections_accepted", false, &self.accepted),
            labelled("connections_refused", "cause", "limit", &self.over_limit),
            labelled("connections_refused", "cause", "no_connect", &self.no_connect),
        ];
        for (word, counter) in REFUSALS.iter().zip(&self.refused) {
            all.push(labelled("connections_refused", "cause", word, counter));
        }
        for (fault, counter) in Fault::ALL.iter().zip(&self.ended) {
            all.push(labelled("connections_ended", "cause", fault.as_str(), counter));
        }
        for (qos, counter) in ["0", "1", "2"].iter().zip(&self.publishes) {
            all.push(labelled("publishes", "qos", qos, counter));
        }
        all.extend([
            one("acknowledged", false, &self.acknowledged),
            one("rejected", false, &self.rejected),
            one("redelivered", false, &self.redelivered),
            // QoS 0 publishes are taken without an acknowledgement; these were not even taken.
            one("unacknowledged_dropped", false, &self.unacknowledged_dropped),
            one("batches", false, &self.batches),
            one("wills", false, &self.wills),
            one("subscriptions_refused", false, &self.subscriptions_refused),
            one("takeovers", false, &self.takeovers),
            one("sessions", true, &self.sessions),
            one("sessions_resumed", false, &self.sessions_resumed),
            one("sessions_evicted", false, &self.sessions_evicted),
            one("held_bytes", true, &self.held_bytes),
        ]);
        all
    }

    /// The number named `name`, summed over its labels.
    pub fn sum(&self, name: &str) -> u64 {
        self.all()
            .iter()
            .filter(|count| count.name == name)
            .map(|count| count.value)
            .sum()
    }

    /// The number named `name` whose label has the value `label`; 0 where there is none.
    pub fn of(&self, name: &str, label: &str) -> u64 {
        let is_it = |count: &&DoorCount| count.name == name && count.label.is_some_and(|(_, value)| value == label);
        self.all().iter().find(is_it).map_or(0, |count| count.value)
    }
}
