//! Brings backups back from a vault: to look at them, into the place of a store, or as files. Nothing of a piece is used before its seal
//! holds and its content is what its name says.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::super::contents::{Contents, Kept, names_in};
use super::super::crew::crew;
use super::super::place::remove;
use super::super::scratch::Scratch;
use super::super::seal::PieceName;
use super::super::{
    Backup, BackupError, cannot, check, check_open, coming_store, give_owner_like, holds, put_in_place, sync_dir,
};
use super::{STORE, Vault, described, find, object_of};
use crate::store::lock;

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Where the store is that was there, if there was one.
    pub kept: Option<PathBuf>,
    /// What came back beside the store, by its name in the backup.
    pub beside: Vec<String>,
    /// What did not, because the data directory has it already.
    pub left: Vec<String>,
}

/// A piece to be fetched, and where it belongs.
struct Job {
    name: PieceName,
    at: u64,
    bytes: usize,
}

impl Vault<'_> {
    /// Fetches all of a backup, puts the store together on the disk of `scratch` and looks whether it is whole and its counts add up.
    pub fn verify(&self, backup: &Backup, scratch: &Path) -> Result<(), BackupError> {
        let contents = self.contents_of(backup)?;
        for file in &contents.files {
            let copy = Scratch::new(scratch, file.bytes)?;
            self.assemble(&contents, file, &copy.file, scratch)?;
            if file.name == STORE {
                let shown = self.path(&format!("{} of {}", file.name, backup.name));
                holds(&shown, check_open(&copy.connection, &shown)?, &backup.manifest)?;
            }
        }
        match find(&contents, STORE) {
            Some(_) => Ok(()),
            None => Err(self.damaged(&backup.name, "no store is in it")),
        }
    }

    /// Puts the store of `backup` in the place of the one in the data directory `store`, where no gateway may run, as
    /// [`super::super::restore`] does: what was there is kept under a name that ends in `aside`. Accounts and audit log come back where
    /// the data directory has none; those that it has are newer, and stay.
    pub fn restore(&self, store: &Path, backup: &Backup, aside: &str) -> Result<Restored, BackupError> {
        fs::create_dir_all(store).map_err(cannot("make", store))?;
        let _lock = lock(store)?;
        let contents = self.contents_of(backup)?;
        let file = find(&contents, STORE).ok_or_else(|| self.damaged(&backup.name, "no store is in it"))?;
        let coming = coming_store(store);
        let came = self
            .bring(&contents, file, &coming)
            .and_then(|()| holds(&coming, check(&coming)?, &backup.manifest));
        if came.is_err() {
            remove(&coming).map_err(cannot("remove", &coming))?;
        }
        came?;
        // All of it is here before any of it takes its place.
        let mut restored = Restored::default();
        self.bring_beside(&contents, store, &mut restored)?;
        restored.kept = put_in_place(store, aside)?;
        for root in &restored.beside {
            let coming = coming_beside(store, root);
            fs::rename(&coming, store.join(root)).map_err(cannot("name", &coming))?;
        }
        sync_dir(store)?;
        Ok(restored)
    }

    /// The accounts, if there are none, and the audit log, if there is none, under names that are not theirs yet.
    fn bring_beside(&self, contents: &Contents, store: &Path, restored: &mut Restored) -> Result<(), BackupError> {
        let root_of = |name: &str| name.split('/').next().unwrap_or_default().to_owned();
        let has: Vec<String> = RESTORED
            .iter()
            .filter(|root| has_any(&store.join(root)))
            .map(|root| (*root).to_owned())
            .collect();
        for root in RESTORED {
            clear(&coming_beside(store, root))?;
        }
        for file in &contents.files {
            let root = root_of(&file.name);
            if !RESTORED.contains(&root.as_str()) {
                continue;
            }
            if has.contains(&root) {
                if !restored.left.contains(&root) {
                    restored.left.push(root);
                }
                continue;
            }
            let mut coming = coming_beside(store, &root);
            if let Some((_, below)) = file.name.split_once('/') {
                coming.push(below);
            }
            if let Some(above) = coming.parent().filter(|above| *above != store && !above.exists()) {
                make_dir(above)?;
                give_owner_like(above, store).map_err(cannot("give away", above))?;
            }
            self.bring(contents, file, &coming)?;
            give_owner_like(&coming, store).map_err(cannot("give away", &coming))?;
            sync_dir(coming.parent().unwrap_or(store))?;
            if !restored.beside.contains(&root) {
                restored.beside.push(root);
            }
        }
        sync_dir(store)
    }

    /// Writes everything but the store into `dir`, which must be empty or not there, for its owner alone; the names.
    pub fn unpack(&self, backup: &Backup, dir: &Path) -> Result<Vec<String>, BackupError> {
        let contents = self.contents_of(backup)?;
        make_dir(dir)?;
        let is_taken = fs::read_dir(dir).map_err(cannot("look into", dir))?.next().is_some();
        if is_taken {
            return Err(cannot("use", dir)(std::io::Error::other("something is in it already")));
        }
        let mut names = Vec::new();
        for file in contents.files.iter().filter(|file| file.name != STORE) {
            let path = dir.join(&file.name);
            make_dir(path.parent().unwrap_or(dir))?;
            self.bring(&contents, file, &path)?;
            names.push(file.name.clone());
        }
        Ok(names)
    }

    /// What a backup holds, if that is still what was listed.
    fn contents_of(&self, backup: &Backup) -> Result<Contents, BackupError> {
        self.refuse_others()?;
        let contents = self.contents(&backup.name)?;
        if described(backup.name.clone(), &contents) == *backup {
            Ok(contents)
        } else {
            Err(self.damaged(&backup.name, "it is not the one that was listed"))
        }
    }

    /// Writes a file anew at `path`, for its owner alone, and syncs it.
    fn bring(&self, contents: &Contents, kept: &Kept, path: &Path) -> Result<(), BackupError> {
        remove(path).map_err(cannot("remove", path))?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options.open(path).map_err(cannot("write", path))?;
        self.assemble(contents, kept, &file, path)?;
        file.sync_all().map_err(cannot("sync", path))
    }

    /// Fetches the pieces of a file and writes each where it belongs; `shown` is what `into` is called.
    fn assemble(&self, contents: &Contents, kept: &Kept, into: &File, shown: &Path) -> Result<(), BackupError> {
        into.set_len(kept.bytes).map_err(cannot("write", shown))?;
        let fetch = |job: Job| {
            let content = self.piece(job.name, job.bytes)?;
            if content.len() != job.bytes {
                return Err(self.damaged(
                    &object_of(job.name),
                    format_args!("{} bytes, where {} belong", content.len(), job.bytes),
                ));
            }
            into.write_all_at(&content, job.at).map_err(cannot("write", shown))
        };
        let piece_bytes = u64::from(contents.piece_bytes);
        crew(fetch, |hands| {
            let mut at = 0;
            for list in &kept.lists {
                for name in self.names_of(contents, *list)? {
                    let length = (kept.bytes - at).min(piece_bytes);
                    let job = Job { name, at, bytes: usize::try_from(length).unwrap_or(usize::MAX) };
                    at += length;
                    if length == 0 {
                        return Err(self.damaged(&object_of(*list), "it names more pieces than the file has"));
                    }
                    if !hands.give(job) {
                        return Ok(());
                    }
                }
            }
            if at == kept.bytes {
                Ok(())
            } else {
                Err(self.damaged(&kept.name, "pieces of it are in no list"))
            }
        })
    }

    /// The names in a list.
    pub(super) fn names_of(&self, contents: &Contents, list: PieceName) -> Result<Vec<PieceName>, BackupError> {
        let bytes_max = usize::try_from(contents.piece_bytes).unwrap_or(usize::MAX);
        Ok(names_in(&self.piece(list, bytes_max)?))
    }
}

/// What belongs into a data directory beside the store. A witness's promises do not: older ones let it promise twice.
const RESTORED: [&str; 2] = ["access.sqlite", "audit"];

fn coming_beside(store: &Path, root: &str) -> PathBuf {
    store.join(format!("{root}.restored"))
}

/// Removes what an earlier try has left.
fn clear(path: &Path) -> Result<(), BackupError> {
    let removed = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => remove(path),
    };
    removed.map_err(cannot("remove", path))
}

fn has_any(path: &Path) -> bool {
    match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => path.symlink_metadata().is_ok(),
    }
}

fn make_dir(path: &Path) -> Result<(), BackupError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(cannot("make", path))
}
