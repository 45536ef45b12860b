//! Who this process is and whom it believes: certificate, key and roots from PEM files, and TLS settings made from
//! them. TLS 1.3 only, both ends prove who they are, a post-quantum key exchange first. Session resumption, tickets
//! and 0-RTT are off in both directions, because a resumed session skips the verifier: a board that was thrown out
//! would come back on an old ticket.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quinn::rustls;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, Signer};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use crate::sites::Sites;

/// The protocol that both ends must name in the handshake: streams of frames.
pub const ALPN: &[u8] = b"roadstead/1";
/// The same for control between boards: a hello each way, then datagrams.
pub const CONTROL_ALPN: &[u8] = b"roadstead-control/1";
/// The same between a board and a witness: datagrams.
pub const WITNESS_ALPN: &[u8] = b"roadstead-witness/1";

/// Why an identity cannot be used. The operator's to mend; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or is not PEM.
    #[error("cannot read {path}; `roadstead init` writes these files: check the path and its owner", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// The file holds no certificate.
    #[error("{path} holds no certificate; it must be PEM that begins with -----BEGIN CERTIFICATE-----", path = path.display())]
    NoCertificate {
        /// Which file.
        path: PathBuf,
    },
    /// A root certificate is not one.
    #[error("{path} holds a root certificate that cannot be used; make it again with `roadstead init`", path = path.display())]
    Root {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// Certificate and key do not belong together, or the key's kind is not supported.
    #[error("the key {key} does not go with the certificate {certificate}; use the pair that `roadstead init` wrote", key = key.display(), certificate = certificate.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// TLS refuses these settings.
    #[error("TLS cannot be set up with this identity")]
    Tls(#[from] rustls::Error),
    /// Clients cannot be verified with these roots.
    #[error("clients cannot be verified against the roots of site {site}")]
    Verifier {
        /// Whose roots.
        site: String,
        /// Why.
        #[source]
        source: rustls::server::VerifierBuilderError,
    },
}

/// Certificate, key and roots of this process.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

/// A key is never printed.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("certificates", &self.chain.len())
            .field("roots", &self.roots.len())
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the certificate chain, its key (PKCS#8, SEC 1 or PKCS#1) and the roots to believe, all PEM.
    pub fn load(certificate: &Path, key: &Path, roots: &Path) -> Result<Self, IdentityError> {
        Self::with(certificate, key, Arc::new(load_roots(roots)?))
    }

    fn with(certificate: &Path, key: &Path, roots: Arc<RootCertStore>) -> Result<Self, IdentityError> {
        let provider = provider();
        let chain = certificates(certificate)?;
        let private =
            PrivateKeyDer::from_pem_file(key).map_err(|source| IdentityError::Read { path: key.to_owned(), source })?;
        CertifiedKey::from_der(chain.clone(), private.clone_key(), &provider).map_err(|source| {
            IdentityError::Pair { certificate: certificate.to_owned(), key: key.to_owned(), source }
        })?;
        Ok(Self { chain, key: private, roots, provider })
    }

    /// Reads a certificate chain and its key alone: an identity that believes nobody.
    pub fn load_unbelieving(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        Self::with(certificate, key, Arc::new(RootCertStore::empty()))
    }

    /// The same certificate and key, believing other roots: a board dials its region under the region's roots.
    pub fn with_roots(&self, roots: &Path) -> Result<Self, IdentityError> {
        Ok(Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            roots: Arc::new(load_roots(roots)?),
            provider: Arc::clone(&self.provider),
        })
    }

    /// The roots that this process believes.
    pub fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.roots)
    }

    /// TLS for dialling: proves itself, verifies the server's name against the roots. Speaks `alpn`.
    pub fn client_tls(&self, alpn: &[u8]) -> Result<ClientConfig, IdentityError> {
        let mut tls = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        tls.alpn_protocols = vec![alpn.to_vec()];
        tls.resumption = Resumption::disabled();
        tls.enable_early_data = false;
        Ok(tls)
    }

    /// TLS for accepting: proves itself, and takes only boards of `sites`, which speak one of `alpns`.
    pub fn server_tls(&self, sites: &Arc<Sites>, alpns: &[&[u8]]) -> Result<ServerConfig, IdentityError> {
        let mut tls = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::clone(sites) as _)
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        tls.alpn_protocols = alpns.iter().map(|alpn| alpn.to_vec()).collect();
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        tls.send_tls13_tickets = 0;
        tls.max_early_data_size = 0;
        Ok(tls)
    }

    /// TLS for browsers and programs that speak HTTP: proves itself. Clients that have a certificate of `machines` prove
    /// themselves too; the others are let in unproved, for a login to ask them.
    pub fn https_tls(&self, machines: Option<&Path>) -> Result<ServerConfig, IdentityError> {
        let building =
            ServerConfig::builder_with_provider(Arc::clone(&self.provider)).with_protocol_versions(&[&TLS13])?;
        let building = match machines {
            None => building.with_no_client_auth(),
            Some(roots) => {
                let roots = Arc::new(load_roots(roots)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&self.provider))
                    .allow_unauthenticated()
                    .build()
                    .map_err(|source| IdentityError::Verifier { site: "of machines".to_owned(), source })?;
                building.with_client_cert_verifier(verifier)
            }
        };
        let mut tls = building.with_single_cert(self.chain.clone(), self.key.clone_key())?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        tls.send_tls13_tickets = 0;
        Ok(tls)
    }

    /// Signs with this key, in the first way that suits its kind.
    pub(crate) fn signer(&self) -> Result<Box<dyn Signer>, IdentityError> {
        let key = self.provider.key_provider.load_private_key(self.key.clone_key())?;
        let offered = self.provider.signature_verification_algorithms.supported_schemes();
        let signer = key.choose_scheme(&offered);
        Ok(signer.ok_or(rustls::Error::General("this kind of key signs nothing".to_owned()))?)
    }

    /// A secret that only this key's holder can make, the same at every start, different for each `purpose`.
    pub(crate) fn secret(&self, purpose: &[u8]) -> [u8; 32] {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, self.key.secret_der());
        let tag = aws_lc_rs::hmac::sign(&key, purpose);
        let mut secret = [0; 32];
        secret.copy_from_slice(tag.as_ref());
        secret
    }
}

/// TLS for dialling a server that must have the very certificate of the PEM file at `certificate`, whoever made it and whatever it
/// is for; proves nothing itself.
pub fn pinned_tls(certificate: &Path) -> Result<ClientConfig, IdentityError> {
    let chain = certificates(certificate)?;
    let provider = provider();
    let pinned = Pinned { algorithms: provider.signature_verification_algorithms, leaf: chain.into_iter().next() };
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_no_client_auth();
    tls.resumption = Resumption::disabled();
    Ok(tls)
}

/// Believes one certificate: its holder proves by the handshake's signature that it has the key.
#[derive(Debug)]
struct Pinned {
    leaf: Option<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.leaf.as_ref() == Some(leaf) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::CertificateError::UnknownIssuer.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerMisbehaved::SelectedUnofferedCipherSuite.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The cryptography of every connection: aws-lc-rs, X25519MLKEM768 preferred.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let read = |source| IdentityError::Read { path: path.to_owned(), source };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(read)?
        .collect::<Result<_, _>>()
        .map_err(read)?;
    if chain.is_empty() {
        return Err(IdentityError::NoCertificate { path: path.to_owned() });
    }
    Ok(chain)
}

/// The root certificates in the PEM file at `path`: at least one.
pub(crate) fn load_roots(path: &Path) -> Result<RootCertStore, IdentityError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|source| IdentityError::Root { path: path.to_owned(), source })?;
    }
    Ok(roots)
}
