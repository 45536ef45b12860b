//! A witness's votes for several sites: apart from each other, kept over a restart, bounded.

use alloc::format;
use alloc::vec::Vec;

use super::{Output, Witness};
use crate::action::Memory;
use crate::ids::{BoardId, Name, Term, VoterSet, Voters};
use crate::limits::WITNESS_SITES_MAX;
use crate::outbox::Outbox;
use crate::time::Instant;
use crate::wire::election::{Acquire, ElectionMessage, Standing};

fn board(number: u8) -> BoardId {
    BoardId::new(number).unwrap()
}

fn site(name: &str) -> Name {
    Name::try_from(name).unwrap()
}

fn at(millis: u64) -> Instant {
    Instant::from_micros(1_000_000 + millis * 1000)
}

fn request(number: u8, counter: u64, attempt: u64) -> ElectionMessage {
    ElectionMessage::Acquire(Acquire {
        term: Term::new(counter, board(number)),
        attempt,
        lease_micros: 2_000_000,
        trial: false,
        life: u64::from(number),
        voters: Voters { version: 1, set: VoterSet::EMPTY },
        released: None,
        standing: Standing::Stranger,
        vouch: None,
    })
}

/// What it answers and asks for.
fn say(witness: &mut Witness, name: &str, from: u8, message: &ElectionMessage, now: Instant) -> Vec<Output> {
    let mut out = Outbox::default();
    witness.handle_message(&site(name), board(from), message, now, &mut out);
    core::iter::from_fn(|| out.pop()).collect()
}

/// Does what it asks for; what it asked for last.
fn store(witness: &mut Witness, outputs: &[Output], now: Instant) -> Option<Memory> {
    let mut last = None;
    for output in outputs {
        if let Output::Remember { site, memory } = output {
            witness.handle_remembered(site, *memory, now, &mut Outbox::default());
            last = Some(*memory);
        }
    }
    last
}

fn is_granted(outputs: &[Output]) -> bool {
    outputs
        .iter()
        .any(|output| matches!(output, Output::Tell { message: ElectionMessage::Granted { .. }, .. }))
}

/// A witness that is ready for the site, and what it has on disk.
fn ready(witness: &mut Witness, name: &str) -> Memory {
    let first = say(witness, name, 1, &request(1, 1, 1), at(0));
    assert!(!is_granted(&first), "nothing is on disk that would make it abstain after a restart");
    let memory = store(witness, &first, at(1)).expect("it gets ready");
    assert_eq!(memory.longest_micros, 2_000_000);
    memory
}

#[test]
fn it_grants_once_its_disk_knows_and_one_board_at_a_time() {
    let mut witness = Witness::new([], 1, at(0));
    ready(&mut witness, "north");
    assert!(is_granted(&say(&mut witness, "north", 1, &request(1, 1, 2), at(2))));
    assert!(!is_granted(&say(&mut witness, "north", 2, &request(2, 2, 1), at(3))));
    let waive = ElectionMessage::Waive { term: Term::new(1, board(1)), attempt: 2 };
    assert_eq!(say(&mut witness, "north", 2, &waive, at(4)), [], "not its own term");
    assert!(!is_granted(&say(&mut witness, "north", 2, &request(2, 2, 2), at(5))));
    say(&mut witness, "north", 1, &waive, at(6));
    assert!(is_granted(&say(&mut witness, "north", 2, &request(2, 2, 3), at(7))));
    witness.handle_obituary(&site("north"), board(2), 2);
    assert!(is_granted(&say(&mut witness, "north", 1, &request(1, 3, 3), at(8))));
}

#[test]
fn sites_do_not_touch_each_other() {
    let mut witness = Witness::new([], 1, at(0));
    ready(&mut witness, "north");
    ready(&mut witness, "south");
    assert!(is_granted(&say(&mut witness, "north", 1, &request(1, 1, 2), at(2))));
    assert!(is_granted(&say(&mut witness, "south", 2, &request(2, 1, 2), at(2))));
    let release = ElectionMessage::Release { term: Term::new(1, board(1)) };
    say(&mut witness, "south", 1, &release, at(3));
    let granted: Vec<bool> = witness.sites(at(4)).map(|(_, vote)| vote.granted.is_some()).collect();
    assert_eq!(granted, [true, true]);
}

#[test]
fn a_restarted_witness_abstains_as_long_as_it_may_have_granted_and_goes_on_above_its_ceiling() {
    let mut witness = Witness::new([], 1, at(0));
    let memory = ready(&mut witness, "north");
    let mut again = Witness::new([(site("north"), memory)], 2, at(10));
    let next = memory.term_ceiling + 1;
    let first = say(&mut again, "north", 2, &request(2, next, 1), at(11));
    assert!(!is_granted(&first));
    assert!(store(&mut again, &first, at(12)).is_some_and(|memory| memory.term_ceiling > next));
    // 2 s x 1010 / 990 after its start
    assert!(!is_granted(&say(&mut again, "north", 2, &request(2, next, 2), at(10 + 2040))));
    assert!(
        !is_granted(&say(&mut again, "north", 2, &request(2, next - 1, 3), at(10 + 2041))),
        "promised before"
    );
    assert!(is_granted(&say(&mut again, "north", 2, &request(2, next, 4), at(10 + 2041))));
}

#[test]
fn no_more_sites_than_the_limit() {
    let known = (0..WITNESS_SITES_MAX).map(|number| (site(&format!("s{number}")), Memory::default()));
    let mut witness = Witness::new(known, 1, at(0));
    assert_eq!(say(&mut witness, "one more", 1, &request(1, 1, 1), at(0)), []);
    assert_eq!(witness.refused(), 1);
    assert!(!say(&mut witness, "s7", 1, &request(1, 1, 1), at(0)).is_empty());
}
