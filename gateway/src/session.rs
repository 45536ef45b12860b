//! One connection of a board: its conversation, and the streams on which its backlog comes. Carries messages between the wire and the owner
//! task, in bounds; decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use link::endpoint::BACKLOG_STREAMS;
use link::frames::{FrameReader, ReadError, encode, write_all_frames};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use shared::frame::{Conversation, FrameRefusal};
use shared::hub::SessionId;
use shared::ids::{BoardId, Name};
use shared::limits::HELLO_WITHIN;
use shared::wire::uplink::{FromRegion, ToRegion};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::owner::Input;

/// Messages of one stream of a session that the owner has not looked at, or holds back because too much of it waits. All streams'
/// together are below `limits::SESSION_SLACK`, so that a session which is held back in time is never refused.
const AHEAD_MAX: usize = 8;
/// Answers that wait for a session's window. At the limit the session is closed: it does not read.
pub(crate) const REPLIES_MAX: usize = 256;
/// A peer that takes nothing for so long is closed.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// The last words of a session are given so long to arrive.
const FAREWELL_MAX: Duration = Duration::from_secs(1);
/// What a site was told before it is sent away is given so long to leave: the close overtakes what waits.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// A connection that opens no conversation within this does not want one yet: its board looks whether this gateway would do. A board
/// that wants one says hello with the end of its handshake, and one that looks waits for two round trips and 50 ms for a refusal.
const LOOK_AFTER: Duration = Duration::from_millis(25);
/// How a connection is closed whose site is sent to another gateway; 0 is a session that is over, 1 one that was refused.
const SENT_AWAY: (u32, &[u8]) = (2, b"this gateway has more than its share of the sites; dial another");

const _: () = assert!(
    (1 + BACKLOG_STREAMS as usize) * AHEAD_MAX < shared::limits::SESSION_SLACK,
    "who is held back in time is not refused"
);

/// Serves the connection until either end has had enough. `slot` is given back then.
pub(crate) async fn serve(
    session: SessionId,
    identity: (Name, BoardId),
    connection: Connection,
    inputs: mpsc::Sender<Input>,
    slot: OwnedSemaphorePermit,
) {
    let Some((send, receive)) = conversation(&identity.0, &connection, &inputs).await else {
        connection.close(VarInt::from_u32(1), b"no conversation was opened");
        return;
    };
    let (replies, outgoing) = mpsc::channel(REPLIES_MAX);
    let is_sent_away = Arc::<AtomicBool>::default();
    let away = Arc::clone(&is_sent_away);
    let opened = Input::Opened { session, identity, connection: connection.clone(), replies, away };
    if inputs.send(opened).await.is_err() {
        return;
    }
    let reading = async {
        let fault = read(session, &connection, receive, &inputs).await;
        // The owner is gone only when the process stops.
        let _ = inputs.send(Input::Closed { session, fault }).await;
    };
    tokio::join!(reading, write(&connection, send, outgoing, &is_sent_away));
    drop(slot);
}

/// Tells a board whose connection this is that its site is to dial another gateway.
pub(crate) fn send_away(connection: &Connection) {
    let (code, why) = SENT_AWAY;
    connection.close(VarInt::from_u32(code), why);
}

/// The stream of the conversation, once it is opened. The owner is asked about who does not open one at once: it may close the
/// connection.
async fn conversation(
    site: &Name,
    connection: &Connection,
    inputs: &mpsc::Sender<Input>,
) -> Option<(SendStream, RecvStream)> {
    let mut opening = std::pin::pin!(connection.accept_bi());
    if let Ok(opened) = tokio::time::timeout(LOOK_AFTER, &mut opening).await {
        return opened.ok();
    }
    let looked = Input::Looked { site: site.clone(), connection: connection.clone() };
    inputs.send(looked).await.ok()?;
    tokio::time::timeout(HELLO_WITHIN, opening).await.ok()?.ok()
}

/// Passes on what comes, until it ends; returns what was wrong with it, if anything.
async fn read(
    session: SessionId,
    connection: &Connection,
    receive: RecvStream,
    inputs: &mpsc::Sender<Input>,
) -> Option<FrameRefusal> {
    let (said, first) = oneshot::channel();
    let conversation = pass_on(session, connection, receive, inputs, Some(said));
    // It is not looked at before the hello.
    let backlog = async {
        match first.await {
            Ok(()) => read_backlog(session, connection, inputs).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        fault = conversation => fault,
        fault = backlog => Some(fault),
    }
}

/// Passes on what waits for all else: it comes by itself, so that what is fresh overtakes it, and on several streams, so that a packet
/// that is lost holds up those behind it on its own alone. Their ends say nothing; the conversation has the last word. Returns what was
/// wrong with one.
async fn read_backlog(session: SessionId, connection: &Connection, inputs: &mpsc::Sender<Input>) -> FrameRefusal {
    let (mut streams, mut taken) = (JoinSet::new(), 0);
    loop {
        tokio::select! {
            // In all: each new one would have its own share of what may wait.
            Ok(receive) = connection.accept_uni(), if taken < BACKLOG_STREAMS => {
                taken += 1;
                let (connection, inputs) = (connection.clone(), inputs.clone());
                streams.spawn(async move { pass_on(session, &connection, receive, &inputs, None).await });
            }
            Some(ended) = streams.join_next() => {
                if let Ok(Some(fault)) = ended {
                    return fault;
                }
            }
            else => std::future::pending().await,
        }
    }
}

/// Passes on what comes on one stream; `said` is told once the owner has the first message.
async fn pass_on(
    session: SessionId,
    connection: &Connection,
    receive: RecvStream,
    inputs: &mpsc::Sender<Input>,
    mut said: Option<oneshot::Sender<()>>,
) -> Option<FrameRefusal> {
    let ahead = Arc::new(Semaphore::new(AHEAD_MAX));
    let mut frames = FrameReader::new(receive, Conversation::ToRegion);
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&ahead).acquire_owned() => permit.ok()?,
            _ = connection.closed() => return None,
        };
        match frames.read::<ToRegion>().await {
            Ok(Some(message)) => {
                inputs.send(Input::Message { session, message, permit }).await.ok()?;
                // Where nobody listens there is no backlog to begin.
                said.take().map(|said| said.send(()));
            }
            Ok(None) | Err(ReadError::Stream(_)) => return None,
            Err(ReadError::Refused(fault)) => return Some(fault),
        }
    }
}

/// Sends what the owner says, until the owner lets go of the session; then closes the connection.
async fn write(
    connection: &Connection,
    mut send: SendStream,
    mut outgoing: mpsc::Receiver<FromRegion>,
    is_sent_away: &AtomicBool,
) {
    let mut has_said = false;
    let mut frames: Vec<Bytes> = Vec::new();
    while let Some(message) = outgoing.recv().await {
        frames.push(encode(Conversation::FromRegion, &message));
        while let Ok(message) = outgoing.try_recv() {
            frames.push(encode(Conversation::FromRegion, &message));
        }
        let written = tokio::time::timeout(WRITE_MAX, write_all_frames(&mut send, &mut frames)).await;
        if !matches!(written, Ok(Ok(()))) {
            connection.close(VarInt::from_u32(1), b"answers were not read");
            return;
        }
        has_said = true;
    }
    if is_sent_away.load(Ordering::Relaxed) {
        // The end of the stream would be heard before the reason.
        if has_said {
            tokio::time::sleep(LAST_WORDS).await;
        }
        send_away(connection);
        return;
    }
    // Fails only where the stream is gone, and then there is nothing to wait for.
    if send.finish().is_ok() {
        let _ = tokio::time::timeout(FAREWELL_MAX, send.stopped()).await;
    }
    connection.close(VarInt::from_u32(0), b"the session is over");
}
