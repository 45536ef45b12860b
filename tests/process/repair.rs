//! Bytes that change on a real board's disk, while it is off and while it runs.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::load::{Account, Load};
use crate::site::Site;
use crate::{store, until};

/// Noticed, fetched and written again after so long, on a machine that does other things too.
const REPAIRED_WITHIN: Duration = Duration::from_secs(30);
const READINGS: u64 = 600;
const BYTES: usize = 200;

/// Where the payload of a reading of `publisher` stands in the journal of `board`: file and offset. A segment that a running
/// board takes away between the list and the look holds nothing any more.
fn find(site: &Site, board: usize, publisher: &str, number: u64) -> Option<(PathBuf, usize)> {
    let payload = format!("{publisher} {number} xxx").into_bytes();
    let entries = fs::read_dir(site.board_dir(board).join("data")).unwrap();
    let files = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "seg"));
    files
        .filter_map(|path| {
            let bytes = match fs::read(&path) {
                Err(why) if why.kind() == ErrorKind::NotFound => return None,
                read => read.unwrap(),
            };
            let at = bytes.windows(payload.len()).position(|window| window == payload)?;
            Some((path, at))
        })
        .next()
}

/// Changes one byte of that payload on the disk of `board`.
fn flip(site: &Site, board: usize, publisher: &str, number: u64) {
    let (path, at) = find(site, board, publisher, number).expect("the reading is on this disk");
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64 + 2).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at as u64 + 2).unwrap();
    file.sync_all().unwrap();
    assert_eq!(find(site, board, publisher, number), None, "it stands there twice");
}

fn repair(site: &Site, board: usize) -> Value {
    site.status(board).map_or(Value::Null, |status| status["repair"].clone())
}

/// Waits until `board` has the reading on its disk again, and misses nothing.
fn expect_back(site: &Site, board: usize, publisher: &str, number: u64) {
    let back = until(REPAIRED_WITHIN, || {
        find(site, board, publisher, number).is_some() && repair(site, board)["missing"] == 0
    });
    assert!(back, "it did not come back: {}\n{}", repair(site, board), site.tails());
    assert!(site.board_log(board).contains("journal_damaged"), "no event says so\n{}", site.tails());
}

/// No gateway runs, so that the region has nothing of it: a byte changes on the disk of a board that is off, and one on that
/// of a board that runs, which only its verification can find. Both come back from the copies, and then the region gets
/// everything.
#[test]
fn a_flipped_byte_comes_back_from_the_copy_without_a_region() {
    let mut site = Site::make(3);
    for board in 1..=3 {
        site.edit(board, |text| text.replace("# scrub_every_s = 3600 ", "scrub_every_s = 1 # "));
    }
    site.start_boards();
    let account: Account = Load::start(site.mqtt(1), "loop", BYTES, READINGS).wait();
    assert_eq!(account.acked().count() as u64, READINGS, "{}", site.tails());
    let keeper = (2..=3)
        .find(|board| find(&site, *board, "loop", 100).is_some())
        .expect("a board keeps copies");

    site.ask_to_stop(1);
    assert!(site.has_stopped(1, Duration::from_secs(10)));
    flip(&site, 1, "loop", 100);
    site.start_boards();
    expect_back(&site, 1, "loop", 100);

    flip(&site, keeper, "loop", 300);
    expect_back(&site, keeper, "loop", 300);
    // Fetched by the keeper, or sent again by the origin, which has heard that it is missed: whichever is first.
    assert!(repair(&site, keeper)["damaged_places"].as_u64() > Some(0), "{}", repair(&site, keeper));
    assert!(site.board_log(keeper).contains("records_missing"), "{}", site.tails());

    site.start_gateway();
    store::expect_all(&site, &[account]);
    for board in 1..=3 {
        assert_eq!(repair(&site, board)["gone"], 0);
    }
}

/// A board comes back with an empty directory: what it kept for the others, and what it had itself, is on two boards again,
/// so that the loss of the board that held the last copy is borne. Meanwhile nobody leads: of the three voters one remembers,
/// one is new, and the witness, the gateway, is away.
#[test]
fn an_empty_disk_is_refilled_and_then_the_only_holder_may_go() {
    let mut site = Site::make(2);
    site.start_boards();
    let accounts: Vec<Account> = (1..=2)
        .map(|board| Load::start(site.mqtt(board), &format!("loop-{board}"), BYTES, READINGS).wait())
        .collect();
    site.ask_to_stop(2);
    assert!(site.has_stopped(2, Duration::from_secs(10)));
    fs::remove_dir_all(site.board_dir(2).join("data")).unwrap();
    site.start_boards_unled();
    let refilled = until(REPAIRED_WITHIN, || {
        let on_2 = |account: &Account| {
            account
                .acked()
                .step_by(50)
                .all(|number| find(&site, 2, &account.publisher, number).is_some())
        };
        accounts.iter().all(on_2)
    });
    assert!(refilled, "copies are missing\n{}", site.tails());
    site.kill(1);
    fs::remove_dir_all(site.board_dir(1).join("data")).unwrap();
    site.start_gateway();
    site.start_boards();
    store::expect_all(&site, &accounts);
}

/// A voter's directory is deleted and the board starts again at once, as after a hasty repair. The leader is not disturbed, tells it,
/// and then its vote counts: the leader may go, and the next term is a higher one.
#[test]
fn a_voter_on_an_empty_disk_is_told_who_leads_and_then_helps_to_elect_the_next() {
    let mut site = Site::make(3);
    site.start_boards();
    let (leader, term) = site.leader().expect("a site that is ready has a leader");
    let others: Vec<usize> = (1..=3).filter(|board| *board != leader).collect();
    site.kill(others[0]);
    fs::remove_dir_all(site.board_dir(others[0]).join("data")).unwrap();
    site.start_boards();
    assert_eq!(site.leader(), Some((leader, term)), "the leader was disturbed\n{}", site.tails());
    // Of three voters two are left, and one of them is the one that had forgotten.
    site.kill(leader);
    let next = until(REPAIRED_WITHIN, || site.leader().is_some_and(|(board, next)| board != leader && next > term));
    assert!(next, "nobody leads under a higher term than {term}: {:?}\n{}", site.leader(), site.tails());
}

/// Of three boards one is gone for good, and another has an empty disk: nobody is left who could tell it who led. An operator says
/// that it may vote, and the site is led again, under a higher term.
#[test]
fn a_voter_whom_nobody_can_tell_who_led_votes_on_an_operators_word() {
    let mut site = Site::make(3);
    site.start_boards();
    let (gone, term) = site.leader().expect("a site that is ready has a leader");
    let replaced = gone % 3 + 1;
    site.kill(gone);
    site.kill(replaced);
    fs::remove_dir_all(site.board_dir(replaced).join("data")).unwrap();
    site.launch(replaced);
    let mut early = None;
    let begun = until(REPAIRED_WITHIN, || {
        let (done, said) = site.command(replaced, &["vote"]);
        early = early.take().or_else(|| said.contains("wait six seconds").then_some(said));
        done
    });
    assert!(begun && early.is_some(), "{early:?}\n{}", site.tails());
    let led = until(REPAIRED_WITHIN, || site.leader().is_some_and(|(_, next)| next > term));
    assert!(led, "nobody leads under a higher term than {term}: {:?}\n{}", site.leader(), site.tails());
    let (again, said) = site.command(replaced, &["vote"]);
    assert!(again && said.contains("already"), "{said}");
}
