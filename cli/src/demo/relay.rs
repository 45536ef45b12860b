//! The uplink between boards and gateway: passes UDP datagrams on both ways, and can be cut. While it is cut every
//! datagram vanishes without a word, as in a cut fibre; nobody is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, JoinSet};

use crate::failure::Failure;

/// Boards' sockets that are remembered. At the limit the oldest is forgotten: it belongs to a process long gone.
const FLOWS_MAX: usize = 128;
/// The largest UDP datagram.
const DATAGRAM_BYTES: usize = 65_535;

/// The relay. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    state: Arc<State>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct State {
    is_cut: AtomicBool,
    swallowed: AtomicU64,
}

impl State {
    /// Whether a datagram may pass; counts it if not.
    fn passes(&self) -> bool {
        let passes = !self.is_cut.load(Ordering::Relaxed);
        if !passes {
            self.swallowed.fetch_add(1, Ordering::Relaxed);
        }
        passes
    }
}

impl Relay {
    /// A relay from `front`, where boards dial, to `gateway`.
    pub(crate) async fn start(front: SocketAddr, gateway: SocketAddr) -> Result<Self, Failure> {
        let socket = UdpSocket::bind(front)
            .await
            .map_err(|error| Failure::new(format!("cannot listen at {front} (UDP)")).because(error))?;
        let state = Arc::new(State::default());
        let task = tokio::spawn(pass(Arc::new(socket), gateway, Arc::clone(&state))).abort_handle();
        Ok(Self { state, task })
    }

    /// Cuts it, or mends it.
    pub(crate) fn set_cut(&self, is_cut: bool) {
        self.state.is_cut.store(is_cut, Ordering::Relaxed);
    }

    /// Whether it is cut.
    pub(crate) fn is_cut(&self) -> bool {
        self.state.is_cut.load(Ordering::Relaxed)
    }

    /// Datagrams that vanished.
    pub(crate) fn swallowed(&self) -> u64 {
        self.state.swallowed.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One board's socket, and ours towards the gateway for it.
struct Flow {
    board: SocketAddr,
    towards: Arc<UdpSocket>,
    back: AbortHandle,
}

async fn pass(front: Arc<UdpSocket>, gateway: SocketAddr, state: Arc<State>) {
    // Dropped with the relay's task, and all ways back with it.
    let mut ways_back = JoinSet::new();
    let mut flows: VecDeque<Flow> = VecDeque::new();
    let mut datagram = vec![0; DATAGRAM_BYTES];
    loop {
        // An error is an earlier datagram that found nobody (ICMP): UDP promises nothing.
        let Ok((length, board)) = front.recv_from(&mut datagram).await else {
            continue;
        };
        if !state.passes() {
            continue;
        }
        let known = flows
            .iter()
            .find(|flow| flow.board == board)
            .map(|flow| Arc::clone(&flow.towards));
        let towards = match known {
            Some(towards) => towards,
            None => {
                let Ok(towards) = open(gateway).await else { continue };
                let towards = Arc::new(towards);
                let way = pass_back(Arc::clone(&towards), Arc::clone(&front), board, Arc::clone(&state));
                let back = ways_back.spawn(way);
                if flows.len() == FLOWS_MAX
                    && let Some(oldest) = flows.pop_front()
                {
                    oldest.back.abort();
                }
                flows.push_back(Flow { board, towards: Arc::clone(&towards), back });
                towards
            }
        };
        let _ = towards.send(&datagram[..length]).await;
        while ways_back.try_join_next().is_some() {}
    }
}

async fn open(gateway: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::new(gateway.ip(), 0)).await?;
    socket.connect(gateway).await?;
    Ok(socket)
}

async fn pass_back(towards: Arc<UdpSocket>, front: Arc<UdpSocket>, board: SocketAddr, state: Arc<State>) {
    let mut datagram = vec![0; DATAGRAM_BYTES];
    loop {
        let Ok(length) = towards.recv(&mut datagram).await else {
            // The gateway is not there (ICMP): it says so for each datagram, so this does not spin.
            continue;
        };
        if state.passes() {
            let _ = front.send_to(&datagram[..length], board).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn heard(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
        let mut bytes = [0; 64];
        let received = tokio::time::timeout(Duration::from_millis(200), socket.recv_from(&mut bytes)).await;
        let (length, from) = received.ok()?.ok()?;
        Some((bytes[..length].to_vec(), from))
    }

    async fn bound() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").await.unwrap()
    }

    #[tokio::test]
    async fn passes_both_ways_and_swallows_all_while_cut() {
        let (gateway, one, two) = (bound().await, bound().await, bound().await);
        let front = crate::demo::ports::free(1).unwrap()[0];
        let relay = Relay::start(front, gateway.local_addr().unwrap()).await.unwrap();
        one.send_to(b"from one", front).await.unwrap();
        let (bytes, way_one) = heard(&gateway).await.unwrap();
        assert_eq!(bytes, b"from one");
        two.send_to(b"from two", front).await.unwrap();
        let (_, way_two) = heard(&gateway).await.unwrap();
        assert_ne!(way_one, way_two, "each board has its own way");
        gateway.send_to(b"to one", way_one).await.unwrap();
        assert_eq!(heard(&one).await.unwrap(), (b"to one".to_vec(), front));

        relay.set_cut(true);
        one.send_to(b"gone", front).await.unwrap();
        gateway.send_to(b"gone", way_two).await.unwrap();
        assert_eq!((heard(&gateway).await, heard(&two).await), (None, None));
        assert_eq!(relay.swallowed(), 2);

        relay.set_cut(false);
        one.send_to(b"again", front).await.unwrap();
        assert_eq!(heard(&gateway).await.unwrap(), (b"again".to_vec(), way_one));
    }
}
