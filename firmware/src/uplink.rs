//! The session with the region: dials the configured gateways in order while the node wants one, sends what it says,
//! brings what the region says. A path that swallows packets counts as down, because the transport's keep-alive is
//! not answered. Owns connections, decides nothing.

use std::pin::pin;
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
use tokio::time::MissedTickBehavior;

use crate::config::GatewayAddress;

/// A gateway that does not answer within this is passed over: ten round trips of a slow uplink, retries included.
const DIAL_MAX: Duration = Duration::from_secs(3);
/// Attempts at a gateway begin so soon after each other, while the earlier ones still wait for an answer: so late at most the
/// return of a dead uplink is noticed. One is two datagrams of 1200 bytes, so they are 12 KB/s.
const ATTEMPT_EVERY: Duration = Duration::from_millis(200);
/// The same once nobody has answered for [`PATIENT_AFTER`]: where the link is up and the gateway is not, somebody pays for it.
const ATTEMPT_EVERY_PATIENT: Duration = Duration::from_secs(2);
/// Most outages of a radio are shorter than this.
const PATIENT_AFTER: Duration = Duration::from_secs(600);
/// An attempt waits so long, before it would repeat itself; the first of a turn waits until the turn is over.
const ATTEMPT_MAX: Duration = Duration::from_millis(900);
/// Wait before all gateways are tried again, where one refused.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest such wait.
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
        let dialler = Dialler {
            identity: Arc::new(identity),
            gateways,
            hello,
            inputs,
            counts: Arc::clone(&counts),
            closing: JoinSet::new(),
            answered: Instant::now(),
        };
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
    identity: Arc<Identity>,
    gateways: Vec<GatewayAddress>,
    hello: watch::Receiver<Option<Hello>>,
    inputs: mpsc::Sender<RegionInput>,
    counts: Arc<UplinkCounts>,
    closing: JoinSet<()>,
    /// When a gateway last answered, or the start.
    answered: Instant,
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
            let (mut failure, began) = (String::new(), Instant::now());
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
            if began.elapsed() >= DIAL_MAX {
                // A round of silence has had its pace already.
                continue;
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
        let every = if self.answered.elapsed() < PATIENT_AFTER {
            ATTEMPT_EVERY
        } else {
            ATTEMPT_EVERY_PATIENT
        };
        let (listening, connection) = tokio::select! {
            dialled = dial(&self.identity, gateway, every) => dialled?,
            _ = self.hello.changed() => return Ok((End::Unwanted, Duration::ZERO)),
        };
        let introduced = introduce(&connection, hello).await;
        self.answered = Instant::now();
        let (stream, frames) = introduced?;
        self.counts.opened.fetch_add(1, Ordering::Relaxed);
        tracing::info!(gateway = %gateway.name, term = %hello.term, "a session with the region stands");
        let began = Instant::now();
        let end = self.serve((connection, stream, frames)).await;
        self.answered = Instant::now();
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

/// Dials one gateway until it answers, one attempt after the other.
async fn dial(
    identity: &Arc<Identity>,
    gateway: &GatewayAddress,
    every: Duration,
) -> Result<(Listening, Connection), String> {
    // Those that are left when one has answered end with the set.
    let mut attempts = JoinSet::new();
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turn = pin!(tokio::time::sleep(DIAL_MAX));
    let mut patience = DIAL_MAX;
    loop {
        tokio::select! {
            biased;
            Some(attempt) = attempts.join_next() => match attempt {
                Ok(Ok(Ok(answered))) => return Ok(answered),
                // One that is refused, because too many dial, says nothing of those before it.
                Ok(Ok(Err(why))) if attempts.is_empty() => return Err(why),
                Ok(Ok(Err(_)) | Err(_)) => {}
                Err(error) => return Err(whole_story(&error)),
            },
            () = &mut turn => return Err("it does not answer".to_owned()),
            _ = ticks.tick() => {
                let attempt = attempt(Arc::clone(identity), gateway.clone());
                attempts.spawn(tokio::time::timeout(patience, attempt));
                patience = ATTEMPT_MAX;
            }
        }
    }
}

/// A socket for each attempt: a path whose state somebody on the way has lost is not tried again.
async fn attempt(identity: Arc<Identity>, gateway: GatewayAddress) -> Result<(Listening, Connection), String> {
    let listening = endpoint::uplink(&identity, gateway.address).map_err(|error| whole_story(&error))?;
    let connecting = listening.endpoint.connect(gateway.address, &gateway_name(&gateway.name));
    let connection = connecting
        .map_err(|error| whole_story(&error))?
        .await
        .map_err(|error| whole_story(&error))?;
    Ok((listening, connection))
}

/// Says who is there, on the session's stream.
async fn introduce(connection: &Connection, hello: &Hello) -> Result<(SendStream, FrameReader), String> {
    let (mut stream, back) = connection.open_bi().await.map_err(|error| whole_story(&error))?;
    let hello = encode(Conversation::ToRegion, &ToRegion::Hello(hello.clone()));
    stream.write_all(&hello).await.map_err(|error| whole_story(&error))?;
    Ok((stream, FrameReader::new(back, Conversation::FromRegion)))
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
