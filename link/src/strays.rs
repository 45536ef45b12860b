//! A UDP socket that counts what cannot be ours: datagrams that no QUIC peer of this endpoint would send. QUIC drops
//! them in silence, which is right for the network and wrong for the person who looks for the reason.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, UdpPoller};
use tokio::sync::mpsc;

use crate::obituary::is_obituary;
use crate::once::OncePerPeer;

/// Strays of one address before it is worth a line: a peer's restart sends one or two, because a stateless reset
/// looks like noise by design (RFC 9000, 10.3).
const STRAYS_BEFORE_LINE: u32 = 8;
/// Obituaries that wait to be judged: three of each of some boards. At the limit further ones count as strays.
const OBITUARIES_MAX: usize = 64;
/// A shorter datagram cannot be a QUIC packet (RFC 9000, 10.3: 21 bytes is the least that is worth judging).
const PACKET_BYTES_MIN: usize = 21;
/// Bytes of the connection ids that this endpoint gives out.
const CID_BYTES: usize = 8;
const LONG_HEADER: u8 = 0x80;
const FIXED_BIT: u8 = 0x40;
const QUIC_V1: u32 = 1;

/// How many strays came.
#[derive(Debug, Default)]
pub struct Strays {
    count: AtomicU64,
    said: Mutex<OncePerPeer<IpAddr>>,
}

impl Strays {
    /// Datagrams that were no QUIC packet of this endpoint, since the start.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn note(&self, from: SocketAddr) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_time(from.ip(), STRAYS_BEFORE_LINE) {
            tracing::warn!(peer = %from, "sends datagrams that are not ours; dropped and counted from now on");
        }
    }
}

/// The socket under an endpoint.
pub(crate) struct CountingSocket<G> {
    inner: Arc<dyn AsyncUdpSocket>,
    ids: G,
    strays: Arc<Strays>,
    obituaries: mpsc::Sender<Vec<u8>>,
}

impl<G> CountingSocket<G> {
    /// A socket, and the obituaries that come in by it.
    pub(crate) fn new(inner: Arc<dyn AsyncUdpSocket>, ids: G, strays: Arc<Strays>) -> (Self, mpsc::Receiver<Vec<u8>>) {
        let (obituaries, brought) = mpsc::channel(OBITUARIES_MAX);
        (Self { inner, ids, strays, obituaries }, brought)
    }

    /// Judges what came from `from`. Quinn sees it too, and passes over what is no packet of QUIC.
    fn look(&self, datagram: &[u8], from: SocketAddr)
    where
        G: ConnectionIdGenerator,
    {
        if is_obituary(datagram) {
            // Where nobody takes them, or too many wait, it is as if the network had lost it.
            if self.obituaries.try_send(datagram.to_vec()).is_err() {
                self.strays.note(from);
            }
        } else if !is_packet(&self.ids, datagram) {
            self.strays.note(from);
        }
    }
}

impl<G> fmt::Debug for CountingSocket<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountingSocket")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

fn is_packet(ids: &dyn ConnectionIdGenerator, datagram: &[u8]) -> bool {
    let Some(&first) = datagram.first() else { return false };
    if datagram.len() < PACKET_BYTES_MIN || first & FIXED_BIT == 0 {
        return false;
    }
    if first & LONG_HEADER == 0 {
        return ids.validate(&ConnectionId::new(&datagram[1..=CID_BYTES])).is_ok();
    }
    let version = u32::from_be_bytes([datagram[1], datagram[2], datagram[3], datagram[4]]);
    version == QUIC_V1
}

impl<G: ConnectionIdGenerator + 'static> AsyncUdpSocket for CountingSocket<G> {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.inner.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = received {
            for (buf, meta) in bufs.iter().zip(meta.iter()).take(count) {
                let bytes = &buf[..meta.len.min(buf.len())];
                for datagram in bytes.chunks(meta.stride.max(1)) {
                    self.look(datagram, meta.addr);
                }
            }
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
