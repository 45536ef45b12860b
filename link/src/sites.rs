//! Which boards may come in. A certificate names a board of a site (`board-<n>.<site>.roadstead`) and must chain to
//! the roots of the very site that it names: the authority of one site can speak for no other. Nothing is remembered
//! between handshakes. A board accepts one site, its own; a gateway accepts several.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use quinn::rustls;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, RootCertStore, SignatureScheme,
};
use shared::config::text::check_name;
use shared::ids::{BoardId, Name};
use webpki::EndEntityCert;

use crate::identity::{IdentityError, load_roots, provider};

/// Certificates in a client's chain. Longer ones are refused unread.
const CHAIN_MAX: usize = 4;

/// Name of a board, as its certificate carries it.
pub fn board_name(site: &str, board: BoardId) -> String {
    format!("board-{}.{site}.roadstead", board.get())
}

/// Name of a gateway, as its certificate carries it.
pub fn gateway_name(gateway: &str) -> String {
    format!("gateway.{gateway}.roadstead")
}

/// Name of a witness that is no gateway and no board, as its certificate carries it.
pub fn witness_name(witness: &str) -> String {
    format!("witness.{witness}.roadstead")
}

/// The certificate with which the other end has proved itself.
pub fn certificate(connection: &quinn::Connection) -> Option<CertificateDer<'static>> {
    let identity = connection.peer_identity()?;
    identity.downcast_ref::<Vec<CertificateDer<'static>>>()?.first().cloned()
}

/// The sites whose boards may come in, each with its own roots.
#[derive(Debug)]
pub struct Sites {
    verifiers: BTreeMap<Name, Arc<dyn ClientCertVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Default for Sites {
    fn default() -> Self {
        Self { verifiers: BTreeMap::new(), algorithms: provider().signature_verification_algorithms }
    }
}

impl Sites {
    /// One site alone: what a board accepts.
    pub fn one(site: Name, roots: Arc<RootCertStore>) -> Result<Self, IdentityError> {
        let mut sites = Self::default();
        sites.add(site, roots)?;
        Ok(sites)
    }

    /// Adds `site` with its roots; a site named before gets these instead.
    pub fn add(&mut self, site: Name, roots: Arc<RootCertStore>) -> Result<(), IdentityError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|source| IdentityError::Verifier { site: site.to_string(), source })?;
        self.verifiers.insert(site, verifier);
        Ok(())
    }

    /// Adds `site` with the roots in the PEM file at `roots`.
    pub fn load(&mut self, site: Name, roots: &Path) -> Result<(), IdentityError> {
        self.add(site, Arc::new(load_roots(roots)?))
    }

    /// Which board of which site is at the other end: its certificate is verified again, against that site's roots,
    /// now. `None` where it does not hold (any more).
    pub fn identify(&self, connection: &quinn::Connection) -> Option<(Name, BoardId)> {
        let identity = connection.peer_identity()?;
        let chain = identity.downcast_ref::<Vec<CertificateDer<'static>>>()?;
        self.verify(chain, UnixTime::now()).ok()
    }

    /// The board that `chain` proves at `now`.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(Name, BoardId), Error> {
        let (leaf, rest) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        let (site, board) = claim(leaf)?;
        let verifier = self.verifiers.get(&site).ok_or(CertificateError::UnknownIssuer)?;
        verifier.verify_client_cert(leaf, rest, now)?;
        Ok((site, board))
    }
}

/// The board that a certificate names: exactly one, no pattern. Says nothing about who signed it.
fn claim(certificate: &CertificateDer<'_>) -> Result<(Name, BoardId), Error> {
    let malformed = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
    let leaf = EndEntityCert::try_from(certificate).map_err(malformed)?;
    let stranger = Error::InvalidCertificate(CertificateError::NotValidForName);
    let mut claims = leaf.valid_dns_names().filter_map(parse);
    let (Some((site, board)), None) = (claims.next(), claims.next()) else {
        return Err(stranger);
    };
    let name = board_name(&site, board);
    let name = ServerName::try_from(name.as_str()).map_err(|_| stranger.clone())?;
    leaf.verify_is_valid_for_subject_name(&name).map_err(|_| stranger)?;
    Ok((site, board))
}

fn parse(name: &str) -> Option<(Name, BoardId)> {
    let (board, site) = name.strip_suffix(".roadstead")?.strip_prefix("board-")?.split_once('.')?;
    let canonical = !board.starts_with(['0', '+']);
    let number = board.parse().ok().filter(|_| canonical)?;
    let site = check_name(site).ok()?;
    Some((site, BoardId::new(number)?))
}

impl ClientCertVerifier for Sites {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A stranger is told nothing about whom we know.
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if rest.len() >= CHAIN_MAX {
            return Err(CertificateError::UnknownIssuer.into());
        }
        let (site, _) = claim(leaf)?;
        let verifier = self.verifiers.get(&site).ok_or(CertificateError::UnknownIssuer)?;
        verifier.verify_client_cert(leaf, rest, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerMisbehaved::SelectedUnofferedCipherSuite.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let board = BoardId::new(7).unwrap();
        let (site, read) = parse(&board_name("north-4", board)).unwrap();
        assert_eq!((site.as_str(), read), ("north-4", board));
        for name in [
            "board-0.a.roadstead",
            "board-65.a.roadstead",
            "board-07.a.roadstead",
            "board-+7.a.roadstead",
            "board-7.a.b.roadstead",
            "board-7..roadstead",
            "board-7.-a.roadstead",
            "board-7.A.roadstead",
            "*.a.roadstead",
            "gateway.a.roadstead",
            "board-7.a.example",
        ] {
            assert!(parse(name).is_none(), "{name}");
        }
    }
}
