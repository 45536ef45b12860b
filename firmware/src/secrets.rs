//! Passwords, each in a file beside the configuration: of those who may publish at the front door, and of the bridge
//! towards its broker; and the token of the board's page. Owns the form of these files and refuses ones that others can read. No password, and no line
//! that may hold one, gets into a message.
//!
//! ```text
//! # who may publish: the name ends at the first colon
//! sensor:correct horse battery staple
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use rustix::fs::OFlags;
use shared::limits::{DOOR_USERS_MAX, MQTT_PASSWORD_BYTES_MAX, MQTT_USER_BYTES_MAX, SECRET_FILE_BYTES_MAX};

use crate::config::BoardConfig;
use crate::front_door::DoorUser;

/// Bytes of a page's token at least: 128 bits in hexadecimal digits, as `roadstead init` draws them.
const TOKEN_BYTES_MIN: usize = 32;
/// Permission bits of the group and of others.
const NOT_THE_OWNER: u32 = 0o077;

/// Why a file of passwords cannot be used. The operator's to mend; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It is not there, or not readable.
    #[error("cannot read {path}: the configuration names it, and this process must own it", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is a directory, a pipe or a device.
    #[error("{path} is no regular file", path = path.display())]
    Irregular {
        /// Which file.
        path: PathBuf,
    },
    /// The group or everybody can get at the passwords.
    #[error("{path} is open to others than its owner (mode {mode:04o}); run: chmod 600 {path}", path = path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is longer than any honest one.
    #[error("{path} is longer than {SECRET_FILE_BYTES_MAX} bytes", path = path.display())]
    Long {
        /// Which file.
        path: PathBuf,
    },
    /// Its text is not as it must be.
    #[error("{path} cannot be used", path = path.display())]
    Text {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: SecretFault,
    },
}

/// What is wrong in a file of passwords. Lines count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretFault {
    /// Bytes that are no text.
    #[error("line {line} is not UTF-8 text")]
    NotText {
        /// Where.
        line: usize,
    },
    /// No colon parts name and password.
    #[error("line {line} has no colon; write name:password, or # before a comment")]
    NoColon {
        /// Where.
        line: usize,
    },
    /// The name will not do.
    #[error("line {line}: the name before the colon {why}")]
    Name {
        /// Where.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The password will not do.
    #[error("line {line}: the password {why}")]
    Password {
        /// Where.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A name has two passwords.
    #[error("line {line} names the same user as line {first}; take one of them out")]
    Twice {
        /// Where.
        line: usize,
        /// Where it was named first.
        first: usize,
    },
    /// More users than are kept.
    #[error("line {line} is one user more than the {DOOR_USERS_MAX} that there may be")]
    TooMany {
        /// Where.
        line: usize,
    },
    /// Nobody is named, so nobody could publish.
    #[error("it names no user; write name:password, one user a line")]
    Nobody,
}

/// The passwords that a board's configuration refers to.
#[derive(Default, PartialEq, Eq)]
pub struct Secrets {
    /// Who may publish; empty where the configuration names no file of users.
    pub users: Vec<DoorUser>,
    /// User name and password towards the bridge's broker.
    pub bridge: Option<(String, String)>,
    /// What is asked for at the board's page.
    pub status: Option<StatusToken>,
}

/// What lets somebody look at the board's page: its SHA-256. So long a token needs no slow hash, as there is nothing to guess.
#[derive(Clone, PartialEq, Eq)]
pub struct StatusToken([u8; 32]);

/// A token never reaches a log.
impl fmt::Debug for StatusToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StatusToken")
    }
}

impl StatusToken {
    pub(crate) fn of(token: &str) -> Self {
        Self(Self::print(token.as_bytes()))
    }

    /// Whether `given` is this one; takes as long where it is not.
    pub(crate) fn is(&self, given: &[u8]) -> bool {
        verify_slices_are_equal(&Self::print(given), &self.0).is_ok()
    }

    fn print(bytes: &[u8]) -> [u8; 32] {
        let mut print = [0; 32];
        print.copy_from_slice(digest(&SHA256, bytes).as_ref());
        print
    }
}

/// A password never reaches a log.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("users", &self.users).finish_non_exhaustive()
    }
}

impl Secrets {
    /// Reads the files that `config` names; touches no other.
    pub fn read(config: &BoardConfig) -> Result<Self, SecretError> {
        let users = config.publishers.users_file.as_deref();
        let users = users.map_or(Ok(Vec::new()), |path| in_file(path, parse_users))?;
        let login = config.bridge.as_ref().and_then(|bridge| bridge.login.as_ref());
        let bridge = login
            .map(|login| Ok((login.username.clone(), in_file(&login.password_file, parse_password)?)))
            .transpose()?;
        let status = config.status_token.as_deref().map(status_token).transpose()?;
        Ok(Self { users, bridge, status: status.as_deref().map(StatusToken::of) })
    }
}

/// The token in the file `path`, for those who ask at the board's page.
pub fn status_token(path: &Path) -> Result<String, SecretError> {
    in_file(path, parse_token)
}

fn in_file<T>(path: &Path, parse: fn(&[u8]) -> Result<T, SecretFault>) -> Result<T, SecretError> {
    parse(&owned(path)?).map_err(|source| SecretError::Text { path: path.to_owned(), source })
}

/// The bytes of the regular file `path`, which its owner alone may open.
pub(crate) fn owned(path: &Path) -> Result<Vec<u8>, SecretError> {
    read(path, NOT_THE_OWNER)
}

/// The bytes of the regular file `path`, which something else guards.
pub(crate) fn guarded(path: &Path) -> Result<Vec<u8>, SecretError> {
    read(path, 0)
}

/// The bytes of the regular file `path`, which has none of the permission bits `refused`.
fn read(path: &Path, refused: u32) -> Result<Vec<u8>, SecretError> {
    let owned = || path.to_owned();
    let failed = |source| SecretError::Read { path: owned(), source };
    // Without waiting: a pipe that nobody writes to would hold up the start for ever.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
    let file = options.open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(SecretError::Irregular { path: owned() });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & refused != 0 {
        return Err(SecretError::Exposed { path: owned(), mode });
    }
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a longer file is seen to be one.
    let limit = SECRET_FILE_BYTES_MAX as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > SECRET_FILE_BYTES_MAX {
        return Err(SecretError::Long { path: owned() });
    }
    Ok(bytes)
}

/// The users in `bytes`: lines of `name:password`, between them empty lines and lines that begin with `#`. 1 to
/// [`DOOR_USERS_MAX`], each name once. The name ends at the first colon; the password is the rest as it stands.
pub fn parse_users(bytes: &[u8]) -> Result<Vec<DoorUser>, SecretFault> {
    let mut lines = BTreeMap::new();
    let mut users = Vec::new();
    for (line, text) in (1..).zip(text_of(bytes)?.lines()) {
        if text.trim().is_empty() || text.starts_with('#') {
            continue;
        }
        let (name, password) = text.split_once(':').ok_or(SecretFault::NoColon { line })?;
        check_user_name(name).map_err(|why| SecretFault::Name { line, why })?;
        check_password(password).map_err(|why| SecretFault::Password { line, why })?;
        if let Some(first) = lines.insert(name, line) {
            return Err(SecretFault::Twice { line, first });
        }
        if users.len() == DOOR_USERS_MAX {
            return Err(SecretFault::TooMany { line });
        }
        users.push(DoorUser { name: name.to_owned(), password: password.to_owned() });
    }
    if users.is_empty() {
        return Err(SecretFault::Nobody);
    }
    Ok(users)
}

/// The password in the first line of `bytes`.
pub fn parse_password(bytes: &[u8]) -> Result<String, SecretFault> {
    let password = text_of(bytes)?.lines().next().unwrap_or_default();
    check_password(password).map_err(|why| SecretFault::Password { line: 1, why })?;
    Ok(password.to_owned())
}

/// The token in the first line of `bytes`.
fn parse_token(bytes: &[u8]) -> Result<String, SecretFault> {
    let token = parse_password(bytes)?;
    if token.len() < TOKEN_BYTES_MIN {
        return Err(SecretFault::Password { line: 1, why: "has fewer than 32 characters; somebody could guess it" });
    }
    Ok(token)
}

/// Without the mark that some editors put before UTF-8: it would become part of the first name.
fn text_of(bytes: &[u8]) -> Result<&str, SecretFault> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        SecretFault::NotText { line: 1 + before.iter().filter(|byte| **byte == b'\n').count() }
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Whether `name` will do as an MQTT user name; the refusal says what is wrong, after "it".
pub(crate) fn check_user_name(name: &str) -> Result<(), &'static str> {
    check_length(name, MQTT_USER_BYTES_MAX, "has more than 256 bytes")?;
    check_characters(name)
}

fn check_password(password: &str) -> Result<(), &'static str> {
    check_length(password, MQTT_PASSWORD_BYTES_MAX, "has more than 4096 bytes")?;
    check_characters(password)
}

fn check_length(text: &str, bytes_max: usize, long: &'static str) -> Result<(), &'static str> {
    match text.len() {
        0 => Err("is empty"),
        length if length > bytes_max => Err(long),
        _ => Ok(()),
    }
}

/// Nobody sees a space at an end, so nobody finds out why the client is refused.
fn check_characters(text: &str) -> Result<(), &'static str> {
    if text.contains(char::is_control) {
        return Err("has a control character");
    }
    if text.trim() != text {
        return Err("begins or ends with white space");
    }
    Ok(())
}

const _: () = assert!(MQTT_USER_BYTES_MAX == 256 && MQTT_PASSWORD_BYTES_MAX == 4096, "refusals say the limits");

#[cfg(test)]
mod tests;
