//! Obituaries on the wire: a supervisor announces the end of its node's life, and whoever hears it checks who signed
//! that. Datagrams beside QUIC on the same port. Decides nothing: what an end means is the election's to say.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quinn::rustls;
use rustls::SignatureScheme;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::SigningKey;
use shared::ids::{BoardId, Name};
use shared::wire::obituary::{OBITUARY_BYTES_MAX, Obituary};
use tokio::sync::Notify;
use webpki::EndEntityCert;

use crate::identity::{Identity, IdentityError, provider};
use crate::sites::Sites;

/// How a board signs: whatever its key can, the shortest first.
const SCHEMES: [SignatureScheme; 4] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
];
/// When an obituary is said again, after the first time: one lost datagram in three costs nothing, and a burst of loss
/// of some 10 ms is outlived. More would not beat the lease.
const AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(3), Duration::from_millis(9)];
/// Obituaries that wait to be checked. At the limit further ones are dropped and counted: each is said three times.
const WAITING_MAX: usize = 64;
/// Obituaries checked in a second: a signature costs about a millisecond on a small board. Beyond it they are dropped
/// and counted, so that noise cannot keep a processor busy.
const CHECKS_PER_SECOND_MAX: u32 = 128;

/// Says that lives of this board's node have ended.
pub struct Announcer {
    key: Arc<dyn SigningKey>,
    certificate: Vec<u8>,
    targets: Vec<SocketAddr>,
}

/// A key is never printed.
impl std::fmt::Debug for Announcer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Announcer")
            .field("targets", &self.targets)
            .finish_non_exhaustive()
    }
}

impl Announcer {
    /// An announcer with the board's identity, to be heard at `targets`: the other boards' mesh addresses and the
    /// witness's.
    pub fn new(identity: &Identity, targets: Vec<SocketAddr>) -> Result<Self, IdentityError> {
        let (key, certificate) = identity.signing()?;
        Ok(Self { key, certificate, targets })
    }

    /// The signed datagram for `life`; `None` where the key signs in no way that obituaries know.
    pub fn sign(&self, life: u64) -> Option<Vec<u8>> {
        let signer = self.key.choose_scheme(&SCHEMES)?;
        let scheme = u16::from(signer.scheme());
        let mut datagram = Obituary { life, certificate: self.certificate.clone(), scheme }.encode();
        let signature = signer.sign(&datagram).ok()?;
        datagram.extend_from_slice(&signature);
        (datagram.len() <= OBITUARY_BYTES_MAX).then_some(datagram)
    }

    /// Announces that `life` is over: to every target, three times within some ten milliseconds. Call it only when
    /// nothing that the life started can act any more. Whether anybody hears it is not known: then a lease runs out.
    pub fn announce(&self, life: u64) {
        let Some(datagram) = self.sign(life) else { return };
        let sockets = Sockets::open();
        sockets.send(&datagram, &self.targets);
        for pause in AGAIN_AFTER {
            std::thread::sleep(pause);
            sockets.send(&datagram, &self.targets);
        }
    }
}

/// A socket for each family of addresses, as far as the system gives them.
struct Sockets {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
}

impl Sockets {
    fn open() -> Self {
        let open = |address: IpAddr| {
            let socket = UdpSocket::bind((address, 0)).ok()?;
            socket.set_nonblocking(true).ok()?;
            Some(socket)
        };
        Self { v4: open(Ipv4Addr::UNSPECIFIED.into()), v6: open(Ipv6Addr::UNSPECIFIED.into()) }
    }

    fn send(&self, datagram: &[u8], targets: &[SocketAddr]) {
        for target in targets {
            let socket = if target.is_ipv4() { &self.v4 } else { &self.v6 };
            if let Some(socket) = socket {
                // What cannot be sent is as lost as what the network loses.
                let _ = socket.send_to(datagram, target);
            }
        }
    }
}

/// Obituaries that came in at one socket, to be checked.
#[derive(Debug, Default)]
pub struct Obituaries {
    waiting: Mutex<VecDeque<Vec<u8>>>,
    came: Notify,
    heard: AtomicU64,
    refused: AtomicU64,
    dropped: AtomicU64,
}

impl Obituaries {
    /// Good ones, each counted as often as it was heard.
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Ones that were not signed by a board that may come in.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Ones dropped unread, because too many came.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Takes in a datagram that begins like an obituary.
    pub(crate) fn put(&self, datagram: &[u8]) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < WAITING_MAX && datagram.len() <= OBITUARY_BYTES_MAX {
            waiting.push_back(datagram.to_vec());
            self.came.notify_one();
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take(&self) -> Option<Vec<u8>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Checks who signed what came in.
#[derive(Debug)]
pub struct Verifier {
    obituaries: Arc<Obituaries>,
    sites: Arc<Sites>,
    second: Instant,
    checks: u32,
}

impl Verifier {
    /// A verifier of what came in at a socket, signed by boards of `sites`.
    pub fn new(obituaries: Arc<Obituaries>, sites: Arc<Sites>) -> Self {
        Self { obituaries, sites, second: Instant::now(), checks: 0 }
    }

    /// The next good obituary: which board of which site, and which life of it. May be dropped half-way and called again.
    pub async fn next(&mut self) -> (Name, BoardId, u64) {
        loop {
            let Some(datagram) = self.obituaries.take() else {
                self.obituaries.came.notified().await;
                continue;
            };
            if !self.may_check() {
                self.obituaries.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            match self.check(&datagram) {
                Some(good) => {
                    self.obituaries.heard.fetch_add(1, Ordering::Relaxed);
                    return good;
                }
                None => {
                    self.obituaries.refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn may_check(&mut self) -> bool {
        if self.second.elapsed() >= Duration::from_secs(1) {
            self.second = Instant::now();
            self.checks = 0;
        }
        self.checks += 1;
        self.checks <= CHECKS_PER_SECOND_MAX
    }

    fn check(&self, datagram: &[u8]) -> Option<(Name, BoardId, u64)> {
        let (obituary, signed, signature) = Obituary::decode(datagram)?;
        let certificate = CertificateDer::from(obituary.certificate);
        let (site, board) = self.sites.verify(std::slice::from_ref(&certificate), UnixTime::now()).ok()?;
        let leaf = EndEntityCert::try_from(&certificate).ok()?;
        let scheme = SignatureScheme::from(obituary.scheme);
        let algorithms = provider().signature_verification_algorithms;
        let (_, fitting) = algorithms.mapping.iter().find(|(known, _)| *known == scheme)?;
        let holds = |algorithm: &&dyn rustls::pki_types::SignatureVerificationAlgorithm| {
            leaf.verify_signature(*algorithm, signed, signature).is_ok()
        };
        fitting
            .iter()
            .any(|algorithm| holds(algorithm))
            .then_some((site, board, obituary.life))
    }
}
