//! The socket and the bytes on both sides of it: what was read and is no packet yet, what is to be written. Grows with
//! the traffic, shrinks to nothing when idle, and counts what it holds against the bound of all connections.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use shared::limits::{DOOR_HELD_BYTES_MAX, DOOR_PACKET_BYTES_MAX, DOOR_READ_BYTES_MAX};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::counters::DoorCounters;
use super::fault::Fault;
use super::packet::{Frame, Framing, take_frame};

/// Bytes of the smallest read: what an idle connection costs when it wakes up.
const READ_BYTES_MIN: usize = 1024;
/// How long a refused peer is listened to, so that what it was told is not lost to a reset.
const LINGER: Duration = Duration::from_secs(1);
/// And how many bytes of it are thrown away in that time.
const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// A socket with its buffers.
pub(super) struct Wire {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    /// To be written.
    pub(super) out: BytesMut,
    read: BytesMut,
    /// Bytes that `read` must hold before it can be a packet.
    needed: usize,
    /// Bytes of the next read.
    stride: usize,
    has_written: bool,
    held: Held,
}

/// What stands at the front of what was read.
pub(super) enum Incoming {
    Whole(Frame),
    Partial,
    Wrong(Fault),
}

impl Wire {
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, counters: Arc<DoorCounters>) -> Self {
        Self {
            stream,
            peer,
            out: BytesMut::new(),
            read: BytesMut::new(),
            needed: 2,
            stride: READ_BYTES_MIN,
            has_written: false,
            held: Held { bytes: 0, counters },
        }
    }

    /// Whether nothing is left of what was read.
    pub(super) fn is_drained(&self) -> bool {
        self.read.is_empty()
    }

    /// The first byte of what was read.
    pub(super) fn first_byte(&self) -> Option<u8> {
        self.read.first().copied()
    }

    /// Whether all connections together hold as much as they may.
    pub(super) fn is_tight(&self) -> bool {
        self.held.counters.held_bytes.load(Relaxed) > DOOR_HELD_BYTES_MAX as u64
    }

    /// Whether a byte was written since the last call.
    pub(super) fn has_written(&mut self) -> bool {
        std::mem::take(&mut self.has_written)
    }

    /// The next packet of what was read.
    pub(super) fn next_frame(&mut self) -> Incoming {
        match take_frame(&mut self.read, DOOR_PACKET_BYTES_MAX) {
            Framing::Whole(frame) => Incoming::Whole(frame),
            Framing::Partial(needed) => {
                self.needed = needed;
                Incoming::Partial
            }
            Framing::Wrong(fault) => Incoming::Wrong(fault),
        }
    }

    /// Reads once, without waiting; false at the end of the stream. An error carries a fault where the failure is not
    /// the socket's.
    pub(super) async fn read_now(&mut self) -> Result<bool, Option<Fault>> {
        let spare = self.read.capacity() - self.read.len();
        let missing = self.needed.saturating_sub(self.read.len()).max(1);
        if self.is_tight() {
            if !self.read.is_empty() && missing > spare {
                return Err(Some(Fault::Quota));
            }
            self.stride = READ_BYTES_MIN;
        }
        let wanted = missing.max(if self.read.is_empty() { self.stride } else { 1 });
        if spare < wanted {
            self.read.reserve(wanted.max(self.stride));
        }
        let room = self.read.capacity() - self.read.len();
        let mut reading = pin!(self.stream.read_buf(&mut self.read));
        let polled = poll_fn(|context| {
            Poll::Ready(match reading.as_mut().poll(context) {
                Poll::Ready(done) => Some(done),
                Poll::Pending => None,
            })
        });
        let count = match polled.await {
            None => return Ok(true),
            Some(Err(_)) => return Err(None),
            Some(Ok(0)) => return Ok(false),
            Some(Ok(count)) => count,
        };
        if count >= room {
            self.stride = (self.stride * 2).min(DOOR_READ_BYTES_MAX);
        } else if count < self.stride / 4 {
            self.stride = (self.stride / 2).max(READ_BYTES_MIN);
        }
        self.held.set(self.read.capacity() + self.out.capacity());
        Ok(true)
    }

    /// Writes what the socket takes now.
    pub(super) fn write_now(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.stream.try_write(&self.out) {
                Ok(count) => {
                    self.out.advance(count);
                    self.has_written = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Counts what is held; lets the buffers go where the connection is idle.
    pub(super) fn settle(&mut self, is_idle: bool, waiting_bytes: usize) {
        if is_idle && self.read.is_empty() && self.read.capacity() > 0 {
            self.read = BytesMut::new();
        }
        if self.out.is_empty() && is_idle && self.out.capacity() > 0 {
            self.out = BytesMut::new();
        }
        self.held.set(self.read.capacity() + self.out.capacity() + waiting_bytes);
    }

    /// Closes the connection. `told`: the peer was told something and may still be sending, so it is listened to for a
    /// moment, because unread bytes would turn the close into a reset.
    pub(super) async fn close(mut self, told: bool) {
        if !told {
            return;
        }
        let ended = timeout(LINGER, async {
            self.stream.write_all_buf(&mut self.out).await?;
            self.stream.shutdown().await?;
            let mut thrown = 0;
            while thrown < LINGER_BYTES_MAX {
                self.read.clear();
                match self.stream.read_buf(&mut self.read).await? {
                    0 => break,
                    count => thrown += count,
                }
            }
            io::Result::Ok(())
        });
        // The connection is over either way.
        let _ = ended.await;
    }
}

/// What one connection holds, as counted for all.
struct Held {
    bytes: usize,
    counters: Arc<DoorCounters>,
}

impl Held {
    fn set(&mut self, bytes: usize) {
        // One wrapping addition whether it grew or shrank.
        let change = (bytes as u64).wrapping_sub(self.bytes as u64);
        if change != 0 {
            self.counters.held_bytes.fetch_add(change, Relaxed);
            self.bytes = bytes;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}
