//! A disk that fails under a board that runs.

use std::time::Duration;

use crate::group::limit_files;
use crate::load::{Account, Load};
use crate::site::Site;
use crate::{http, store, until};

/// Where the file system ends for the board: above its log, within its first segment.
const ROOM_BYTES: u64 = 1024 * 1024;

/// The board may suddenly write no file beyond its first megabyte: a failed write for good. Its process ends, its
/// supervisor (which has no such limit) starts another, and nothing that was promised is lost.
///
/// Broken to see it fail: the limit left out (the process stays the same).
#[test]
fn a_poisoned_journal_ends_the_process_and_the_supervisor_restarts_it() {
    let mut site = Site::make(3);
    // Without it the kernel ends the process before the write can fail.
    site.set_prelude(1, "trap '' XFSZ;");
    site.start_gateway();
    site.start_boards();
    let node = site.node_process(1).expect("the board runs");
    let mut accounts = vec![Load::start(site.mqtt(1), "before", 200, 100).wait()];
    limit_files(node, ROOM_BYTES);
    let under: Account = Load::start(site.mqtt(1), "under", 4000, 1000).wait();
    let promised = under.acked().count();
    println!("{promised} of {} readings were acknowledged before the disk failed", under.sent);
    assert!(promised < 1000, "the disk did not fail");
    accounts.push(under);
    let again = until(Duration::from_secs(20), || site.node_process(1).is_some_and(|now| now != node));
    assert!(again, "the process was not started again\n{}", site.tails());
    assert!(site.board_log(1).contains("poisoned=true"), "it ended for another cause\n{}", site.tails());
    site.wait_ready();
    assert!(http::get(site.http(1), "/readyz").is_some());
    accounts.push(Load::start(site.mqtt(1), "after", 200, 100).wait());
    assert_eq!(accounts[2].acked().count(), 100, "the board does not serve again\n{}", site.tails());
    store::expect_all(&site, &accounts);
}
