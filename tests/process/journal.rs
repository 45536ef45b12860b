//! Journals of boards that run and of boards that died, looked at with the program itself: whole, encrypted, under other keys.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::group::program;
use crate::load::Load;
use crate::site::Site;
use crate::{store, until};

/// A board that cannot use its directory says so within so long, on a machine that does other things too.
const REFUSED_WITHIN: Duration = Duration::from_secs(20);

/// `roadstead journal` with these words.
fn journal(words: &[&str]) -> Output {
    Command::new(program()).arg("journal").args(words).output().unwrap()
}

fn verdict(data: &Path) -> (Option<i32>, Value) {
    let output = journal(&["verify", data.to_str().unwrap(), "-o", "json"]);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
}

/// Gives every board keys of its own.
fn encrypt(site: &Site, boards: usize) {
    for board in 1..=boards {
        let key = site.board_dir(board).join("journal.key");
        assert!(journal(&["key", "new", key.to_str().unwrap()]).status.success());
        site.edit(board, |text| text.replace("# key = \"journal.key\"", "key = \"journal.key\""));
    }
}

/// Looked at again and again while records come in, and after all boards died at one stroke; then every record is in the
/// region.
#[test]
fn encrypted_journals_are_whole_while_written_and_after_a_kill() {
    let mut site = Site::make(3);
    encrypt(&site, 3);
    site.start_boards();
    let load = Load::start(site.mqtt(1), "loop", 500, 3000);
    let data = |board: usize| site.board_dir(board).join("data");
    for look in 0..6 {
        let (code, said) = verdict(&data(look % 3 + 1));
        assert_eq!((code, &said["whole"]), (Some(0), &true.into()), "{said:#}");
    }
    let account = load.wait();
    let (_, said) = verdict(&data(1));
    assert_eq!((said["sealed_blocks"].as_u64(), said["records"].as_u64()), (said["blocks"].as_u64(), Some(0)));
    let held = status_of(&data(1));
    assert!(held["board"]["backlog"].as_u64().is_some_and(|backlog| backlog > 0), "{held:#}");
    assert_eq!(held["streams"].as_array().map(Vec::len), Some(0), "what is encrypted is not counted: {held:#}");
    // Looked at before the kill: what a board wrote since it last kept the count goes with it.
    let wear = &site.status(1).unwrap()["wear"];
    let payload = wear["payload_bytes"].as_u64().filter(|bytes| *bytes > 500_000);
    assert!(wear["written_bytes"].as_u64() > payload && payload.is_some(), "{wear:#}");
    for board in 1..=3 {
        site.strike(board);
    }
    for board in 1..=3 {
        site.kill(board);
        let (code, said) = verdict(&site.board_dir(board).join("data"));
        assert_eq!((code, &said["in_use"]), (Some(0), &false.into()), "{said:#}");
    }
    site.start_gateway();
    site.start_boards();
    store::expect_all(&site, &[account]);
}

/// `roadstead journal stats`, with what the running board says.
fn status_of(data: &Path) -> Value {
    let output = journal(&["stats", data.to_str().unwrap(), "-o", "json"]);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The board does not start, says which key is missing, and starts with the right one as if nothing had been.
#[test]
fn a_board_with_the_wrong_keys_says_so_and_changes_nothing() {
    let mut site = Site::make(3);
    encrypt(&site, 3);
    site.start_gateway();
    site.start_boards();
    let account = Load::start(site.mqtt(1), "loop", 500, 300).wait();
    site.ask_to_stop(1);
    assert!(site.has_stopped(1, Duration::from_secs(10)));
    let (key, aside) = (site.board_dir(1).join("journal.key"), site.board_dir(1).join("aside.key"));
    fs::rename(&key, &aside).unwrap();
    assert!(journal(&["key", "new", key.to_str().unwrap()]).status.success());
    let before = contents(&site.board_dir(1).join("data"));
    let mut child = Command::new(program())
        .args(["node", "--child", "--config"])
        .arg(site.board_dir(1).join("board.toml"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ended = until(REFUSED_WITHIN, || child.try_wait().unwrap().is_some());
    // One that runs all the same must not be waited for.
    let _ = child.kill();
    let said = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(ended, "it runs with the wrong keys: {words}");
    assert!(!said.status.success() && words.contains("is encrypted under key"), "{words}");
    assert_eq!(contents(&site.board_dir(1).join("data")), before);
    fs::rename(&aside, &key).unwrap();
    site.start_boards();
    store::expect_all(&site, &[account]);
    assert!(until(Duration::from_secs(10), || site.status(1).is_some_and(|status| status["backlog"] == 0)));
}

/// Segments and state, byte by byte.
fn contents(data: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let files =
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "seg") || path.ends_with("state"));
    let mut contents: Vec<_> = files.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    contents.sort();
    contents
}
