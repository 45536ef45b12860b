//! What a board costs the machine that it shares with others.

use std::time::Duration;

use crate::group::resident_kib;
use crate::site::Site;

/// What a board that has nothing to do may hold.
const IDLE_KIB_MAX: u64 = 24 * 1024;
/// Nothing is asked of it for so long.
const IDLE: Duration = Duration::from_secs(5);

/// Holds for a release build.
///
/// Broken to see it fail: a bound of 4 MiB.
#[test]
fn idle_rss_of_a_board_is_within_24_mib() {
    let site = Site::start(3);
    std::thread::sleep(IDLE);
    let boards = site.running().into_iter().filter_map(|board| site.node_process(board));
    let resident: Vec<u64> = boards.map(resident_kib).collect();
    println!("resident, idle: boards {resident:?} KiB, gateway {} KiB", resident_kib(site.gateway_process()));
    assert_eq!(resident.len(), 3);
    assert!(resident.iter().all(|kib| *kib <= IDLE_KIB_MAX), "{resident:?} KiB");
}
