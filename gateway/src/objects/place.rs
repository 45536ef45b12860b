//! What a configuration says of a place of objects, checked. Owns the form of its address, and where plain HTTP may be spoken.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use object_store::path::Path as Key;

/// Where objects lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPlace(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Files below a directory.
    Directory(PathBuf),
    /// Objects of a bucket whose names begin with `prefix`.
    Bucket { bucket: String, prefix: Key, service: Service },
}

/// Which S3 service has the bucket, and how one speaks with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Such as `https://s3.example:9000`; without it, that of AWS in `region`.
    pub endpoint: Option<String>,
    /// Default: the environment's `AWS_REGION`, else `us-east-1`.
    pub region: Option<String>,
    /// A file in the form of AWS's own, which only its owner may read; without it the environment or the machine says who it is.
    pub credentials: Option<PathBuf>,
    /// Who made the service's certificate, PEM; without it, whom the system trusts.
    pub ca: Option<PathBuf>,
    /// Whether HTTP in the clear is spoken with another machine, too.
    pub allow_http: bool,
}

impl ObjectPlace {
    /// The files that it is used with: credentials, and who made the service's certificate.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let service = match &self.0 {
            Kind::Directory(_) => None,
            Kind::Bucket { service, .. } => Some(service),
        };
        service
            .into_iter()
            .flat_map(|service| [service.credentials.as_deref(), service.ca.as_deref()])
            .flatten()
    }

    /// The place at `url`: `s3://bucket/prefix`, `file:///directory`, or a path, which is relative to `beside`.
    ///
    /// Refused, in words: another scheme, a bucket that is none, what is said of a service where the place is a directory, and
    /// HTTP in the clear to another machine that was not allowed: it would show every record, though no key, to who listens.
    pub fn new(url: &str, beside: &Path, service: Service) -> Result<Self, String> {
        if let Some(rest) = url.strip_prefix("s3://") {
            return bucket(rest, service).map(Self);
        }
        if service != Service::default() {
            return Err("`endpoint`, `region`, `credentials`, `ca` and `allow_http` are for an s3:// place".to_owned());
        }
        let dir = match url.split_once("://") {
            None if url.is_empty() => return Err("it is empty".to_owned()),
            None => beside.join(url),
            Some(("file", dir)) if dir.starts_with('/') => PathBuf::from(dir),
            Some(("file", _)) => {
                return Err("a file:// place names a directory from the root on: file:///dir".to_owned());
            }
            Some((other, _)) => {
                return Err(format!("`{other}://` is not known: give s3://bucket/prefix or file:///dir"));
            }
        };
        Ok(Self(Kind::Directory(dir)))
    }

    pub(super) const fn kind(&self) -> &Kind {
        &self.0
    }

    /// Whether TLS is spoken with it.
    pub(super) fn is_encrypted(&self) -> bool {
        match &self.0 {
            Kind::Directory(_) => false,
            Kind::Bucket { service, .. } => service
                .endpoint
                .as_ref()
                .is_none_or(|endpoint| endpoint.starts_with("https://")),
        }
    }
}

/// Without credentials, which it does not hold.
impl fmt::Display for ObjectPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Directory(dir) => write!(f, "{}", dir.display()),
            Kind::Bucket { bucket, prefix, service } => {
                write!(f, "s3://{bucket}/{prefix}")?;
                match &service.endpoint {
                    Some(endpoint) => write!(f, " at {endpoint}"),
                    None => Ok(()),
                }
            }
        }
    }
}

fn bucket(rest: &str, service: Service) -> Result<Kind, String> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
    if bucket.is_empty() || !bucket.chars().all(is_plain) {
        return Err(format!("{bucket:?} is no bucket's name: small letters, digits, `-`, `.` and `_`"));
    }
    let prefix = Key::parse(prefix.trim_end_matches('/')).map_err(|why| format!("its prefix cannot be: {why}"))?;
    if let Some(endpoint) = &service.endpoint {
        check_endpoint(endpoint, service.allow_http)?;
    }
    Ok(Kind::Bucket { bucket: bucket.to_owned(), prefix, service })
}

fn check_endpoint(endpoint: &str, allow_http: bool) -> Result<(), String> {
    let uri: hyper::Uri = endpoint
        .parse()
        .map_err(|_| format!("{endpoint:?} is no address such as https://s3.example:9000"))?;
    let host = uri.host().unwrap_or_default();
    if host.is_empty() || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(
            "its `endpoint` is scheme, host and port alone; credentials stand in a file of their own".to_owned()
        );
    }
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if allow_http || is_here(host) => Ok(()),
        Some("http") => Err(format!(
            "HTTP in the clear to {host} would show every record to who listens: give an https:// `endpoint`, or say \
             `allow_http = true` where the network is private"
        )),
        _ => Err(format!("{endpoint:?} begins with neither https:// nor http://")),
    }
}

fn is_here(host: &str) -> bool {
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    host == "localhost" || address.is_some_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(url: &str, service: Service) -> Result<ObjectPlace, String> {
        ObjectPlace::new(url, Path::new("/etc/roadstead"), service)
    }

    fn endpoint(endpoint: &str) -> Service {
        Service { endpoint: Some(endpoint.to_owned()), ..Service::default() }
    }

    #[test]
    fn a_place_is_a_bucket_or_a_directory() {
        for (url, shown) in [
            ("s3://region-1/archive/", "s3://region-1/archive"),
            ("s3://region-1", "s3://region-1/"),
            ("file:///srv/archive", "/srv/archive"),
            ("archive", "/etc/roadstead/archive"),
            ("/srv/archive", "/srv/archive"),
        ] {
            assert_eq!(new(url, Service::default()).unwrap().to_string(), shown);
        }
        for (url, word) in [
            ("", "empty"),
            ("gs://bucket", "gs://"),
            ("file://srv", "from the root"),
            ("s3://", "bucket's name"),
            ("s3://Region", "bucket's name"),
            ("s3://region/a/../b", "prefix"),
        ] {
            let why = new(url, Service::default()).unwrap_err();
            assert!(why.contains(word), "{url}: {why}");
        }
        assert!(
            new("archive", endpoint("https://s3.example"))
                .unwrap_err()
                .contains("s3:// place")
        );
    }

    #[test]
    fn in_the_clear_only_to_this_machine_or_where_it_was_allowed() {
        for here in ["http://127.0.0.1:8333", "http://localhost:1", "http://[::1]:1", "https://s3.example"] {
            assert!(new("s3://region", endpoint(here)).is_ok(), "{here}");
        }
        for there in ["http://192.0.2.1:8333", "http://s3.example", "http://[::ffff:192.0.2.1]"] {
            assert!(new("s3://region", endpoint(there)).unwrap_err().contains("allow_http"), "{there}");
            assert!(new("s3://region", Service { allow_http: true, ..endpoint(there) }).is_ok(), "{there}");
        }
        for none in ["s3.example", "ftp://s3.example", "https://me:secret@s3.example", ""] {
            let why = new("s3://region", endpoint(none)).unwrap_err();
            assert!(!why.contains("secret"), "{why}");
        }
    }
}
