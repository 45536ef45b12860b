//! A place of objects: a bucket of an S3 service, or a directory. Owns how one is opened, and what is done with objects there; knows
//! nothing of what they hold.
//!
//! An object appears whole under its name or not at all, also where the writer or the server is killed half-way, and replaces
//! the one before at once.
//!
//! | module | what |
//! |---|---|
//! | `place` | what a configuration says of a place, checked |
//! | `credentials` | who one is there |
//! | `dial` | the way there: HTTP and TLS |
//! | `own` | a service of one's own, for tests |

mod credentials;
mod dial;
pub mod own;
mod place;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, RetryConfig};
use tokio::io::AsyncReadExt as _;
use xxhash_rust::xxh3::Xxh3;

use self::place::Kind;
pub use self::place::{ObjectPlace, Service};

/// A file is put in pieces of so many bytes, one after the other. S3 takes no smaller ones than 5 MiB but the last, and 10,000 of
/// them: so a file may have some 80 GB.
const PIECE_BYTES: usize = 8 * 1024 * 1024;
/// A request that fails in passing is made so often again before the failure is told, within [`RETRY_MAX`].
const RETRIES_MAX: usize = 3;
/// No request is made again after so long: whoever asked has its own idea of when to come again.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Why something was not done with objects.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// A file or directory that the configuration names cannot be used. The operator's to mend; nothing was asked of the place.
    #[error("cannot use {path}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may read the secret in it. The operator's to mend; nothing was asked of the place.
    #[error("{path} has mode {mode:04o}: others than its owner may read the secret in it; make it 0600", path = path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The place did not do it. Whether it was done is not known where the answer was lost; the same again does no harm.
    #[error("cannot {doing} `{name}` in {place}: {remedy}")]
    Failed {
        /// What was tried.
        doing: &'static str,
        /// With which object, or all those whose names begin so.
        name: String,
        /// Where.
        place: String,
        /// What to do about it.
        remedy: &'static str,
        /// What the place said.
        #[source]
        source: Box<object_store::Error>,
    },
    /// The object is longer than whoever asked for it can bear. Nothing of it was kept.
    #[error("`{name}` in {place} has more than {bytes_max} bytes: it is not what was put there")]
    TooLong {
        /// Which.
        name: String,
        /// Where.
        place: String,
        /// How many it may have.
        bytes_max: u64,
    },
}

/// An object, as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name, below the place.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// Length and XXH3 (128 bit) of bytes: against what rots or was cut short, not against who forges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// How many bytes.
    pub bytes: u64,
    /// Their XXH3.
    pub xxh3: u128,
}

impl Digest {
    /// Of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, xxh3: xxhash_rust::xxh3::xxh3_128(bytes) }
    }
}

/// A place of objects, open. Clones are of the same place.
///
/// Names are parts with `/` between, such as `site=elm/day=2026-03-01/part-1.parquet`; they begin and end with none.
#[derive(Clone, Debug)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    shown: String,
}

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Objects {
    /// Opens the place: reads the files that it names, and makes its directory where it is one. Asks nothing of a service yet.
    pub fn open(place: &ObjectPlace) -> Result<Self, ObjectError> {
        let shown = place.to_string();
        let (store, prefix): (Arc<dyn ObjectStore>, Key) = match place.kind() {
            Kind::Directory(dir) => (Arc::new(directory(dir)?), Key::default()),
            Kind::Bucket { bucket, prefix, service } => {
                let builder = credentials::given(service.credentials.as_deref())?
                    .with_bucket_name(bucket)
                    .with_http_connector(dial::Dialer::new(service.ca.as_deref(), place.is_encrypted())?)
                    .with_retry(retries());
                let unusable = failed("open", bucket, &shown);
                (Arc::new(at(builder, service).build().map_err(unusable)?), prefix.clone())
            }
        };
        Ok(Self { store, prefix, shown })
    }

    /// Puts an object, in the place of the one that has this name.
    pub async fn put(&self, name: &str, body: Bytes) -> Result<(), ObjectError> {
        let key = self.key("write", name)?;
        let put = self.store.put(&key, PutPayload::from_bytes(body)).await;
        put.map(drop).map_err(self.failed("write", name))
    }

    /// Puts an object where none has this name; false, and nothing changed, where another one has. One of the same bytes counts as
    /// put: whoever must know that it was not somebody else's puts something of its own into it.
    pub async fn put_new(&self, name: &str, body: Bytes) -> Result<bool, ObjectError> {
        let key = self.key("write", name)?;
        match self
            .store
            .put_opts(&key, PutPayload::from_bytes(body.clone()), PutMode::Create.into())
            .await
        {
            Ok(_) => Ok(true),
            // A request whose answer was lost is made again, and then meets what it has made itself.
            Err(object_store::Error::AlreadyExists { .. }) => match self.get(name, body.len() as u64).await {
                Ok(found) => Ok(found.is_some_and(|found| found == body)),
                Err(ObjectError::TooLong { .. }) => Ok(false),
                Err(error) => Err(error),
            },
            Err(error) => Err(self.failed("write", name)(error)),
        }
    }

    /// Puts the file at `path`, in the place of the object that has this name; what was put. The file must not change meanwhile.
    pub async fn put_file(&self, name: &str, path: &Path) -> Result<Digest, ObjectError> {
        let unreadable = |source| ObjectError::File { path: path.to_owned(), source };
        let key = self.key("write", name)?;
        let mut file = tokio::fs::File::open(path).await.map_err(unreadable)?;
        let mut upload = self.store.put_multipart(&key).await.map_err(self.failed("write", name))?;
        let mut whole = Whole::default();
        loop {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            let read = (&mut file).take(PIECE_BYTES as u64).read_to_end(&mut piece).await;
            let put = match read {
                // An object of no bytes has one piece of none.
                Ok(0) if whole.bytes > 0 => break,
                Ok(read) => {
                    whole.add(&piece);
                    let put = upload.put_part(PutPayload::from(piece)).await;
                    put.map(|()| read).map_err(self.failed("write", name))
                }
                Err(source) => Err(unreadable(source)),
            };
            match put {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    // What is left of it costs room until the service's own rule for such removes it.
                    let _ = upload.abort().await;
                    return Err(error);
                }
            }
        }
        upload.complete().await.map_err(self.failed("write", name))?;
        Ok(whole.digest())
    }

    /// An object of at most `bytes_max` bytes; `None` where there is none.
    pub async fn get(&self, name: &str, bytes_max: u64) -> Result<Option<Bytes>, ObjectError> {
        let mut all = Vec::new();
        let read = self.read(name, bytes_max, |piece| all.extend_from_slice(piece)).await?;
        Ok(read.map(|()| all.into()))
    }

    /// What an object of at most `bytes_max` bytes holds, read as a whole and kept in pieces only; `None` where there is none.
    pub async fn digest(&self, name: &str, bytes_max: u64) -> Result<Option<Digest>, ObjectError> {
        let mut whole = Whole::default();
        let read = self.read(name, bytes_max, |piece| whole.add(piece)).await?;
        Ok(read.map(|()| whole.digest()))
    }

    /// Passes the object on in pieces, in order. On an error some of it may have been passed on.
    pub async fn read(
        &self,
        name: &str,
        bytes_max: u64,
        mut each: impl FnMut(&[u8]),
    ) -> Result<Option<()>, ObjectError> {
        let key = self.key("read", name)?;
        let got = match self.store.get(&key).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed("read", name)(error)),
        };
        let too_long = || ObjectError::TooLong { name: name.to_owned(), place: self.shown.clone(), bytes_max };
        if got.meta.size > bytes_max {
            return Err(too_long());
        }
        let mut left = bytes_max;
        let mut pieces = got.into_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(self.failed("read", name))?;
            left = left.checked_sub(piece.len() as u64).ok_or_else(too_long)?;
            each(&piece);
        }
        Ok(Some(()))
    }

    /// Some of an object's bytes: fewer where it ends before.
    pub async fn get_range(&self, name: &str, range: std::ops::Range<u64>) -> Result<Bytes, ObjectError> {
        let key = self.key("read", name)?;
        self.store.get_range(&key, range).await.map_err(self.failed("read", name))
    }

    /// An object's length; `None` where there is none.
    pub async fn bytes(&self, name: &str) -> Result<Option<u64>, ObjectError> {
        let key = self.key("look at", name)?;
        match self.store.head(&key).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("look at", name)(error)),
        }
    }

    /// Objects below `folder`, which is a name without its last parts, or empty; in no order. Where there are more than `limit`,
    /// that many of them.
    pub async fn list(&self, folder: &str, limit: usize) -> Result<Vec<Found>, ObjectError> {
        let folder_key = self.key("list", folder)?;
        let mut found = Vec::new();
        let mut listed = self.store.list(Some(&folder_key));
        while let Some(meta) = listed.next().await {
            if found.len() == limit {
                break;
            }
            let meta = meta.map_err(self.failed("list", folder))?;
            let name = match meta.location.prefix_match(&self.prefix) {
                Some(parts) => parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"),
                None => continue,
            };
            found.push(Found { name, bytes: meta.size });
        }
        Ok(found)
    }

    /// Removes an object. Where there is none that is as good.
    pub async fn delete(&self, name: &str) -> Result<(), ObjectError> {
        let key = self.key("remove", name)?;
        match self.store.delete(&key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("remove", name)(error)),
        }
    }

    fn key(&self, doing: &'static str, name: &str) -> Result<Key, ObjectError> {
        let below = Key::parse(name).map_err(|error| self.failed(doing, name)(error.into()))?;
        Ok(self.prefix.parts().chain(below.parts()).collect())
    }

    fn failed(&self, doing: &'static str, name: &str) -> impl FnOnce(object_store::Error) -> ObjectError + use<> {
        failed(doing, name, &self.shown)
    }
}

fn directory(dir: &Path) -> Result<LocalFileSystem, ObjectError> {
    let unusable = |source: io::Error| ObjectError::File { path: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(unusable)?;
    let opened = LocalFileSystem::new_with_prefix(dir).map_err(|error| unusable(io::Error::other(error)))?;
    // What was put is on the disk when it is told.
    Ok(opened.with_fsync(true))
}

fn at(builder: AmazonS3Builder, service: &Service) -> AmazonS3Builder {
    let builder = match &service.endpoint {
        Some(endpoint) => builder.with_endpoint(endpoint),
        None => builder,
    };
    match &service.region {
        Some(region) => builder.with_region(region),
        None => builder,
    }
}

fn retries() -> RetryConfig {
    let backoff = BackoffConfig { max_backoff: PAUSE_MAX, ..BackoffConfig::default() };
    RetryConfig { backoff, max_retries: RETRIES_MAX, retry_timeout: RETRY_MAX }
}

fn failed(doing: &'static str, name: &str, place: &str) -> impl FnOnce(object_store::Error) -> ObjectError + use<> {
    let (name, place) = (name.to_owned(), place.to_owned());
    move |source| {
        let remedy = match &source {
            object_store::Error::NotFound { .. } => "check that the bucket or the directory exists",
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                "check the credentials, and what they may do there"
            }
            object_store::Error::InvalidPath { .. } => "such a name cannot be",
            _ => "check that it can be reached, and has room",
        };
        ObjectError::Failed { doing, name, place, remedy, source: Box::new(source) }
    }
}

/// Bytes that come in pieces.
#[derive(Default)]
struct Whole {
    bytes: u64,
    hash: Xxh3,
}

impl Whole {
    fn add(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.hash.update(piece);
    }

    fn digest(&self) -> Digest {
        Digest { bytes: self.bytes, xxh3: self.hash.digest128() }
    }
}

#[cfg(test)]
mod tests;
