//! The backups of a drill: encrypted ones, or plain ones.

use std::path::{Path, PathBuf};

use gateway::store::backup::{self, Backup, BackupError, BackupKey, Folder, PIECE_BYTES, Taking, Vault};

use crate::failure::Failure;

/// Where they go, and how.
#[derive(Debug)]
pub(super) struct Copies {
    dir: PathBuf,
    place: Folder,
    /// `None`: plain ones.
    key: Option<BackupKey>,
}

impl Copies {
    pub(super) fn new(dir: PathBuf, is_plain: bool) -> Result<Self, Failure> {
        let key = if is_plain {
            None
        } else {
            Some(BackupKey::new().map_err(|error| Failure::new("no key").because(error))?)
        };
        Ok(Self { place: Folder::new(&dir), dir, key })
    }

    fn vault(&self) -> Option<Vault<'_>> {
        self.key.as_ref().map(|key| Vault::new(&self.place, key))
    }

    /// Takes one; the bytes that were written for it.
    pub(super) fn take(&self, data: &Path, name: &str, taken_ms: u64) -> Result<u64, Failure> {
        let written = match self.vault() {
            Some(vault) => {
                let taking =
                    Taking { store: data, scratch: data, beside: Vec::new(), name, taken_ms, piece_bytes: PIECE_BYTES };
                vault.take(taking).map(|taken| taken.written)
            }
            None => backup::take(data, &self.dir, name, taken_ms).map(|taken| taken.manifest.bytes),
        };
        written.map_err(cannot)
    }

    /// Looks whether the newest can be put back.
    pub(super) fn verify(&self) -> Result<(), Failure> {
        let newest = self.newest()?;
        match self.vault() {
            Some(vault) => vault.verify(&newest, &std::env::temp_dir()),
            None => backup::verify(&self.dir, &newest),
        }
        .map_err(cannot)
    }

    /// Puts the newest back.
    pub(super) fn restore(&self, data: &Path) -> Result<(), Failure> {
        let newest = self.newest()?;
        match self.vault() {
            Some(vault) => vault.restore(data, &newest, "before-drill").map(drop),
            None => backup::restore(data, &self.dir, &newest, "before-drill").map(drop),
        }
        .map_err(cannot)
    }

    fn newest(&self) -> Result<Backup, Failure> {
        let found = match self.vault() {
            Some(vault) => vault.list(),
            None => backup::list(&self.dir),
        };
        let newest = found.map_err(cannot)?.whole.pop();
        newest.ok_or_else(|| Failure::new("the backup is not there any more"))
    }
}

fn cannot(error: BackupError) -> Failure {
    Failure::new("no backup").because(error)
}
