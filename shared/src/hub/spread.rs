//! Which sites a gateway lets go, so that gateways of one store have about as many each. Knows how many sites the others say that
//! they have, and which site was sent away when. Weighs sites and not bytes; closes nothing itself.
//!
//! ```text
//!                  ┌── this gateway is full, another one has room ──▶ sent away: dials its next gateway
//! hello of a site ─┤                                                     ▲
//!                  └── else, or it has come back: it stays ── over the bar: one after the other
//! ```
//!
//! A site is never left without a gateway: one that comes back at once, as often as others might refuse it too, has nowhere else to
//! go and is kept. While nothing is known of the others, or nothing new, or there are none, nobody is sent away.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::election::jitter::Jitter;
use crate::ids::Name;
use crate::time::{Deadline, Instant};

/// What gateways said is believed for so long: they say it every two seconds, and count as dead after ten.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// A gateway has clearly more than its share with this part of it more: below, it is not worth a handshake and a dozen blocks
/// that are sent again.
const OVER_PART: usize = 5;
/// And with more than so many sites more: a few come and go.
const OVER_MIN: usize = 2;
/// What is over the share goes within about this: a gateway that comes back has its share within a minute.
const EVEN_OUT_IN: Duration = Duration::from_secs(20);
/// The shortest pause between two that are sent away: twenty handshakes a second are a tenth of what another gateway's core does.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Who was sent away is in the others' figures after this at the latest; until then it is reckoned beside them.
const ON_ITS_WAY: Duration = Duration::from_secs(6);
/// A site that was sent away, or may have come because it was, is not sent away for so long, unless a gateway comes or goes.
const REST: Duration = Duration::from_secs(180);
/// Who says hello within this of being sent away has been refused by the others: boards dial again after two seconds at most, and
/// wait three for an answer.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// A site with nowhere else to go is kept for so long before it is tried again.
const KEPT_FOR: Duration = Duration::from_secs(1800);
/// How often a site is sent away in a row where there is one other gateway: a board with two paths dials this one again over the second
/// path while it dials the other one over the first.
const AWAY_MAX_OF_TWO: u32 = 2;
/// The same where there are more: boards of older versions alternate between the first two of their list some times before they try
/// the third.
const AWAY_MAX: u32 = 4;
/// A board that looks for a better way and is refused looks again after four seconds, then after eight. One whose connections
/// without a hello come as often as this ...
const LOOKS_MAX: u32 = 3;
/// ... within this does not look: its hello is late, and is waited for.
const LOOKS_WITHIN: Duration = Duration::from_secs(8);

/// How many sites another live gateway of the same store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Its incarnation: another one after each start.
    pub gateway: u64,
    /// Sites that have a session there.
    pub sites: u32,
    /// Whether it has spoken in the last seconds. One that has not may be dead, its sites on their way to here.
    pub has_spoken: bool,
}

/// What becomes of a site that says hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It stays.
    Stays,
    /// It stays, because it has nowhere else to go.
    Kept,
    /// It is sent away.
    Away,
}

/// What the others have said.
#[derive(Debug)]
struct View {
    at: Instant,
    others: Vec<Load>,
    /// The share at that moment. Sites that have come since are in the others' figures still, and would make it larger.
    share: usize,
}

/// How a gateway stands beside the others, in sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weight {
    /// Those here.
    pub(super) own: usize,
    /// What each gateway would have if all had as many.
    pub(super) share: usize,
    /// With more it takes no others in: half-way to the bar, so that who is sent away by one gateway of a long list finds the one
    /// that lacks sites.
    full: usize,
    /// With more it sends sites away, until it has its share.
    bar: usize,
    /// What the others lack of their shares.
    room: usize,
    /// Whether another one has more than its share.
    is_other_over: bool,
}

/// A site that was sent away.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    /// How often in a row.
    times: u32,
}

/// The spreading of one gateway's sites.
#[derive(Debug)]
pub(super) struct Spread {
    view: Option<View>,
    /// The sites that have said hello here, and until when each is left alone.
    here: BTreeMap<Name, Instant>,
    sent: BTreeMap<Name, Sent>,
    /// Sites with nowhere else to go, and until when that is believed.
    kept: BTreeMap<Name, Instant>,
    /// Connections without a hello that were refused: since when, and how many.
    looks: BTreeMap<Name, (Instant, u32)>,
    /// When those were sent away who may be in nobody's figures yet.
    on_their_way: VecDeque<Instant>,
    /// Whether no others were to be taken in when the others were last heard. Not while sites come in between: what the others had
    /// then says nothing of what they get meanwhile.
    is_full: bool,
    /// Whether sites are sent away until no more than the share is here. It begins when the others are heard, too.
    is_over: bool,
    next_at: Instant,
    jitter: Jitter,
}

impl Spread {
    /// A gateway without sites that knows of no other; pauses are drawn by `seed`.
    pub(super) const fn new(seed: u64) -> Self {
        Self {
            view: None,
            here: BTreeMap::new(),
            sent: BTreeMap::new(),
            kept: BTreeMap::new(),
            looks: BTreeMap::new(),
            on_their_way: VecDeque::new(),
            is_full: false,
            is_over: false,
            next_at: Instant::NEVER,
            jitter: Jitter::new(seed),
        }
    }

    /// What the other live gateways of the store have, none of them twice and this one not among them.
    pub(super) fn handle_loads(&mut self, others: Vec<Load>, now: Instant) {
        let is_among = |load: &Load, loads: &[Load]| loads.iter().any(|other| other.gateway == load.gateway);
        if let Some(View { others: before, .. }) = &self.view {
            let is_same = before.len() == others.len() && others.iter().all(|load| is_among(load, before));
            // Who has moved for the sake of another set of gateways may have to move for this one. Who is on the way is not sent on anew.
            if !is_same {
                self.here.values_mut().for_each(|rests_until| *rests_until = now);
                self.sent.retain(|_, sent| now.since(sent.at) < BACK_WITHIN);
            }
        }
        self.view = Some(View { at: now, others, share: 0 });
        self.kept.retain(|_, until| *until > now);
        self.sent.retain(|_, sent| now.since(sent.at) < REST);
        self.looks.retain(|_, (since, _)| now.since(*since) < LOOKS_WITHIN);
        let weight = self.weigh(0, now);
        let share = weight.map_or(0, |weight| weight.share);
        self.view.iter_mut().for_each(|view| view.share = share);
        self.is_full = weight.is_some_and(|weight| weight.own > weight.full);
        self.is_over |= weight.is_some_and(|weight| weight.own > weight.bar);
        self.plan(now);
    }

    /// Whether `site` has said hello here and has not gone since.
    pub(super) fn is_here(&self, site: &Name) -> bool {
        self.here.contains_key(site)
    }

    /// `site` says hello. Unless it is sent away it counts from now on.
    pub(super) fn handle_hello(&mut self, site: &Name, now: Instant) -> Verdict {
        if self.is_here(site) {
            return Verdict::Stays;
        }
        let back = self.sent.get(site).copied();
        if back.is_some_and(|sent| now.since(sent.at) < ON_ITS_WAY) {
            self.on_their_way.pop_back();
        }
        self.looks.remove(site);
        let weight = self.weigh(1, now);
        let is_kept = self.kept.get(site).is_some_and(|until| *until > now);
        let is_wanted_away = |weight: &Weight| {
            let is_too_many = self.is_over && weight.own > weight.share || self.is_full && weight.own > weight.full;
            is_too_many && weight.room > 0
        };
        let verdict = match weight.filter(is_wanted_away) {
            None => Verdict::Stays,
            Some(_) if is_kept => Verdict::Stays,
            Some(_) => self.judge_return(back, now),
        };
        match verdict {
            Verdict::Away => {
                self.send(site, now);
                return Verdict::Away;
            }
            Verdict::Kept => drop(self.kept.insert(site.clone(), now + KEPT_FOR)),
            Verdict::Stays => {}
        }
        let may_have_moved = back.is_some() || weight.is_some_and(|weight| weight.is_other_over);
        let rests_until = if may_have_moved { now + REST } else { now };
        self.here.insert(site.clone(), rests_until);
        self.plan(now);
        verdict
    }

    /// What becomes of a site that is one too many and was sent away before, as far as that is remembered.
    fn judge_return(&self, back: Option<Sent>, now: Instant) -> Verdict {
        let others = self.gateways(now) - 1;
        let times_max = if others > 1 { AWAY_MAX } else { AWAY_MAX_OF_TWO };
        match back {
            None => Verdict::Away,
            Some(sent) if now.since(sent.at) < BACK_WITHIN && sent.times < times_max => Verdict::Away,
            Some(sent) if now.since(sent.at) < BACK_WITHIN => Verdict::Kept,
            // It has lost the gateway that it went to.
            Some(_) => Verdict::Stays,
        }
    }

    /// The last session of `site` is gone. Whether that is enough is looked at when the next one is due to go.
    pub(super) fn handle_gone(&mut self, site: &Name) {
        self.here.remove(site);
    }

    /// A board of `site` has connected and says no hello: it looks whether this gateway would do. Returns whether it would, for as
    /// long as others have not become fewer: it has room within its share.
    pub(super) fn handle_look(&mut self, site: &Name, now: Instant) -> bool {
        if self.is_here(site) {
            return true;
        }
        if self.weigh(0, now).is_none() {
            return true;
        }
        let share = self.view.as_ref().map_or(0, |view| view.share);
        let has_moved = self.sent.get(site).is_some_and(|sent| now.since(sent.at) < REST);
        if self.here.len() < share && !has_moved {
            return true;
        }
        let (since, times) = self.looks.get(site).copied().unwrap_or((now, 0));
        let (since, times) = if now.since(since) < LOOKS_WITHIN {
            (since, times)
        } else {
            (now, 0)
        };
        if times >= LOOKS_MAX {
            return true;
        }
        self.looks.insert(site.clone(), (since, times + 1));
        false
    }

    /// The site to send away now, if any: one that does nothing, as `is_idle` says, before others. It counts no more.
    pub(super) fn due(&mut self, now: Instant, is_idle: impl Fn(&Name) -> bool) -> Option<Name> {
        if now < self.next_at {
            return None;
        }
        self.next_at = Instant::NEVER;
        self.plan(now);
        if self.next_at == Instant::NEVER {
            return None;
        }
        let kept = &self.kept;
        let may_go = |(site, rests_until): &(&Name, &Instant)| {
            **rests_until <= now && kept.get(*site).is_none_or(|until| *until <= now)
        };
        let movable: Vec<&Name> = self.here.iter().filter(may_go).map(|(site, _)| site).collect();
        let idle: Vec<&Name> = movable.iter().copied().filter(|site| is_idle(site)).collect();
        let choice = if idle.is_empty() { movable } else { idle };
        let site = (*choice.get(self.jitter.pick(choice.len()))?).clone();
        self.here.remove(&site);
        self.send(&site, now);
        Some(site)
    }

    /// When [`due`](Self::due) is to be asked.
    pub(super) const fn next_deadline(&self) -> Deadline {
        Deadline { at: self.next_at, why: "more sites are here than this gateway's share" }
    }

    /// How this gateway stands beside the others, with so many sites more than it has; `None` while that is not known, and where it is alone.
    pub(super) fn weigh(&mut self, more: usize, now: Instant) -> Option<Weight> {
        while self.on_their_way.pop_front_if(|at| now.since(*at) >= ON_ITS_WAY).is_some() {}
        let view = self.view.as_ref()?;
        if now.since(view.at) >= GOOD_FOR || view.others.is_empty() {
            return None;
        }
        let own = self.here.len() + more;
        let others = || {
            let speak = view.others.iter().filter(|load| load.has_spoken);
            speak.map(|load| usize::try_from(load.sites).unwrap_or(usize::MAX))
        };
        let count = others().count();
        if count == 0 {
            return None;
        }
        let total = others().fold(own + self.on_their_way.len(), usize::saturating_add);
        let share = total.div_ceil(count + 1);
        let over = (share / OVER_PART).max(OVER_MIN);
        let lacking: usize = others().map(|sites| share.saturating_sub(sites)).sum();
        Some(Weight {
            own,
            share,
            full: share + over / 2,
            bar: share + over,
            room: lacking.saturating_sub(self.on_their_way.len()),
            is_other_over: others().any(|sites| sites > share),
        })
    }

    /// How many gateways share the sites, as far as that is known: at least this one.
    pub(super) fn gateways(&self, now: Instant) -> usize {
        let view = self.view.as_ref().filter(|view| now.since(view.at) < GOOD_FOR);
        1 + view.map_or(0, |view| view.others.iter().filter(|load| load.has_spoken).count())
    }

    /// Whether what was sent away and what is here add up.
    pub(super) fn check(&self) {
        assert!(self.next_at == Instant::NEVER || self.is_over, "nobody is sent away without a cause");
    }

    /// The sites that count.
    pub(super) fn here(&self) -> impl ExactSizeIterator<Item = &Name> {
        self.here.keys()
    }

    fn send(&mut self, site: &Name, now: Instant) {
        let in_a_row = self.sent.get(site).filter(|sent| now.since(sent.at) < BACK_WITHIN);
        let times = in_a_row.map_or(0, |sent| sent.times) + 1;
        self.sent.insert(site.clone(), Sent { at: now, times });
        self.on_their_way.push_back(now);
        self.plan(now);
    }

    /// Says when the next site is sent away, where any is to be.
    fn plan(&mut self, now: Instant) {
        let weight = self.weigh(0, now);
        self.is_over &= weight.is_some_and(|weight| weight.own > weight.share);
        match weight.filter(|weight| self.is_over && weight.room > 0) {
            None => self.next_at = Instant::NEVER,
            Some(_) if self.next_at != Instant::NEVER => {}
            Some(weight) => {
                let over = u32::try_from(weight.own - weight.share).unwrap_or(u32::MAX).max(1);
                let pause = (EVEN_OUT_IN / over).clamp(PAUSE_MIN, PAUSE_MAX);
                self.next_at = now + pause / 2 + self.jitter.below(pause);
            }
        }
    }
}

#[cfg(test)]
#[path = "spread_tests.rs"]
mod tests;
