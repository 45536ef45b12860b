//! How long a write waits for records that are about to come. Publishers that keep several readings on their way answer an
//! acknowledgement with the next ones; a write that begins with the first of them makes all others wait for its sync, and
//! their write is a second one. So what was acknowledged last is expected back for about as long as a write takes. Whoever
//! publishes without regard to acknowledgements does not come earlier for it: after waits in vain the next writes begin at once.

use core::time::Duration;

use crate::time::Instant;

/// With so much a write is worth its sync: nobody is waited for any more.
const ENOUGH_BYTES: usize = 16 * 1024;
/// The longest wait, however slow the disk.
const PATIENCE_MAX: Duration = Duration::from_micros(500);
/// A wait was worth it where no more than one record in so many is still missing: whoever publishes without regard to
/// acknowledgements comes as well while somebody waits, but not all that were expected.
const FEW: usize = 8;
/// The most writes that begin at once after a wait in vain; each doubles their number.
const HASTY_MAX: u32 = 127;

/// Decides when a write begins.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// Records acknowledged since the last write began, less those that came since.
    expected: usize,
    /// How long a write takes, smoothed.
    write: Duration,
    began: Instant,
    idle_since: Instant,
    /// Writes that begin at once.
    hasty: u32,
    /// How many they were after the last wait in vain.
    penalty: u32,
}

/// What waits, and what is on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowd {
    /// Records that wait for the write.
    pub(super) records: usize,
    /// Their bytes.
    pub(super) bytes: usize,
    /// Records written before that are not acknowledged yet.
    pub(super) unanswered: usize,
}

impl Gathering {
    /// A record came.
    pub(super) const fn handle_record(&mut self) {
        self.expected = self.expected.saturating_sub(1);
    }

    /// So many were acknowledged.
    pub(super) const fn handle_answered(&mut self, records: usize) {
        self.expected += records;
    }

    /// When the write of `crowd` begins, whose first record came at `since`.
    pub(super) fn due(&self, crowd: Crowd, since: Instant) -> Instant {
        if self.hasty > 0 || crowd.bytes >= ENOUGH_BYTES || self.expected + crowd.unanswered == 0 {
            return since;
        }
        since.max(self.idle_since) + self.write.min(PATIENCE_MAX)
    }

    /// The write of `crowd` begins: after it was waited for, where `is_judged`, or along with what somebody else wants written, which
    /// says nothing of those who are missing.
    pub(super) fn handle_write(&mut self, crowd: Crowd, is_judged: bool, now: Instant) {
        self.began = now;
        if !is_judged {
            return;
        }
        let missing = self.expected + crowd.unanswered;
        if self.hasty > 0 {
            self.hasty -= 1;
        } else if crowd.bytes >= ENOUGH_BYTES {
            // Nobody was waited for.
        } else if missing * FEW > crowd.records {
            self.penalty = (self.penalty * 2 + 1).min(HASTY_MAX);
            self.hasty = self.penalty;
        } else if crowd.records > 1 {
            self.penalty = 0;
        }
        // Who was away for so long has stopped, or comes for the next one.
        self.expected = 0;
    }

    /// What was written is durable.
    pub(super) fn handle_synced(&mut self, now: Instant) {
        let took = now.since(self.began);
        self.write = if self.write.is_zero() { took } else { (self.write * 7 + took) / 8 };
        self.idle_since = now;
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// Micros that a write takes, the confirmation of its copy after it, and a publisher from an acknowledgement to its next
    /// readings.
    const WRITE: u64 = 200;
    const COPY: u64 = 120;
    const THINK: u64 = 60;
    const STEP: u64 = 5;

    /// What publishers, a disk and a peer make of it, in steps of a few micros.
    #[derive(Default)]
    struct World {
        gathering: Gathering,
        /// When comes what of which publisher.
        coming: Vec<(u64, usize)>,
        waiting: Vec<usize>,
        since: u64,
        idle_since: u64,
        writing: Option<(u64, Vec<usize>)>,
        copying: Vec<(u64, Vec<usize>)>,
        /// Records of each write, and how long it might have begun before it did.
        writes: Vec<(usize, u64)>,
    }

    impl World {
        /// Runs for `micros`. Each thing that comes is `records` of 200 bytes; where `comes_back` a publisher answers its
        /// acknowledgement with as many more.
        fn run(&mut self, micros: u64, records: usize, comes_back: bool) {
            for now in (0..micros).step_by(STEP as usize) {
                self.step(now, records, comes_back);
            }
        }

        fn step(&mut self, now: u64, records: usize, comes_back: bool) {
            let (here, later) = self.coming.iter().copied().partition(|(at, _)| *at <= now);
            self.coming = later;
            for (_, publisher) in here {
                if self.waiting.is_empty() {
                    self.since = now;
                }
                self.waiting.push(publisher);
                (0..records).for_each(|_| self.gathering.handle_record());
            }
            if let Some((_, written)) = self.writing.take_if(|(end, _)| *end <= now) {
                self.idle_since = now;
                self.gathering.handle_synced(Instant::from_micros(now));
                self.copying.push((now + COPY, written));
            }
            let (done, later) = core::mem::take(&mut self.copying).into_iter().partition(|(end, _)| *end <= now);
            self.copying = later;
            let done: Vec<(u64, Vec<usize>)> = done;
            for publisher in done.into_iter().flat_map(|(_, publishers)| publishers) {
                self.gathering.handle_answered(records);
                if comes_back {
                    self.coming.push((now + THINK + 10 * publisher as u64, publisher));
                }
            }
            self.write(now, records);
        }

        fn write(&mut self, now: u64, records: usize) {
            if self.writing.is_some() || self.waiting.is_empty() {
                return;
            }
            let crowd = Crowd {
                records: self.waiting.len() * records,
                bytes: self.waiting.len() * records * 200,
                unanswered: self.copying.iter().map(|(_, publishers)| publishers.len() * records).sum(),
            };
            let at = Instant::from_micros(now);
            if at >= self.gathering.due(crowd, Instant::from_micros(self.since)) {
                self.gathering.handle_write(crowd, true, at);
                self.writes.push((crowd.records, now - self.since.max(self.idle_since)));
                self.writing = Some((now + WRITE, core::mem::take(&mut self.waiting)));
            }
        }
    }

    #[test]
    fn publishers_that_wait_for_their_answers_come_to_share_a_write() {
        let mut world =
            World { coming: (0..4).map(|number| (number * 130, number as usize)).collect(), ..World::default() };
        world.run(50_000, 16, true);
        let settled = &world.writes[world.writes.len() / 2..];
        let whole = settled.iter().filter(|(records, _)| *records == 64).count();
        assert!(whole * 10 >= settled.len() * 9, "{settled:?}");
    }

    #[test]
    fn a_single_reading_on_its_way_is_written_at_once() {
        let mut world = World { coming: [(0, 0)].into(), ..World::default() };
        world.run(50_000, 1, true);
        assert!(world.writes.len() > 100 && world.writes.iter().all(|(_, late)| *late == 0), "{:?}", world.writes);
    }

    #[test]
    fn who_does_not_wait_for_answers_is_hardly_ever_waited_for() {
        for period in [70, 130, 410, 1_000] {
            let coming = (0..200_000 / period).map(|number| (number * period, 0)).collect();
            let mut world = World { coming, ..World::default() };
            world.run(200_000, 1, false);
            let late = world.writes.iter().filter(|(_, late)| *late > 0).count();
            assert!(late * 20 <= world.writes.len(), "every {period} us: {late} of {}", world.writes.len());
        }
    }

    #[test]
    fn after_a_slow_write_nobody_is_waited_for_longer_than_half_a_millisecond() {
        let mut gathering = Gathering::default();
        let crowd = Crowd { records: 1, bytes: 200, unanswered: 0 };
        gathering.handle_write(Crowd { records: 0, ..crowd }, false, Instant::ZERO);
        let now = Instant::from_micros(50_000);
        gathering.handle_synced(now);
        gathering.handle_answered(40);
        assert_eq!(gathering.due(crowd, now), now + PATIENCE_MAX);
        gathering.handle_write(crowd, true, now + PATIENCE_MAX);
        gathering.handle_answered(40);
        assert_eq!(gathering.due(crowd, now + PATIENCE_MAX), now + PATIENCE_MAX);
    }
}
