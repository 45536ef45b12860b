//! Takes a backup into a vault: a copy of the store at one moment, checked, and of it the pieces that are not there yet. Owns the order:
//! pieces, then what the backup holds.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::contents::{BadContents, CONTENTS_BYTES_MAX, Contents, FILES_MAX, Kept, is_name};
use super::super::crew::{Hands, crew};
use super::super::scratch::{self, Scratch};
use super::super::seal::{Head, Kind, PieceName};
use super::super::{Backup, BackupError, cannot, check_open};
use super::{BACKUPS, HEAD, STORE, Vault, described, failed, object_of};
use crate::store::sqlite::FILE;
use crate::store::sqlite::schema::{VERSION, open_to_read};

/// What is to be taken.
#[derive(Debug)]
pub struct Taking<'a> {
    /// The data directory with the store, which a gateway may write.
    pub store: &'a Path,
    /// A directory on a disk with room for a copy of the store, which is gone afterwards, also after a kill.
    pub scratch: &'a Path,
    /// What is kept beside the store.
    pub beside: Vec<Beside>,
    /// The backup's name.
    pub name: &'a str,
    /// When: milliseconds since 1970.
    pub taken_ms: u64,
    /// Bytes of a piece: a multiple of 4096, up to 4 MiB; [`super::PIECE_BYTES`]. Another number than before makes all pieces new.
    pub piece_bytes: u32,
}

/// A file beside the store.
#[derive(Debug)]
pub struct Beside {
    /// Its name in the backup: relative, nothing above.
    pub name: String,
    /// Where its bytes come from.
    pub source: Source,
}

/// Where bytes come from.
#[derive(Debug)]
pub enum Source {
    /// They are here.
    Bytes(Vec<u8>),
    /// The first so many of a file that only grows.
    File(File, u64),
    /// A database that others write: a copy at one moment.
    Database(PathBuf),
}

/// A backup that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What it is.
    pub backup: Backup,
    /// Pieces in it.
    pub pieces: u64,
    /// Of these, those that were not there before.
    pub new_pieces: u64,
    /// Bytes that were written for it, as they lie in the place.
    pub written: u64,
}

/// A piece to be sealed and put.
struct Job {
    name: PieceName,
    content: Vec<u8>,
}

/// What is split.
enum Data {
    Bytes(Vec<u8>),
    File(File, u64),
    Copy(Scratch, u64),
}

impl Data {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, bytes) | Self::Copy(_, bytes) => *bytes,
        }
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => {
                let from = usize::try_from(at).ok().and_then(|at| bytes.get(at..)?.get(..into.len()));
                into.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            Self::File(file, _) => file.read_exact_at(into, at),
            Self::Copy(copy, _) => copy.file.read_exact_at(into, at),
        }
    }
}

impl Vault<'_> {
    /// Takes a backup. It counts once this returns it, and not before.
    pub fn take(&self, taking: Taking<'_>) -> Result<Taken, BackupError> {
        let hold = self.hold()?;
        self.claim()?;
        let mut there = self.pieces()?;
        let shown = taking.store.join(FILE);
        let copy = Scratch::copy(&open_to_read(&shown)?, taking.scratch)?;
        let (sites, records) = check_open(&copy.connection, &shown)?;
        let mut contents = Contents {
            taken_ms: taking.taken_ms,
            layout: VERSION,
            sites,
            records,
            piece_bytes: taking.piece_bytes,
            files: Vec::new(),
        };
        let bytes = copy.bytes().map_err(cannot("look at", taking.scratch))?;
        let written = AtomicU64::new(0);
        let put = |job: Job| self.put_piece(&job, &written);
        let (pieces, new_pieces) = crew(put, |hands| {
            let mut splitting = Splitting { vault: self, hands, there: &mut there, pieces: 0, new_pieces: 0 };
            splitting.split(&mut contents, STORE.to_owned(), &Data::Copy(copy, bytes), &shown)?;
            for Beside { name, source } in taking.beside {
                let data = opened(source, taking.scratch)?;
                splitting.split(&mut contents, name, &data, taking.store)?;
            }
            Ok((splitting.pieces, splitting.new_pieces))
        })?;
        self.settle()?;
        self.still(&*hold)?;
        let object = format!("{BACKUPS}/{}", taking.name);
        let bytes = self.checked(&contents, &object)?;
        let sealed = self.sealer.seal(Kind::Contents, taking.name.as_bytes(), &bytes);
        let sealed = sealed.map_err(failed(self.place, "seal", &object))?;
        self.place.put(&object, &sealed).map_err(failed(self.place, "write", &object))?;
        self.settle()?;
        let written = written.into_inner() + sealed.len() as u64;
        Ok(Taken { backup: described(taking.name.to_owned(), &contents), pieces, new_pieces, written })
    }

    /// Only what can be read again counts.
    fn checked(&self, contents: &Contents, object: &str) -> Result<Vec<u8>, BackupError> {
        let bytes = contents.encode();
        let read = if bytes.len() > CONTENTS_BYTES_MAX {
            Err(BadContents::Long)
        } else {
            Contents::decode(&bytes)
        };
        match read {
            Ok(read) if read == *contents => Ok(bytes),
            Ok(_) => Err(self.damaged(object, "it would not be read as it is written")),
            Err(error) => Err(self.damaged(object, error)),
        }
    }

    /// Makes the vault this key's where it is nobody's, and mends what says so where backups in it open.
    fn claim(&self) -> Result<(), BackupError> {
        match self.head()? {
            Some(Head::Right) => return Ok(()),
            Some(Head::Other(wanted)) => return Err(self.wrong_key(wanted)),
            Some(Head::Damaged) | None => {}
        }
        if let Some(newest) = self.names()?.last() {
            self.contents(newest)?;
        }
        self.place
            .put(HEAD, &self.sealer.head())
            .map_err(failed(self.place, "write", HEAD))?;
        self.settle()
    }

    fn put_piece(&self, job: &Job, written: &AtomicU64) -> Result<(), BackupError> {
        let object = object_of(job.name);
        let sealed = self.sealer.seal(Kind::Piece, &job.name.0, &job.content);
        let put = sealed.and_then(|sealed| {
            self.place.put(&object, &sealed)?;
            Ok(sealed.len() as u64)
        });
        written.fetch_add(put.map_err(failed(self.place, "write", &object))?, Ordering::Relaxed);
        Ok(())
    }
}

fn opened(source: Source, dir: &Path) -> Result<Data, BackupError> {
    match source {
        Source::Bytes(bytes) => Ok(Data::Bytes(bytes)),
        Source::File(file, bytes) => Ok(Data::File(file, bytes)),
        Source::Database(path) => {
            let copy = Scratch::copy(&scratch::open_to_read(&path)?, dir)?;
            let bytes = copy.bytes().map_err(cannot("look at", dir))?;
            Ok(Data::Copy(copy, bytes))
        }
    }
}

/// Splits files into pieces and gives out those that are not there.
struct Splitting<'a, 'b> {
    vault: &'a Vault<'b>,
    hands: &'a mut Hands<Job>,
    there: &'a mut HashSet<PieceName>,
    pieces: u64,
    new_pieces: u64,
}

impl Splitting<'_, '_> {
    /// Adds a file to `contents`; `shown` is what its bytes are of. Where a job has failed the rest is left out: the crew tells why.
    fn split(&mut self, contents: &mut Contents, name: String, data: &Data, shown: &Path) -> Result<(), BackupError> {
        if !is_name(&name) || contents.files.len() >= FILES_MAX {
            return Err(self.vault.damaged(&name, BadContents::Name(contents.files.len())));
        }
        let mut file = Kept { name, bytes: data.len(), lists: Vec::new() };
        let names_max = usize::try_from(contents.list_names()).unwrap_or(usize::MAX);
        let (mut at, mut names) = (0, Vec::new());
        while at < file.bytes {
            let length = (file.bytes - at).min(u64::from(contents.piece_bytes));
            let mut content = vec![0; usize::try_from(length).unwrap_or_default()];
            data.read(at, &mut content).map_err(cannot("read", shown))?;
            at += length;
            let Some(name) = self.give(content) else { return Ok(()) };
            names.push(name);
            if names.len() == names_max || at == file.bytes {
                let list = names.drain(..).flat_map(|name| name.0).collect();
                let Some(list) = self.give(list) else { return Ok(()) };
                file.lists.push(list);
            }
        }
        contents.files.push(file);
        Ok(())
    }

    /// The name of the piece; `None` where a job has failed.
    fn give(&mut self, content: Vec<u8>) -> Option<PieceName> {
        let name = self.vault.sealer.name(&content);
        self.pieces += 1;
        if self.there.insert(name) {
            self.new_pieces += 1;
            return self.hands.give(Job { name, content }).then_some(name);
        }
        Some(name)
    }
}
