//! Removes old backups from a vault, and the pieces that no backup needs. Knows what each backup that stays needs before it removes
//! anything; where one cannot be read, everything stays.

use std::collections::HashSet;

use super::super::seal::PieceName;
use super::super::{Backup, BackupError};
use super::{BACKUPS, Vault, failed, object_of};

/// Pieces that are removed before it is asked whether the vault is still ours.
const AT_ONCE: usize = 256;

/// What a sweep removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Names of backups.
    pub backups: Vec<String>,
    /// Pieces that nothing needed, also those that a killed process has left.
    pub pieces: u64,
}

impl Vault<'_> {
    /// Removes the oldest backups but the last `keep`, and never `spared`, however the clock went; then the pieces that none needs.
    ///
    /// # Errors
    /// What a backup needs cannot be read: nothing was removed. Something cannot be removed: what is listed is whole all the
    /// same, and the same again goes on from there.
    pub fn prune(&self, keep: usize, spared: Option<&str>) -> Result<Swept, BackupError> {
        let hold = self.hold()?;
        let all = self.list()?;
        if let Some(unreadable) = all.unreadable.first() {
            let object = format!("{BACKUPS}/{unreadable}");
            return Err(self.damaged(&object, "nobody knows which pieces it needs, so nothing is removed"));
        }
        let going = all.whole.len().saturating_sub(keep);
        let is_going = |(at, backup): (usize, &Backup)| at < going && spared != Some(backup.name.as_str());
        let (mut old, mut needed) = (Vec::new(), HashSet::new());
        for (at, backup) in all.whole.iter().enumerate() {
            if is_going((at, backup)) {
                old.push(backup.name.clone());
            } else {
                self.mark(&backup.name, &mut needed)?;
            }
        }
        for name in &old {
            self.still(&*hold)?;
            self.remove(&format!("{BACKUPS}/{name}"))?;
        }
        // None that stays listed after a power cut may lack a piece.
        self.settle()?;
        let unneeded: Vec<PieceName> = self.pieces()?.difference(&needed).copied().collect();
        for some in unneeded.chunks(AT_ONCE) {
            self.still(&*hold)?;
            for piece in some {
                self.remove(&object_of(*piece))?;
            }
        }
        self.settle()?;
        Ok(Swept { backups: old, pieces: unneeded.len() as u64 })
    }

    /// Adds all that a backup needs. A list that is needed already was read before.
    fn mark(&self, name: &str, needed: &mut HashSet<PieceName>) -> Result<(), BackupError> {
        let contents = self.contents(name)?;
        for list in contents.files.iter().flat_map(|file| &file.lists) {
            if needed.insert(*list) {
                needed.extend(self.names_of(&contents, *list)?);
            }
        }
        Ok(())
    }

    fn remove(&self, object: &str) -> Result<(), BackupError> {
        self.place.remove(object).map_err(failed(self.place, "remove", object))
    }
}
