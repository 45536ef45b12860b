//! Obituaries on the wire: a supervisor signs and sends them, beside QUIC, and a board judges what comes. What is not
//! signed by the key that the board proved itself with, for the life that it last said hello in, is worth nothing.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use quinn::rustls;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::CertificateDer;
use rustls::sign::Signer;
use shared::ids::{BoardId, Name};
use shared::wire::obituary::{OBITUARY_BYTES_MAX, OBITUARY_MAGIC, Obituary};
use webpki::EndEntityCert;

use crate::identity::{Identity, IdentityError, provider};

/// Waits before each sending of an obituary: three that are spaced outlive a short burst of loss, and all are gone in the
/// time of one round of votes.
const SENDINGS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(3), Duration::from_millis(9)];
/// Signatures looked at in a second: half a millisecond each on a small board. More are dropped and counted.
const JUDGED_MAX: u32 = 64;
/// The second.
const JUDGED_WITHIN: Duration = Duration::from_secs(1);

/// Whether `datagram` says that it is an obituary.
pub(crate) fn is_obituary(datagram: &[u8]) -> bool {
    datagram.len() <= OBITUARY_BYTES_MAX && datagram.starts_with(&OBITUARY_MAGIC)
}

/// Says that a life of this board's node has ended. Held by the supervisor.
#[derive(Debug)]
pub struct Announcer {
    signer: Box<dyn Signer>,
    site: Name,
    board: BoardId,
    targets: Vec<SocketAddr>,
}

impl Announcer {
    /// An announcer for `board` of `site`, which tells `targets`: the mesh addresses of its peers, and its witness.
    pub fn new(
        identity: &Identity,
        site: Name,
        board: BoardId,
        targets: Vec<SocketAddr>,
    ) -> Result<Self, IdentityError> {
        Ok(Self { signer: identity.signer()?, site, board, targets })
    }

    /// The datagram that says it.
    fn datagram(&self, life: u64) -> Result<Vec<u8>, rustls::Error> {
        let obituary = Obituary { site: self.site.clone(), board: self.board, life };
        let mut datagram = obituary.encode();
        let signature = self.signer.sign(&datagram)?;
        datagram.extend_from_slice(&signature);
        Ok(datagram)
    }

    /// Tells everybody, three times within some 12 ms, and returns then. Call only when the node's process was waited for
    /// and nothing of it, nor of the processes that it had started, can act any more. Who does not hear of it waits for
    /// the lease's end instead, so a failure is only logged.
    pub fn announce(&self, life: u64) {
        let datagram = match self.datagram(life) {
            Ok(datagram) => datagram,
            Err(error) => return tracing::warn!(%error, "an obituary cannot be signed; peers wait for the lease"),
        };
        let sockets = [UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)), UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))];
        let mut failed = 0;
        for wait in SENDINGS {
            thread::sleep(wait);
            for target in &self.targets {
                let socket = &sockets[usize::from(target.is_ipv6())];
                let sent = socket.as_ref().is_ok_and(|socket| socket.send_to(&datagram, target).is_ok());
                failed += u32::from(!sent);
            }
        }
        tracing::info!(life, targets = self.targets.len(), failed, "told the peers that this life has ended");
    }
}

/// What became of an obituary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// That life of that board has ended.
    Ended {
        /// Which board.
        board: BoardId,
        /// Which life.
        life: u64,
    },
    /// It was known already: each is sent three times.
    Known,
    /// It is no obituary, or not of a life that is known here, or nobody who may has signed it.
    Bad,
    /// Too many came lately; it was not looked at.
    TooMany,
}

/// Judges obituaries of one site.
#[derive(Debug)]
pub struct Coroner {
    site: Name,
    lives: BTreeMap<BoardId, Life>,
    algorithms: WebPkiSupportedAlgorithms,
    window: Instant,
    judged: u32,
}

#[derive(Debug)]
struct Life {
    certificate: CertificateDer<'static>,
    life: u64,
    ended: bool,
}

impl Coroner {
    /// One that knows nobody yet.
    pub fn new(site: Name) -> Self {
        let algorithms = provider().signature_verification_algorithms;
        Self { site, lives: BTreeMap::new(), algorithms, window: Instant::now(), judged: 0 }
    }

    /// `board` has proved itself with `certificate`, in this life.
    pub fn learn(&mut self, board: BoardId, certificate: CertificateDer<'static>, life: u64) {
        let ended = self.lives.get(&board).is_some_and(|known| known.life == life && known.ended);
        self.lives.insert(board, Life { certificate, life, ended });
    }

    /// Judges `datagram`, which came at `now`. A stranger does not know the life, which only connections carry, so what it
    /// sends costs no look at a signature.
    pub fn judge(&mut self, datagram: &[u8], now: Instant) -> Judgement {
        let Some((obituary, signed, signature)) = Obituary::decode(datagram) else {
            return Judgement::Bad;
        };
        let known = self.lives.get_mut(&obituary.board).filter(|known| known.life == obituary.life);
        let Some(known) = known.filter(|_| obituary.site == self.site) else {
            return Judgement::Bad;
        };
        if known.ended {
            return Judgement::Known;
        }
        if now.duration_since(self.window) >= JUDGED_WITHIN {
            (self.window, self.judged) = (now, 0);
        }
        if self.judged >= JUDGED_MAX {
            return Judgement::TooMany;
        }
        self.judged += 1;
        if !is_signed(&known.certificate, self.algorithms, signed, signature) {
            return Judgement::Bad;
        }
        known.ended = true;
        Judgement::Ended { board: obituary.board, life: obituary.life }
    }
}

fn is_signed(
    certificate: &CertificateDer<'_>,
    algorithms: WebPkiSupportedAlgorithms,
    signed: &[u8],
    signature: &[u8],
) -> bool {
    // Those that are for another kind of key refuse unseen.
    EndEntityCert::try_from(certificate).is_ok_and(|leaf| {
        let mut all = algorithms.all.iter();
        all.any(|algorithm| leaf.verify_signature(*algorithm, signed, signature).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn board(number: u8) -> BoardId {
        BoardId::new(number).unwrap()
    }

    fn site() -> Name {
        Name::try_from("north").unwrap()
    }

    fn identity(name: &str) -> (Identity, CertificateDer<'static>) {
        let directory = std::env::temp_dir().join(format!("roadstead-obituary-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["board-1.north.roadstead".to_owned()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        let (pem, secret) = (directory.join("pem"), directory.join("key"));
        std::fs::write(&pem, certificate.pem()).unwrap();
        std::fs::write(&secret, key.serialize_pem()).unwrap();
        let identity = Identity::load(&pem, &secret, &pem).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        (identity, certificate.der().clone())
    }

    #[test]
    fn only_the_board_itself_ends_the_life_that_is_known() {
        let (own, certificate) = identity("own");
        let (other, _) = identity("other");
        let announcer = |identity| Announcer::new(identity, site(), board(1), Vec::new()).unwrap();
        let good = announcer(&own).datagram(7).unwrap();
        assert!(is_obituary(&good));
        let now = Instant::now();
        let mut coroner = Coroner::new(site());
        assert_eq!(coroner.judge(&good, now), Judgement::Bad, "nobody is known");
        coroner.learn(board(1), certificate.clone(), 7);
        assert_eq!(coroner.judge(&announcer(&other).datagram(7).unwrap(), now), Judgement::Bad);
        assert_eq!(coroner.judge(&announcer(&own).datagram(8).unwrap(), now), Judgement::Bad);
        for at in 0..good.len() {
            let mut damaged = good.clone();
            damaged[at] ^= 1;
            assert_eq!(coroner.judge(&damaged, now + JUDGED_WITHIN * u32::try_from(at + 1).unwrap()), Judgement::Bad);
        }
        let later = now + JUDGED_WITHIN * 1000;
        assert_eq!(coroner.judge(&good, later), Judgement::Ended { board: board(1), life: 7 });
        assert_eq!(coroner.judge(&good, later), Judgement::Known);
        coroner.learn(board(1), certificate, 7);
        assert_eq!(coroner.judge(&good, later), Judgement::Known);
    }

    #[test]
    fn a_flood_costs_a_bounded_number_of_looks() {
        let (own, certificate) = identity("flood");
        let (other, _) = identity("forger");
        let mut coroner = Coroner::new(site());
        coroner.learn(board(1), certificate, 7);
        let now = Instant::now();
        let forged = Announcer::new(&other, site(), board(1), Vec::new())
            .unwrap()
            .datagram(7)
            .unwrap();
        for _ in 0..JUDGED_MAX {
            assert_eq!(coroner.judge(&forged, now), Judgement::Bad);
        }
        assert_eq!(coroner.judge(&forged, now), Judgement::TooMany);
        let good = Announcer::new(&own, site(), board(1), Vec::new()).unwrap().datagram(7).unwrap();
        assert!(matches!(coroner.judge(&good, now + JUDGED_WITHIN), Judgement::Ended { .. }));
    }

    #[test]
    fn it_is_sent_three_times() {
        let (own, _) = identity("sent");
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let targets = vec![socket.local_addr().unwrap()];
        let announcer = Announcer::new(&own, site(), board(1), targets).unwrap();
        announcer.announce(9);
        let mut buffer = [0; 512];
        for _ in SENDINGS {
            let length = socket.recv(&mut buffer).unwrap();
            assert!(is_obituary(&buffer[..length]));
        }
    }
}
