//! One connection of a board: its conversation, and the stream on which its backlog comes. Carries messages between the wire and the owner
//! task, in bounds; decides nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use link::frames::{FrameReader, ReadError, encode, write_all_frames};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use shared::frame::{Conversation, FrameRefusal};
use shared::hub::SessionId;
use shared::ids::{BoardId, Name};
use shared::limits::HELLO_WITHIN;
use shared::wire::uplink::{FromRegion, ToRegion};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::owner::Input;

/// Messages of one session that the owner has not looked at, or holds back because too much of it waits. Below
/// `limits::SESSION_SLACK`, so that a session which is held back in time is never refused.
const AHEAD_MAX: usize = 8;
/// Answers that wait for a session's window. At the limit the session is closed: it does not read.
pub(crate) const REPLIES_MAX: usize = 256;
/// A peer that takes nothing for so long is closed.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// The last words of a session are given so long to arrive.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

const _: () = assert!(2 * AHEAD_MAX < shared::limits::SESSION_SLACK, "who is held back in time is not refused");

/// Serves the connection until either end has had enough. `slot` is given back then.
pub(crate) async fn serve(
    session: SessionId,
    identity: (Name, BoardId),
    connection: Connection,
    inputs: mpsc::Sender<Input>,
    slot: OwnedSemaphorePermit,
) {
    let Ok(Ok((send, receive))) = tokio::time::timeout(HELLO_WITHIN, connection.accept_bi()).await else {
        connection.close(VarInt::from_u32(1), b"no conversation was opened");
        return;
    };
    let (replies, outgoing) = mpsc::channel(REPLIES_MAX);
    let opened = Input::Opened { session, identity, connection: connection.clone(), replies };
    if inputs.send(opened).await.is_err() {
        return;
    }
    let reading = async {
        let fault = read(session, &connection, receive, &inputs).await;
        // The owner is gone only when the process stops.
        let _ = inputs.send(Input::Closed { session, fault }).await;
    };
    tokio::join!(reading, write(&connection, send, outgoing));
    drop(slot);
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
    // What waits for all else comes by itself, so that what is fresh overtakes it. It is not looked at before the hello.
    let backlog = async {
        if first.await.is_ok()
            && let Ok(receive) = connection.accept_uni().await
            && let Some(fault) = pass_on(session, connection, receive, inputs, None).await
        {
            return Some(fault);
        }
        // Its end says nothing; the conversation has the last word.
        std::future::pending().await
    };
    tokio::select! {
        fault = conversation => fault,
        fault = backlog => fault,
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
async fn write(connection: &Connection, mut send: SendStream, mut outgoing: mpsc::Receiver<FromRegion>) {
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
    }
    // Fails only where the stream is gone, and then there is nothing to wait for.
    if send.finish().is_ok() {
        let _ = tokio::time::timeout(FAREWELL_MAX, send.stopped()).await;
    }
    connection.close(VarInt::from_u32(0), b"the session is over");
}
