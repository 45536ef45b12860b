//! A writer killed at any point: what it said it had stored is stored, and nothing is half there. The writer is this
//! very test binary, run again as a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use gateway::store::SqliteStore;
use gateway::store::Store as _;
use gateway::store::read::{SqliteReader, StoreReader as _};

use crate::deposits::{block, put, rows, site, stream};
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
