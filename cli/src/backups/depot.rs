//! Where backups are, whatever they are: plain ones in a directory, encrypted ones there or in a bucket. Owns which of them is meant
//! by a time.

use std::path::{Path, PathBuf};

use firmware::keys::locate;
use gateway::objects::{ObjectPlace, Service as S3};
use gateway::store::backup::{self, Backup, BackupError, BackupKey, Bucket, Folder, KeyError, Place, Restored, Vault};

use super::arguments::Service;
use super::failed;
use crate::failure::Failure;
use crate::journal::date;

/// What begins the address of a bucket.
const BUCKET: &str = "s3://";

/// A place of backups.
#[derive(Debug)]
pub(super) struct Depot {
    place: Box<dyn Place>,
    /// The directory, where it is one.
    dir: Option<PathBuf>,
    key: Option<BackupKey>,
}

/// A backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// A file and its manifest.
    Plain(Backup),
    /// Pieces of a vault.
    Sealed(Backup),
}

impl Kept {
    pub(super) const fn backup(&self) -> &Backup {
        match self {
            Self::Plain(backup) | Self::Sealed(backup) => backup,
        }
    }
}

/// The backups of a place.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The oldest first.
    pub(super) all: Vec<Kept>,
    /// Names of those of which nobody knows what they hold.
    pub(super) unreadable: Vec<String>,
}

impl Depot {
    /// The place at `place`, and the key in the file `key`, where one is given.
    pub(super) fn open(place: &str, service: &Service, key: Option<&Path>) -> Result<Self, Failure> {
        let key = key.map(read_key).transpose()?;
        let Service { endpoint, region, credentials, ca } = service.clone();
        if !place.starts_with(BUCKET) {
            if *service != Service::default() {
                return Err(Failure::new("--endpoint, --region, --credentials and --ca are for an s3:// place"));
            }
            let dir = PathBuf::from(place);
            return Ok(Self { place: Box::new(Folder::new(&dir)), dir: Some(dir), key });
        }
        let cannot = |why| Failure::new(format!("{place} cannot be used: {why}"));
        let service = S3 { endpoint, region, credentials, ca, allow_http: false };
        let address = ObjectPlace::new(place, Path::new(""), service).map_err(cannot)?;
        let bucket =
            Bucket::open(&address).map_err(|error| Failure::new(format!("no way to {place}")).because(error))?;
        Ok(Self { place: Box::new(bucket), dir: None, key })
    }

    pub(super) fn shown(&self) -> String {
        self.place.shown()
    }

    /// The directory of plain backups; a bucket has none.
    pub(super) fn dir(&self) -> Result<&Path, Failure> {
        self.dir.as_deref().ok_or_else(|| {
            Failure::new(format!("{} is no directory, and only encrypted backups go elsewhere", self.shown()))
                .remedy("give a key: `roadstead backup key` makes one")
        })
    }

    /// The vault there, where a key is given.
    pub(super) fn vault(&self) -> Option<Vault<'_>> {
        self.key.as_ref().map(|key| Vault::new(&*self.place, key))
    }

    /// All backups there. Encrypted ones whose key is not given are not passed over in silence.
    pub(super) fn found(&self) -> Result<Found, Failure> {
        let none = |error| failed("there are no backups", error);
        let mut found = Found::default();
        match self.vault() {
            Some(vault) => {
                let sealed = vault.list().map_err(none)?;
                found.all.extend(sealed.whole.into_iter().map(Kept::Sealed));
                found.unreadable.extend(sealed.unreadable);
            }
            None if backup::is_vault(&*self.place).map_err(none)? => {
                return Err(Failure::new(format!("the backups in {} are encrypted", self.shown()))
                    .remedy("give their key with --key"));
            }
            None => {}
        }
        if let Some(dir) = &self.dir {
            let plain = backup::list(dir).map_err(none)?;
            found.all.extend(plain.whole.into_iter().map(Kept::Plain));
            found.unreadable.extend(plain.unreadable);
        }
        found
            .all
            .sort_by_key(|kept| (kept.backup().manifest.taken_ms, kept.backup().name.clone()));
        Ok(found)
    }

    /// The newest of these that was taken at `to` or before.
    pub(super) fn choose(&self, found: &Found, to: Option<&str>) -> Result<Kept, Failure> {
        let is_meant = |kept: &&Kept| to.is_none_or(|to| date(kept.backup().manifest.taken_ms).as_str() <= to);
        found.all.iter().rfind(is_meant).cloned().ok_or_else(|| {
            let until = to.map(|to| format!(" of {to} or before")).unwrap_or_default();
            Failure::new(format!("no backup{until} is in {}", self.shown()))
                .remedy("`roadstead backup list` shows which there are")
        })
    }

    /// What was found in another place.
    fn strange(&self) -> BackupError {
        BackupError::Damaged { path: self.shown().into(), what: "such a backup is not there".to_owned() }
    }

    /// Looks whether it can be put back, as far as that can be seen without putting it back.
    pub(super) fn verify(&self, kept: &Kept, scratch: &Path) -> Result<(), BackupError> {
        match (kept, &self.dir, self.vault()) {
            (Kept::Plain(backup), Some(dir), _) => backup::verify(dir, backup),
            (Kept::Sealed(backup), _, Some(vault)) => vault.verify(backup, scratch),
            (Kept::Plain(_) | Kept::Sealed(_), ..) => Err(self.strange()),
        }
    }

    /// Puts it in the place of the store in `store`.
    pub(super) fn restore(&self, kept: &Kept, store: &Path, aside: &str) -> Result<Restored, BackupError> {
        match (kept, &self.dir, self.vault()) {
            (Kept::Plain(backup), Some(dir), _) => {
                let kept = backup::restore(store, dir, backup, aside)?;
                Ok(Restored { kept, ..Restored::default() })
            }
            (Kept::Sealed(backup), _, Some(vault)) => vault.restore(store, backup, aside),
            (Kept::Plain(_) | Kept::Sealed(_), ..) => Err(self.strange()),
        }
    }
}

/// Of a service's credentials the service manager sees that nobody else reads them.
fn read_key(path: &Path) -> Result<BackupKey, Failure> {
    let place = locate(path);
    let key = if place == path {
        BackupKey::read(path)
    } else {
        BackupKey::read_guarded(&place)
    };
    key.map_err(|error| {
        let is_missing = matches!(error, KeyError::Read { .. });
        let failure = Failure::new("no key for backups").because(error);
        if is_missing {
            failure.remedy("`roadstead backup key` makes a new one, which opens no older backup")
        } else {
            failure
        }
    })
}
