//! The file with a journal's keys: one generation a line, the newest seals what is written. For its owner alone.
//!
//! ```text
//! # comment
//! 1 destroyed 5be0cd19
//! 2 3f1c...            number of the generation, 64 hexadecimal digits
//! ```
//!
//! A key is named in blocks by a number made of itself, so that a wrong file is known to be one, and a destroyed generation
//! leaves that number behind, so that what it sealed is known to be gone and not taken for somebody else's.

use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use rustix::rand::{GetRandomFlags, getrandom};
use shared::limits::KEY_GENERATIONS_MAX;

use crate::secrets::{SecretError, guarded, owned};

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// The word for a key that is no more.
const DESTROYED: &str = "destroyed";
/// Where a service manager puts what it decrypted for a service (systemd.exec(5)).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Why a file of keys cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read, or others than its owner can.
    #[error("the journal's keys cannot be read")]
    File(#[source] SecretError),
    /// Its text is not as it must be.
    #[error("{path} holds no keys for a journal: {fault}", path = path.display())]
    Text {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        fault: KeyFault,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Entropy(#[source] std::io::Error),
}

/// What is wrong in a file of keys. Lines count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// A line is no key.
    #[error("line {0} is not a generation's number and 64 hexadecimal digits")]
    Line(usize),
    /// Generations do not rise.
    #[error("the generation in line {0} is not above the one before it")]
    Order(usize),
    /// Too many.
    #[error("line {0} is one generation more than the {KEY_GENERATIONS_MAX} that there may be")]
    TooMany(usize),
    /// No key is left to write with.
    #[error("its newest generation is not there: add one with `roadstead journal key rotate`")]
    Nothing,
}

/// One generation of a ring.
#[derive(Clone, PartialEq, Eq)]
pub struct Generation {
    /// Its number: rises.
    pub number: u32,
    /// What blocks name it by: a number made of the key, even.
    pub id: u32,
    secret: Option<[u8; KEY_BYTES]>,
}

/// A key never reaches a log.
impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("number", &self.number)
            .field("id", &self.name())
            .field("destroyed", &self.is_destroyed())
            .finish_non_exhaustive()
    }
}

impl Generation {
    fn new(number: u32, secret: [u8; KEY_BYTES]) -> Self {
        Self { number, id: id_of(&secret), secret: Some(secret) }
    }

    /// The key's name as people see it.
    pub fn name(&self) -> String {
        name_of(self.id)
    }

    /// Whether the key is no more.
    pub const fn is_destroyed(&self) -> bool {
        self.secret.is_none()
    }

    /// What keys of segments are made from; `None` for a destroyed one.
    pub(super) fn root(&self) -> Option<Prk> {
        self.secret.as_ref().map(root)
    }
}

/// The name of the key that blocks call `id`.
pub(crate) fn name_of(id: u32) -> String {
    format!("{:08x}", id >> 1)
}

fn root(secret: &[u8; KEY_BYTES]) -> Prk {
    Salt::new(HKDF_SHA256, b"roadstead journal").extract(secret)
}

/// Bytes to be derived.
pub(super) struct Length(pub(super) usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// The lowest bit is left for the cipher; 0 stands for a plain block.
fn id_of(secret: &[u8; KEY_BYTES]) -> u32 {
    let mut name = [0; 4];
    root(secret)
        .expand(&[b"name of the key"], Length(name.len()))
        .and_then(|okm| okm.fill(&mut name))
        .expect("4 bytes are fewer than HKDF gives");
    (u32::from_le_bytes(name) & !1).max(2)
}

/// The generations of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRing {
    generations: Vec<Generation>,
}

impl KeyRing {
    /// A ring with one new key.
    pub fn new() -> Result<Self, KeyError> {
        let mut ring = Self::default();
        ring.rotate()?;
        Ok(ring)
    }

    /// The ring in the file at `path`, which its owner alone may open; of one in the directory of a service's credentials the
    /// service manager sees to that.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let is_credential = credentials().is_some_and(|directory| path.parent() == Some(&directory));
        let bytes = if is_credential { guarded(path) } else { owned(path) };
        Self::parse(&bytes.map_err(KeyError::File)?).map_err(|fault| KeyError::Text { path: path.to_owned(), fault })
    }

    /// The ring that `bytes` say.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyFault> {
        let mut generations: Vec<Generation> = Vec::new();
        for (line, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let text = std::str::from_utf8(text).map_err(|_| KeyFault::Line(line))?.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let generation = parse_line(text).ok_or(KeyFault::Line(line))?;
            if generations.last().is_some_and(|last| last.number >= generation.number) {
                return Err(KeyFault::Order(line));
            }
            if generations.len() == KEY_GENERATIONS_MAX {
                return Err(KeyFault::TooMany(line));
            }
            generations.push(generation);
        }
        match generations.last() {
            Some(newest) if !newest.is_destroyed() => Ok(Self { generations }),
            _ => Err(KeyFault::Nothing),
        }
    }

    /// The ring as its file holds it.
    pub fn to_text(&self) -> String {
        let mut text =
            "# Keys of a journal: whoever has this file can read it, and without it nobody can. The last line seals \
                        what is written.\n"
                .to_owned();
        for generation in &self.generations {
            let Generation { number, secret, .. } = generation;
            match secret {
                Some(secret) => {
                    let digits: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
                    text.push_str(&format!("{number} {digits}\n"));
                }
                None => text.push_str(&format!("{number} {DESTROYED} {}\n", generation.name())),
            }
        }
        text
    }

    /// Adds a new key, which is the newest from now on. A full ring forgets its oldest generation, if that is destroyed.
    ///
    /// # Errors
    /// The system gives no random numbers, or the ring is full of keys. Nothing was changed.
    pub fn rotate(&mut self) -> Result<u32, KeyError> {
        let mut secret = [0; KEY_BYTES];
        let drawn = getrandom(&mut secret, GetRandomFlags::empty()).map_err(|errno| KeyError::Entropy(errno.into()))?;
        // The system gives up to 256 bytes whole.
        assert_eq!(drawn, KEY_BYTES, "entropy came short");
        if self.generations.len() == KEY_GENERATIONS_MAX && self.generations[0].is_destroyed() {
            self.generations.remove(0);
        }
        let line = self.generations.len() + 1;
        if line > KEY_GENERATIONS_MAX {
            return Err(KeyError::Text { path: PathBuf::new(), fault: KeyFault::TooMany(line) });
        }
        let number = self.generations.last().map_or(1, |last| last.number + 1);
        self.generations.push(Generation::new(number, secret));
        Ok(number)
    }

    /// Forgets the key of generation `number` and keeps its name. False where there is none, or it is destroyed already.
    pub fn destroy(&mut self, number: u32) -> bool {
        let found = self.generations.iter_mut().find(|generation| generation.number == number);
        found.is_some_and(|generation| generation.secret.take().is_some())
    }

    /// All generations, oldest first.
    pub fn generations(&self) -> &[Generation] {
        &self.generations
    }

    /// The one that seals what is written.
    pub fn newest(&self) -> Option<&Generation> {
        self.generations.last().filter(|newest| !newest.is_destroyed())
    }

    /// The generation that blocks call `id`, with whatever cipher.
    pub fn find(&self, id: u32) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.id == id & !1)
    }
}

fn parse_line(text: &str) -> Option<Generation> {
    let mut words = text.split_whitespace();
    let number = words.next()?.parse().ok().filter(|number| *number > 0)?;
    let generation = match (words.next()?, words.next()) {
        (DESTROYED, Some(name)) => {
            let id = u32::from_str_radix(name, 16).ok().filter(|name| *name > 0 && *name < 1 << 31)? << 1;
            Generation { number, id, secret: None }
        }
        (digits, None) if digits.len() == 2 * KEY_BYTES && digits.is_ascii() => {
            let mut secret = [0; KEY_BYTES];
            for (byte, at) in secret.iter_mut().zip((0..).step_by(2)) {
                *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
            }
            Generation::new(number, secret)
        }
        _ => return None,
    };
    words.next().is_none().then_some(generation)
}

fn credentials() -> Option<PathBuf> {
    std::env::var_os(CREDENTIALS).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Where the keys are that a configuration says are at `path`: among the service's credentials, where a service manager gives
/// one of that file's name; else at that path.
pub fn locate(path: &Path) -> PathBuf {
    let credential = credentials().and_then(|directory| Some(directory.join(path.file_name()?)));
    credential
        .filter(|credential| credential.exists())
        .unwrap_or_else(|| path.to_owned())
}
