//! What was done, by whom, from where, and how it ended: lines of JSON that are only ever added, each with the digest of the line
//! before it. Gateway and command line write the same log; a lock keeps them apart.
//!
//! ```text
//! data_dir/audit/  lock                 held (flock) while a line is added
//!                  head                 number and digest of the newest line, so that a missing end is seen
//!                  000000000001.jsonl   lines from that number on; 4 MiB, then the next file
//! ```

mod copy;
mod refusals;
mod verify;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use shared::time::WallMillis;

pub use self::copy::{LogCopy, copy};
pub(super) use self::refusals::Refusals;
pub use self::verify::{Finding, Verdict, verify};
use super::belonging;
use super::moment::rfc3339;
use super::secrets::fingerprint;

/// Name of the log's directory in the data directory.
pub const DIRECTORY: &str = "audit";
/// Bytes of a file after which the next one is begun.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Files that are kept; the oldest goes when there is one more, and an entry says so. In all 256 MiB, a million entries.
pub const FILES_MAX: usize = 64;
/// Bytes of a line at most; what somebody else chose is cut to fit.
pub const ENTRY_BYTES_MAX: usize = 4096;
/// Characters of each text in an entry: four of them, six bytes each at worst, fit.
const TEXT_CHARS_MAX: usize = 150;

const ENDING: &str = ".jsonl";
const HEAD: &str = "head";

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Ok,
    /// It was not allowed, and nothing was changed.
    Refused,
    /// It was allowed and could not be done.
    Failed,
}

/// What is to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// Who: `user:alice`, `token:prometheus`, `machine:prometheus.example`, `uid:0` at the command line, `gateway`, `nobody`.
    pub who: String,
    /// From where: an IP address, or `console`.
    pub from: String,
    /// What, as `noun.verb`.
    pub what: &'static str,
    /// To what; empty where `what` says all.
    pub on: String,
    /// How it ended.
    pub outcome: Outcome,
    /// In words, for people.
    pub detail: String,
}

/// A line of the log. The order of the fields is the order in the line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number, from 1, without a gap.
    pub seq: u64,
    /// When, by the wall clock: RFC 3339 in UTC, to the millisecond.
    pub at: String,
    /// As in [`Deed`].
    pub who: String,
    /// As in [`Deed`].
    pub from: String,
    /// As in [`Deed`].
    pub what: String,
    /// As in [`Deed`].
    pub on: String,
    /// As in [`Deed`].
    pub outcome: Outcome,
    /// As in [`Deed`].
    pub detail: String,
    /// SHA-256 of the line before, without its line feed, in hexadecimal; zeros for the first.
    pub prev: String,
}

/// Why the log cannot be written or read. Nothing was added.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The system refuses.
    #[error("cannot use the audit log {path}: nothing is done that cannot be written down; make room, or mend its owner", path = path.display())]
    File {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The newest line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Head {
    seq: u64,
    digest: String,
}

impl Head {
    /// Before the first line.
    fn none() -> Self {
        Self { seq: 0, digest: HEXLOWER.encode(&[0; 32]) }
    }

    fn of(line: &[u8]) -> Option<Self> {
        let entry: Entry = serde_json::from_slice(line).ok()?;
        Some(Self { seq: entry.seq, digest: digest(line) })
    }

    fn parse(text: &str) -> Option<Self> {
        let (seq, digest) = text.trim_end().split_once(' ')?;
        Some(Self { seq: seq.parse().ok()?, digest: digest.to_owned() })
    }
}

fn digest(line: &[u8]) -> String {
    HEXLOWER.encode(&fingerprint(line))
}

/// The log of one data directory, open for adding.
#[derive(Debug)]
pub struct AuditLog {
    dir: PathBuf,
    file_bytes_max: u64,
    files_max: usize,
}

impl AuditLog {
    /// The log in the data directory `data_dir`; both are made where they do not exist, for their owner alone.
    pub fn open(data_dir: &Path) -> Result<Self, AuditError> {
        Self::bounded(data_dir, FILE_BYTES_MAX, FILES_MAX)
    }

    fn bounded(data_dir: &Path, file_bytes_max: u64, files_max: usize) -> Result<Self, AuditError> {
        let dir = data_dir.join(DIRECTORY);
        belonging::make_dir(&dir).map_err(|source| AuditError::File { path: dir.clone(), source })?;
        Ok(Self { dir, file_bytes_max, files_max })
    }

    /// Adds a line, synced when this returns, and returns its number. Waits for others who add one.
    pub fn add(&mut self, deed: &Deed, at: WallMillis) -> Result<u64, AuditError> {
        self.try_add(deed, at)
            .map_err(|source| AuditError::File { path: self.dir.clone(), source })
    }

    /// The newest entries, at most `limit`, newest first.
    pub fn newest(&self, limit: usize) -> Result<Vec<Entry>, AuditError> {
        newest_in(&self.dir, limit).map_err(|source| AuditError::File { path: self.dir.clone(), source })
    }

    fn try_add(&self, deed: &Deed, at: WallMillis) -> io::Result<u64> {
        let lock = belonging::open(&self.dir.join("lock"), false)?;
        flock(&lock, FlockOperation::LockExclusive)?;
        let mut end = End::find(&self.dir)?;
        let known = belonging::open(&self.dir.join(HEAD), false)?;
        if let Some(broken) = end.is_not_as(read_head(&known)?) {
            self.write(&mut end, &broken, at, &known)?;
        }
        self.write(&mut end, deed, at, &known)?;
        if end.files.len() > self.files_max {
            self.drop_oldest(&mut end, at, &known)?;
        }
        Ok(end.head.seq)
    }

    fn write(&self, end: &mut End, deed: &Deed, at: WallMillis, head: &File) -> io::Result<()> {
        let entry = deed.entry(end.head.seq + 1, at, end.head.digest.clone());
        let line = serde_json::to_vec(&entry)?;
        if end.length >= self.file_bytes_max || end.files.is_empty() {
            end.begin(&self.dir, entry.seq)?;
        }
        end.add(&line)?;
        end.head = Head { seq: entry.seq, digest: digest(&line) };
        // Shorter than a sector, in its place: whole or not there after a power cut.
        head.write_all_at(format!("{:020} {}\n", end.head.seq, end.head.digest).as_bytes(), 0)?;
        head.sync_data()?;
        tracing::info!(seq = entry.seq, who = entry.who, from = entry.from, on = entry.on, outcome = ?entry.outcome, "audit: {}", entry.what);
        Ok(())
    }

    /// Says first what will be gone.
    fn drop_oldest(&self, end: &mut End, at: WallMillis, head: &File) -> io::Result<()> {
        let oldest = end.files.remove(0);
        let bytes = fs::read(self.dir.join(name(oldest)))?;
        let last = bytes
            .split(|byte| *byte == b'\n')
            .rfind(|line| !line.is_empty())
            .and_then(Head::of);
        let last = last.unwrap_or_else(Head::none);
        let deed = Deed {
            on: format!("{} {}", last.seq, last.digest),
            detail: format!("entries {oldest} to {} are removed: there were {} files", last.seq, self.files_max + 1),
            ..Deed::by_gateway(verify::DROPPED)
        };
        self.write(end, &deed, at, head)?;
        fs::remove_file(self.dir.join(name(oldest)))
    }
}

impl Deed {
    /// Something that the gateway itself does.
    pub(crate) fn by_gateway(what: &'static str) -> Self {
        Self {
            who: "gateway".to_owned(),
            from: "console".to_owned(),
            what,
            on: String::new(),
            outcome: Outcome::Ok,
            detail: String::new(),
        }
    }

    /// Something done at the command line, by the user who runs it.
    pub fn at_console(what: &'static str, on: impl Into<String>) -> Self {
        let who = format!("uid:{}", rustix::process::getuid().as_raw());
        Self { who, on: on.into(), ..Self::by_gateway(what) }
    }

    fn entry(&self, seq: u64, at: WallMillis, prev: String) -> Entry {
        let cut = |text: &str| text.chars().take(TEXT_CHARS_MAX).collect();
        Entry {
            seq,
            at: rfc3339(at),
            who: cut(&self.who),
            from: cut(&self.from),
            what: self.what.to_owned(),
            on: cut(&self.on),
            outcome: self.outcome,
            detail: cut(&self.detail),
            prev,
        }
    }
}

/// Where the next line goes.
struct End {
    /// First numbers of the files, in order.
    files: Vec<u64>,
    file: Option<File>,
    length: u64,
    head: Head,
}

impl End {
    /// A torn line at the end was never acknowledged, and is cut off.
    fn find(dir: &Path) -> io::Result<Self> {
        let files = files(dir)?;
        let Some(newest) = files.last() else {
            return Ok(Self { files, file: None, length: 0, head: Head::none() });
        };
        let mut file = belonging::open(&dir.join(name(*newest)), false)?;
        let mut length = file.metadata()?.len();
        let from = length.saturating_sub(2 * ENTRY_BYTES_MAX as u64);
        file.seek(SeekFrom::Start(from))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole < tail.len() {
            length = from + whole as u64;
            file.set_len(length)?;
            file.sync_all()?;
        }
        let head = tail[..whole].split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
        let head = match head {
            Some(line) => {
                Head::of(line).unwrap_or_else(|| Head { seq: newest.saturating_sub(1), digest: digest(line) })
            }
            // A file that was begun and got no line: what stood before it tells.
            None => Self::before(dir, &files)?,
        };
        Ok(Self { files, file: Some(file), length, head })
    }

    fn before(dir: &Path, files: &[u64]) -> io::Result<Head> {
        let Some(before) = files.len().checked_sub(2) else { return Ok(Head::none()) };
        let bytes = fs::read(dir.join(name(files[before])))?;
        let last = bytes.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
        Ok(last.and_then(Head::of).unwrap_or_else(Head::none))
    }

    /// What is wrong with the log's end, where it is not what was written last: one more line than `known` is what a power cut
    /// between the two leaves.
    fn is_not_as(&self, known: Option<Head>) -> Option<Deed> {
        let known = known.unwrap_or_else(Head::none);
        if known == self.head || (self.head.seq == known.seq + 1) {
            return None;
        }
        Some(Deed {
            on: known.seq.to_string(),
            outcome: Outcome::Failed,
            detail: format!(
                "the log ended with entry {}, and entry {} ({}) was written last",
                self.head.seq, known.seq, known.digest
            ),
            ..Deed::by_gateway(verify::BROKEN)
        })
    }

    fn begin(&mut self, dir: &Path, seq: u64) -> io::Result<()> {
        self.file = Some(belonging::open(&dir.join(name(seq)), true)?);
        File::open(dir)?.sync_all()?;
        self.files.push(seq);
        self.length = 0;
        Ok(())
    }

    fn add(&mut self, line: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let line = [line, b"\n"].concat();
        file.write_all_at(&line, self.length)?;
        file.sync_all()?;
        self.length += line.len() as u64;
        Ok(())
    }
}

fn read_head(mut file: &File) -> io::Result<Option<Head>> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(Head::parse(&text))
}

fn name(first: u64) -> String {
    format!("{first:012}{ENDING}")
}

/// First numbers of the log's files, in order; other files are left out.
fn files(dir: &Path) -> io::Result<Vec<u64>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?.file_name();
        let first: Option<u64> = entry
            .to_str()
            .and_then(|name| name.strip_suffix(ENDING))
            .and_then(|first| first.parse().ok());
        files.extend(first);
    }
    files.sort_unstable();
    Ok(files)
}

/// The newest entries of the log in the data directory `data_dir`, at most `limit`, newest first. Lines that are none are left out:
/// [`verify`] names them.
pub fn newest(data_dir: &Path, limit: usize) -> Result<Vec<Entry>, AuditError> {
    let dir = data_dir.join(DIRECTORY);
    newest_in(&dir, limit).map_err(|source| AuditError::File { path: dir, source })
}

fn newest_in(dir: &Path, limit: usize) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    if !dir.exists() {
        return Ok(entries);
    }
    for first in files(dir)?.into_iter().rev() {
        let bytes = fs::read(dir.join(name(first)))?;
        let lines = bytes.split(|byte| *byte == b'\n').rev().filter(|line| !line.is_empty());
        entries.extend(
            lines
                .filter_map(|line| serde_json::from_slice(line).ok())
                .take(limit - entries.len()),
        );
        if entries.len() == limit {
            break;
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests;
