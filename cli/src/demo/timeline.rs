//! What goes wrong, and when: the leader dies, the uplink is cut, another board dies and comes back, the uplink
//! returns. Owns the order and the measuring of the takeover; the means are the site's and the relay's.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::relay::Relay;
use super::screen::Screen;
use super::site::{Site, ask};
use crate::failure::Failure;

/// Between two looks at a board while a takeover is measured.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A takeover that has not happened after so long is not waited for.
const TAKEOVER_MAX: Duration = Duration::from_secs(15);

/// What happens at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// SIGKILL to the board that leads.
    KillLeader,
    /// The leader's board comes back: only where no other could take over.
    ReviveLeader,
    /// The uplink swallows everything.
    Cut,
    /// SIGKILL to a board that does not lead.
    KillAnother,
    /// That board comes back.
    ReviveAnother,
    /// Publishers have nothing more to say.
    Quiet,
    /// The uplink passes again.
    Mend,
}

/// The moments of a run of `publishing`, in order, each with its time from the beginning. `boards` is 2 or more: one of
/// a pair cannot lead alone, so the first board that dies comes back before the next one dies.
pub(crate) fn moments(boards: usize, publishing: Duration) -> Vec<(Duration, Moment)> {
    let mut percents = vec![
        (15, Moment::KillLeader),
        (33, Moment::Cut),
        (48, Moment::KillAnother),
        (65, Moment::ReviveAnother),
        (99, Moment::Quiet),
        (100, Moment::Mend),
    ];
    if boards == 2 {
        percents.insert(1, (28, Moment::ReviveLeader));
    }
    percents
        .into_iter()
        .map(|(percent, moment)| (publishing * percent / 100, moment))
        .collect()
}

/// The boards that faults have happened to.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    leader: Option<usize>,
    another: Option<usize>,
}

impl Faults {
    /// SIGKILLs the leader; returns where a takeover shows: the others' HTTP faces and the term to beat.
    pub(crate) async fn kill_leader(&mut self, site: &mut Site, screen: &Screen) -> Result<Takeover, Failure> {
        let (leader, term) = site.ready().await?;
        // A pair leads again only once both are there: then it may well be the same board, under a higher term.
        let is_pair = site.count() == 2;
        let others = (0..site.count()).filter(|at| *at != leader || is_pair);
        let faces = others.map(|at| (at, site.plan().boards[at].http)).collect();
        let killed = Instant::now();
        site.kill(leader);
        self.leader = Some(leader);
        screen.say(&format!("board {} leads: SIGKILL", leader + 1));
        if is_pair {
            screen.say("one of a pair cannot lead alone: it takes records, and nobody leads until both are there");
        }
        Ok(Takeover { killed, term, faces })
    }

    /// Starts the leader's board again.
    pub(crate) fn revive_leader(&mut self, site: &mut Site, screen: &Screen) -> Result<(), Failure> {
        revive(self.leader.take(), site, screen)
    }

    /// SIGKILLs a board that does not lead.
    pub(crate) async fn kill_another(&mut self, site: &mut Site, screen: &Screen) -> Result<(), Failure> {
        let (leader, _) = site.ready().await?;
        let another = (0..site.count()).rev().find(|at| *at != leader && site.runs(*at));
        if let Some(another) = another {
            site.kill(another);
            screen.say(&format!("board {}: SIGKILL, while the uplink is cut", another + 1));
        }
        self.another = another;
        Ok(())
    }

    /// Starts that board again.
    pub(crate) fn revive_another(&mut self, site: &mut Site, screen: &Screen) -> Result<(), Failure> {
        revive(self.another.take(), site, screen)
    }
}

fn revive(board: Option<usize>, site: &mut Site, screen: &Screen) -> Result<(), Failure> {
    if let Some(board) = board {
        site.start(board)?;
        screen.say(&format!("board {} is started again", board + 1));
    }
    Ok(())
}

/// Cuts the uplink.
pub(crate) fn cut(relay: &Relay, screen: &Screen) {
    relay.set_cut(true);
    screen.say("the uplink is CUT: every datagram between boards and gateway vanishes");
}

/// Mends the uplink.
pub(crate) fn mend(relay: &Relay, screen: &Screen) {
    relay.set_cut(false);
    screen.say("the uplink is back: draining");
}

/// A takeover that is to be measured.
#[derive(Clone, Debug)]
pub(crate) struct Takeover {
    killed: Instant,
    term: u64,
    faces: Vec<(usize, SocketAddr)>,
}

impl Takeover {
    /// Until a board holds the lease under a higher term: which one (an index), and after how long; `None` where that
    /// does not happen in time. All boards are looked at side by side, so that a dead one delays nothing.
    pub(crate) async fn measure(self) -> Option<(usize, Duration)> {
        let mut looking = JoinSet::new();
        for (at, face) in self.faces {
            let (killed, term) = (self.killed, self.term);
            looking.spawn(async move {
                let mut looks = tokio::time::interval(LOOK_EVERY);
                looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    looks.tick().await;
                    let status = ask(face).await;
                    if status.is_some_and(|status| status.term > term && status.lease_remaining_ms.is_some()) {
                        return (at, killed.elapsed());
                    }
                }
            });
        }
        // Dropping the set ends the others.
        tokio::time::timeout(TAKEOVER_MAX, looking.join_next()).await.ok()??.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_whole_again_before_the_next_board_dies() {
        for boards in 2..=16 {
            let moments = moments(boards, Duration::from_secs(40));
            assert!(moments.is_sorted_by_key(|(at, _)| *at));
            let place = |wanted| moments.iter().position(|(_, moment)| *moment == wanted);
            assert_eq!(place(Moment::ReviveLeader).is_some(), boards == 2);
            assert!(boards > 2 || place(Moment::ReviveLeader) < place(Moment::KillAnother));
            assert_eq!(moments.last().unwrap().1, Moment::Mend);
        }
    }
}
