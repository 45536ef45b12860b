//! Backups in pieces: each piece encrypted, named by its content, and written once, however many backups need it. So each backup is a
//! full one to whoever reads it, and an incremental one to whoever writes it, and none depends on another. Owns which objects
//! there are and their order in time; the place is behind `Place`.
//!
//! ```text
//! vault              whose key it is
//! pieces/3f/3f1c...  a part of a file, or of a list of such parts, sealed
//! backups/<name>     what a backup holds, sealed: written last, removed first
//! ```
//!
//! A backup is there once its object in `backups` is, and everything that it names is there before that and until after it has
//! gone. What a killed process leaves is pieces that nothing names: the next sweep takes them.

mod bring;
mod put;
mod sweep;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

pub use self::bring::Restored;
pub use self::put::{Beside, Source, Taken, Taking};
pub use self::sweep::Swept;
use super::contents::{CONTENTS_BYTES_MAX, Contents, Kept};
use super::key::BackupKey;
use super::place::{Hold, Place};
use super::seal::{ADDED, HEAD_BYTES, Head, Kind, PieceName, Sealer};
use super::{Backup, BackupError, Backups, Manifest, damaged};

/// Bytes of a piece where nothing else is asked for: 8 pages of the store. Keys that are digests go into the index anywhere: measured
/// with 200,000 readings and 2,000 more, 64 KiB wrote 36 % of the store again, 256 KiB 86 %, 1 MiB all of it.
pub const PIECE_BYTES: u32 = 64 * 1024;
/// Pieces of a vault: their names are in memory while one is written. With 64 KiB a piece that is 256 GiB, and 200 MB.
const PIECES_MAX: usize = 4 * 1024 * 1024;
/// Says whose key it is.
const HEAD: &str = "vault";
const PIECES: &str = "pieces";
const BACKUPS: &str = "backups";
/// Where objects are.
pub(super) const DIRECTORIES: [&str; 2] = [PIECES, BACKUPS];
/// The store in a backup.
const STORE: &str = "region.sqlite";

/// A vault, with its key.
#[derive(Debug)]
pub struct Vault<'a> {
    place: &'a dyn Place,
    sealer: Sealer,
}

/// Whether there is a vault in `place`, whatever its key.
pub fn is_vault(place: &dyn Place) -> Result<bool, BackupError> {
    if place.get(HEAD, HEAD_BYTES * 2).is_ok_and(|head| head.is_some()) {
        return Ok(true);
    }
    let mut is_one = false;
    let listed = place.list(BACKUPS, &mut |_| is_one = true);
    listed.map_err(failed(place, "look into", BACKUPS))?;
    Ok(is_one)
}

impl<'a> Vault<'a> {
    /// The vault in `place`, which may be empty.
    pub fn new(place: &'a dyn Place, key: &BackupKey) -> Self {
        Self { place, sealer: Sealer::new(key) }
    }

    /// Whether the vault is of this key.
    ///
    /// # Errors
    /// It is another one's, or what says so is damaged or gone: backups may be whole all the same, and the next one mends it.
    pub fn check_head(&self) -> Result<(), BackupError> {
        match self.head()? {
            Some(Head::Right) => Ok(()),
            Some(Head::Other(wanted)) => Err(self.wrong_key(wanted)),
            Some(Head::Damaged) => Err(self.damaged(HEAD, "it does not say whose key it is")),
            None => Err(self.damaged(HEAD, "it is not there")),
        }
    }

    /// The backups in it. One of another key is refused.
    pub fn list(&self) -> Result<Backups, BackupError> {
        self.refuse_others()?;
        let mut found = Backups::default();
        for name in self.names()? {
            match self.contents(&name) {
                Ok(contents) => found.whole.push(described(name, &contents)),
                Err(BackupError::Damaged { .. }) => found.unreadable.push(name),
                Err(other) => return Err(other),
            }
        }
        found
            .whole
            .sort_by_key(|backup| (backup.manifest.taken_ms, backup.name.clone()));
        Ok(found)
    }

    /// Names of the backups, whether they can be read or not, in order.
    fn names(&self) -> Result<Vec<String>, BackupError> {
        let mut names = Vec::new();
        let listed = self.place.list(BACKUPS, &mut |object| {
            if let Some(name) = object.strip_prefix(BACKUPS).and_then(|rest| rest.strip_prefix('/')) {
                names.push(name.to_owned());
            }
        });
        listed.map_err(failed(self.place, "look into", BACKUPS))?;
        names.sort_unstable();
        Ok(names)
    }

    /// The names of all pieces that are there.
    fn pieces(&self) -> Result<HashSet<PieceName>, BackupError> {
        let mut pieces = HashSet::new();
        let mut is_full = false;
        let listed = self.place.list(PIECES, &mut |object| {
            let name = object.rsplit('/').next().and_then(PieceName::parse);
            match name.filter(|name| object_of(*name) == object) {
                Some(_) if pieces.len() == PIECES_MAX => is_full = true,
                Some(name) => {
                    pieces.insert(name);
                }
                None => {}
            }
        });
        listed.map_err(failed(self.place, "look into", PIECES))?;
        if is_full {
            return Err(BackupError::TooMany { place: self.place.shown(), most: PIECES_MAX });
        }
        Ok(pieces)
    }

    fn contents(&self, name: &str) -> Result<Contents, BackupError> {
        let object = format!("{BACKUPS}/{name}");
        let sealed = self.get(&object, CONTENTS_BYTES_MAX + ADDED)?;
        let opened = self.sealer.open(Kind::Contents, name.as_bytes(), sealed, CONTENTS_BYTES_MAX);
        let bytes = opened.map_err(|error| self.damaged(&object, error))?;
        Contents::decode(&bytes).map_err(|error| self.damaged(&object, error))
    }

    /// What a piece holds, which is not more than `bytes_max`.
    fn piece(&self, name: PieceName, bytes_max: usize) -> Result<Vec<u8>, BackupError> {
        let object = object_of(name);
        let sealed = self.get(&object, bytes_max + ADDED)?;
        let opened = self.sealer.open_piece(name, sealed, bytes_max);
        opened.map_err(|error| self.damaged(&object, error))
    }

    fn get(&self, object: &str, bytes_max: usize) -> Result<Vec<u8>, BackupError> {
        match self.place.get(object, bytes_max) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(self.damaged(object, "it is not there")),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(self.damaged(object, error)),
            Err(error) => Err(failed(self.place, "read", object)(error)),
        }
    }

    fn head(&self) -> Result<Option<Head>, BackupError> {
        let head = match self.place.get(HEAD, HEAD_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Some(Vec::new()),
            got => got.map_err(failed(self.place, "read", HEAD))?,
        };
        Ok(head.map(|head| self.sealer.read_head(&head)))
    }

    /// A vault of another key. One whose head is damaged or gone may be this one's.
    fn refuse_others(&self) -> Result<(), BackupError> {
        match self.head()? {
            Some(Head::Other(wanted)) => Err(self.wrong_key(wanted)),
            Some(Head::Right | Head::Damaged) | None => Ok(()),
        }
    }

    fn hold(&self) -> Result<Box<dyn Hold>, BackupError> {
        let held = self.place.hold().map_err(failed(self.place, "lock", "it"))?;
        held.ok_or_else(|| BackupError::Busy { path: self.place.shown().into() })
    }

    /// Somebody who takes us for dead may have taken our place.
    fn still(&self, hold: &dyn Hold) -> Result<(), BackupError> {
        match hold.is_held().map_err(failed(self.place, "look at", "the lock"))? {
            true => Ok(()),
            false => Err(BackupError::Busy { path: self.place.shown().into() }),
        }
    }

    fn settle(&self) -> Result<(), BackupError> {
        self.place.settle().map_err(failed(self.place, "sync", "it"))
    }

    fn wrong_key(&self, wanted: String) -> BackupError {
        BackupError::WrongKey { place: self.place.shown(), wanted, given: self.sealer.name_of_key() }
    }

    fn damaged(&self, object: &str, what: impl std::fmt::Display) -> BackupError {
        damaged(&self.path(object), what)
    }

    fn path(&self, object: &str) -> PathBuf {
        Path::new(&self.place.shown()).join(object)
    }
}

fn failed(place: &dyn Place, doing: &'static str, object: &str) -> impl FnOnce(io::Error) -> BackupError {
    let object = format!("{object} of {}", place.shown());
    move |source| BackupError::Object { doing, object, source }
}

fn object_of(piece: PieceName) -> String {
    let name = piece.to_string();
    format!("{PIECES}/{}/{name}", &name[..2])
}

fn described(name: String, contents: &Contents) -> Backup {
    let Contents { layout, taken_ms, sites, records, .. } = *contents;
    let bytes = contents.files.iter().map(|file| file.bytes).sum();
    Backup { name, manifest: Manifest { layout, taken_ms, bytes, xxh3: None, sites, records } }
}

fn find<'a>(contents: &'a Contents, name: &str) -> Option<&'a Kept> {
    contents.files.iter().find(|file| file.name == name)
}
