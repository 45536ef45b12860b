//! Which way a board takes to its region: over which of its paths to which of the region's addresses. Knows the order that the
//! operator prefers, when each is dialled, and when a better one has been good for long enough to go back to. Dials nothing.
//!
//! Addresses may be of several regions, each with a store of its own. Every way to a better region goes before any to a worse
//! one, which is taken only where the better one has not answered by any way for 3 s.
//!
//! ```text
//!            ┌── the first that answers ──▶ stands ──fell──┐
//!  dialling ─┤                                ▲            │
//!     ▲      └── none: each again, with pauses│            │
//!     │                                       └─ a better one has answered for as long as it is held down
//!     └────────────────────────────────────────────────────┘
//! ```

use alloc::vec::Vec;
use core::time::Duration;

use crate::time::Instant;
use crate::uplink::silence::MISTAKES_MAX;

/// A way that is not answered within this gets the next one as a companion: most round trips are shorter.
const NEXT_AFTER: Duration = Duration::from_millis(300);
/// A worse region is not dialled before: what a site keeps goes up to it from the begin, and a gateway that is started anew is back
/// within two seconds.
const WORSE_REGION_AFTER: Duration = Duration::from_secs(3);
/// Attempts at a way begin so soon after each other, while the earlier ones still wait for an answer: so late at most the return of
/// a dead uplink is noticed. One is two datagrams of 1200 bytes, so they are 24 KB/s. A gateway that comes back refuses those that are
/// too many for it.
const ATTEMPT_EVERY_EAGER: Duration = Duration::from_millis(100);
/// The same once nobody has answered for [`EAGER_FOR`]: 12 KB/s.
const ATTEMPT_EVERY: Duration = Duration::from_millis(200);
/// A radio that looks for its cell, a gateway that is started anew: most are back by then.
const EAGER_FOR: Duration = Duration::from_secs(60);
/// The same once nobody has answered for [`PATIENT_AFTER`]: where the link is up and the gateway is not, somebody pays for it.
const ATTEMPT_EVERY_PATIENT: Duration = Duration::from_secs(2);
/// Most outages of a radio are shorter than this.
const PATIENT_AFTER: Duration = Duration::from_secs(600);
/// The pace above is for this many ways together, so that many ways cost no more than two.
const WAYS_AT_FULL_PACE: u32 = 2;
/// Wait before a way is tried again that refused.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest such wait.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A session that stood so long was a good one: what refused before counts no more.
const GOOD_AFTER: Duration = Duration::from_secs(5);
/// While a worse way stands, a better one is tried so often: a handshake, some 6 KB.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The same while none answers: each time half as often, so that a thousand sites do not storm a gateway that comes back.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(32);
/// Tries in a row that a better way may miss and count as good: one lost packet is no fall.
const MISSES_BORNE: u32 = 1;
/// So long a better way must have answered every time before it is taken again.
const HOLD_MIN: Duration = Duration::from_secs(10);
/// The same after it has fallen soon again and again: each time it is doubled.
const HOLD_MAX: Duration = Duration::from_secs(600);
/// What falls within this of being taken has flapped.
const FLAPS_WITHIN: Duration = Duration::from_secs(60);
/// What stood so long has forgotten its flaps and its mistakes.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);
/// A way that refused, or whose session was ended, within this is dialled behind those that were not: a gateway that has more than its share
/// of the sites sends this one away, and the next may too. A round over all of a long list takes less.
const ENDED_LATELY: Duration = Duration::from_secs(10);
/// A path that answers within this of having been taken for dead was not.
const MISTAKE_WITHIN: Duration = Duration::from_secs(1);

/// One of the board's paths, and one of the region's addresses, each by its place in the configuration: the first is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// Which path.
    pub path: usize,
    /// Which address.
    pub gateway: usize,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fall {
    /// Its path fell silent.
    Silent,
    /// The region ended or refused it, or the connection broke.
    Ended,
    /// Another way was taken, or none is wanted any more: nothing is held against this one.
    Left,
}

#[derive(Clone, Copy, Debug)]
struct Stand {
    next_at: Instant,
    backoff: Duration,
    rests_until: Instant,
    /// When the region last refused or ended a session over it.
    ended_at: Option<Instant>,
    /// When it was last taken for dead.
    silent_at: Option<Instant>,
    mistakes: u32,
    hold: Duration,
    /// Since when it has answered whenever it was tried, but for [`MISSES_BORNE`] in a row.
    good_since: Option<Instant>,
    misses: u32,
}

impl Stand {
    const NEW: Self = Self {
        next_at: Instant::ZERO,
        backoff: BACKOFF_MIN,
        rests_until: Instant::ZERO,
        ended_at: None,
        silent_at: None,
        mistakes: 0,
        hold: HOLD_MIN,
        good_since: None,
        misses: 0,
    };
}

/// The ways of one board.
#[derive(Debug)]
pub struct Ways {
    /// The best first: of each region in turn all addresses over the first path, then over the second.
    order: Vec<Way>,
    /// Of each address, the place of its region among the regions.
    regions: Vec<usize>,
    /// How each way stands, in the same order.
    stands: Vec<Stand>,
    current: Option<(usize, Instant)>,
    fell: Option<usize>,
    /// Of each region, when it was last well, or the start: a session of it that had stood for [`FLAPS_WITHIN`] ended.
    well: Vec<Instant>,
    /// When something was last heard of the region, or a session was wanted where none was before, or the start.
    answered: Instant,
    /// Whether attempts may follow each other quickly at first.
    hurries: bool,
    look_at: Instant,
    look_every: Duration,
    looks: usize,
}

impl Ways {
    /// The ways over `paths` paths to the addresses of `regions`: the place of each one's region, 0 for the most preferred. At least
    /// one each; none has been tried.
    pub fn new(paths: usize, regions: &[usize], now: Instant) -> Self {
        let regions = if regions.is_empty() { alloc::vec![0] } else { regions.to_vec() };
        let mut order: Vec<Way> = (0..paths.max(1))
            .flat_map(|path| (0..regions.len()).map(move |gateway| Way { path, gateway }))
            .collect();
        order.sort_by_key(|way| (regions[way.gateway], way.path, way.gateway));
        Self {
            stands: alloc::vec![Stand::NEW; order.len()],
            order,
            well: alloc::vec![now; regions.iter().max().map_or(0, |last| last + 1)],
            regions,
            current: None,
            fell: None,
            answered: now,
            hurries: true,
            look_at: Instant::NEVER,
            look_every: LOOK_EVERY,
            looks: 0,
        }
    }

    /// The same where somebody pays for each attempt: they follow each other no more quickly in the first minute than later.
    #[must_use]
    pub fn without_haste(self) -> Self {
        Self { hurries: false, ..self }
    }

    /// A session is wanted where none was wanted before: this board speaks for its site from now on. How long nobody has answered
    /// others, or this board earlier, says nothing of it.
    pub fn handle_wanted(&mut self, now: Instant) {
        if now.since(self.answered) >= PATIENT_AFTER {
            self.fell = None;
        }
        self.answered = now;
    }

    fn way(&self, rank: usize) -> Way {
        self.order[rank]
    }

    fn region(&self, rank: usize) -> usize {
        self.regions[self.order[rank].gateway]
    }

    /// Whether the region refused or ended a session over it a moment ago.
    fn has_ended_lately(&self, rank: usize, now: Instant) -> bool {
        let ended_at = self.stands[rank].ended_at;
        ended_at.is_some_and(|at| now.since(at) < ENDED_LATELY)
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.stands.len()
    }

    /// The place of `way` among them: 0 is the best. One that is not among them comes after all.
    pub fn rank(&self, way: Way) -> usize {
        self.order.iter().position(|other| *other == way).unwrap_or(self.order.len())
    }

    /// A session is wanted. The best way is dialled at once, and each other where those before it have not answered. The way
    /// that has just fallen comes last of its region; then the next path and the region's next address are dialled at once, as nobody
    /// knows which of the two it was. Those that have refused lately come behind the others of their region. A worse region than the one
    /// that fell, or than the best one, waits for 3 s: from now on, or, where that one ends the sessions that it takes, from
    /// when it was well last.
    pub fn begin(&mut self, now: Instant) {
        if now.since(self.answered) >= PATIENT_AFTER {
            self.fell = None;
        }
        let (order, at_once) = self.turn(now);
        let home = self.fell.map_or(0, |fell| self.region(fell));
        let ends_them =
            (0..self.stands.len()).any(|rank| self.region(rank) == home && self.has_ended_lately(rank, now));
        let since = if ends_them { self.well[home] } else { now };
        for (place, rank) in order.into_iter().enumerate() {
            let later = u32::try_from((place + 1).saturating_sub(at_once)).unwrap_or(u32::MAX);
            let mut next_at = now + NEXT_AFTER.saturating_mul(later);
            if self.region(rank) > home {
                next_at = next_at.max(since + WORSE_REGION_AFTER);
            }
            let stand = &mut self.stands[rank];
            stand.next_at = next_at.max(stand.rests_until);
        }
    }

    /// In which order ways are dialled, and how many of them at once.
    fn turn(&self, now: Instant) -> (Vec<usize>, usize) {
        let ended_lately = |rank: &usize| self.has_ended_lately(*rank, now);
        let mut order: Vec<usize> = (0..self.stands.len()).collect();
        let Some(fell) = self.fell else {
            order.sort_by_key(|rank| (self.region(*rank), ended_lately(rank), *rank));
            return (order, 1);
        };
        let (was, home) = (self.way(fell), self.region(fell));
        let over = |rank: &usize| self.way(*rank).path == was.path;
        let to = |rank: &usize| self.way(*rank).gateway == was.gateway;
        order.retain(|rank| *rank != fell);
        // The same address over another path, another address over the same path, then the others, and the other regions.
        order.sort_by_key(|rank| (self.region(*rank) != home, ended_lately(rank), !to(rank) && !over(rank), *rank));
        let is_home = |rank: &usize| self.region(*rank) == home;
        let has_others = self.well.len() > 1;
        if has_others && ended_lately(&fell) && now >= self.well[home] + WORSE_REGION_AFTER {
            // It takes sessions and ends them: another region goes before what has done so lately.
            order.push(fell);
            order.sort_by_key(|rank| (ended_lately(rank), !is_home(rank), *rank == fell, *rank));
            return (order, 1);
        }
        let next_path = order.iter().position(to);
        let next_address = order.iter().position(|rank| is_home(rank) && over(rank));
        let mut first: Vec<usize> = [next_path, next_address].into_iter().flatten().map(|at| order[at]).collect();
        let at_once = first.len().max(1);
        order.retain(|rank| !first.contains(rank));
        first.append(&mut order);
        let after = first.iter().rposition(is_home).map_or(0, |last| last + 1);
        first.insert(after, fell);
        (first, at_once)
    }

    /// The way to dial now, if any; it is due again later.
    pub fn due(&mut self, now: Instant) -> Option<Way> {
        let rank = (0..self.stands.len()).min_by_key(|rank| self.stands[*rank].next_at)?;
        if self.stands[rank].next_at > now {
            return None;
        }
        self.stands[rank].next_at = now + self.pace(now);
        Some(self.way(rank))
    }

    /// When the next way is to be dialled.
    pub fn next_at(&self) -> Instant {
        self.stands.iter().map(|stand| stand.next_at).min().unwrap_or(Instant::NEVER)
    }

    /// Whether nobody has answered for so long that attempts are rare, and each gets more time.
    pub fn is_patient(&self, now: Instant) -> bool {
        now.since(self.answered) >= PATIENT_AFTER
    }

    fn pace(&self, now: Instant) -> Duration {
        let every = match now.since(self.answered) {
            silent if silent < EAGER_FOR && self.hurries => ATTEMPT_EVERY_EAGER,
            silent if silent < PATIENT_AFTER => ATTEMPT_EVERY,
            _ => ATTEMPT_EVERY_PATIENT,
        };
        let ways = u32::try_from(self.stands.len()).unwrap_or(u32::MAX);
        every.saturating_mul(ways.div_ceil(WAYS_AT_FULL_PACE))
    }

    /// An attempt was refused, or could not begin: the way rests.
    pub fn handle_refused(&mut self, way: Way, now: Instant) {
        let rank = self.rank(way);
        let Some(stand) = self.stands.get_mut(rank) else { return };
        // One that was under way when another was refused says nothing more.
        if now >= stand.rests_until {
            stand.rests_until = now + stand.backoff;
            stand.backoff = (stand.backoff * 2).min(BACKOFF_MAX);
        }
        stand.ended_at = Some(now);
        stand.next_at = stand.next_at.max(stand.rests_until);
        stand.good_since = None;
    }

    /// A session stands over `way`.
    pub fn handle_opened(&mut self, way: Way, now: Instant) {
        let rank = self.rank(way);
        let Some(stand) = self.stands.get_mut(rank) else { return };
        if stand.silent_at.take().is_some_and(|at| now.since(at) < MISTAKE_WITHIN) {
            stand.mistakes = (stand.mistakes + 1).min(MISTAKES_MAX);
        }
        if stand.good_since.is_some() {
            // Looks at it have answered for as long as it was held down.
            self.well[self.regions[way.gateway]] = now;
        }
        self.answered = now;
        self.current = Some((rank, now));
        self.fell = None;
        self.look_every = LOOK_EVERY;
        self.look_at = if rank == 0 { Instant::NEVER } else { now + LOOK_EVERY };
        for stand in &mut self.stands {
            (stand.good_since, stand.misses) = (None, 0);
        }
    }

    /// The session that stood fell.
    pub fn handle_fell(&mut self, fall: Fall, now: Instant) {
        let Some((rank, since)) = self.current.take() else { return };
        self.look_at = Instant::NEVER;
        self.answered = now;
        self.fell = (fall != Fall::Left).then_some(rank);
        let (stood, stand) = (now.since(since), &mut self.stands[rank]);
        if stood >= GOOD_AFTER {
            stand.backoff = BACKOFF_MIN;
        }
        if stood >= FLAPS_WITHIN || fall == Fall::Left {
            self.well[self.regions[self.order[rank].gateway]] = now;
        }
        if stood >= FORGIVEN_AFTER {
            (stand.hold, stand.mistakes) = (HOLD_MIN, 0);
        }
        if fall == Fall::Left {
            return;
        }
        if stood < FLAPS_WITHIN {
            stand.hold = (stand.hold * 2).min(HOLD_MAX);
        }
        stand.silent_at = (fall == Fall::Silent).then_some(now);
        stand.ended_at = (fall == Fall::Ended).then_some(now);
        if fall == Fall::Ended && stood < GOOD_AFTER {
            stand.rests_until = now + stand.backoff;
            stand.backoff = (stand.backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// How often a path was wrongly taken for dead lately.
    pub fn mistakes(&self, way: Way) -> u32 {
        self.stands.get(self.rank(way)).map_or(0, |stand| stand.mistakes)
    }

    /// Since when the way in use is used.
    pub fn current(&self) -> Option<(Way, Instant)> {
        self.current.map(|(rank, since)| (self.way(rank), since))
    }

    /// When a better way than the one in use is to be tried.
    pub const fn look_at(&self) -> Instant {
        self.look_at
    }

    /// The better way to try now, if that is due: the better ones take turns.
    pub fn look(&mut self, now: Instant) -> Option<Way> {
        let (rank, _) = self.current.filter(|(rank, _)| *rank > 0 && now >= self.look_at)?;
        self.look_at = now + self.look_every;
        self.looks = (self.looks + 1) % rank;
        Some(self.way(if rank > 1 { self.looks } else { 0 }))
    }

    /// A better way was tried and refused: it is there, and others try it too. It is tried less often.
    pub fn handle_look_refused(&mut self, now: Instant) {
        self.look_every = (self.look_every * 2).min(LOOK_EVERY_MAX);
        self.look_at = self.look_at.max(now + self.look_every);
    }

    /// A better way was tried, and has answered or not. Returns whether to take it: it has answered for as long as it is held down, but
    /// for single tries.
    pub fn handle_looked(&mut self, way: Way, has_answered: bool, now: Instant) -> bool {
        let rank = self.rank(way);
        let Some((current, _)) = self.current.filter(|(current, _)| rank < *current) else {
            return false;
        };
        debug_assert!(current < self.stands.len(), "what stands is a way");
        let stand = &mut self.stands[rank];
        if !has_answered {
            stand.misses += 1;
            if stand.misses > MISSES_BORNE {
                stand.good_since = None;
                self.look_every = (self.look_every * 2).min(LOOK_EVERY_MAX);
                self.look_at = self.look_at.max(now + self.look_every);
            }
            return false;
        }
        stand.misses = 0;
        self.look_every = LOOK_EVERY;
        self.look_at = self.look_at.min(now + LOOK_EVERY);
        let good_since = *stand.good_since.get_or_insert(now);
        now.since(good_since) >= stand.hold
    }
}

#[cfg(test)]
#[path = "ways_tests.rs"]
mod tests;
