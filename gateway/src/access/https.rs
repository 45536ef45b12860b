//! TLS under HTTP, and what a client's certificate says: machines are known by a name in it that the configuration lists.

use std::collections::BTreeSet;
use std::sync::Arc;

use link::http::Entrance;
use link::identity::{Identity, IdentityError};
use quinn::rustls::pki_types::CertificateDer;
use quinn::rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use webpki::EndEntityCert;

use crate::config::Https;

/// Speaks TLS with whoever comes.
#[derive(Clone)]
pub(crate) struct Encrypted(TlsAcceptor);

impl Encrypted {
    /// With certificate and key of the configuration; asks clients for certificates where machines are listed.
    pub(crate) fn new(https: &Https) -> Result<Self, IdentityError> {
        let identity = Identity::load_unbelieving(&https.certificate, &https.key)?;
        let machines = https.machines.as_ref().map(|machines| machines.ca.as_path());
        Ok(Self(TlsAcceptor::from(Arc::new(identity.https_tls(machines)?))))
    }
}

impl Entrance for Encrypted {
    type Stream = TlsStream<TcpStream>;

    async fn enter(&self, stream: TcpStream) -> Option<(Self::Stream, Option<CertificateDer<'static>>)> {
        // Whoever speaks something else is no concern of ours.
        let stream = self.0.accept(stream).await.ok()?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.map(|certificate| certificate.clone().into_owned());
        Some((stream, certificate))
    }
}

/// The first of the listed names that a certificate is for. TLS has verified who made it.
pub(super) fn machine(certificate: &CertificateDer<'_>, listed: &BTreeSet<String>) -> Option<String> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let is_for = |name: &&String| {
        let name = ServerName::try_from(name.as_str());
        name.is_ok_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok())
    };
    listed.iter().find(is_for).cloned()
}
