//! One holder, always: a site whose boards are machines of their own on a switch of its own, an exclusive duty on it, and
//! an observer outside that hears everybody who acts. Boards are killed, stopped, cut off, starved; two holders at once
//! fail the test, and so does a site on which nobody acts afterwards.
//!
//! Needs root, `ip netns`, and `nft` for the cut in one direction; without them the tests are skipped, and say so.

use std::path::PathBuf;
use std::time::Duration;

use cli::bench::failover::beat::{Beat, Stamp};
use cli::bench::failover::emulator::Conditions;
use cli::bench::failover::judge;
use cli::bench::failover::lab::Lab;
use cli::bench::failover::namespace::lacking;
use cli::bench::failover::site::{Site, Wanted};

use crate::group::program;
use crate::site::turn;
use crate::starve::Starved;
use crate::until;

/// A site is whole after so long, on a machine that does other things too.
const WHOLE_MAX: Duration = Duration::from_secs(60);
/// Somebody acts again after so long: many leases, so that a busy machine breaks no test; figures are the bench's.
const TAKEOVER_MAX: Duration = Duration::from_secs(15);
/// Whoever acts beats more often than this, also on a busy machine.
const ACTS_WITHIN: Duration = Duration::from_millis(150);
/// What lasts half a minute runs where this is set.
const LONG: &str = "ROADSTEAD_LONG";

/// A site with an eye on it.
struct Watched {
    site: Site,
    began: Stamp,
    _turn: std::sync::MutexGuard<'static, ()>,
}

impl Watched {
    /// A whole site of `boards` boards, or `None`, said loudly, where this machine can have none.
    fn start(test: &str, boards: u8, relays: bool) -> Option<Self> {
        if let Some(why) = lacking() {
            eprintln!("SKIPPED {test}: {why}");
            return None;
        }
        let turn = turn();
        let wanted = Wanted {
            boards,
            preset: None,
            witness: None,
            relays,
            program: program().canonicalize().unwrap(),
            below: std::env::temp_dir(),
        };
        let site = Site::start(wanted).unwrap();
        let mut watched = Self { site, began: Stamp::now(), _turn: turn };
        watched.expect_whole();
        Some(watched)
    }

    fn lab(&self) -> &Lab {
        self.site.lab().unwrap()
    }

    fn acting(&self) -> Option<Beat> {
        self.site.observer().acting(ACTS_WITHIN)
    }

    fn holder(&self) -> Beat {
        self.acting().expect("somebody acts on a whole site")
    }

    /// Waits until another process than `old`'s acts under a higher token.
    fn expect_takeover(&self, old: Beat) -> Beat {
        let mut next = None;
        let taken = until(TAKEOVER_MAX, || {
            next = self
                .acting()
                .filter(|beat| beat.token > old.token && beat.process != old.process);
            next.is_some()
        });
        assert!(taken, "nobody takes over from board {}\n{}", old.board, self.site.tails());
        next.unwrap()
    }

    /// Waits until the site is whole; supervisors that have ended are started again, as the system would.
    fn expect_whole(&mut self) {
        let mut lacks = None;
        let whole = until(WHOLE_MAX, || {
            self.site.restart_ended().unwrap();
            lacks = self.site.lacks();
            lacks.is_none()
        });
        assert!(whole, "the site does not get whole: {lacks:?}\n{}", self.site.tails());
    }

    /// The fence: nobody has ever acted beside another.
    fn expect_one_holder(&self) {
        let beats = self.site.observer().since(self.began);
        let acting = beats.iter().filter(|beat| beat.acts()).count();
        assert!(acting > 100, "the observer has heard {acting} beats, too few to judge by");
        assert_eq!(judge::overlaps(&beats), 0, "two acted at once\n{}", self.site.tails());
    }

    fn finish(mut self) {
        self.expect_whole();
        self.expect_one_holder();
    }
}

/// Both ways between all pairs of three boards.
fn set_everywhere(site: &Site, conditions: Conditions) {
    for (from, to) in [(1, 2), (1, 3), (2, 3)] {
        site.set_way(from, to, conditions, conditions);
    }
}

fn board(beat: Beat) -> usize {
    usize::from(beat.board) - 1
}

#[test]
fn a_killed_node_and_a_killed_supervisor_have_one_successor() {
    let Some(mut watched) = Watched::start("a_killed_node_and_a_killed_supervisor_have_one_successor", 3, false) else {
        return;
    };
    let old = watched.holder();
    watched.site.kill_node(old.board).unwrap();
    watched.expect_takeover(old);
    watched.expect_whole();
    let old = watched.holder();
    watched.site.kill_supervisor_and_node(old.board).unwrap();
    watched.expect_takeover(old);
    watched.finish();
}

#[test]
fn a_board_that_stands_still_for_a_second_acts_no_more_when_it_goes_on() {
    stand_still("a_board_that_stands_still_for_a_second_acts_no_more_when_it_goes_on", Duration::from_secs(1));
}

#[test]
fn a_board_that_stands_still_for_half_a_minute_acts_no_more_when_it_goes_on() {
    let test = "a_board_that_stands_still_for_half_a_minute_acts_no_more_when_it_goes_on";
    if std::env::var_os(LONG).is_none() {
        eprintln!("SKIPPED {test}: {LONG} is not set");
        return;
    }
    stand_still(test, Duration::from_secs(30));
}

fn stand_still(test: &str, still: Duration) {
    let Some(watched) = Watched::start(test, 3, false) else { return };
    let old = watched.holder();
    let stopped = watched.site.stand_still(old.board, true);
    watched.expect_takeover(old);
    std::thread::sleep(still.saturating_sub(Stamp::now().since(stopped)));
    watched.site.stand_still(old.board, false);
    watched.finish();
}

#[test]
fn a_pulled_cable_has_one_successor_and_its_board_comes_back() {
    let Some(watched) = Watched::start("a_pulled_cable_has_one_successor_and_its_board_comes_back", 3, false) else {
        return;
    };
    let old = watched.holder();
    watched.lab().pull(board(old)).unwrap();
    let next = watched.expect_takeover(old);
    assert_ne!(next.board, old.board);
    watched.lab().plug(board(old)).unwrap();
    watched.finish();
}

#[test]
fn a_cut_in_one_direction_leaves_one_holder() {
    let Some(mut watched) = Watched::start("a_cut_in_one_direction_leaves_one_holder", 3, false) else {
        return;
    };
    if let Err(failure) = watched.lab().mend() {
        eprintln!("SKIPPED a_cut_in_one_direction_leaves_one_holder: {failure}");
        return;
    }
    // Nobody hears the holder, although it hears all.
    let old = watched.holder();
    for other in (0..3).filter(|other| *other != board(old)) {
        watched.lab().cut(board(old), other).unwrap();
    }
    let next = watched.expect_takeover(old);
    assert_ne!(next.board, old.board);
    watched.lab().mend().unwrap();
    watched.expect_whole();
    // The holder hears nobody, although all hear it.
    let old = watched.holder();
    for other in (0..3).filter(|other| *other != board(old)) {
        watched.lab().cut(other, board(old)).unwrap();
    }
    let next = watched.expect_takeover(old);
    assert_ne!(next.board, old.board);
    watched.lab().mend().unwrap();
    watched.expect_whole();
    // One of the others does not hear it: whoever acts, somebody does.
    let old = watched.holder();
    watched.lab().cut(board(old), (board(old) + 1) % 3).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert!(until(TAKEOVER_MAX, || watched.acting().is_some()), "nobody acts\n{}", watched.site.tails());
    watched.lab().mend().unwrap();
    watched.finish();
}

#[test]
fn a_third_of_all_datagrams_lost_leaves_one_holder() {
    let Some(watched) = Watched::start("a_third_of_all_datagrams_lost_leaves_one_holder", 3, true) else {
        return;
    };
    let rough = Conditions { loss_permille: 300, delay: Duration::from_millis(10), jitter: Duration::from_millis(10) };
    set_everywhere(&watched.site, rough);
    let began = Stamp::now();
    std::thread::sleep(Duration::from_secs(10));
    let beats = watched.site.observer().since(began);
    assert!(beats.iter().any(Beat::acts), "nobody acts while datagrams are lost\n{}", watched.site.tails());
    // A fault in the middle of it.
    assert!(until(TAKEOVER_MAX, || watched.acting().is_some()));
    let old = watched.holder();
    watched.lab().pull(board(old)).unwrap();
    // Relays stand in the switch: a board without its cable reaches none of them.
    watched.expect_takeover(old);
    watched.lab().plug(board(old)).unwrap();
    set_everywhere(&watched.site, Conditions::default());
    watched.finish();
}

#[test]
fn a_starved_board_is_no_second_holder() {
    let Some(watched) = Watched::start("a_starved_board_is_no_second_holder", 3, false) else {
        return;
    };
    let old = watched.holder();
    let processes = watched.site.processes(old.board);
    let starved = match Starved::of(&processes, 20) {
        Ok(starved) => starved,
        Err(error) => {
            eprintln!("SKIPPED a_starved_board_is_no_second_holder: {error}");
            return;
        }
    };
    std::thread::sleep(Duration::from_secs(8));
    let acts = until(TAKEOVER_MAX, || watched.acting().is_some());
    assert!(acts, "nobody acts while board {} starves\n{}", old.board, watched.site.tails());
    drop(starved);
    watched.finish();
}

/// The suite leaves nothing behind that carries this process's number.
#[test]
fn nothing_is_left_of_a_site() {
    let Some(watched) = Watched::start("nothing_is_left_of_a_site", 2, false) else {
        return;
    };
    let processes: Vec<u32> = (1..=2).flat_map(|board| watched.site.processes(board)).collect();
    let switch = watched.lab().switch().name().to_owned();
    drop(watched);
    // A record of its end may stay until whoever inherited it asks.
    let lives = |process: &&u32| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    };
    assert_eq!(processes.iter().find(lives), None);
    assert!(!PathBuf::from("/run/netns").join(switch).exists());
}
