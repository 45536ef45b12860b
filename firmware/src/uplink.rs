//! The session with the region: dials the configured gateways in order while the node wants one, sends what it says,
//! brings what the region says. A path that swallows packets counts as down, because the transport's keep-alive is
//! not answered. Owns connections, decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use link::endpoint::{self, Listening};
use link::frames::{FrameReader, ReadError, encode, write_all_frames};
use link::identity::Identity;
use link::logging::whole_story;
use link::sites::gateway_name;
use link::stop::Stop;
use quinn::{Connection, SendStream};
use shared::frame::Conversation;
use shared::limits::PEER_QUEUE_MAX;
use shared::wire::uplink::{FromRegion, Hello, ToRegion};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::config::GatewayAddress;

/// A gateway that does not answer within this is passed over: ten round trips of a slow uplink, retries included.
const DIAL_MAX: Duration = Duration::from_secs(3);
/// Wait before all gateways are tried again.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait before all gateways are tried again.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A session that stood so long was a good one: the next dial comes soon.
const GOOD_AFTER: Duration = Duration::from_secs(5);
/// A stopping board waits so long for its good-bye to be heard.
const GOOD_BYE_MAX: Duration = Duration::from_millis(300);
/// Messages from the region that wait for the node, in batches. At the limit the stream is left unread.
const BATCHES_MAX: usize = 16;
/// Messages taken at once, either way.
const BATCH_MAX: usize = 64;

/// Below that of the conversation's own stream, which has the transport's default, 0.
const BACKLOG_PRIORITY: i32 = -1;

/// What the uplink counts, since the start.
#[derive(Debug, Default)]
pub(crate) struct UplinkCounts {
    /// Sessions that came to stand.
    pub(crate) opened: AtomicU64,
    /// Dials that failed.
    pub(crate) failed: AtomicU64,
    /// Sessions dropped because too much waited for them.
    pub(crate) queue_full: AtomicU64,
    /// Frames that were no messages.
    pub(crate) bad_frames: AtomicU64,
}

/// What the region brings to the node, in order.
#[derive(Debug)]
pub(crate) enum RegionInput {
    /// A session stands.
    Up(Session),
    /// The region said this.
    Said(Vec<FromRegion>),
    /// The session fell.
    Down,
}

/// A session that stands: the node's way to speak to the region.
#[derive(Debug)]
pub(crate) struct Session {
    messages: mpsc::Sender<ToRegion>,
    backlog: mpsc::Sender<ToRegion>,
    connection: Connection,
    counts: Arc<UplinkCounts>,
}

impl Session {
    /// Queues `message`; one that `waits` goes after all others, also those that come later. Where too much is queued the session
    /// is closed, and its fall will be told.
    pub(crate) fn send(&self, message: ToRegion, waits: bool) {
        let queue = if waits { &self.backlog } else { &self.messages };
        if queue.try_send(message).is_err() && self.connection.close_reason().is_none() {
            self.counts.queue_full.fetch_add(1, Ordering::Relaxed);
            self.connection.close(1_u32.into(), b"it reads too slowly");
        }
    }
}

/// The node's switch for the session.
#[derive(Debug)]
pub(crate) struct Uplink {
    wanted: watch::Sender<Option<Hello>>,
    /// What it counts.
    pub(crate) counts: Arc<UplinkCounts>,
    task: JoinHandle<()>,
}

impl Uplink {
    /// An uplink that dials `gateways` in order once it is told to, as `identity`, which believes the region's roots.
    pub(crate) fn start(
        identity: Identity,
        gateways: Vec<GatewayAddress>,
        stop: Stop,
    ) -> (Self, mpsc::Receiver<RegionInput>) {
        let (wanted, hello) = watch::channel(None);
        let (inputs, brought) = mpsc::channel(BATCHES_MAX);
        let counts = Arc::<UplinkCounts>::default();
        let dialler =
            Dialler { identity, gateways, hello, inputs, counts: Arc::clone(&counts), closing: JoinSet::new() };
        let task = tokio::spawn(dialler.run(stop));
        (Self { wanted, counts, task }, brought)
    }

    /// Keep a session with this hello.
    pub(crate) fn dial(&self, hello: Hello) {
        self.wanted.send_replace(Some(hello));
    }

    /// Keep no session.
    pub(crate) fn hang_up(&self) {
        self.wanted.send_replace(None);
    }

    /// Waits until the region was told good-bye. Call after the stop was given.
    pub(crate) async fn finish(self) {
        // It ends by itself; where it panicked it has said so.
        let _ = self.task.await;
    }
}

struct Dialler {
    identity: Identity,
    gateways: Vec<GatewayAddress>,
    hello: watch::Receiver<Option<Hello>>,
    inputs: mpsc::Sender<RegionInput>,
    counts: Arc<UplinkCounts>,
    closing: JoinSet<()>,
}

/// Why a session ended.
enum End {
    /// The node wants another one, or none.
    Unwanted,
    /// It fell.
    Fell(String),
}

impl Dialler {
    async fn run(mut self, mut stop: Stop) {
        tokio::select! {
            () = self.keep() => {}
            () = stop.stopped() => {}
        }
        let closing = &mut self.closing;
        let _ = tokio::time::timeout(GOOD_BYE_MAX, async { while closing.join_next().await.is_some() {} }).await;
    }

    /// Keeps a session while one is wanted. Returns when the node is gone.
    async fn keep(&mut self) {
        let mut backoff = BACKOFF_MIN;
        let mut last_failure = String::new();
        loop {
            let Ok(hello) = self.hello.wait_for(Option::is_some).await.map(|hello| hello.clone()) else {
                return;
            };
            let Some(hello) = hello else { continue };
            let mut failure = String::new();
            for gateway in self.gateways.clone() {
                match self.one(&gateway, &hello).await {
                    Ok((End::Unwanted, _)) => {
                        failure.clear();
                        break;
                    }
                    Ok((End::Fell(why), stood)) => {
                        failure = format!("{}: {why}", gateway.name);
                        if stood >= GOOD_AFTER {
                            backoff = BACKOFF_MIN;
                            last_failure.clear();
                        }
                        // Back to the first: the order is the operator's preference.
                        break;
                    }
                    Err(why) => {
                        self.counts.failed.fetch_add(1, Ordering::Relaxed);
                        failure = format!("{}: {why}", gateway.name);
                    }
                }
                if self.hello.has_changed().unwrap_or(true) {
                    break;
                }
            }
            if failure.is_empty() {
                backoff = BACKOFF_MIN;
                continue;
            }
            if failure != last_failure {
                tracing::warn!(why = failure, "no session with the region; trying on");
                last_failure = failure;
            }
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                _ = self.hello.changed() => {}
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Dials one gateway and serves its session; how it ended and how long it stood.
    async fn one(&mut self, gateway: &GatewayAddress, hello: &Hello) -> Result<(End, Duration), String> {
        // A socket for each dial: a path whose state somebody on the way has lost is not tried again.
        let listening = endpoint::uplink(&self.identity, gateway.address).map_err(|error| whole_story(&error))?;
        let dialled = tokio::select! {
            dialled = dial(&listening, gateway, hello) => dialled?,
            _ = self.hello.changed() => return Ok((End::Unwanted, Duration::ZERO)),
        };
        self.counts.opened.fetch_add(1, Ordering::Relaxed);
        tracing::info!(gateway = %gateway.name, term = %hello.term, "a session with the region stands");
        let began = Instant::now();
        let end = self.serve(dialled).await;
        // Good-bye is on its way while the next dial begins.
        self.closing.spawn(async move { listening.endpoint.wait_idle().await });
        while self.closing.try_join_next().is_some() {}
        Ok((end, began.elapsed()))
    }

    async fn serve(&mut self, (connection, stream, mut frames): (Connection, SendStream, FrameReader)) -> End {
        let (messages, queue) = mpsc::channel(PEER_QUEUE_MAX);
        let (backlog, waiting) = mpsc::channel(PEER_QUEUE_MAX);
        let counts = Arc::clone(&self.counts);
        let session = Session { messages, backlog, connection: connection.clone(), counts };
        if self.inputs.send(RegionInput::Up(session)).await.is_err() {
            return End::Unwanted;
        }
        let end = tokio::select! {
            why = receive(&mut frames, &self.inputs, &self.counts) => End::Fell(why),
            why = send(stream, queue) => End::Fell(why),
            why = send_backlog(&connection, waiting) => End::Fell(why),
            _ = self.hello.changed() => End::Unwanted,
        };
        let end = match (end, connection.close_reason()) {
            (End::Fell(_), Some(reason)) => End::Fell(whole_story(&reason)),
            (end, _) => end,
        };
        connection.close(0_u32.into(), b"the session is over");
        // Where the node is gone there is nobody to tell.
        let _ = self.inputs.send(RegionInput::Down).await;
        end
    }
}

async fn dial(
    listening: &Listening,
    gateway: &GatewayAddress,
    hello: &Hello,
) -> Result<(Connection, SendStream, FrameReader), String> {
    let name = gateway_name(&gateway.name);
    let dialling = async {
        let connecting = listening
            .endpoint
            .connect(gateway.address, &name)
            .map_err(|error| whole_story(&error))?;
        let connection = connecting.await.map_err(|error| whole_story(&error))?;
        let (mut stream, back) = connection.open_bi().await.map_err(|error| whole_story(&error))?;
        let hello = encode(Conversation::ToRegion, &ToRegion::Hello(hello.clone()));
        stream.write_all(&hello).await.map_err(|error| whole_story(&error))?;
        Ok((connection, stream, FrameReader::new(back, Conversation::FromRegion)))
    };
    match tokio::time::timeout(DIAL_MAX, dialling).await {
        Ok(dialled) => dialled,
        Err(_) => Err("it does not answer".to_owned()),
    }
}

/// Brings what the region says, until the stream ends; returns why.
async fn receive(frames: &mut FrameReader, inputs: &mpsc::Sender<RegionInput>, counts: &UplinkCounts) -> String {
    loop {
        match frames.read_batch(BATCH_MAX).await {
            Ok(Some(said)) => {
                if inputs.send(RegionInput::Said(said)).await.is_err() {
                    return "this board stops".to_owned();
                }
            }
            Ok(None) => return "the region ended the session".to_owned(),
            Err(error) => {
                if matches!(error, ReadError::Refused(_)) {
                    counts.bad_frames.fetch_add(1, Ordering::Relaxed);
                }
                return whole_story(&error);
            }
        }
    }
}

/// Writes what waits for all else to a stream of its own, which the transport serves when the other has nothing to send.
async fn send_backlog(connection: &Connection, mut queue: mpsc::Receiver<ToRegion>) -> String {
    // A gateway that takes no such stream is told of none before there is something for it.
    let Some(first) = queue.recv().await else {
        return std::future::pending().await;
    };
    let mut stream = match connection.open_uni().await {
        Ok(stream) => stream,
        Err(error) => return whole_story(&error),
    };
    let mut frames = vec![encode(Conversation::ToRegion, &first)];
    let begun = match stream.set_priority(BACKLOG_PRIORITY) {
        Ok(()) => write_all_frames(&mut stream, &mut frames).await,
        Err(_) => return "the stream broke off".to_owned(),
    };
    match begun {
        Ok(()) => send(stream, queue).await,
        Err(error) => whole_story(&error),
    }
}

/// Writes what is queued, until a write fails; returns why.
async fn send(mut stream: SendStream, mut queue: mpsc::Receiver<ToRegion>) -> String {
    let (mut batch, mut frames) = (Vec::new(), Vec::new());
    while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
        frames.extend(batch.drain(..).map(|message| encode(Conversation::ToRegion, &message)));
        if let Err(error) = write_all_frames(&mut stream, &mut frames).await {
            return whole_story(&error);
        }
    }
    // The node let go of the session: it is told to close by the switch.
    std::future::pending().await
}

#[cfg(test)]
mod tests;
