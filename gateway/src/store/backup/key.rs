//! The file with a key for backups: for its owner alone. Owns its form; what is made from the key is in `seal`.
//!
//! ```text
//! # comment
//! roadstead-backup-key-1 3f1c...     64 hexadecimal digits
//! ```

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use data_encoding::HEXLOWER;
use rustix::fs::OFlags;
use rustix::rand::{GetRandomFlags, getrandom};

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 32;
/// How the line with the key begins.
const WORD: &str = "roadstead-backup-key-1";
/// Bytes of a file. A longer one is none.
const FILE_BYTES_MAX: u64 = 4096;
/// Permission bits of the group and of others.
const NOT_THE_OWNER: u32 = 0o077;

/// Why a key cannot be used. Nothing was touched.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is not there, or not readable.
    #[error("cannot read the key {path}: without it nothing of an encrypted backup comes back", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a directory, a pipe or a device.
    #[error("{path} is no regular file", path = path.display())]
    Irregular {
        /// Which file.
        path: PathBuf,
    },
    /// The group or everybody can get at it.
    #[error("{path} is open to others than its owner (mode {mode:04o}); run: chmod 600 {path}", path = path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds something else.
    #[error("{path} holds no key for backups: one line of {WORD} and 64 hexadecimal digits", path = path.display())]
    Text {
        /// Which file.
        path: PathBuf,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Entropy(#[source] io::Error),
}

/// What backups are sealed and opened with.
#[derive(Clone, PartialEq, Eq)]
pub struct BackupKey([u8; KEY_BYTES]);

/// A key never reaches a log.
impl fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BackupKey({})", self.name())
    }
}

impl BackupKey {
    /// A new one.
    pub fn new() -> Result<Self, KeyError> {
        let mut secret = [0; KEY_BYTES];
        let drawn = getrandom(&mut secret, GetRandomFlags::empty()).map_err(|errno| KeyError::Entropy(errno.into()))?;
        // The system gives up to 256 bytes whole.
        assert_eq!(drawn, KEY_BYTES, "entropy came short");
        Ok(Self(secret))
    }

    /// The key in the file at `path`, which its owner alone may open.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        Self::read_with(path, NOT_THE_OWNER)
    }

    /// The key in a file that a service manager guards, as it does a service's credentials.
    pub fn read_guarded(path: &Path) -> Result<Self, KeyError> {
        Self::read_with(path, 0)
    }

    fn read_with(path: &Path, refused: u32) -> Result<Self, KeyError> {
        let failed = |source| KeyError::Read { path: path.to_owned(), source };
        // Without waiting: a pipe that nobody writes to would hold this up for ever.
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let file = options.open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        if !about.is_file() {
            return Err(KeyError::Irregular { path: path.to_owned() });
        }
        let mode = about.permissions().mode() & 0o7777;
        if mode & refused != 0 {
            return Err(KeyError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
        Self::parse(&text).ok_or_else(|| KeyError::Text { path: path.to_owned() })
    }

    /// The one key that `bytes` say.
    fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return None;
        }
        let lines = std::str::from_utf8(bytes).ok()?.lines().map(str::trim);
        let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let digits = lines.next()?.strip_prefix(WORD)?.strip_prefix(' ')?;
        let secret = HEXLOWER.decode(digits.trim().as_bytes()).ok()?;
        lines.next().is_none().then_some(())?;
        Some(Self(secret.try_into().ok()?))
    }

    /// The key as its file holds it.
    pub fn to_text(&self) -> String {
        format!(
            "# Key {} of backups: whoever has this file can read them, and without it nobody can. Keep a copy elsewhere.\n\
             {WORD} {}\n",
            self.name(),
            HEXLOWER.encode(&self.0)
        )
    }

    /// What people know it by: eight hexadecimal digits, which tell nothing of the key.
    pub fn name(&self) -> String {
        HEXLOWER.encode(&self.mark())
    }

    /// The same in bytes.
    pub(super) fn mark(&self) -> [u8; 4] {
        let mut mark = [0; 4];
        derive(&self.root(), &[b"name of the key"], &mut mark);
        mark
    }

    /// What everything else is derived from.
    pub(super) fn root(&self) -> Prk {
        Salt::new(HKDF_SHA256, b"roadstead backup").extract(&self.0)
    }
}

/// Bytes to be derived.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Fills `into` with what `root` gives for `info`.
pub(super) fn derive(root: &Prk, info: &[&[u8]], into: &mut [u8]) {
    let derived = root.expand(info, Length(into.len())).and_then(|okm| okm.fill(into));
    derived.expect("so few bytes HKDF gives always");
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_key_is_read_from_its_owners_file_alone() {
        let path = std::env::temp_dir().join(format!("roadstead-backup-key-{}", std::process::id()));
        let key = BackupKey::new().unwrap();
        assert!(!format!("{key:?}").contains(&HEXLOWER.encode(&key.0)));
        let write = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            BackupKey::read(&path)
        };
        assert_eq!(write(&key.to_text(), 0o600).unwrap(), key);
        assert!(matches!(write(&key.to_text(), 0o640), Err(KeyError::Exposed { mode: 0o640, .. })));
        assert_eq!(BackupKey::read_guarded(&path).unwrap(), key);
        let twice = format!("{}{}", key.to_text(), key.to_text());
        for bad in ["", "roadstead-backup-key-1 3f", "1 3f1c", &twice, &"#".repeat(5000)] {
            assert!(matches!(write(bad, 0o600), Err(KeyError::Text { .. })), "{bad}");
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(BackupKey::read(&path), Err(KeyError::Read { .. })));
        assert!(matches!(BackupKey::read(&std::env::temp_dir()), Err(KeyError::Irregular { .. })));
    }
}
