//! Copies of a board's disk: an old image that is put back, and a clone that runs beside its original. Both are told apart from
//! what was before by the number that each life draws, and both are noticed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::group::Group;
use crate::load::{Account, Load};
use crate::site::Site;
use crate::{store, until};

/// Noticed after so long, on a machine that does other things too.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);
/// For so long nothing changes hands; two that take each other's place do so some times a second.
const STEADY_FOR: Duration = Duration::from_secs(4);
const READINGS: u64 = 300;
const BYTES: usize = 200;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let entries = fs::read_dir(from).unwrap().flatten();
    for entry in entries.filter(|entry| entry.path().is_file()) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn stop(site: &mut Site, board: usize) {
    site.ask_to_stop(board);
    assert!(site.has_stopped(board, Duration::from_secs(10)), "{}", site.tails());
}

fn load(site: &Site, board: usize, name: &str) -> Account {
    let account = Load::start(site.mqtt(board), name, BYTES, READINGS).wait();
    assert_eq!(account.acked().count() as u64, READINGS, "{}", site.tails());
    account
}

fn epoch(site: &Site, board: usize) -> String {
    site.status(board).unwrap()["epoch"].as_str().unwrap().to_owned()
}

/// A board's data of yesterday is put back while it is off: its next life has the number of one that was, and another nonce.
/// Whoever keeps records of the life that is lost says so, and these come back from there.
#[test]
fn an_old_image_that_is_put_back_is_noticed_and_loses_nothing() {
    let mut site = Site::make(3);
    site.start_boards();
    let mut accounts = vec![load(&site, 1, "before")];
    stop(&mut site, 1);
    let (data, image) = (site.board_dir(1).join("data"), site.board_dir(1).join("image"));
    copy(&data, &image);
    site.start_boards();
    let lost = epoch(&site, 1);
    accounts.push(load(&site, 1, "lost"));
    stop(&mut site, 1);
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&image, &data).unwrap();
    site.start_boards();
    let now = epoch(&site, 1);
    let boot = |epoch: &str| epoch.split('.').next().map(str::to_owned);
    assert_eq!(boot(&now), boot(&lost), "the image counts its starts from where it was");
    assert_ne!(now, lost, "an epoch is continued");
    let noticed = until(NOTICED_WITHIN, || (2..=3).any(|board| site.board_log(board).contains("board_older")));
    assert!(noticed, "nobody notices\n{}", site.tails());
    accounts.push(load(&site, 1, "after"));
    site.start_gateway();
    store::expect_all(&site, &accounts);
}

/// The disk of a board is copied into another machine, which runs beside it: the others notice, and believe one of the two.
#[test]
fn a_clone_that_runs_beside_its_original_is_noticed() {
    let mut site = Site::make(4);
    let spare = [site.mesh(4), site.mqtt(4), site.http(4)];
    site.forget_last_board();
    site.start_boards();
    let mut accounts = vec![load(&site, 3, "before")];
    stop(&mut site, 3);
    let clone = site.board_dir(3).with_file_name("clone");
    copy(&site.board_dir(3), &clone);
    copy(&site.board_dir(3).join("data"), &clone.join("data"));
    let path = clone.join("board.toml");
    let mut text = fs::read_to_string(&path).unwrap();
    for (own, spare) in [site.mesh(3), site.mqtt(3), site.http(3)].iter().zip(spare) {
        text = text.replace(&own.to_string(), &spare.to_string());
    }
    fs::write(&path, text).unwrap();
    site.start_boards();
    let log = clone.join("log.txt");
    let twin = Group::start("node", &path, &log, "");
    let noticed = until(NOTICED_WITHIN, || (1..=2).all(|board| site.board_log(board).contains("board_twice")));
    assert!(noticed, "the others do not notice\n{}", site.tails());
    let said = |log: &str| log.contains("this board is not believed to be itself");
    let read = || fs::read_to_string(&log).unwrap_or_default();
    let told = until(NOTICED_WITHIN, || said(&read()) || said(&site.board_log(3)));
    assert!(told, "neither of the two is told\n{}\n{}", read(), site.tails());
    // One of the two is believed, and the boards do not go from one to the other and back.
    let changes = || -> usize {
        let log = (1..=2).map(|board| site.board_log(board)).collect::<String>();
        log.matches("the peer is connected peer=board-3").count()
    };
    let before = changes();
    std::thread::sleep(STEADY_FOR);
    assert!(changes() <= before + 2, "{before}, then {}\n{}", changes(), site.tails());
    accounts.push(load(&site, 1, "after"));
    drop(twin);
    site.start_gateway();
    store::expect_all(&site, &accounts);
}
