//! Keeps one connection to one peer: dials, says hello, sends what is queued, and dials again when it falls.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use link::frames::{encode, write_all_frames};
use link::logging::whole_story;
use link::sites::board_name;
use link::stop::Stop;
use quinn::{Connection, ConnectionError, Endpoint, SendStream, WriteError};
use shared::frame::Conversation;
use shared::ids::BoardId;
use shared::limits::PEER_QUEUE_MAX;
use shared::wire::peer::{Hello, PeerMessage};
use tokio::sync::mpsc;

use super::{Close, Link, LinkChange, MeshOutputs, count, weight};

/// Wait before the second dial. Short: boards of a cabinet come back together.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// Longest wait between dials.
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// A dial that is not answered is given up after this and twice the wait before it, so up to 1.5 s: a machine that
/// starts beside 63 others has much cryptography to do at once.
const DIAL_MIN: Duration = Duration::from_millis(500);
/// A dial that began before the peer came has doubled its timers for nothing, and is begun anew; a fresh one is not.
const FRESH: Duration = Duration::from_millis(100);
/// A connection that stood so long was a good one: the next dial comes soon.
const GOOD_AFTER: Duration = Duration::from_secs(2);
/// Messages taken from the queue at once.
const BATCH_MAX: usize = 256;
/// Bytes of frames made before they are written.
const WRITE_BYTES: usize = 256 * 1024;

/// Dials one peer.
pub(super) struct Dialler {
    pub(super) endpoint: Endpoint,
    pub(super) peer: BoardId,
    pub(super) address: SocketAddr,
    pub(super) hello: Hello,
    pub(super) outputs: MeshOutputs,
}

impl Dialler {
    pub(super) async fn run(self, mut stop: Stop) {
        tokio::select! {
            () = self.keep() => {}
            () = stop.stopped() => {}
        }
    }

    async fn keep(&self) {
        let mut backoff = BACKOFF_MIN;
        let mut last_failure = String::new();
        loop {
            let dialled = tokio::select! {
                dialled = self.dial(DIAL_MIN + 2 * backoff) => dialled,
                () = self.peer_came() => continue,
            };
            let failure = match dialled {
                Ok((connection, stream)) => {
                    count(&self.outputs.counts.dialled);
                    let began = Instant::now();
                    let failure = self.serve(connection, stream).await;
                    if began.elapsed() >= GOOD_AFTER {
                        backoff = BACKOFF_MIN;
                        last_failure.clear();
                    }
                    failure
                }
                Err(failure) => failure,
            };
            // Said once until it changes: a board may be away for days.
            if failure != last_failure {
                tracing::info!(peer = %self.peer, address = %self.address, why = failure, "no connection to the peer");
                last_failure = failure;
            }
            tokio::select! {
                () = tokio::time::sleep(jittered(backoff)) => backoff = (backoff * 2).min(BACKOFF_MAX),
                () = self.peer_came() => {}
            }
        }
    }

    /// Returns when the peer has dialled this board and was let in, but not before what is under way was given a chance.
    async fn peer_came(&self) {
        tokio::time::sleep(FRESH).await;
        match self.outputs.came.get(&self.peer) {
            Some(came) => came.notified().await,
            None => std::future::pending().await,
        }
    }

    /// A connection on which the hello is written.
    async fn dial(&self, patience: Duration) -> Result<(Connection, SendStream), String> {
        let name = board_name(&self.hello.site, self.peer);
        let connecting = self
            .endpoint
            .connect(self.address, &name)
            .map_err(|error| whole_story(&error))?;
        let dialling = async {
            let connection = connecting.await.map_err(|error| whole_story(&error))?;
            let mut stream = connection.open_uni().await.map_err(|error| whole_story(&error))?;
            let hello = encode(Conversation::Peer, &PeerMessage::Hello(self.hello.clone()));
            stream.write_all(&hello).await.map_err(|error| whole_story(&error))?;
            Ok((connection, stream))
        };
        match tokio::time::timeout(patience, dialling).await {
            Ok(dialled) => dialled,
            Err(_) => Err("it does not answer".to_owned()),
        }
    }

    /// Sends until the connection falls; returns why it fell.
    async fn serve(&self, connection: Connection, mut stream: SendStream) -> String {
        let (messages, mut queue) = mpsc::channel(PEER_QUEUE_MAX);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let link = Link {
            messages,
            waiting_bytes: Arc::clone(&waiting_bytes),
            connection: connection.clone(),
            counts: Arc::clone(&self.outputs.counts),
        };
        let up = LinkChange { peer: self.peer, link: Some(link) };
        if self.outputs.changes.send(up).await.is_err() {
            return "this board stops".to_owned();
        }
        tracing::info!(peer = %self.peer, "connected to the peer");
        let error = tokio::select! {
            error = connection.closed() => whole_story(&error),
            error = send(&mut stream, &mut queue, &waiting_bytes) => whole_story(&error),
        };
        // The cause that the transport knows is better than that of the write that met it.
        let reason = connection.close_reason();
        let why = reason.as_ref().map_or(error, |reason| whole_story(reason));
        if let Some(ConnectionError::ApplicationClosed(close)) = &reason
            && close.error_code == (Close::Twice as u32).into()
        {
            tracing::error!(peer = %self.peer, why, "this board is not believed to be itself");
        }
        Close::Replaced.connection(&connection, "it is dialled again");
        // Where the node is gone there is nobody to tell.
        let _ = self.outputs.changes.send(LinkChange { peer: self.peer, link: None }).await;
        why
    }
}

/// Writes what is queued, until a write fails.
async fn send(
    stream: &mut SendStream,
    queue: &mut mpsc::Receiver<PeerMessage>,
    waiting_bytes: &AtomicUsize,
) -> WriteError {
    let mut batch = Vec::new();
    let mut frames: Vec<Bytes> = Vec::new();
    loop {
        if queue.recv_many(&mut batch, BATCH_MAX).await == 0 {
            // The node let go of the link: the connection is closed from there.
            return std::future::pending().await;
        }
        let mut frame_bytes = 0;
        for message in batch.drain(..) {
            waiting_bytes.fetch_sub(weight(&message), Ordering::Relaxed);
            let frame = encode(Conversation::Peer, &message);
            frame_bytes += frame.len();
            frames.push(frame);
            if frame_bytes >= WRITE_BYTES {
                frame_bytes = 0;
                if let Err(error) = write_all_frames(stream, &mut frames).await {
                    return error;
                }
            }
        }
        if let Err(error) = write_all_frames(stream, &mut frames).await {
            return error;
        }
    }
}

/// Between half of `backoff` and all of it, so that boards that start together do not dial in step.
fn jittered(backoff: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8);
    let part = u32::try_from(random % 512).unwrap_or(0);
    backoff / 2 + backoff / 1024 * part
}
