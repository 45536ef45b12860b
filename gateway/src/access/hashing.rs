//! Passwords: which will do, and what is kept of them. Argon2id with OWASP's parameters; one at a time on a thread of its own, below
//! everything else, so that a flood of logins costs one core's leisure and 19 MiB, and nothing else.

use std::io;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use tokio::sync::{mpsc, oneshot};

use super::secrets::{NoEntropy, drawn};

/// Memory of one hash, in KiB: 19 MiB, with [`PASSES`] and one lane the first of the equivalent settings of OWASP's Password
/// Storage Cheat Sheet.
pub(super) const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over that memory.
pub(super) const PASSES: u32 = 2;
/// Passwords that wait to be hashed. Further ones are told to come again.
pub(super) const WAITING_MAX: usize = 8;
/// Characters of a password at least: NIST SP 800-63B-4 asks for 15 where nothing else is asked, for 8 beside a second factor.
pub(super) const PASSWORD_CHARS_MIN: usize = 12;
/// Bytes of a password at most: a longer one only costs time.
pub const PASSWORD_BYTES_MAX: usize = 256;
/// Different characters of a password at least: what has fewer is a key held down.
const DIFFERENT_MIN: usize = 5;
/// How much below other threads the hashing thread is (nice).
const NICE: i32 = 10;

const SALT_BYTES: usize = 16;
const DIGEST_BYTES: usize = 32;

/// Why a password will not do, for a person.
pub fn check_password(account: &str, password: &str) -> Result<(), String> {
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(format!("it has {} bytes, at most {PASSWORD_BYTES_MAX} are taken", password.len()));
    }
    let chars = password.chars().count();
    if chars < PASSWORD_CHARS_MIN {
        return Err(format!("it has {chars} characters; give at least {PASSWORD_CHARS_MIN}, such as four words"));
    }
    let different: std::collections::BTreeSet<char> = password.chars().collect();
    if different.len() < DIFFERENT_MIN {
        return Err("it repeats a few characters; give words that do not belong together".to_owned());
    }
    let lower = password.to_lowercase();
    if [account, "password", "roadstead"]
        .iter()
        .any(|word| word.len() > 3 && lower.contains(word))
    {
        return Err(format!("it contains \"{account}\", \"password\" or \"roadstead\", which are tried first"));
    }
    Ok(())
}

/// Why a password cannot be hashed (now). Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// Too many wait.
    #[error("too many passwords wait to be checked; try again in a few seconds")]
    Busy,
    /// No salt.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// The parameters are none, or there is no memory.
    #[error("argon2 refuses: {0}")]
    Refused(argon2::Error),
}

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    pub(super) salt: [u8; SALT_BYTES],
    pub(super) digest: [u8; DIGEST_BYTES],
    pub(super) memory_kib: u32,
    pub(super) passes: u32,
}

/// A hash never reaches a log.
impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash")
    }
}

impl PasswordHash {
    /// Of `password`, with a salt of its own. Takes some 30 ms.
    pub fn of(password: &str) -> Result<Self, HashError> {
        let mut hash = Self::of_nobody()?;
        hash.digest = hash.digest_of(password)?;
        Ok(hash)
    }

    /// One that no password has: whoever is unknown is asked for it, so that it takes as long as for one who is known.
    pub fn of_nobody() -> Result<Self, HashError> {
        Ok(Self { salt: drawn()?, digest: drawn()?, memory_kib: MEMORY_KIB, passes: PASSES })
    }

    /// Whether this is of `password`. Takes as long for a wrong one.
    pub fn matches(&self, password: &str) -> Result<bool, HashError> {
        Ok(verify_slices_are_equal(&self.digest_of(password)?, &self.digest).is_ok())
    }

    fn digest_of(&self, password: &str) -> Result<[u8; DIGEST_BYTES], HashError> {
        let params = Params::new(self.memory_kib, self.passes, 1, Some(DIGEST_BYTES)).map_err(HashError::Refused)?;
        let mut digest = [0; DIGEST_BYTES];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password.as_bytes(), &self.salt, &mut digest)
            .map_err(HashError::Refused)?;
        Ok(digest)
    }
}

enum Job {
    Hash(String, oneshot::Sender<Result<PasswordHash, HashError>>),
    Match(String, PasswordHash, oneshot::Sender<Result<bool, HashError>>),
}

/// Has passwords hashed, one at a time; clones ask the same thread.
#[derive(Clone, Debug)]
pub(crate) struct Hasher {
    jobs: mpsc::Sender<Job>,
}

impl Hasher {
    /// Starts the thread; it ends when the last hasher is dropped.
    pub(crate) fn start() -> io::Result<Self> {
        let (jobs, mut waiting) = mpsc::channel(WAITING_MAX);
        let work = move || {
            // On Linux each thread has a nice value of its own (setpriority(2)). Without it a login only is in others' way.
            let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
            while let Some(job) = waiting.blocking_recv() {
                perform(job);
            }
        };
        std::thread::Builder::new().name("passwords".to_owned()).spawn(work)?;
        Ok(Self { jobs })
    }

    /// The hash of `password`.
    pub(crate) async fn hash(&self, password: String) -> Result<PasswordHash, HashError> {
        let (answer, answered) = oneshot::channel();
        self.jobs.try_send(Job::Hash(password, answer)).map_err(|_| HashError::Busy)?;
        answered.await.map_err(|_| HashError::Busy)?
    }

    /// Whether `hash` is of `password`.
    pub(crate) async fn matches(&self, password: String, hash: PasswordHash) -> Result<bool, HashError> {
        let (answer, answered) = oneshot::channel();
        self.jobs
            .try_send(Job::Match(password, hash, answer))
            .map_err(|_| HashError::Busy)?;
        answered.await.map_err(|_| HashError::Busy)?
    }
}

/// Whoever has left is not worked for.
fn perform(job: Job) {
    match job {
        Job::Hash(password, answer) if !answer.is_closed() => drop(answer.send(PasswordHash::of(&password))),
        Job::Match(password, hash, answer) if !answer.is_closed() => drop(answer.send(hash.matches(&password))),
        Job::Hash(..) | Job::Match(..) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_its_password_alone() {
        let hash = PasswordHash::of("correct horse battery").unwrap();
        assert!(hash.matches("correct horse battery").unwrap());
        assert!(!hash.matches("correct horse batterz").unwrap());
        assert_ne!(hash, PasswordHash::of("correct horse battery").unwrap(), "each has its salt");
        assert!(!PasswordHash::of_nobody().unwrap().matches("").unwrap());
    }

    #[test]
    fn passwords_are_refused_on_one_side_of_each_threshold() {
        let good = |password: &str| check_password("alice", password).is_ok();
        assert!(good("abcdefghijkl") && !good("abcdefghijk"));
        assert!(good("äbcdefghijkl") && !good("äbcdefghijk"), "characters, not bytes");
        assert!(good("abcdeeeeeeee") && !good("abcddddddddd"));
        let long = |bytes: usize| "abcdefghij".chars().cycle().take(bytes).collect::<String>();
        assert!(good(&long(PASSWORD_BYTES_MAX)) && !good(&long(PASSWORD_BYTES_MAX + 1)));
        assert!(!good("hello-Alice-hello") && !good("my password is long"));
    }

    #[tokio::test]
    async fn a_flood_waits_in_bounds_and_is_told() {
        let hasher = Hasher::start().unwrap();
        let hash = PasswordHash::of_nobody().unwrap();
        let asking: Vec<_> = (0..4 * WAITING_MAX)
            .map(|_| {
                let (hasher, hash) = (hasher.clone(), hash.clone());
                async move { hasher.matches("not this one".to_owned(), hash).await }
            })
            .collect();
        let answers = futures_util::future::join_all(asking).await;
        let busy = answers.iter().filter(|answer| matches!(answer, Err(HashError::Busy))).count();
        let done = answers.iter().filter(|answer| matches!(answer, Ok(false))).count();
        assert!(busy + done == 4 * WAITING_MAX && done <= WAITING_MAX + 1 && done > 0, "{busy} busy, {done} done");
    }
}
