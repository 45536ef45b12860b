//! A site's authority and its boards' certificates, laid out as `roadstead init` writes them.

use std::fs;
use std::path::{Path, PathBuf};

use firmware::config::IdentityFiles;
use link::sites::board_name;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use shared::ids::BoardId;

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: PathBuf,
}

impl Authority {
    pub(crate) fn new(directory: &Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(directory.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), directory: directory.to_owned() }
    }

    pub(crate) fn board(&self, site: &str, board: BoardId) -> IdentityFiles {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([board_name(site, board)]).unwrap();
        let files = IdentityFiles {
            certificate: self.directory.join(format!("{board}.pem")),
            key: self.directory.join(format!("{board}.key")),
            ca: self.directory.join("ca.pem"),
        };
        fs::write(&files.certificate, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}
