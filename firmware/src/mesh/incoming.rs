//! Lets peers in and reads what they send. A peer is who its certificate says, one connection each for data and for
//! control: the newest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use link::doorman::{Admissions, Doorman};
use link::endpoint::{Listening, is_control};
use link::frames::{FrameReader, ReadError};
use link::logging::whole_story;
use link::once::OncePerPeer;
use link::sites::Sites;
use quinn::Connection;
use shared::event::Event;
use shared::frame::{Conversation, FrameRefusal};
use shared::ids::BoardId;
use shared::wire::peer::{Hello, PeerMessage};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::control::{Line, accept};
use super::lives::Kind;
use super::{Addresses, Close, MeshOutputs, count};

/// A peer that let itself in says hello within so long.
const HELLO_MAX: Duration = Duration::from_secs(3);
/// Messages handed to the node at once.
const BATCH_MAX: usize = 256;

/// What a board is told that is none of this site, or none any more.
const NO_SUCH_BOARD: &str = "this site has no such board";

/// Accepts peers.
pub(super) struct Acceptor {
    door: Doorman,
    sites: Arc<Sites>,
    own: Hello,
    members: watch::Receiver<Addresses>,
    outputs: MeshOutputs,
    /// The newest connection of each peer: one on which it has not greeted yet gives way to another.
    newest: BTreeMap<BoardId, Connection>,
    newest_control: BTreeMap<BoardId, Connection>,
    readers: JoinSet<(BoardId, Result<(), String>)>,
    said: OncePerPeer<(u8, String)>,
}

impl Acceptor {
    pub(super) fn new(
        listening: &Listening,
        sites: Arc<Sites>,
        own: Hello,
        members: watch::Receiver<Addresses>,
        outputs: MeshOutputs,
    ) -> Self {
        Self {
            door: Doorman::new(listening.endpoint.clone()),
            sites,
            own,
            members,
            outputs,
            newest: BTreeMap::new(),
            newest_control: BTreeMap::new(),
            readers: JoinSet::new(),
            said: OncePerPeer::default(),
        }
    }

    pub(super) fn admissions(&self) -> Arc<Admissions> {
        self.door.admissions()
    }

    /// Runs until the endpoint is closed.
    pub(super) async fn run(&mut self) {
        loop {
            tokio::select! {
                connection = self.door.accept() => match connection {
                    Some(connection) => self.admit(connection),
                    None => return,
                },
                Ok(()) = self.members.changed() => self.let_go(),
                Some(read) = self.readers.join_next() => {
                    if let Ok((peer, Err(why))) = read {
                        self.refused(peer.get(), why);
                    }
                }
            }
        }
    }

    /// Closes the connections of boards that the site has no more.
    fn let_go(&mut self) {
        let members = self.members.borrow_and_update().clone();
        let mut gone = self.outputs.lives.let_go(|peer| members.contains_key(&peer));
        for connections in [&mut self.newest, &mut self.newest_control] {
            gone.extend(
                connections
                    .extract_if(.., |peer, _| !members.contains_key(peer))
                    .map(|(_, gone)| gone),
            );
        }
        gone.iter()
            .for_each(|connection| Close::Refused.connection(connection, NO_SUCH_BOARD));
    }

    fn admit(&mut self, connection: Connection) {
        let known = self
            .sites
            .identify(&connection)
            .filter(|(_, board)| self.members.borrow().contains_key(board));
        let Some((_, peer)) = known else {
            let from = connection.remote_address().ip();
            Close::Refused.connection(&connection, NO_SUCH_BOARD);
            self.refused(0, format!("a board that this site does not have, from {from}"));
            return;
        };
        let is_control = is_control(&connection);
        let newest = if is_control { &mut self.newest_control } else { &mut self.newest };
        let older = newest.insert(peer, connection.clone());
        if let Some(older) = older.filter(|older| !self.outputs.lives.has(peer, older)) {
            Close::Replaced.connection(&older, "a newer connection took its place");
        }
        let own = self.own.clone();
        if is_control {
            let line = Line { peer, connection, outputs: self.outputs.clone() };
            self.readers.spawn(async move { (peer, accept(line, &own).await) });
            return;
        }
        let reader = Reader { peer, connection, outputs: self.outputs.clone() };
        self.readers.spawn(async move { (peer, reader.run(&own).await) });
    }

    fn refused(&mut self, peer: u8, why: String) {
        count(&self.outputs.counts.refused);
        if self.said.is_first((peer, why.clone())) {
            tracing::warn!(board = peer, why, "a peer was refused; further times are only counted");
        }
    }
}

struct Reader {
    peer: BoardId,
    connection: Connection,
    outputs: MeshOutputs,
}

impl Reader {
    /// Reads until the connection falls; an error is a refusal of the peer.
    async fn run(&self, own: &Hello) -> Result<(), String> {
        let Ok(accepted) = tokio::time::timeout(HELLO_MAX, self.greet()).await else {
            return Err(self.close("it did not say hello"));
        };
        let Some((mut frames, hello)) = accepted else {
            return Ok(());
        };
        if let Some(why) = difference(own, &hello, self.peer) {
            return Err(self.close(&why));
        }
        self.outputs.learn(self.peer, &self.connection, Kind::Data, hello.epoch).await?;
        tracing::info!(peer = %self.peer, epoch = %hello.epoch, "the peer is connected");
        // Only now: two boards that refuse each other must not call each other on.
        if let Some(came) = self.outputs.came.get(&self.peer) {
            came.notify_one();
        }
        self.messages(&mut frames).await;
        Ok(())
    }

    fn close(&self, why: &str) -> String {
        Close::Refused.connection(&self.connection, why);
        why.to_owned()
    }

    /// The peer's stream and its hello; `None` where it left or sent something else.
    async fn greet(&self) -> Option<(FrameReader, Hello)> {
        let stream = self.connection.accept_uni().await.ok()?;
        let mut frames = FrameReader::new(stream, Conversation::Peer);
        match frames.read().await {
            Ok(Some(PeerMessage::Hello(hello))) => Some((frames, hello)),
            Ok(Some(_)) => {
                self.bad_frame(FrameRefusal::Body);
                None
            }
            Ok(None) => None,
            Err(error) => {
                self.broke(&error);
                None
            }
        }
    }

    async fn messages(&self, frames: &mut FrameReader) {
        loop {
            match frames.read_batch(BATCH_MAX).await {
                Ok(Some(batch)) => {
                    if self.outputs.messages.send((self.peer, batch)).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => return self.broke(&error),
            }
        }
    }

    fn broke(&self, error: &ReadError) {
        match error {
            ReadError::Refused(why) => {
                self.bad_frame(*why);
                Close::BadFrame.connection(&self.connection, &why.to_string());
            }
            ReadError::Stream(error) => {
                tracing::info!(peer = %self.peer, why = whole_story(error), "the peer's connection fell");
            }
        }
    }

    fn bad_frame(&self, why: FrameRefusal) {
        count(&self.outputs.counts.bad_frames);
        // Counted above; where many wait to be told, one line less harms nobody.
        let _ = self.outputs.events.try_send(Event::BadFrame { from: self.peer, why });
    }
}

/// Why a peer's hello does not fit: its certificate has the last word on who it is.
pub(super) fn difference(own: &Hello, theirs: &Hello, certified: BoardId) -> Option<String> {
    if theirs.site != own.site {
        return Some(format!("it says it belongs to site {}, this is site {}", theirs.site, own.site));
    }
    if theirs.board != certified {
        return Some(format!("it says it is {}, its certificate says {certified}", theirs.board));
    }
    if theirs.fingerprint != own.fingerprint {
        return Some(
            "its configuration of the site differs: boards, voters, copies and lease must be equal on all boards"
                .to_owned(),
        );
    }
    None
}
