//! Processes that die without a warning: one board right after its word, all boards at once, the gateway again and again.

use std::time::Duration;

use crate::load::{Account, Load};
use crate::mqtt::{Publish, Publisher, Version};
use crate::site::Site;
use crate::{store, until};

/// Readings whose board dies within a millisecond of its word.
const ROUNDS: usize = 10;
/// Rounds tried for that: on a busy machine some kills come later, and then show less.
const ROUNDS_MAX: usize = 25;
/// How soon a kill counts.
const AT_ONCE: Duration = Duration::from_millis(1);

/// The board that gave its word stays dead until the reading is stored.
///
/// Broken to see it fail: `copies = 1` in every configuration, so that the word was given for one disk alone.
#[test]
fn acknowledged_by_a_board_killed_1_ms_later_is_in_the_store_once() {
    let mut site = Site::start(3);
    let mut account = Account::new("loop", 100);
    let (mut at_once, mut slowest) = (0, Duration::ZERO);
    for round in 0..ROUNDS_MAX {
        let board = round % 3 + 1;
        let mut publisher = Publisher::connect(site.mqtt(board), "loop", Version::V5).unwrap();
        let number = account.send();
        let payload = account.payload(number);
        let publish = Publish { topic: "detector/1", payload: &payload, packet: 1, dup: false, seq: Some(number) };
        let promised = publisher.publish(&publish).unwrap();
        let after = site.strike(board) - promised;
        account.acknowledge(number);
        site.kill(board);
        store::expect_all(&site, std::slice::from_ref(&account));
        site.start_boards();
        at_once += usize::from(after <= AT_ONCE);
        slowest = slowest.max(after);
        if at_once == ROUNDS {
            break;
        }
    }
    println!(
        "{at_once} boards of {} were killed within 1 ms of their word, the slowest after {slowest:?}",
        account.sent
    );
    assert_eq!(at_once, ROUNDS, "this machine is too busy to kill in time");
    store::expect_all(&site, &[account]);
}

/// Rounds of [`all_boards_killed_at_once_lose_nothing_acknowledged`]; `cargo xtask kills --rounds 100` for more.
const ROUNDS_OF_ALL: u64 = 5;

/// Nothing reaches the region while the load comes in; then the site is gone at one stroke, comes back, and the region
/// gets everything. Again and again, over the same disks.
///
/// Broken to see it fail: the journals of two boards removed before the restart.
#[test]
fn all_boards_killed_at_once_lose_nothing_acknowledged() {
    let rounds = std::env::var("ROADSTEAD_ROUNDS").map_or(ROUNDS_OF_ALL, |rounds| rounds.parse().unwrap());
    let mut site = Site::make(3);
    let mut accounts = Vec::new();
    for round in 1..=rounds {
        site.start_boards();
        let stored = store::seen(&site.data_dir());
        let loads: Vec<Load> = (1..=3)
            .map(|board| Load::start(site.mqtt(board), &format!("loop-{round}-{board}"), 200, u64::MAX))
            .collect();
        let busy = until(Duration::from_secs(30), || loads.iter().all(|load| load.acked() >= 300));
        assert!(busy, "the boards take too few readings to show anything");
        for board in 1..=3 {
            site.strike(board);
        }
        (1..=3).for_each(|board| site.kill(board));
        let fresh: Vec<Account> = loads.into_iter().map(Load::wait).collect();
        let (sent, acked) = sums(&fresh);
        println!("round {round}: {acked} of {sent} readings were acknowledged when all boards died");
        assert!(sent > acked, "the boards died after the load, not under it");
        accounts.extend(fresh);
        site.start_boards();
        assert_eq!(store::seen(&site.data_dir()), stored, "nothing had reached the region");
        site.start_gateway();
        store::expect_all(&site, &accounts);
        site.kill_gateway();
        (1..=3).for_each(|board| site.kill(board));
    }
}

/// Backlog enough that the gateway dies in the middle of it each time: right after its first transaction, then later.
///
/// Broken to see it fail: every other row taken out of the store between two lives of the gateway (lost), and a row put
/// in a second time (doubled). To remove the whole store breaks nothing: the boards send again what they still hold.
#[test]
fn gateway_killed_during_drain_loses_and_doubles_nothing() {
    const READINGS: u64 = 8000;
    const MORE_STORED_AT_KILL: [u64; 5] = [1, 500, 1500, 3000, 4500];
    let mut site = Site::make(3);
    site.start_boards();
    let loads = (1..=3).map(|board| Load::start(site.mqtt(board), &format!("loop-{board}"), 1000, READINGS));
    let loads: Vec<Load> = loads.collect();
    let accounts: Vec<Account> = loads.into_iter().map(Load::wait).collect();
    let (_, acked) = sums(&accounts);
    assert_eq!(acked, 3 * READINGS);
    let mut stored_at_kill = Vec::new();
    for more in MORE_STORED_AT_KILL {
        let (before, _) = store::seen(&site.data_dir());
        site.start_gateway();
        let moves = until(Duration::from_secs(30), || store::seen(&site.data_dir()).0 >= before + more);
        assert!(moves, "the drain stands still\n{}", site.tails());
        site.kill_gateway();
        stored_at_kill.push(store::seen(&site.data_dir()).0);
    }
    println!("of {acked} readings, stored at each kill: {stored_at_kill:?}");
    let in_the_middle = stored_at_kill.iter().filter(|stored| **stored < acked).count();
    assert!(in_the_middle >= 3, "the drain was over too soon to be killed in: {stored_at_kill:?}");
    site.start_gateway();
    store::expect_all(&site, &accounts);
}

fn sums(accounts: &[Account]) -> (u64, u64) {
    let sent = accounts.iter().map(|account| account.sent).sum();
    let acked = accounts.iter().map(|account| account.acked().count() as u64).sum();
    (sent, acked)
}
