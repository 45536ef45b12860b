//! Tests of [`super`]: real directories as people see them.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use firmware::disk::system::System;
use firmware::disk::volume::Volume;
use firmware::inspect::tally::tally;
use firmware::inspect::verdict::verify;
use firmware::keys::Keys;
use serde_json::json;
use shared::action::DiskJob;
use shared::ids::{BoardId, Class, Epoch, Name, Origin, SegmentId, Stream, Token};
use shared::journal::format::{Place, encode};
use shared::record::{Key, Kind, Reading};
use shared::time::WallMillis;
use shared::wire::peer::Run;

use super::*;
use crate::arguments::{Arguments, Command};
use crate::scratch::Scratch;
use stats::Said;

const SEGMENT_BYTES: u32 = 8 * 4096;

/// The data directory of board 1 of site north, with two blocks: events 1 and 2, then alarm 1 and a copy of board 2's.
fn journal(scratch: &Scratch) -> PathBuf {
    let data = scratch.path().join("data");
    fs::create_dir(&data).unwrap();
    write(&data, 42, None);
    data
}

/// Begins a life and writes the two blocks into a segment.
fn write(data: &Path, segment: u64, keys: Option<Keys>) {
    let site = Name::try_from("north").unwrap();
    let board = BoardId::new(1).unwrap();
    let mut found = Volume::open_with(Arc::new(System), data, (&site, board), 7, keys).unwrap();
    let segment = SegmentId(segment);
    found
        .volume
        .perform(DiskJob::Prepare { segment, from: None, bytes: SEGMENT_BYTES, written: false })
        .unwrap();
    let (mut offset, mut previous) = (0, 0);
    let blocks = [
        vec![run(1, Class::Event, &[b"{\"on\":1}", b"\x1b[31mred"])],
        vec![run(1, Class::Alarm, &[b"\xff\xfe"]), run(2, Class::Event, &[b"copy"])],
    ];
    for (number, runs) in (0..).zip(blocks) {
        let place = Place { segment, offset, epoch: found.epoch, number, known: number, previous };
        let (bytes, checksum) = encode(&place, &runs);
        let length = u32::try_from(bytes.len()).unwrap();
        found
            .volume
            .perform(DiskJob::Append { token: Token(1), segment, offset, bytes: bytes.into() })
            .unwrap();
        (offset, previous) = (offset + length, checksum);
    }
}

fn run(board: u8, class: Class, payloads: &[&[u8]]) -> Run {
    let mut bytes = Vec::new();
    for (seq, payload) in (1..).zip(payloads) {
        let key = Key::Sequence { epoch: 3, seq };
        let taken = WallMillis(1_772_352_000_125);
        Reading { kind: Kind::Reading, publisher: "loop-7", key, taken, topic: "det/7", payload }.encode(&mut bytes);
    }
    let origin = Origin { board: BoardId::new(board).unwrap(), epoch: Epoch { boot: 1, nonce: 7 } };
    let count = u32::try_from(payloads.len()).unwrap();
    Run::new(Stream { origin, class }, 1, count, bytes.into())
}

/// The lines that `roadstead journal dump DIR` and `more` print, and whether anything was left out.
fn dumped(dir: &Path, more: &str) -> (Vec<String>, bool) {
    let line = format!("roadstead journal dump {} {more}", dir.display());
    let Some(Command::Journal(asked)) = Arguments::try_parse_from(line.split_whitespace()).unwrap().command else {
        panic!("{line}");
    };
    let JournalCommand::Dump(asked) = asked.command else { panic!("{line}") };
    let mut out = Vec::new();
    let complete = dump::to(&asked, &mut out).unwrap();
    (String::from_utf8(out).unwrap().lines().map(str::to_owned).collect(), complete)
}

#[test]
fn a_verdict_is_told_in_words_and_as_json() {
    let scratch = Scratch::new("verify");
    let data = journal(&scratch);
    let verdict = verify(&open(&data).unwrap(), None).unwrap();
    let text = verify::told(&data, &verdict);
    assert!(text.contains("the journal of board-1 of site north, in its start 1\n"), "{text}");
    assert!(text.contains("2 blocks whole, 4 records in them\n") && text.ends_with("whole\n"), "{text}");
    let file = fs::OpenOptions::new()
        .write(true)
        .open(data.join("000000000000002a.seg"))
        .unwrap();
    file.write_all_at(b"rot", 120).unwrap();
    let verdict = verify(&open(&data).unwrap(), None).unwrap();
    let text = verify::told(&data, &verdict);
    assert!(text.contains("damaged: segment 000000000000002a at byte 0, 4096 bytes: "), "{text}");
    assert!(text.ends_with("DAMAGED\n"), "{text}");
    let said: serde_json::Value = serde_json::from_str(&json(&data, &verdict).unwrap()).unwrap();
    assert_eq!((&said["whole"], &said["damaged"][0]["offset"]), (&json!(false), &json!(0)));
    assert_eq!(said["damaged"][0]["fault"], "payload");
}

#[test]
fn exit_codes_say_whole_damaged_or_unreadable() {
    let scratch = Scratch::new("exit");
    let data = journal(&scratch);
    let code = |dir: &Path| {
        let asked = arguments::Verify { dir: dir.to_owned(), output: crate::arguments::Output::Json, key: None };
        format!("{:?}", verify::run(&asked).unwrap())
    };
    assert_eq!(code(&data), format!("{:?}", ExitCode::SUCCESS));
    assert_eq!(code(scratch.path()), format!("{:?}", ExitCode::from(2)));
    let file = fs::OpenOptions::new()
        .write(true)
        .open(data.join("000000000000002a.seg"))
        .unwrap();
    file.write_all_at(b"rot", 120).unwrap();
    assert_eq!(code(&data), format!("{:?}", ExitCode::from(1)));
}

#[test]
fn records_are_printed_one_a_line() {
    let scratch = Scratch::new("dump");
    let data = journal(&scratch);
    let (lines, complete) = dumped(&data, "");
    assert!(complete);
    assert_eq!(
        lines,
        [
            "2a:0 board-1/1.0000000000000007/event 1 2026-03-01T08:00:00.125Z loop-7 det/7 {\"on\":1}",
            "2a:0 board-1/1.0000000000000007/event 2 2026-03-01T08:00:00.125Z loop-7 det/7 \\u{1b}[31mred",
            "2a:4096 board-1/1.0000000000000007/alarm 1 2026-03-01T08:00:00.125Z loop-7 det/7 base64://4=",
            "2a:4096 board-2/1.0000000000000007/event 1 2026-03-01T08:00:00.125Z loop-7 det/7 copy",
        ]
    );
    let (lines, _) = dumped(&data, "-o json --class alarm");
    let said: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((lines.len(), &said["payload_base64"], &said["seq"]), (1, &json!("//4="), &json!(1)));
    assert_eq!(said["key"], json!({ "epoch": 3, "seq": 1 }));
    for (filter, count) in [
        ("--board 2", 1),
        ("--from 2", 1),
        ("--to 1", 3),
        ("--stream board-1/1", 3),
        ("--stream board-1/2", 0),
        ("--stream board-1/1.7/event", 2),
        ("--segment 2a --payload none", 4),
    ] {
        assert_eq!(dumped(&data, filter).0.len(), count, "{filter}");
    }
}

#[test]
fn what_cannot_be_shown_makes_a_dump_incomplete() {
    let scratch = Scratch::new("incomplete");
    let data = journal(&scratch);
    let file = fs::OpenOptions::new()
        .write(true)
        .open(data.join("000000000000002a.seg"))
        .unwrap();
    file.write_all_at(b"rot", 120).unwrap();
    let (lines, complete) = dumped(&data, "");
    assert_eq!((lines.len(), complete), (2, false));
}

#[test]
fn an_encrypted_journal_is_read_with_its_keys_and_checked_without() {
    let scratch = Scratch::new("sealed");
    let data = scratch.path().join("data");
    fs::create_dir(&data).unwrap();
    let path = scratch.path().join("journal.key");
    key::make(&path).unwrap();
    write(&data, 42, Some(Keys::load(&path).unwrap()));
    let verdict = verify(&open(&data).unwrap(), None).unwrap();
    assert_eq!((verdict.whole, verdict.blocks, verdict.sealed_blocks, verdict.records), (true, 2, 2, 0));
    let mut keys = Keys::load(&path).unwrap();
    let verdict = verify(&open(&data).unwrap(), Some(&mut keys)).unwrap();
    assert_eq!((verdict.whole, verdict.sealed_blocks, verdict.records), (true, 0, 4));
    assert_eq!(tally(&open(&data).unwrap(), Some(&mut keys)).unwrap().classes[1].counts.records, 3);
    assert_eq!(dumped(&data, ""), (Vec::new(), false));
    let (lines, complete) = dumped(&data, &format!("--key {}", path.display()));
    assert_eq!((lines.len(), complete), (4, true));
}

#[test]
fn a_key_is_destroyed_only_where_nothing_needs_it() {
    let scratch = Scratch::new("destroy");
    let data = scratch.path().join("data");
    fs::create_dir(&data).unwrap();
    let path = scratch.path().join("journal.key");
    key::make(&path).unwrap();
    write(&data, 42, Some(Keys::load(&path).unwrap()));
    let asked = |line: &str| {
        let line = format!("roadstead journal key {line}");
        let Some(Command::Journal(asked)) = Arguments::try_parse_from(line.split_whitespace()).unwrap().command else {
            panic!("{line}");
        };
        super::run(&asked).map(|_| ()).map_err(|failure| failure.to_string())
    };
    let destroy = |number: u32, more: &str| {
        asked(&format!("destroy {} {number} --dir {} {more}", path.display(), data.display()))
    };
    assert!(destroy(1, "").unwrap_err().contains("is the newest"));
    assert!(destroy(1, "--force").unwrap_err().contains("is the newest"), "a board could write nothing any more");
    asked(&format!("rotate {}", path.display())).unwrap();
    assert!(destroy(3, "").unwrap_err().contains("no generation 3"));
    assert!(destroy(1, "").unwrap_err().contains("1 segment in"));
    let secret = fs::read_to_string(&path).unwrap();
    let secret = secret.lines().find_map(|line| line.strip_prefix("1 ")).unwrap().to_owned();
    destroy(1, "--force").unwrap();
    destroy(1, "").unwrap();
    assert!(!fs::read_to_string(&path).unwrap().contains(&secret));
    let (lines, complete) = dumped(&data, &format!("--key {}", path.display()));
    assert_eq!((lines.len(), complete), (0, false), "it is gone");
    // Where nothing needs it, no force is wanted.
    write(&data, 43, Some(Keys::load(&path).unwrap()));
    asked(&format!("rotate {}", path.display())).unwrap();
    fs::remove_file(data.join("000000000000002b.seg")).unwrap();
    destroy(2, "").unwrap();
}

#[test]
fn a_running_board_says_what_is_committed_and_covered() {
    let scratch = Scratch::new("stats");
    let data = journal(&scratch);
    let tally = tally(&open(&data).unwrap(), None).unwrap();
    let said = |status: serde_json::Value| stats::joined("http://127.0.0.1:1".to_owned(), status, &tally);
    let own = said(json!({ "board": 1, "site": "north", "backlog": 3, "accepted": 4, "committed": 4 }));
    assert!(matches!(own, Said::Status { covered: Some(1), .. }), "{own:?}");
    let text = stats::told(&data, &tally, &own);
    assert!(text.contains("the region covers 1, and lacks 3"), "{text}");
    let row = text
        .lines()
        .find(|line| line.contains("board-1/1.0000000000000007/event"))
        .expect(&text);
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words[1..6], ["own", "1", "2", "2", "2"], "{row}");
    for other in [json!({ "board": 2, "site": "north" }), json!({ "board": 1, "site": "south" }), json!(null)] {
        assert!(matches!(said(other.clone()), Said::Silent { .. }), "{other}");
    }
}

#[test]
fn dates_are_those_of_the_calendar() {
    for (millis, shown) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
    ] {
        assert_eq!(dump::date(millis), shown);
    }
    assert!(!dump::date(u64::MAX).is_empty());
}
