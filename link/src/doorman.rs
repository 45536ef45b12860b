//! Lets QUIC peers in: bounded handshakes, each in bounded time; what fails is counted and said once an address.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quinn::{Connection, ConnectionError, Endpoint, Incoming, TransportErrorCode};
use tokio::task::JoinSet;

use crate::logging::whole_story;
use crate::once::OncePerPeer;

/// Handshakes under way at once. At the limit a newcomer is refused and counted.
pub const HANDSHAKES_MAX: usize = 32;
/// Handshakes under way above which a newcomer must first prove that its address is its own (RFC 9000, 8.1.2).
const HANDSHAKES_UNPROVEN: usize = 8;
/// A handshake that takes longer is given up.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(3);

/// What a peer says that closes a connection by itself before it is open (RFC 9000, 10.2.3).
const HUNG_UP: TransportErrorCode = TransportErrorCode::APPLICATION_ERROR;

/// What the doorman counts.
#[derive(Debug, Default)]
pub struct Admissions {
    accepted: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

impl Admissions {
    /// Peers let in, since the start.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Peers refused unheard, because too many handshakes were under way.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Handshakes that failed: no or a strange certificate, another protocol, silence.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Accepts connections of one endpoint.
#[derive(Debug)]
pub struct Doorman {
    endpoint: Endpoint,
    handshakes: JoinSet<(IpAddr, Result<Option<Connection>, String>)>,
    admissions: Arc<Admissions>,
    said: OncePerPeer<IpAddr>,
}

impl Doorman {
    /// A doorman for what comes in at `endpoint`.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            handshakes: JoinSet::new(),
            admissions: Arc::default(),
            said: OncePerPeer::default(),
        }
    }

    /// The counters, to be read at any time.
    pub fn admissions(&self) -> Arc<Admissions> {
        Arc::clone(&self.admissions)
    }

    /// The next connection whose handshake stands; `None` once the endpoint is closed. May be dropped half-way and
    /// called again.
    pub async fn accept(&mut self) -> Option<Connection> {
        loop {
            tokio::select! {
                incoming = self.endpoint.accept() => self.receive(incoming?),
                Some(done) = self.handshakes.join_next() => {
                    if let Some(connection) = done.ok().and_then(|(from, done)| self.finish(from, done)) {
                        return Some(connection);
                    }
                }
            }
        }
    }

    fn receive(&mut self, incoming: Incoming) {
        let under_way = self.handshakes.len();
        if under_way >= HANDSHAKES_MAX {
            self.admissions.refused.fetch_add(1, Ordering::Relaxed);
            incoming.refuse();
        } else if under_way >= HANDSHAKES_UNPROVEN && incoming.may_retry() && !incoming.remote_address_validated() {
            // It may retry, so this cannot fail.
            let _ = incoming.retry();
        } else {
            self.handshakes.spawn(handshake(incoming));
        }
    }

    fn finish(&mut self, from: IpAddr, done: Result<Option<Connection>, String>) -> Option<Connection> {
        match done {
            Ok(None) => None,
            Ok(Some(connection)) => {
                self.admissions.accepted.fetch_add(1, Ordering::Relaxed);
                Some(connection)
            }
            Err(why) => {
                self.admissions.failed.fetch_add(1, Ordering::Relaxed);
                if self.said.is_first(from) {
                    tracing::warn!(peer = %from, why, "refused at the handshake; further ones are only counted");
                }
                None
            }
        }
    }
}

/// A peer that hangs up before it is let in has dialled more than once, and is answered elsewhere: `None`, and no failure.
async fn handshake(incoming: Incoming) -> (IpAddr, Result<Option<Connection>, String>) {
    let from = incoming.remote_address().ip();
    let connecting = match incoming.accept() {
        Ok(connecting) => connecting,
        Err(error) => return (from, Err(whole_story(&error))),
    };
    let done = match tokio::time::timeout(HANDSHAKE_MAX, connecting).await {
        Ok(Ok(connection)) => Ok(Some(connection)),
        Ok(Err(ConnectionError::ConnectionClosed(close))) if close.error_code == HUNG_UP => Ok(None),
        Ok(Err(error)) => Err(whole_story(&error)),
        Err(_) => Err("the handshake took too long".to_owned()),
    };
    (from, done)
}
