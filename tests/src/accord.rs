//! What the control path owes once nothing goes wrong any more: within a bound there is one leader whom all boards know,
//! all boards agree on who lives, every duty is performed where it can be, and then it stays so, but for a leader that gives way.

use std::time::Duration;

use shared::config::DutyMode;
use shared::ids::{BoardSet, DutyId, Term};
use shared::limits::WITNESS_SOUND_EVERY;

use crate::board::Board;
use crate::clock::Moment;
use crate::world::World;

/// From the moment at which every process runs again, to accord: voters that restarted abstain for the longest lease
/// there is (2 s), the last restarted board counts unheard ones as living for 2 s, and duties start up to 200 ms late.
pub(crate) const WITHIN: Duration = Duration::from_secs(8);
/// Accord that has lasted so long is believed.
const LASTS: Duration = Duration::from_millis(1_500);
/// A voter that restarted abstains for the longest lease there is, and then has its leader take a higher term, since it
/// remembers a ceiling and not what it promised: only after that does a term last. A witness is asked only now and then.
const ABSTAINS: Duration = Duration::from_millis(2_200);
/// A voter on an empty disk, and one that was not there when its site first elected a leader, is told of one after so long.
const JOINS: Duration = Duration::from_secs(6);
/// A duty that goes to a board whose hold-down is over, or that was overloaded before, is with nobody for so long: its
/// old process ends, or its lease does (200 ms), and the new one starts (200 ms), with a message lost that is said again after 500 ms.
const MOVES_WITHIN: Duration = Duration::from_secs(2);
/// A leader gives way to a board that has been fitter for thirty seconds, whenever these are over. Its leadership is with nobody until its
/// duties have ended and its successor, and then all, have heard of it, with a message lost that is said again after 500 ms.
const HANDS_OVER_WITHIN: Duration = Duration::from_secs(2);
/// So often at most, until a site is in accord: one by its uplink, one by rank, and one that an operator has wished.
const HAND_OVERS_MAX: u32 = 3;
/// Some worlds go on for so long after that, and nothing may change but the holder of a duty, which may move to a better one.
const GOES_ON: Duration = Duration::from_secs(8);

/// Packets that may be lost in a calm world, in a million.
const CALM_LOSS_PPM: u32 = 10_000;

/// How far the site has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Accord {
    whole: Option<Moment>,
    since: Option<(Moment, Term)>,
    /// Every duty was performed then.
    performed: Option<Moment>,
    /// When a leader last gave way, and how often so far.
    handed_over: (Option<Moment>, u32),
}

impl World {
    /// Looks whether the site is in accord; true once that has lasted for long enough.
    pub(crate) fn look_for_accord(&mut self, accord: &mut Accord) -> bool {
        let now = self.now;
        if accord.whole.is_none() && self.living().all(|host| host.runs() && !host.stops()) {
            accord.whole = Some(now);
        }
        let found = match accord.whole {
            Some(_) => self.discord(),
            None => Some("a process is still to start".into()),
        };
        if self.duty_discord().is_none() {
            accord.performed = Some(now);
        }
        let since = accord.since;
        accord.since = match (&found, self.leadership()) {
            (None, Some(term)) => since.filter(|(_, before)| *before == term).or(Some((now, term))),
            (Some(_), _) | (None, None) => None,
        };
        if since.is_some() && accord.since != since {
            self.tally.accords_broken += 1;
        }
        if accord.handed_over.0 != self.handed_over {
            accord.handed_over = (self.handed_over, accord.handed_over.1 + 1);
        }
        let hands_over = self.hands_over() && accord.handed_over.1 <= HAND_OVERS_MAX;
        let late = accord.whole.is_some_and(|whole| now.since(whole) > WITHIN);
        let moves =
            accord.performed.is_some_and(|at| now.since(at) <= MOVES_WITHIN) && self.members_discord().is_none();
        if late
            && !moves
            && !hands_over
            && let Some(why) = found
        {
            self.broken(format!("the site is not in accord {WITHIN:?} after its last board started: {why}"));
        }
        accord.since.is_some_and(|(since, _)| now.since(since) >= LASTS)
    }

    /// In one world of eight, time goes on and everything must stay as it is. Only where at most one packet in a hundred is
    /// lost, and none where the boards that are left are just enough: a lease of 200 ms then runs out whenever three renewals
    /// of one board are lost in turn. It is taken again, which is what such worlds are held to.
    pub(crate) fn stay_calm(&mut self) {
        let voters = |host: &&Board| host.config.voters.set.contains(host.id.into());
        let quorum = self.boards.values().next().map_or(0, |host| host.config.voters.quorum());
        let has_spare = self.living().filter(voters).count() > quorum;
        let loss_most = if has_spare { CALM_LOSS_PPM } else { 0 };
        if !self.settings.seed.is_multiple_of(8) || self.settings.mesh.loss_ppm > loss_most {
            return;
        }
        let sounded = if self.witness.is_some() {
            WITNESS_SOUND_EVERY + ABSTAINS
        } else {
            Duration::ZERO
        };
        // A lease that needs every voter that is left would not outlive the loss of a few datagrams in turn.
        let joining = if self.all_have_joined() { Duration::ZERO } else { JOINS };
        if self.run_for(ABSTAINS + sounded + joining).is_err() {
            return;
        }
        if !self.all_have_joined() {
            return self.broken("a voter has met no leader in calm".to_owned());
        }
        let mut before = Some(self.leadership());
        let (begun, end) = (self.now, self.now + GOES_ON);
        let mut quiet_at = self.now;
        let mut gave_way = None;
        while self.now < end && self.violation.is_none() {
            if self.run_for(Duration::from_millis(200)).is_err() {
                return;
            }
            // Once: by rank, for which it has waited since before the calm.
            if let Some(at) = self.handed_over.filter(|_| self.hands_over())
                && (at <= begun || *gave_way.get_or_insert(at) == at)
            {
                (before, quiet_at) = (None, self.now);
                continue;
            }
            let after = self.leadership();
            let before = *before.get_or_insert(after);
            if after != before {
                self.broken(format!("term {before:?} ended in calm, and {after:?} runs"));
            }
            if let Some(why) = self.members_discord() {
                self.broken(format!("the site fell out of accord in calm: {why}"));
            }
            match self.duty_discord() {
                None => quiet_at = self.now,
                Some(why) if self.now.since(quiet_at) > MOVES_WITHIN => {
                    self.broken(format!("the site fell out of accord in calm: {why}"));
                }
                Some(_) => {}
            }
        }
    }

    /// Whether every board has met a leader, so that its vote counts for the next one.
    pub fn all_have_joined(&self) -> bool {
        self.living()
            .all(|host| host.disk.memory.joined || !host.config.voters.set.contains(host.id.into()))
    }

    fn living(&self) -> impl Iterator<Item = &Board> {
        self.boards.values().filter(|host| !host.lost)
    }

    /// Whether a leader has begun to give way a moment ago.
    fn hands_over(&self) -> bool {
        self.handed_over.is_some_and(|at| self.now.since(at) <= HANDS_OVER_WITHIN)
    }

    fn leadership(&self) -> Option<Term> {
        self.living().find_map(|host| host.holds(self.now))
    }

    /// What the control path has still to do, in words; `None` where all is in order.
    pub fn discord(&self) -> Option<String> {
        self.members_discord().or_else(|| self.duty_discord())
    }

    /// Where boards do not agree on who lives and who leads.
    fn members_discord(&self) -> Option<String> {
        if let Some(host) = self.living().find(|host| !host.runs()) {
            return Some(format!("{} does not run", host.id));
        }
        let leaders = self.living().filter(|host| host.holds(self.now).is_some()).count();
        let Some(term) = self.leadership() else { return Some("nobody leads".into()) };
        if leaders > 1 {
            return Some(format!("{leaders} boards lead"));
        }
        let living: BoardSet = self.living().map(|host| host.id).collect();
        for host in self.living() {
            let Some(process) = &host.process else { continue };
            let alive = process.node.alive();
            if alive != living {
                let named = |set: BoardSet| set.iter().map(|board| board.get()).collect::<Vec<u8>>();
                return Some(format!("{} takes {:?} for alive, of {:?}", host.id, named(alive), named(living)));
            }
            let seen = process.node.leader_seen();
            if seen != Some(term) {
                return Some(format!("{} sees {seen:?} lead, not {term}", host.id));
            }
        }
        None
    }

    fn duty_discord(&self) -> Option<String> {
        self.settings.duties.iter().zip(0..).find_map(|(config, place)| {
            let duty = DutyId::new(place)?;
            let can = |host: &&Board| host.config.duties[usize::from(place)].is_local;
            let capable = self.living().filter(can).count();
            let wanted = match config.mode {
                DutyMode::Exclusive => capable.min(1),
                DutyMode::Available { active } => capable.min(usize::from(active)),
            };
            let acting = self.referee.acting(duty).count();
            let name = &config.name;
            (acting != wanted).then(|| format!("{acting} of {wanted} boards perform duty {place}, {name}"))
        })
    }
}
