//! A site's authorities, and the keys and certificates they give to boards and gateways. Owns what a certificate
//! says; where the files go and what the configurations say is the neighbours' part.
//!
//! Two authorities, so that a region that is taken over cannot add a board to a site:
//!
//! ```text
//! site authority   ── board-<n>.<site>.roadstead     believed by the site's boards, and by the gateway for that site
//! region authority ── gateway.<gateway>.roadstead    believed by the boards, for the region's end alone
//!                  └─ witness.<witness>.roadstead    believed by the boards, for a vote alone
//! ```
//!
//! **Validity.** Boards may have no clock: one that wakes up in 1970 must still find its own site. So certificates
//! hold from 1970 and carry the date that RFC 5280 (section 4.1.2.5) gives to certificates without a well-defined
//! end. A date in a certificate is no way to take a board out; making the authority anew, with `roadstead init`, is.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use shared::ids::{BoardId, Name};

use crate::failure::Failure;

/// A certificate and its private key, both PEM.
pub struct Credential {
    /// The certificate: for everybody.
    pub certificate: String,
    /// The key, PKCS#8: for its owner alone.
    pub key: String,
}

/// A key is never printed.
impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").finish_non_exhaustive()
    }
}

/// One that signs certificates: a fresh ECDSA P-256 key with a certificate of its own.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A key is never printed.
impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new authority called `title`, for people.
    pub fn new(title: &str) -> Result<Self, Failure> {
        let mut params = params(title, Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, new_key()?).map_err(cannot)?;
        Ok(Self { issuer })
    }

    /// Its certificate, PEM: what others believe.
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// Its private key, PEM: whoever has it can make boards.
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A key and certificate for the board `board` of `site`, which shows its page at `address`: boards know each other by the name
    /// alone, browsers and Prometheus by the address.
    pub fn board(&self, site: &Name, board: BoardId, address: IpAddr) -> Result<Credential, Failure> {
        let name = link::sites::board_name(site, board);
        self.sign(&name, vec![name.clone(), address.to_string()])
    }

    /// A key and certificate for the gateway `gateway`.
    pub fn gateway(&self, gateway: &Name) -> Result<Credential, Failure> {
        let name = link::sites::gateway_name(gateway);
        self.sign(&name, vec![name.clone()])
    }

    /// A key and certificate for the witness `witness`, which is no gateway.
    pub fn witness(&self, witness: &Name) -> Result<Credential, Failure> {
        let name = link::sites::witness_name(witness);
        self.sign(&name, vec![name.clone()])
    }

    /// Boards dial each other, so each certificate is good for both ends of a connection.
    fn sign(&self, title: &str, names: Vec<String>) -> Result<Credential, Failure> {
        let key = new_key()?;
        let mut params = params(title, names)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(cannot)?;
        Ok(Credential { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// What a gateway shows to browsers at `address`, on its own machine too. Signed by itself, so that whoever believes it believes
/// nothing else.
pub fn https(gateway: &Name, address: IpAddr) -> Result<Credential, Failure> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !address.is_loopback() {
        names.push(address.to_string());
    }
    let key = new_key()?;
    let mut params = params(&link::sites::gateway_name(gateway), names)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key).map_err(cannot)?;
    Ok(Credential { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn params(title: &str, names: Vec<String>) -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new(names).map_err(cannot)?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, title);
    params.distinguished_name = subject;
    params.not_before = date_time_ymd(1970, 1, 1);
    // 9999-12-31 23:59:59: the very second is part of the convention.
    params.not_after = date_time_ymd(9999, 12, 31) + LAST_SECOND_OF_DAY;
    Ok(params)
}

const LAST_SECOND_OF_DAY: std::time::Duration = std::time::Duration::from_secs(86_399);

fn new_key() -> Result<KeyPair, Failure> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(cannot)
}

fn cannot(error: rcgen::Error) -> Failure {
    Failure::new("cannot make a key or certificate").because(error)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use link::identity::Identity;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn what_is_signed_can_be_used_and_what_others_signed_cannot() {
        let dir = crate::scratch::Scratch::new("certificates");
        let site = Name::try_from("north").unwrap();
        let board = BoardId::new(7).unwrap();
        let authority = Authority::new("site north").unwrap();
        let credential = authority.board(&site, board, HERE).unwrap();
        let certificate = write(dir.path(), "c.pem", &credential.certificate);
        let key = write(dir.path(), "k.pem", &credential.key);
        let roots = write(dir.path(), "ca.pem", &authority.certificate());
        let identity = Identity::load(&certificate, &key, &roots).unwrap();
        identity.client_tls(link::identity::ALPN).unwrap();

        let other = authority.board(&site, board, HERE).unwrap();
        let wrong = write(dir.path(), "other.pem", &other.key);
        assert!(Identity::load(&certificate, &wrong, &roots).is_err(), "a key of another certificate");
    }
}
