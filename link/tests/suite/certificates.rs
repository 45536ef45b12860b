//! A site's authority and the certificates it signs, written as `roadstead init` lays them out.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use link::identity::Identity;
use link::sites::{Sites, board_name};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use shared::ids::{BoardId, Name};

/// A directory that is gone when the test is.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("roadstead-link-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    scratch: Scratch,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem, scratch: Scratch::new() }
    }

    pub(crate) fn roots(&self) -> PathBuf {
        self.write("ca.pem", &self.pem)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.scratch.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A certificate for `names`, signed here; believes `roots`.
    pub(crate) fn identity(&self, names: &[&str], roots: &Self) -> Identity {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let file = names.join("+");
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let certificate = self.write(&format!("{file}.pem"), &certificate.pem());
        let key = self.write(&format!("{file}.key"), &key.serialize_pem());
        Identity::load(&certificate, &key, &roots.roots()).unwrap()
    }

    pub(crate) fn board(&self, site: &str, number: u8) -> Identity {
        self.identity(&[&board_name(site, board(number))], self)
    }

    pub(crate) fn as_site(&self, name: &str) -> Arc<Sites> {
        let mut sites = Sites::default();
        sites.load(site(name), &self.roots()).unwrap();
        Arc::new(sites)
    }
}

pub(crate) fn board(number: u8) -> BoardId {
    BoardId::new(number).unwrap()
}

pub(crate) fn site(name: &str) -> Name {
    Name::try_from(name).unwrap()
}
