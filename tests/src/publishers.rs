//! What publishers do: make readings at their pace, keep several on their way, and where an answer does not come, send
//! again through another board what was not acknowledged, oldest first, before anything new.

use std::time::Duration;

use shared::ids::{BoardId, Class};

use crate::board::{Board, Life};
use crate::clock::Moment;
use crate::happening::Happening;
use crate::mark::Mark;
use crate::mutant::Mutant;
use crate::publisher::{OnItsWay, Place};
use crate::world::World;

/// Readings that a publisher keeps while it cannot send; then it stops making more.
const WAITING_MAX: usize = 64;
const TICK: Duration = Duration::from_micros(1);
/// Between two looks at how long an answer is due.
const LOOK: Duration = Duration::from_millis(250);

impl World {
    fn publisher(&mut self, id: u8) -> &mut crate::publisher::Publisher {
        &mut self.publishers[usize::from(id)]
    }

    pub(crate) fn start_publishers(&mut self) {
        for publisher in 0..self.settings.publishers {
            let first = self.publisher_dice.span(Duration::from_millis(300), Duration::from_millis(900));
            self.put_in(first, Happening::PublisherDial { publisher, connection: 0 });
            self.put_in(first, Happening::Reading { publisher });
            self.put_in(LOOK, Happening::PublisherPatience { publisher });
        }
    }

    /// The next reading is made.
    pub(crate) fn reading(&mut self, id: u8) {
        if self.now >= self.busy_until || self.rests {
            return;
        }
        let publisher = self.publisher(id);
        if publisher.waiting.len() < WAITING_MAX {
            publisher.made += 1;
            publisher.waiting.push_back(publisher.made);
        }
        let interval = publisher.interval;
        self.pump_publisher(id);
        let next = self.publisher_dice.span(interval.0, interval.1);
        self.put_in(next, Happening::Reading { publisher: id });
    }

    /// Makes `publisher` publish one more reading, at once, and returns its mark: for scenarios.
    pub fn publish(&mut self, publisher: u8) -> Mark {
        let at = self.publisher(publisher);
        at.made += 1;
        let number = at.made;
        at.waiting.push_back(number);
        let mark = at.mark(number);
        self.pump_publisher(publisher);
        mark
    }

    /// Sends what may be sent: first again what an earlier connection lost, then what is new.
    fn pump_publisher(&mut self, id: u8) {
        let Place::At { board, life } = self.publisher(id).place else { return };
        let again: Vec<u32> = self
            .publisher(id)
            .on_its_way
            .iter()
            .filter(|(_, flight)| !flight.here)
            .map(|(number, _)| *number)
            .collect();
        for number in again {
            self.send_reading(id, number, (board, life));
        }
        loop {
            let publisher = self.publisher(id);
            if publisher.on_its_way.len() >= publisher.window {
                return;
            }
            let Some(number) = publisher.waiting.pop_front() else { return };
            self.send_reading(id, number, (board, life));
        }
    }

    fn send_reading(&mut self, id: u8, number: u32, (board, life): (BoardId, Life)) {
        let key_changes = self.lies(Mutant::KeyChangedOnResend);
        let alarms_are_bulk = self.lies(Mutant::AlarmsAreBulk);
        let now = self.now;
        let delay = self
            .publisher_dice
            .delay(Duration::from_micros(200), Duration::from_micros(600));
        let ppm = self.publisher(id).unacknowledged;
        let publisher = self.publisher(id);
        let times = publisher.on_its_way.get(&number).map_or(0, |flight| flight.times);
        // Which readings ask for no acknowledgement is a matter of their number, so that it never changes.
        let acknowledged = u64::from(number).wrapping_mul(2_654_435_761) % 1_000_000 >= u64::from(ppm);
        if acknowledged {
            publisher
                .on_its_way
                .insert(number, OnItsWay { since: now, times: times + 1, here: true });
        }
        let mut record = Box::new(publisher.record(number, times, key_changes, now));
        if alarms_are_bulk && record.class == Class::Alarm {
            record.class = Class::Bulk;
        }
        publisher.at_board = (publisher.at_board + TICK).max(now + delay);
        let (at, connection, mark) = (publisher.at_board, publisher.connection, publisher.mark(number));
        self.model.sent(mark, acknowledged);
        self.agenda
            .put(at, Happening::Offer { mark, connection, board, life, acknowledged, record });
    }

    /// The board's acknowledgement sets out.
    pub(crate) fn send_answer(&mut self, mark: Mark, connection: u64) {
        let now = self.now;
        let delay = self
            .publisher_dice
            .delay(Duration::from_micros(200), Duration::from_micros(600));
        let publisher = self.publisher(mark.publisher);
        if publisher.connection != connection {
            return;
        }
        publisher.at_home = (publisher.at_home + TICK).max(now + delay);
        let at = publisher.at_home;
        self.agenda.put(at, Happening::Answered { mark, connection });
    }

    pub(crate) fn answered(&mut self, mark: Mark, connection: u64) {
        let publisher = self.publisher(mark.publisher);
        if publisher.connection == connection {
            publisher.on_its_way.remove(&mark.number);
            self.pump_publisher(mark.publisher);
        }
    }

    pub(crate) fn publisher_dial(&mut self, id: u8, connection: u64) {
        let publisher = self.publisher(id);
        if publisher.connection != connection || publisher.place != Place::Nowhere {
            return;
        }
        let only = publisher.only;
        let boards: Vec<BoardId> = self.boards.keys().copied().collect();
        let chosen = only.or_else(|| self.publisher_dice.pick(&boards));
        let Some(board) = chosen else { return };
        let host = &self.boards[&board];
        if host.runs() {
            let (after, life) = (Duration::from_micros(self.publisher_dice.between(500, 3_000)), host.life);
            self.put_in(after, Happening::PublisherUp { publisher: id, connection, board, life });
        } else {
            let again = self.publisher_dice.span(Duration::from_millis(50), Duration::from_millis(300));
            self.put_in(again, Happening::PublisherDial { publisher: id, connection });
        }
    }

    pub(crate) fn publisher_up(&mut self, id: u8, connection: u64, board: BoardId, life: Life) {
        let runs = self
            .boards
            .get(&board)
            .is_some_and(|host: &Board| host.life == life && host.process.is_some());
        let now = self.now;
        let publisher = self.publisher(id);
        if publisher.connection != connection {
            return;
        }
        if !runs {
            self.put_in(Duration::from_millis(100), Happening::PublisherDial { publisher: id, connection });
            return;
        }
        publisher.place = Place::At { board, life };
        publisher.at_board = now;
        publisher.at_home = now;
        let again = publisher.on_its_way.len();
        self.story
            .tell(now, format_args!("sensor-{id}"), || format!("connected to {board}, {again} to send again"));
        self.pump_publisher(id);
    }

    /// The publisher's connection is gone.
    pub(crate) fn publisher_reset(&mut self, id: u8, connection: u64) {
        let publisher = self.publisher(id);
        if publisher.connection != connection {
            return;
        }
        publisher.connection += 1;
        publisher.place = Place::Nowhere;
        for flight in publisher.on_its_way.values_mut() {
            flight.here = false;
        }
        let connection = publisher.connection;
        let after = self.publisher_dice.span(Duration::from_millis(5), Duration::from_millis(200));
        self.put_in(after, Happening::PublisherDial { publisher: id, connection });
    }

    /// A publisher whose answer is long due tries elsewhere.
    pub(crate) fn publisher_patience(&mut self, id: u8) {
        let now = self.now;
        let publisher = self.publisher(id);
        let oldest = publisher
            .on_its_way
            .values()
            .filter(|flight| flight.here)
            .map(|flight| flight.since)
            .min();
        let connection = publisher.connection;
        let patience = publisher.patience;
        if oldest.is_some_and(|since: Moment| now.since(since) > patience) {
            self.story
                .tell(now, format_args!("sensor-{id}"), || "waits no longer for its answer");
            self.publisher_reset(id, connection);
        }
        self.put_in(LOOK, Happening::PublisherPatience { publisher: id });
    }

    /// The sockets of a dead process are reset, or just silent where the whole machine is gone.
    pub(crate) fn publishers_lose_process(&mut self, board: BoardId) {
        for id in 0..self.settings.publishers {
            let at_board = matches!(self.publisher(id).place, Place::At { board: at, .. } if at == board);
            if at_board && self.publisher_dice.coin() {
                let connection = self.publisher(id).connection;
                let after = self.publisher_dice.span(Duration::from_micros(300), Duration::from_millis(20));
                self.put_in(after, Happening::PublisherReset { publisher: id, connection });
            }
        }
    }

    /// `publisher` uses this board alone from its next connection on (any, where `None`), and connects anew now.
    pub fn steer(&mut self, publisher: u8, board: Option<BoardId>) {
        self.publisher(publisher).only = board;
        let connection = self.publisher(publisher).connection;
        self.publisher_reset(publisher, connection);
    }

    /// Whether no publisher waits for an answer.
    pub fn all_answered(&self) -> bool {
        self.publishers
            .iter()
            .all(|publisher| publisher.waiting.is_empty() && publisher.on_its_way.is_empty())
    }
}
