//! When a world is at rest, and what must hold then: all that was acknowledged is in the store once and in order,
//! and every counter adds up.

use std::time::Duration;

use shared::ids::{Class, Epoch, Origin, Stream};

use crate::accord::Accord;
use crate::board::Board;
use crate::mark::Mark;
use crate::region::Place;
use crate::world::{Violation, World};

/// A site at rest agrees within so long: a leader that gives way at its last moment does not keep it from that.
const AGREES_WITHIN: Duration = Duration::from_secs(10);

impl World {
    /// Lets the site bring everything home after the faults have ended, then holds it to every promise.
    ///
    /// # Errors
    /// A promise is broken, or the site does not come to rest in its time.
    pub fn finish(&mut self) -> Result<(), Violation> {
        if self.busy_until > self.now {
            let left = self.busy_until.since(self.now);
            self.run_for(left)?;
        }
        let deadline = self.now + self.settings.patience;
        let mut accord = Accord::default();
        loop {
            self.run_for(Duration::from_millis(100))?;
            self.check_beliefs();
            let agreed = self.look_for_accord(&mut accord);
            match self.unrest() {
                None if agreed => break,
                None if self.now >= deadline + AGREES_WITHIN => {
                    self.broken("the site does not come to accord".to_owned())
                }
                None => {}
                Some(why) if self.now >= deadline => {
                    self.broken(format!("the site does not come to rest: {why}"));
                }
                Some(_) => {}
            }
        }
        let missing = self.model.missing(&self.region.store).into_iter();
        self.tally.released_elsewhere = missing.filter(|mark| self.is_released_elsewhere(*mark)).count() as u64;
        self.stay_calm();
        if let Some(what) = self.final_complaint() {
            self.broken(what);
        }
        self.violation.clone().map_or(Ok(()), Err)
    }

    fn boards_left(&self) -> impl Iterator<Item = &Board> {
        self.boards.values().filter(|host| !host.lost)
    }

    /// What is still to be done, in words; `None` at rest.
    pub fn unrest(&self) -> Option<String> {
        if !self.all_answered() {
            return Some("a publisher waits for an answer".into());
        }
        for host in self.boards_left() {
            let Some(process) = &host.process else {
                return Some(format!("{} does not run", host.id));
            };
            if process.stops {
                return Some(format!("{} is about to stop", host.id));
            }
            if process.is_frozen() || !process.inbox.is_empty() {
                return Some(format!("{} has not taken what it was sent", host.id));
            }
            let status = process.node.status(host.clock.local(self.now));
            if status.uncommitted > 0 {
                return Some(format!("{} has {} records uncommitted", host.id, status.uncommitted));
            }
            if let Err(what) = self.model.claims(process.node.held(), |mark| host.disk.holds(mark)) {
                return Some(format!("{} claims {what}", host.id));
            }
            if status.repair.missing > 0 && self.boards.values().all(|host| !host.lost) {
                return Some(format!(
                    "{} misses {} records: {:?}",
                    host.id, status.repair.missing, status.repair.holes
                ));
            }
            if status.backlog > 0 {
                return Some(format!(
                    "{} has a backlog of {}, uplink {}, region {}, waits for {}",
                    host.id, status.backlog, status.uplink, status.region, status.waits_for
                ));
            }
        }
        if self.leader().is_none() {
            return Some("nobody leads".into());
        }
        if self.speaks_with() == Some(Place::Standby) {
            return Some("the site speaks with the region that stands by".into());
        }
        let missing = self.absent();
        missing
            .first()
            .map(|mark| format!("{} readings are acknowledged and not stored, {mark} first", missing.len()))
    }

    /// Acknowledged readings that are neither in the region nor declared, but for those that rotted where they stood, and of
    /// which a full journal has shed the copies since, or whose gap record rotted: while a board is away that may have one,
    /// nobody calls them gone. And but for those whose last gap record rotted: of them the region knows by their stream's
    /// holes alone.
    fn absent(&self) -> Vec<Mark> {
        let is_any_lost = self.boards.values().any(|host| host.lost);
        let is_known_by_a_hole = |mark: &Mark| {
            let is_left = self.boards_left().any(|host| host.disk.holds(*mark));
            !is_left && (self.nameless.contains(mark) || is_any_lost && self.rotted.contains(mark))
        };
        let missing = self.model.missing(&self.region.store).into_iter();
        missing
            .filter(|mark| !is_known_by_a_hole(mark) && !self.is_released_elsewhere(*mark))
            .collect()
    }

    /// Promise 9 with two regions: the region lacks a reading that the other one has, or the gap record of one that was shed and that the
    /// other one was told of, and no board keeps it any more. Of a life that goes on that is a hole; the end of one that ended
    /// meanwhile the region does not know of.
    fn is_released_elsewhere(&self, mark: Mark) -> bool {
        let is_kept = || self.boards_left().any(|host| host.disk.holds(mark));
        let is_declared = || {
            self.standby
                .as_ref()
                .is_some_and(|standby| self.model.is_shed(mark, &standby.store))
        };
        (self.rows_standby(mark) > 0 || is_declared()) && !is_kept()
    }

    /// Of `origin`, records that the other region has or was told of as shed, and of which this one knows nothing.
    fn released_elsewhere(&self, origin: Origin) -> u64 {
        let Some(standby) = &self.standby else { return 0 };
        let of = |class| {
            let stream = Stream { origin, class };
            standby.store.known(&stream).minus(&self.region.store.known(&stream)).count()
        };
        Class::ALL.into_iter().map(of).sum()
    }

    fn final_complaint(&self) -> Option<String> {
        let missing = self.absent();
        if let Some(mark) = missing.first() {
            return Some(format!("{mark} was acknowledged and is lost, with {} others", missing.len() - 1));
        }
        if let Some(what) = self.model.disorder() {
            return Some(what);
        }
        let is_here = |mark| self.region.store.rows_of(mark) > 0;
        if let Some(what) = self.model.shed_alarm(&self.region.store, is_here) {
            return Some(what);
        }
        let is_anywhere = |mark| is_here(mark) || self.rows_standby(mark) > 0;
        let standby = self.standby.as_ref();
        if let Some(what) = standby.and_then(|standby| self.model.shed_alarm(&standby.store, is_anywhere)) {
            return Some(what);
        }
        self.boards_left().find_map(|host| self.counters_complaint(host))
    }

    /// Promise 3: what this life of the board has accepted is committed, and is what the region has of it or was told was shed.
    fn counters_complaint(&self, host: &Board) -> Option<String> {
        let process = host.process.as_ref()?;
        let status = process.node.status(host.clock.local(self.now));
        if status.accepted != status.committed {
            return Some(format!("{} accepted {}, committed {}", host.id, status.accepted, status.committed));
        }
        let stored: u64 = self
            .region
            .store
            .streams()
            .filter(|(stream, _)| stream.origin.board == host.id && stream.origin.epoch.nonce == host.nonce)
            .map(|(_, records)| records.len() as u64)
            .sum();
        let origin = Origin { board: host.id, epoch: Epoch { boot: host.disk.boot, nonce: host.nonce } };
        let shed: u64 = Class::ALL
            .into_iter()
            .map(|class| self.region.store.shed(&Stream { origin, class }))
            .sum();
        // What was acknowledged visibly degraded may have rotted where it stood, with a board away that may have it.
        let open = status.repair.gone + status.repair.missing + self.released_elsewhere(origin);
        (stored + shed > status.accepted || stored + shed + open < status.accepted).then(|| {
            let accepted = status.accepted;
            format!("{} accepted {accepted} in this life, the region stores {stored} and knows of {shed} shed", host.id)
        })
    }

    /// Sequences of `origin` that the region covers, by class.
    pub fn covered(&self, origin: Origin) -> Vec<(Class, u64)> {
        Class::ALL
            .into_iter()
            .map(|class| (class, self.region.store.coverage(&Stream { origin, class }).count()))
            .collect()
    }
}
