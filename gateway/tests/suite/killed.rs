//! A writer killed at any point: what it said it had stored is stored, and nothing is half there. The writer is this
//! very test binary, run again as a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use gateway::store::SqliteStore;
use gateway::store::Store as _;
use gateway::store::parts::DAY_MS;
use gateway::store::read::{SqliteReader, StoreReader as _};
use shared::time::WallMillis;

use crate::archive::{Archive, lines};
use crate::deposits::{block, put, rows, site, stream};
use crate::leaving::{keep, put_at};
use crate::scratch::Scratch;

const DIRECTORY: &str = "ROADSTEAD_TEST_KILLED_STORE";

/// Writes until it is killed; says each block's last sequence once it is committed.
#[test]
#[ignore = "the process that the other test kills"]
fn writer() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let (mut store, _) = SqliteStore::open(directory.as_ref()).unwrap();
    let known = store.load(&site(), &[stream(1, 1)]).unwrap();
    let mut next = known.first().and_then(|(_, covered)| covered.last()).unwrap_or(0) + 1;
    loop {
        let last = next + 15;
        put(&mut store, &[block(stream(1, 1), next, next..=last)]);
        let mut out = std::io::stdout().lock();
        writeln!(out, "stored {last}").unwrap();
        out.flush().unwrap();
        next = last + 1;
    }
}

#[test]
fn a_killed_writer_has_stored_what_it_said_and_nothing_by_halves() {
    let scratch = Scratch::new();
    let mut said = 0;
    for round in 1..=4_u64 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::writer", "--ignored", "--nocapture"])
            .env(DIRECTORY, scratch.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let stored = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("stored ")?.parse::<u64>().ok());
        for (count, last) in (1..).zip(stored) {
            said = last;
            if count == round * 7 {
                // SIGKILL: in the middle of whatever it does now.
                writer.kill().unwrap();
            }
        }
        writer.wait().unwrap();
        // Read as the writer left it, log and all, before anybody repairs it.
        let reader = SqliteReader::open(scratch.path()).unwrap();
        let covered = reader.coverage(&site()).unwrap().remove(0).1;
        assert!(covered.watermark() >= said, "round {round}: said {said}, stored {covered:?}");
        assert_eq!(covered.ranges().len(), 1);
        let seqs: Vec<u64> = rows(&reader).into_iter().map(|(_, _, seq, _)| seq).collect();
        assert_eq!(seqs, (1..=covered.watermark()).collect::<Vec<u64>>());
        assert_eq!(reader.counts(&site()).unwrap().sum(|of| of.rows), covered.watermark());
    }
    assert!(said > 0);
}

/// Stores a block a day, archives, and lets records expire after ten days, until it is killed.
#[test]
#[ignore = "the process that the other test kills"]
fn keeper() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    let archive = Archive::in_directory(directory);
    loop {
        let (mut store, _) = SqliteStore::open(directory).unwrap();
        let known = store.load(&site(), &[stream(1, 1)]).unwrap();
        let next = known.first().and_then(|(_, covered)| covered.last()).unwrap_or(0) + 1;
        let now = WallMillis((next / 16 + 20) * DAY_MS.unsigned_abs());
        put_at(&mut store, vec![block(stream(1, 1), next, next..=next + 15)], now);
        let reader = Box::new(SqliteReader::open(directory).unwrap());
        let mut upkeep = archive.upkeep((Box::new(store), reader), keep(None, Some(10), None));
        upkeep.round(now).unwrap();
        println!("stored {}", next + 15);
        std::io::stdout().flush().unwrap();
    }
}

/// A gateway killed at any point between planning a part and removing its records: each record is in the archive once, or not yet
/// and then in the store.
#[test]
fn a_killed_gateway_archives_each_record_once_and_removes_none_before() {
    let scratch = Scratch::new();
    let mut expired = 0;
    for round in 1..=12_u64 {
        let mut keeper = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::keeper", "--ignored", "--nocapture"])
            .env(DIRECTORY, scratch.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines_said = BufReader::new(keeper.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .filter(|line| line.starts_with("stored "));
        // It has begun; then somewhere within the next of its rounds.
        for _ in 0..3 {
            lines_said.next().unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(round * 7 % 40));
        keeper.kill().unwrap();
        keeper.wait().unwrap();
        let reader = SqliteReader::open(scratch.path()).unwrap();
        let covered = reader.coverage(&site()).unwrap().remove(0).1.watermark();
        let mut archived: Vec<u64> = archived_seqs(scratch.path());
        let in_store: Vec<u64> = lines(&reader).into_iter().map(|line| line.seq).collect();
        archived.sort_unstable();
        assert!(archived.windows(2).all(|pair| pair[0] < pair[1]), "round {round}: no row twice");
        let anywhere: std::collections::BTreeSet<u64> = archived.iter().chain(&in_store).copied().collect();
        assert_eq!(anywhere.len() as u64, covered, "round {round}: each row somewhere");
        let counts = reader.counts(&site()).unwrap();
        assert_eq!(counts.sum(|of| of.rows) - counts.sum(|of| of.expired), in_store.len() as u64);
        expired = counts.sum(|of| of.expired);
    }
    assert!(expired > 0, "it has come so far");
}

fn archived_seqs(directory: &Path) -> Vec<u64> {
    let archive = Archive::in_directory(directory);
    archive.lines().into_iter().map(|line| line.seq).collect()
}
