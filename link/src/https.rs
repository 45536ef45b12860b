//! TLS as the entrance to HTTP: this end proves who it is, and the other may.

use std::path::Path;
use std::sync::Arc;

use quinn::rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::http::Entrance;
use crate::identity::{Identity, IdentityError};

/// Speaks TLS with whoever comes.
#[derive(Clone)]
pub struct Encrypted(TlsAcceptor);

/// A key is never printed.
impl std::fmt::Debug for Encrypted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encrypted")
    }
}

impl Encrypted {
    /// With this certificate and its key, PEM. Clients with a certificate of the authority `machines` prove themselves with it.
    pub fn new(certificate: &Path, key: &Path, machines: Option<&Path>) -> Result<Self, IdentityError> {
        let identity = Identity::load_unbelieving(certificate, key)?;
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
