//! Every kind of tampering is found and named; what power cuts and limits leave is no tampering.

use super::*;
use crate::access::scratch::Scratch;

fn deed(number: u64) -> Deed {
    Deed { on: format!("user:u{number}"), ..Deed::by_gateway("account.add") }
}

/// A log of so many entries.
fn log(entries: u64) -> Scratch {
    let scratch = Scratch::new();
    let mut log = AuditLog::open(scratch.path()).unwrap();
    for number in 1..=entries {
        assert_eq!(log.add(&deed(number), WallMillis(number)).unwrap(), number);
    }
    scratch
}

fn file(scratch: &Scratch) -> PathBuf {
    scratch.path().join(DIRECTORY).join(name(1))
}

fn findings(scratch: &Scratch) -> Vec<String> {
    let verdict = verify(scratch.path(), None).unwrap();
    verdict
        .findings
        .into_iter()
        .map(|finding| format!("{}: {}", finding.line, finding.what))
        .collect()
}

/// What is found after the lines were edited.
fn edited(with: impl FnOnce(&mut Vec<String>)) -> Vec<String> {
    let scratch = log(6);
    let text = fs::read_to_string(file(&scratch)).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    with(&mut lines);
    fs::write(file(&scratch), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    findings(&scratch)
}

#[test]
fn a_log_is_whole_as_it_was_written() {
    let scratch = log(6);
    let verdict = verify(scratch.path(), None).unwrap();
    assert_eq!((verdict.entries, verdict.first, verdict.last), (6, 1, 6));
    assert!(verdict.findings.is_empty(), "{verdict:?}");
    assert!(edited(|_| {}).is_empty());
    let entries = newest(scratch.path(), 2).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [6, 5]);
    assert_eq!(entries[0].at, "1970-01-01T00:00:00.006Z");
    assert_eq!(verify(Scratch::new().path(), None).unwrap(), Verdict::default());
}

#[test]
fn a_changed_line_is_named_wherever_it_stands() {
    for at in 0..6 {
        let found = edited(|lines| lines[at] = lines[at].replace("account.add", "account.kept"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(&format!("{}: entry {} was changed", at + 1, at + 1)), "{found:?}");
    }
    let found = edited(|lines| lines[2] = "nonsense".to_owned());
    assert!(found[0].starts_with("3: this is no entry; entry 3"), "{found:?}");
}

#[test]
fn every_single_byte_counts() {
    let scratch = log(3);
    let whole = fs::read(file(&scratch)).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x01;
        fs::write(file(&scratch), &bytes).unwrap();
        assert!(!findings(&scratch).is_empty(), "byte {at}");
        fs::write(file(&scratch), &whole[..at]).unwrap();
        assert!(!findings(&scratch).is_empty(), "cut at {at}");
    }
}

#[test]
fn a_removed_line_is_missed_wherever_it_stood() {
    for at in 1..5 {
        let found = edited(|lines| drop(lines.remove(at)));
        assert_eq!(found, [format!("{}: entries {} to {} are missing here", at + 1, at + 1, at + 1)]);
    }
    let found = edited(|lines| drop(lines.remove(0)));
    assert_eq!(found, ["1: entries 1 to 1 are missing, and no entry tells that they were removed"]);
    let found = edited(|lines| lines.truncate(4));
    assert_eq!(found, ["5: entries 5 to 6 are missing at the end"]);
    let scratch = log(6);
    fs::remove_file(file(&scratch)).unwrap();
    assert!(findings(&scratch)[0].contains("entries 1 to 6 are missing"));
}

#[test]
fn moved_doubled_and_added_lines_are_named() {
    let found = edited(|lines| lines.swap(2, 3));
    assert!(found[0].starts_with("3: entries 3 to 3 are missing here"), "{found:?}");
    assert!(found[1].starts_with("4: entry 3 stands here where entry 5 should"), "{found:?}");
    let found = edited(|lines| lines.insert(3, lines[2].clone()));
    assert!(found[0].starts_with("4: entry 3 stands here where entry 4 should"), "{found:?}");
    let found = edited(|lines| {
        for seq in [7, 8] {
            let prev = digest(lines.last().unwrap().as_bytes());
            lines.push(serde_json::to_string(&deed(seq).entry(seq, WallMillis(seq), prev)).unwrap());
        }
    });
    assert_eq!(found, ["9: entries 7 to 8 were added by somebody else"]);
}

#[test]
fn an_end_that_was_cut_off_stays_known_when_the_log_goes_on() {
    let scratch = log(6);
    let text = fs::read_to_string(file(&scratch)).unwrap();
    let kept: String = text.lines().take(4).map(|line| format!("{line}\n")).collect();
    fs::write(file(&scratch), kept).unwrap();
    AuditLog::open(scratch.path()).unwrap().add(&deed(9), WallMillis(9)).unwrap();
    let found = findings(&scratch);
    assert!(found.len() == 1 && found[0].contains("ended with entry 4, and entry 6"), "{found:?}");
}

#[test]
fn a_rewritten_log_differs_from_what_was_noted() {
    let scratch = log(6);
    let noted = verify(scratch.path(), None).unwrap().digest;
    assert!(verify(scratch.path(), Some((6, &noted))).unwrap().findings.is_empty());
    let other = Scratch::new();
    let mut rewritten = AuditLog::open(other.path()).unwrap();
    for number in 1..=6 {
        rewritten.add(&deed(number + 1), WallMillis(number)).unwrap();
    }
    assert!(findings(&other).is_empty(), "by itself it is whole");
    assert!(
        verify(other.path(), Some((6, &noted))).unwrap().findings[0]
            .what
            .contains("was noted")
    );
    assert!(
        verify(other.path(), Some((7, &noted))).unwrap().findings[0]
            .what
            .contains("is not there")
    );
}

#[test]
fn what_a_power_cut_leaves_is_mended_and_no_tampering() {
    let scratch = log(3);
    let head = scratch.path().join(DIRECTORY).join(HEAD);
    let before = fs::read(&head).unwrap();
    let mut log = AuditLog::open(scratch.path()).unwrap();
    log.add(&deed(4), WallMillis(4)).unwrap();
    // The line was synced, the head was not.
    fs::write(&head, &before).unwrap();
    assert!(findings(&scratch).is_empty());
    // The next line was torn.
    let mut bytes = fs::read(file(&scratch)).unwrap();
    bytes.extend_from_slice(b"{\"seq\":5,\"at\"");
    fs::write(file(&scratch), bytes).unwrap();
    assert!(findings(&scratch)[0].contains("torn"));
    assert_eq!(log.add(&deed(5), WallMillis(5)).unwrap(), 5);
    assert!(findings(&scratch).is_empty(), "{:?}", findings(&scratch));
}

#[test]
fn files_are_bounded_and_what_goes_is_told() {
    let scratch = Scratch::new();
    let mut log = AuditLog::bounded(scratch.path(), 2000, 3).unwrap();
    for number in 1..200 {
        log.add(&deed(number), WallMillis(number)).unwrap();
        let dir = scratch.path().join(DIRECTORY);
        let kept = files(&dir).unwrap();
        assert!(kept.len() <= 3);
        let bytes: u64 = kept
            .iter()
            .map(|first| fs::metadata(dir.join(name(*first))).unwrap().len())
            .sum();
        assert!(bytes <= 3 * (2000 + ENTRY_BYTES_MAX as u64));
    }
    let verdict = verify(scratch.path(), None).unwrap();
    assert!(verdict.findings.is_empty() && verdict.first > 100, "{verdict:?}");
    let oldest = files(&scratch.path().join(DIRECTORY)).unwrap()[0];
    fs::remove_file(scratch.path().join(DIRECTORY).join(name(oldest))).unwrap();
    assert!(findings(&scratch)[0].contains("no entry tells"), "{:?}", findings(&scratch));
}

#[test]
fn what_others_chose_is_cut_and_two_writers_take_turns() {
    let scratch = log(0);
    let long = "\"\u{1}".repeat(10_000);
    let deed = Deed { who: long.clone(), from: long.clone(), on: long.clone(), detail: long, ..deed(1) };
    AuditLog::open(scratch.path()).unwrap().add(&deed, WallMillis(1)).unwrap();
    let length = fs::metadata(file(&scratch)).unwrap().len() as usize;
    assert!(length <= ENTRY_BYTES_MAX, "{length}");
    let write = || {
        let mut log = AuditLog::open(scratch.path()).unwrap();
        for number in 0..20 {
            log.add(&self::deed(number), WallMillis(number)).unwrap();
        }
    };
    std::thread::scope(|scope| {
        (0..3).for_each(|_| drop(scope.spawn(write)));
    });
    let verdict = verify(scratch.path(), None).unwrap();
    assert!(verdict.findings.is_empty() && verdict.entries == 61, "{verdict:?}");
}
