//! What outlives a connection: which publishes wait for their commit, in the order in which they came, and which
//! packet identifiers stand for a reading already taken. Decides what a redelivery is. No socket, no clock, no task.
//!
//! ```text
//!  publish ──► in flight ──committed──► PUBACK                                        (QoS 1)
//!                  │       ──committed──► PUBREC ──► recorded ──PUBREL──► PUBCOMP     (QoS 2)
//!                  └─connection lost──► kept ──sent again──► in flight, waiting for the first one's answer
//! ```
//!
//! PUBREC waits for the commit because the sender drops the payload when it sees it. Acknowledgements leave in the
//! order of arrival [MQTT-4.6.0-2], [MQTT-4.6.0-3]: an answer out of turn waits for those before it.

use std::collections::{BTreeMap, VecDeque};

use shared::action::Answer;
use shared::ids::Ticket;
use shared::limits::DOOR_IN_FLIGHT_MAX;
use shared::record::Key;

use super::packet::Qos;
use super::reply::refusal_code;

/// What tells a reading from another under the same packet identifier.
type Mark = (u8, [u8; 16]);

/// A mark that no publish has: sent again, it is a new one.
const NO_MARK: Mark = (u8::MAX, [0; 16]);

fn mark(key: &Key) -> Mark {
    (key.kind(), key.bytes())
}

/// A client's session.
#[derive(Debug)]
pub(super) struct Session {
    slot: u32,
    /// Serial of the first flight; those behind it follow without a hole.
    first: u32,
    flights: VecDeque<Flight>,
    /// QoS 2 identifiers for which PUBREC has left and PUBREL has not come.
    recorded: BTreeMap<u16, Mark>,
    /// What was in flight when the last connection ended.
    kept: BTreeMap<u16, Kept>,
    /// Serial under which the node will answer, to the flight that waits for it.
    redirected: BTreeMap<u32, u32>,
    /// Publishes of this connection that count against Receive Maximum.
    open: usize,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    packet: u16,
    qos: Qos,
    mark: Mark,
    /// Serial under which the node answers.
    asked: u32,
    answer: Option<Verdict>,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    qos: Qos,
    mark: Mark,
    asked: u32,
    answer: Option<Verdict>,
}

/// What is said to a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Committed.
    Taken,
    /// Refused, with the reason code of MQTT 5.
    Refused(u8),
}

impl From<Answer> for Verdict {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Committed => Self::Taken,
            Answer::Refused(refusal) => Self::Refused(refusal_code(refusal)),
        }
    }
}

/// What a publish is to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// A reading not seen before: offer it under this ticket.
    New(Ticket),
    /// Taken before; it will be acknowledged in its turn, once.
    Known,
}

/// An acknowledgement that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) packet: u16,
    pub(super) qos: Qos,
    pub(super) verdict: Verdict,
}

impl Session {
    /// A session on `slot` whose tickets count on from `first`.
    pub(super) fn new(slot: u32, first: u32) -> Self {
        Self {
            slot,
            first,
            flights: VecDeque::new(),
            recorded: BTreeMap::new(),
            kept: BTreeMap::new(),
            redirected: BTreeMap::new(),
            open: 0,
        }
    }

    /// The slot, and the serial from which its next session counts on.
    pub(super) fn place(&self) -> (u32, u32) {
        (self.slot, self.next_serial())
    }

    fn next_serial(&self) -> u32 {
        // At most DOOR_IN_FLIGHT_MAX flights, so the length fits.
        self.first.wrapping_add(self.flights.len() as u32)
    }

    /// Publishes that wait for their acknowledgement.
    pub(super) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Whether one more QoS 1 or 2 publish would pass the announced Receive Maximum.
    pub(super) fn is_full(&self) -> bool {
        self.open >= DOOR_IN_FLIGHT_MAX || self.flights.len() >= 2 * DOOR_IN_FLIGHT_MAX
    }

    /// Whether more QoS 2 exchanges stand unfinished than one session may have, over all its connections.
    pub(super) fn is_over_quota(&self) -> bool {
        self.recorded.len() >= 2 * DOOR_IN_FLIGHT_MAX
    }

    /// A QoS 1 or 2 publish arrived.
    pub(super) fn handle_publish(&mut self, packet: u16, qos: Qos, resent: bool, key: &Key) -> Arrival {
        let mark = mark(key);
        let serial = self.next_serial();
        let known = |answer, asked| Flight { packet, qos, mark, asked, answer };
        if qos == Qos::Two && self.recorded.get(&packet) == Some(&mark) {
            self.flights.push_back(known(Some(Verdict::Taken), serial));
            return Arrival::Known;
        }
        if resent && self.flights.iter().any(|flight| flight.is_of(packet, qos, mark)) {
            return Arrival::Known;
        }
        let kept = if self.kept.is_empty() { None } else { self.kept.remove(&packet) };
        self.open += 1;
        match kept {
            Some(kept) if kept.mark == mark && kept.qos == qos && (resent || qos == Qos::Two) => {
                if kept.answer.is_none() {
                    self.redirected.insert(kept.asked, serial);
                }
                self.flights.push_back(known(kept.answer, kept.asked));
                Arrival::Known
            }
            _ => {
                self.flights.push_back(known(None, serial));
                Arrival::New(Ticket(u64::from(self.slot) << 32 | u64::from(serial)))
            }
        }
    }

    /// A publish refused at the door: nobody is asked, the refusal is sent in its turn.
    pub(super) fn handle_refused(&mut self, packet: u16, qos: Qos, code: u8) {
        let asked = self.next_serial();
        self.open += 1;
        let answer = Some(Verdict::Refused(code));
        self.flights.push_back(Flight { packet, qos, mark: NO_MARK, asked, answer });
    }

    /// The node answered. Answers to a session that is gone have serials that nobody waits for.
    pub(super) fn handle_answer(&mut self, serial: u32, answer: Answer) {
        let answer = Verdict::from(answer);
        let direct = serial.wrapping_sub(self.first) as usize;
        if let Some(flight) = self.flights.get_mut(direct).filter(|flight| flight.asked == serial) {
            flight.answer = Some(answer);
            return;
        }
        if let Some(to) = self.redirected.remove(&serial) {
            let place = to.wrapping_sub(self.first) as usize;
            if let Some(flight) = self.flights.get_mut(place) {
                flight.answer = Some(answer);
            }
            return;
        }
        let waits = |kept: &&mut Kept| kept.asked == serial && kept.answer.is_none();
        if let Some(kept) = self.kept.values_mut().find(waits) {
            kept.answer = Some(answer);
        }
    }

    /// The node will never answer: the publish did not reach it.
    pub(super) fn handle_dropped(&mut self, serial: u32) {
        let place = serial.wrapping_sub(self.first) as usize;
        if let Some(flight) = self.flights.get_mut(place) {
            flight.mark = NO_MARK;
        }
    }

    /// The next acknowledgement in order of arrival, if its answer is there.
    pub(super) fn next_reply(&mut self) -> Option<Reply> {
        let flight = *self.flights.front()?;
        let verdict = flight.answer?;
        self.flights.pop_front();
        self.first = self.first.wrapping_add(1);
        let holds = flight.qos == Qos::Two && verdict == Verdict::Taken;
        if holds {
            self.recorded.insert(flight.packet, flight.mark);
        } else {
            self.open = self.open.saturating_sub(1);
        }
        Some(Reply { packet: flight.packet, qos: flight.qos, verdict })
    }

    /// PUBREL arrived. False where no PUBREC was outstanding.
    pub(super) fn handle_release(&mut self, packet: u16) -> bool {
        let known = self.recorded.remove(&packet).is_some();
        if known {
            self.open = self.open.saturating_sub(1);
        }
        known
    }

    /// The connection ended: what was in flight is kept for its redelivery.
    pub(super) fn handle_cut(&mut self) {
        let next = self.next_serial();
        for flight in self.flights.drain(..) {
            let Flight { packet, qos, mark, asked, answer } = flight;
            self.kept.insert(packet, Kept { qos, mark, asked, answer });
        }
        while self.kept.len() > DOOR_IN_FLIGHT_MAX {
            // Forgetting one costs a second copy of a record at most, and its key makes them one row.
            self.kept.pop_first();
        }
        self.first = next;
        self.redirected.clear();
        self.open = 0;
    }
}

impl Flight {
    fn is_of(&self, packet: u16, qos: Qos, mark: Mark) -> bool {
        self.packet == packet && self.qos == qos && self.mark == mark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key::Sequence { epoch: 0, seq: 1 };
    const OTHER: Key = Key::Sequence { epoch: 0, seq: 2 };

    fn serial(arrival: Arrival) -> u32 {
        match arrival {
            Arrival::New(ticket) => ticket.0 as u32,
            Arrival::Known => panic!("expected a new reading"),
        }
    }

    fn reply(packet: u16, qos: Qos) -> Option<Reply> {
        Some(Reply { packet, qos, verdict: Verdict::Taken })
    }

    #[test]
    fn acknowledgements_leave_in_order_of_arrival() {
        let mut session = Session::new(7, u32::MAX);
        let first = session.handle_publish(1, Qos::One, false, &KEY);
        assert_eq!(first, Arrival::New(Ticket(7 << 32 | u64::from(u32::MAX))));
        let second = serial(session.handle_publish(2, Qos::Two, false, &OTHER));
        assert_eq!(second, 0, "serials wrap");
        session.handle_answer(second, Answer::Committed);
        assert_eq!(session.next_reply(), None);
        session.handle_answer(serial(first), Answer::Committed);
        assert_eq!(session.next_reply(), reply(1, Qos::One));
        assert_eq!(session.next_reply(), reply(2, Qos::Two));
        assert_eq!(session.next_reply(), None);
    }

    #[test]
    fn a_recorded_reading_is_not_taken_twice_until_its_release() {
        let mut session = Session::new(0, 0);
        let at = serial(session.handle_publish(5, Qos::Two, false, &KEY));
        session.handle_answer(at, Answer::Committed);
        assert_eq!(session.next_reply(), reply(5, Qos::Two));
        assert_eq!(session.handle_publish(5, Qos::Two, true, &KEY), Arrival::Known);
        assert_eq!(session.next_reply(), reply(5, Qos::Two));
        session.handle_cut();
        assert_eq!(session.handle_publish(5, Qos::Two, true, &KEY), Arrival::Known);
        assert_eq!(session.next_reply(), reply(5, Qos::Two));
        assert!(session.handle_release(5));
        assert!(!session.handle_release(5));
        serial(session.handle_publish(5, Qos::Two, true, &KEY));
    }

    #[test]
    fn another_reading_under_a_recorded_identifier_is_new() {
        let mut session = Session::new(0, 0);
        let at = serial(session.handle_publish(5, Qos::Two, false, &KEY));
        session.handle_answer(at, Answer::Committed);
        session.next_reply();
        serial(session.handle_publish(5, Qos::Two, false, &OTHER));
    }

    #[test]
    fn a_redelivery_waits_for_the_first_ones_answer() {
        let mut session = Session::new(0, 0);
        let first = serial(session.handle_publish(1, Qos::One, false, &KEY));
        let second = serial(session.handle_publish(2, Qos::One, false, &OTHER));
        session.handle_cut();
        session.handle_answer(first, Answer::Committed);
        assert_eq!(session.next_reply(), None, "nothing is acknowledged before it is sent again");
        assert_eq!(session.handle_publish(1, Qos::One, true, &KEY), Arrival::Known);
        assert_eq!(session.next_reply(), reply(1, Qos::One));
        assert_eq!(session.handle_publish(2, Qos::One, true, &OTHER), Arrival::Known);
        assert_eq!(session.next_reply(), None);
        // Cut once more before the answer: it is still the same reading.
        session.handle_cut();
        assert_eq!(session.handle_publish(2, Qos::One, true, &OTHER), Arrival::Known);
        session.handle_answer(second, Answer::Committed);
        assert_eq!(session.next_reply(), reply(2, Qos::One));
        assert_eq!(session.in_flight(), 0);
    }

    #[test]
    fn a_client_that_forgot_its_session_sends_new_readings() {
        let mut session = Session::new(0, 0);
        serial(session.handle_publish(1, Qos::One, false, &KEY));
        session.handle_cut();
        serial(session.handle_publish(1, Qos::One, false, &KEY));
        session.handle_cut();
        serial(session.handle_publish(1, Qos::One, true, &OTHER));
    }

    #[test]
    fn what_never_reached_the_node_is_new_when_sent_again() {
        let mut session = Session::new(0, 0);
        let at = serial(session.handle_publish(1, Qos::One, false, &KEY));
        session.handle_dropped(at);
        session.handle_cut();
        serial(session.handle_publish(1, Qos::One, true, &KEY));
    }

    #[test]
    fn sent_again_on_one_connection_it_is_acknowledged_once() {
        let mut session = Session::new(0, 0);
        let at = serial(session.handle_publish(1, Qos::One, false, &KEY));
        assert_eq!(session.handle_publish(1, Qos::One, true, &KEY), Arrival::Known);
        session.handle_answer(at, Answer::Committed);
        assert_eq!(session.next_reply(), reply(1, Qos::One));
        assert_eq!(session.next_reply(), None);
    }

    #[test]
    fn the_announced_maximum_is_exact() {
        let mut session = Session::new(0, 0);
        for packet in 1..=DOOR_IN_FLIGHT_MAX as u16 {
            assert!(!session.is_full());
            let key = Key::Sequence { epoch: 0, seq: u64::from(packet) };
            let at = serial(session.handle_publish(packet, Qos::Two, false, &key));
            session.handle_answer(at, Answer::Committed);
            session.next_reply();
        }
        assert!(session.is_full(), "PUBREC does not free the place, PUBREL does");
        session.handle_release(1);
        assert!(!session.is_full());
    }

    #[test]
    fn answers_to_a_former_tenant_of_the_slot_change_nothing() {
        let mut former = Session::new(3, 10);
        let at = serial(former.handle_publish(1, Qos::One, false, &KEY));
        former.handle_cut();
        let (slot, next) = former.place();
        let mut session = Session::new(slot, next);
        serial(session.handle_publish(1, Qos::One, false, &KEY));
        session.handle_answer(at, Answer::Committed);
        assert_eq!(session.next_reply(), None);
    }
}
