//! Whether the log is as it was written: every line is held against the one before it, and the end against what was written last.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{AuditError, DIRECTORY, Entry, HEAD, Head, digest, files, name};

/// What an entry is called that tells of files removed at the limit.
pub(super) const DROPPED: &str = "audit.dropped";
/// What an entry is called that tells of an end that was not as it was written.
pub(super) const BROKEN: &str = "audit.broken";

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// In which file, by its name in the log's directory.
    pub file: String,
    /// On which line, from 1; the line after the last where the end is missing.
    pub line: usize,
    /// What is wrong, in words, with the numbers of the entries.
    pub what: String,
}

/// What a verification has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Entries that could be read.
    pub entries: u64,
    /// The number of the first and the last.
    pub first: u64,
    /// The number of the last.
    pub last: u64,
    /// The digest of the last line: note it elsewhere, and the log up to here can be held against it for ever.
    pub digest: String,
    /// What is wrong, in the order of the log; empty where it is whole.
    pub findings: Vec<Finding>,
}

/// Reads the whole log of the data directory `data_dir`, and changes nothing. `noted` is the number and digest of an entry that
/// somebody kept elsewhere.
pub fn verify(data_dir: &Path, noted: Option<(u64, &str)>) -> Result<Verdict, AuditError> {
    let dir = data_dir.join(DIRECTORY);
    let failed = |source| AuditError::File { path: dir.clone(), source };
    let mut reading = Reading::default();
    if !dir.exists() {
        return Ok(reading.verdict);
    }
    for first in files(&dir).map_err(failed)? {
        let bytes = fs::read(dir.join(name(first))).map_err(failed)?;
        reading.file(first, &bytes, noted);
    }
    let head = fs::read_to_string(dir.join(HEAD)).ok().and_then(|text| Head::parse(&text));
    reading.end(head.as_ref(), noted);
    Ok(reading.verdict)
}

#[derive(Default)]
struct Reading {
    verdict: Verdict,
    /// The line before, where it could be read.
    before: Option<Head>,
    /// Digests of the last entries of dropped files, by their numbers, as entries tell them.
    dropped: BTreeMap<u64, String>,
    /// What the first line calls the one before it, where it is not entry 1.
    begins_after: Option<(Head, String)>,
    place: (String, usize),
    is_noted: bool,
}

impl Reading {
    fn file(&mut self, first: u64, bytes: &[u8], noted: Option<(u64, &str)>) {
        let file = name(first);
        let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        let torn = lines.pop().is_some_and(|rest| !rest.is_empty());
        for (at, line) in lines.iter().enumerate() {
            self.place = (file.clone(), at + 1);
            self.line(line, noted);
        }
        self.place = (file, lines.len() + 1);
        if torn {
            self.find("the last line is torn: it was never finished, or its end was cut off".to_owned());
        }
    }

    fn line(&mut self, line: &[u8], noted: Option<(u64, &str)>) {
        let Ok(entry) = serde_json::from_slice::<Entry>(line) else {
            let number = self.before.as_ref().map_or(1, |before| before.seq + 1);
            self.find(format!("this is no entry; entry {number} should stand here, and was changed"));
            self.before = Some(Head { seq: number, digest: digest(line) });
            return;
        };
        let own = Head { seq: entry.seq, digest: digest(line) };
        match self.before.take() {
            None => self.begin(&entry),
            Some(before) => self.follow(&before, &entry),
        }
        if entry.what == DROPPED
            && let Some(last) = Head::parse(&entry.on)
        {
            self.dropped.insert(last.seq, last.digest);
        }
        if entry.what == BROKEN {
            self.find(format!("entry {} tells of a break before it: {}", entry.seq, entry.detail));
        }
        if let Some((seq, wanted)) = noted
            && seq == own.seq
        {
            self.is_noted = true;
            if own.digest != wanted {
                self.find(format!("entry {seq} is not the one that was noted: it or an earlier one was changed"));
            }
        }
        self.verdict.entries += 1;
        self.verdict.last = own.seq;
        self.verdict.digest.clone_from(&own.digest);
        self.before = Some(own);
    }

    fn begin(&mut self, entry: &Entry) {
        self.verdict.first = entry.seq;
        let before = Head { seq: entry.seq.saturating_sub(1), digest: entry.prev.clone() };
        if entry.seq > 1 {
            self.begins_after = Some((before, self.place.0.clone()));
        } else if before != Head::none() {
            self.find(format!("entry {} is no beginning: it names a line before it", entry.seq));
        }
    }

    fn follow(&mut self, before: &Head, entry: &Entry) {
        let due = before.seq + 1;
        if entry.seq > due {
            self.find(format!("entries {due} to {} are missing here", entry.seq - 1));
        } else if entry.seq < due {
            self.find(format!("entry {} stands here where entry {due} should: lines were moved or doubled", entry.seq));
        } else if entry.prev != before.digest {
            let what = format!("entry {} was changed: it is not the one that entry {} follows", before.seq, entry.seq);
            self.verdict.findings.push(Finding {
                file: self.place.0.clone(),
                line: self.place.1.saturating_sub(1).max(1),
                what,
            });
        }
    }

    fn end(&mut self, head: Option<&Head>, noted: Option<(u64, &str)>) {
        if let Some((before, file)) = self.begins_after.take()
            && self.dropped.get(&before.seq) != Some(&before.digest)
        {
            let what = format!("entries 1 to {} are missing, and no entry tells that they were removed", before.seq);
            self.verdict.findings.insert(0, Finding { file, line: 1, what });
        }
        let last = self.before.take().unwrap_or_else(Head::none);
        let none = Head::none();
        let head = head.unwrap_or(&none);
        if head.seq > last.seq {
            self.find(format!("entries {} to {} are missing at the end", last.seq + 1, head.seq));
        } else if head.seq == last.seq && head.digest != last.digest {
            self.place.1 = self.place.1.saturating_sub(1).max(1);
            self.find(format!("entry {} was changed: it is not the one that was written last", last.seq));
        } else if last.seq > head.seq + 1 {
            self.find(format!("entries {} to {} were added by somebody else", head.seq + 1, last.seq));
        }
        if let Some((seq, _)) = noted.filter(|_| !self.is_noted) {
            self.find(format!("entry {seq}, which was noted, is not there"));
        }
    }

    fn find(&mut self, what: String) {
        let (file, line) = self.place.clone();
        self.verdict.findings.push(Finding { file, line, what });
    }
}
