//! Control between two boards: one connection of its own for each pair, datagrams both ways, never bulk, so that a vote
//! waits behind no copy. The board with the lower number dials; the other one dials only where it was not called for a
//! while. Dialled when the node first tells something, left to fall idle when neither tells anything more. The newest
//! connection is the one that is sent on; whatever stands is read.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use link::frames::{FrameReader, encode};
use link::logging::whole_story;
use link::sites::board_name;
use link::stop::Stop;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint};
use shared::action::Evidence;
use shared::event::Event;
use shared::frame::{Conversation, FrameRefusal};
use shared::ids::BoardId;
use shared::wire::control::unpack;
use shared::wire::peer::{Hello, PeerMessage};
use tokio::sync::Notify;
use tokio::sync::mpsc::error::TrySendError;

use super::incoming::difference;
use super::lives::Kind;
use super::telling::ControlChange;
use super::{Close, MeshOutputs, count};

/// A dial is given up after so long and begun anew: quinn doubles the wait before each repetition, and a peer that came
/// back meanwhile must not wait for it.
const DIAL_SHORT: Duration = Duration::from_millis(150);
/// Every so many dials one may take as long as a busy machine needs for its cryptography.
const DIALS_BEFORE_LONG: u32 = 4;
/// How long that one may take. Quinn's repetitions are at most 200 ms apart within it.
const DIAL_LONG: Duration = Duration::from_millis(600);
/// Between two dials.
const DIAL_PAUSE: Duration = Duration::from_millis(20);
/// A dial that was refused is not repeated sooner: a difference of configuration is not mended in milliseconds.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);
/// The board with the higher number waits so long to be dialled before it dials itself: two short dials.
const TURN: Duration = Duration::from_millis(300);
/// Hello goes each way within so long.
const HELLO_MAX: Duration = Duration::from_secs(3);
/// A peer that tells nothing for so long is looked at: does its machine still acknowledge?
const SILENCE: Duration = Duration::from_millis(250);

/// Dials one peer for control, whenever the node wants to tell it something and no connection stands.
pub(super) struct ControlDialler {
    pub(super) endpoint: Endpoint,
    pub(super) config: ClientConfig,
    pub(super) peer: BoardId,
    pub(super) address: std::net::SocketAddr,
    pub(super) hello: Hello,
    /// Rings when something was told and no connection stood.
    pub(super) wanted: Arc<Notify>,
    pub(super) outputs: MeshOutputs,
}

/// Why no connection came to stand.
enum Failure {
    Silence,
    Refused(String),
}

impl ControlDialler {
    pub(super) async fn run(self, mut stop: Stop) {
        tokio::select! {
            () = self.keep() => {}
            () = stop.stopped() => {}
        }
    }

    async fn keep(&self) {
        let mut dials = 0_u32;
        let mut said = String::new();
        loop {
            self.wanted.notified().await;
            if self.hello.board > self.peer {
                tokio::time::sleep(TURN).await;
                // What was told since then rings again, unless the peer has dialled.
                self.wanted.notified().await;
            }
            dials += 1;
            let patience = if dials.is_multiple_of(DIALS_BEFORE_LONG) {
                DIAL_LONG
            } else {
                DIAL_SHORT
            };
            match self.dial(patience).await {
                Ok((connection, frames)) => {
                    dials = 0;
                    said.clear();
                    count(&self.outputs.counts.control_dialled);
                    let line = Line { peer: self.peer, connection, outputs: self.outputs.clone() };
                    // The stream is held so that its end is no news.
                    line.serve(frames).await;
                }
                Err(Failure::Silence) => tokio::time::sleep(DIAL_PAUSE).await,
                Err(Failure::Refused(why)) => {
                    if why != said {
                        tracing::info!(peer = %self.peer, why, "no control connection to the peer");
                        said = why;
                    }
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            }
        }
    }

    /// A connection on which each has said hello.
    async fn dial(&self, patience: Duration) -> Result<(Connection, FrameReader), Failure> {
        let refused = |why: String| Failure::Refused(why);
        let name = board_name(&self.hello.site, self.peer);
        let connecting = self
            .endpoint
            .connect_with(self.config.clone(), self.address, &name)
            .map_err(|error| refused(whole_story(&error)))?;
        let connection = match tokio::time::timeout(patience, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(ConnectionError::TimedOut)) | Err(_) => return Err(Failure::Silence),
            Ok(Err(error)) => return Err(refused(whole_story(&error))),
        };
        let greeting = async {
            say_hello(&connection, &self.hello).await?;
            let (frames, theirs) = hear_hello(&connection).await?;
            match difference(&self.hello, &theirs, self.peer) {
                Some(why) => {
                    Close::Refused.connection(&connection, &why);
                    Err(why)
                }
                None => {
                    self.outputs
                        .learn(self.peer, &connection, Kind::ControlDialled, theirs.epoch)
                        .await?;
                    Ok(frames)
                }
            }
        };
        match tokio::time::timeout(HELLO_MAX, greeting).await {
            Ok(Ok(frames)) => Ok((connection, frames)),
            Ok(Err(why)) => Err(refused(why)),
            Err(_) => Err(refused("it did not say hello".to_owned())),
        }
    }
}

/// Writes this board's hello on a stream of its own.
async fn say_hello(connection: &Connection, hello: &Hello) -> Result<(), String> {
    let mut stream = connection.open_uni().await.map_err(|error| whole_story(&error))?;
    let hello = encode(Conversation::Peer, &PeerMessage::Hello(hello.clone()));
    stream.write_all(&hello).await.map_err(|error| whole_story(&error))?;
    // A stream that is finished already is what was wanted.
    let _ = stream.finish();
    Ok(())
}

/// Reads the peer's hello from the stream that it opens.
async fn hear_hello(connection: &Connection) -> Result<(FrameReader, Hello), String> {
    let stream = connection.accept_uni().await.map_err(|error| whole_story(&error))?;
    let mut frames = FrameReader::new(stream, Conversation::Peer);
    match frames.read().await {
        Ok(Some(PeerMessage::Hello(hello))) => Ok((frames, hello)),
        Ok(Some(_) | None) => Err("it did not begin with a hello".to_owned()),
        Err(error) => Err(whole_story(&error)),
    }
}

/// Greets whoever dialled for control, and serves the connection. An error is a refusal of the peer.
pub(super) async fn accept(line: Line, own: &Hello) -> Result<(), String> {
    let greeting = async {
        let (frames, theirs) = hear_hello(&line.connection).await?;
        if let Some(why) = difference(own, &theirs, line.peer) {
            return Err(why);
        }
        line.outputs
            .learn(line.peer, &line.connection, Kind::ControlCame, theirs.epoch)
            .await?;
        say_hello(&line.connection, own).await?;
        Ok(frames)
    };
    match tokio::time::timeout(HELLO_MAX, greeting).await {
        Ok(Ok(frames)) => {
            line.serve(frames).await;
            Ok(())
        }
        // The peer is gone: that is no refusal.
        Ok(Err(_)) if line.connection.close_reason().is_some() => Ok(()),
        Ok(Err(why)) => {
            Close::Refused.connection(&line.connection, &why);
            Err(why)
        }
        Err(_) => {
            let why = "it did not say hello";
            Close::Refused.connection(&line.connection, why);
            Err(why.to_owned())
        }
    }
}

/// One control connection that stands.
pub(super) struct Line {
    pub(super) peer: BoardId,
    pub(super) connection: Connection,
    pub(super) outputs: MeshOutputs,
}

impl Line {
    /// Gives the connection to the node and reads it until it falls. `_frames` is held so that the stream's end is no
    /// news.
    async fn serve(&self, _frames: FrameReader) {
        let change = |stands| ControlChange { peer: self.peer, connection: self.connection.clone(), stands };
        if self.outputs.control_changes.send(change(true)).await.is_err() {
            return;
        }
        let why = self.read().await;
        let evidence = match &why {
            ConnectionError::Reset => Some(Evidence::Restarted),
            ConnectionError::ApplicationClosed(close) if close.error_code == (Close::Stopping as u32).into() => {
                Some(Evidence::Leaves)
            }
            _ => None,
        };
        tracing::debug!(peer = %self.peer, why = whole_story(&why), "the control connection fell");
        // Where the node is gone there is nobody to tell.
        let _ = self.outputs.control_changes.send(change(false)).await;
        if let Some(evidence) = evidence {
            self.note(evidence);
        }
    }

    async fn read(&self) -> ConnectionError {
        let mut acknowledged = 0;
        loop {
            match tokio::time::timeout(SILENCE, self.connection.read_datagram()).await {
                Ok(Ok(datagram)) => self.take(&datagram),
                Ok(Err(why)) => return why,
                Err(_) => {
                    let before = acknowledged;
                    acknowledged = self.connection.stats().frame_rx.acks;
                    // Once in a silence the number is only learnt: what was acknowledged before it is no news.
                    if before != 0 && acknowledged > before {
                        self.note(Evidence::Acknowledges);
                    }
                    continue;
                }
            }
            acknowledged = 0;
        }
    }

    fn take(&self, datagram: &[u8]) {
        let counts = &self.outputs.counts;
        count(&counts.control_received);
        match unpack(datagram) {
            Ok(messages) => {
                for message in messages {
                    if let Err(TrySendError::Full(_)) = self.outputs.control.try_send((self.peer, message)) {
                        count(&counts.datagrams_dropped);
                    }
                }
            }
            Err(why) => self.bad(why),
        }
    }

    fn bad(&self, why: FrameRefusal) {
        self.outputs.counts.bad_frames.fetch_add(1, Ordering::Relaxed);
        // Counted above; where many wait to be told, one line less harms nobody.
        let _ = self.outputs.events.try_send(Event::BadFrame { from: self.peer, why });
    }

    fn note(&self, evidence: Evidence) {
        // Where too much waits for the node, heartbeats will say the same later.
        let _ = self.outputs.evidence.try_send((self.peer, evidence));
    }
}
