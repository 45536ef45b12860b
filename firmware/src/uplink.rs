//! The session with the region: dials the configured gateways over the configured paths while the node wants one, sends what it
//! says, brings what the region says, and leaves a path that is silent or worse than another. Owns connections; what it does when
//! is decided in `shared::uplink::ways` and `silence`.

mod beside;
mod dial;
mod standing;
mod traffic;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use link::clock;
use link::frames::FrameReader;
use link::identity::Identity;
use link::logging::whole_story;
use link::stop::Stop;
use quinn::{Connection, SendStream};
use shared::ids::Name;
use shared::limits::PEER_QUEUE_MAX;
use shared::time::{Deadline, Instant};
use shared::uplink::ways::{Fall, Way, Ways};
use shared::wire::peer::RegionTag;
use shared::wire::uplink::{FromRegion, Hello, ToRegion};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use self::beside::{Beside, Line, is_urgent};
use self::dial::{Caller, Dialled};
use self::standing::{Over, Standing};
pub(crate) use self::standing::{StandingGauge, StandingStatus};
use self::traffic::{fall_silent, introduce, receive, send, send_backlog};
use crate::config::Region;

/// A gateway that does not answer within this is said not to answer: ten round trips of a slow uplink, retries included.
const DIAL_MAX: Duration = Duration::from_secs(3);
/// An attempt waits so long, before it would repeat itself; one in [`LONG_EVERY`] waits as long as anybody is waited for.
const ATTEMPT_MAX: Duration = Duration::from_millis(900);
/// See above: the first of a turn is one.
const LONG_EVERY: u64 = 8;
/// A stopping board waits so long for its good-bye to be heard.
const GOOD_BYE_MAX: Duration = Duration::from_millis(300);
/// A gateway that refuses a session does so within two round trips and this.
const SAYS_NO_WITHIN: Duration = Duration::from_millis(50);
/// Looks at a better way are so far apart from their time at most.
const LOOKS_APART: Duration = Duration::from_millis(500);
/// Messages from the region that wait for the node, in batches. At the limit the stream is left unread.
const BATCHES_MAX: usize = 16;

/// What the uplink counts, since the start.
#[derive(Debug, Default)]
pub(crate) struct UplinkCounts {
    /// Sessions that came to stand.
    pub(crate) opened: AtomicU64,
    /// Dials that failed.
    pub(crate) failed: AtomicU64,
    /// Sessions left because their path was silent.
    pub(crate) silent: AtomicU64,
    /// Sessions moved to a better way.
    pub(crate) moved: AtomicU64,
    /// Blocks of alarms sent by a second path, too.
    pub(crate) copies: AtomicU64,
    /// Those that a second path had no room for.
    pub(crate) copies_dropped: AtomicU64,
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
    beside: Line,
    connection: Connection,
    counts: Arc<UplinkCounts>,
    /// The region that it is with, where the site knows several.
    pub(crate) region: Option<RegionTag>,
}

impl Session {
    /// Queues `message`; one that `waits` goes after all others, also those that come later. Where too much is queued the session
    /// is closed, and its fall will be told. A fresh alarm goes by a second path, too, where one stands.
    pub(crate) fn send(&self, message: ToRegion, waits: bool) {
        if is_urgent(&message, waits)
            && let Some(line) = self.beside.borrow().as_ref()
        {
            // Where too much waits there, the first path has it all the same.
            if line.try_send(message.clone()).is_err() {
                self.counts.copies_dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
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
    /// How it stands.
    pub(crate) standing: StandingGauge,
    task: JoinHandle<()>,
}

impl Uplink {
    /// An uplink that dials the gateways of `region` over its paths once it is told to, as `identity`, which believes the region's
    /// roots.
    pub(crate) fn start(identity: Identity, region: &Region, stop: Stop) -> (Self, mpsc::Receiver<RegionInput>) {
        let (wanted, hello) = watch::channel(None);
        let (inputs, brought) = mpsc::channel(BATCHES_MAX);
        let counts = Arc::<UplinkCounts>::default();
        let now = clock::now();
        let why = "no session has stood yet".to_owned();
        let (tell, standing) = watch::channel(Standing { since: now, why, ..Standing::default() });
        let caller = Arc::new(Caller::new(identity, region));
        let (first, line) = (watch::Sender::new(None), watch::Sender::new(None));
        let line_end = line.subscribe();
        let beside = caller.has_second_path().then(|| Beside {
            caller: Arc::clone(&caller),
            hello: hello.clone(),
            first: first.subscribe(),
            line,
            counts: Arc::clone(&counts),
        });
        let dialler = Dialler {
            caller,
            ways: ways(region, now),
            hello,
            inputs,
            counts: Arc::clone(&counts),
            standing: tell,
            first,
            beside: line_end,
            closing: JoinSet::new(),
            said: BTreeMap::new(),
        };
        let task = tokio::spawn(dialler.run(beside, stop));
        (Self { wanted, counts, standing: StandingGauge(standing), task }, brought)
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
    caller: Arc<Caller>,
    ways: Ways,
    hello: watch::Receiver<Option<Hello>>,
    inputs: mpsc::Sender<RegionInput>,
    counts: Arc<UplinkCounts>,
    standing: watch::Sender<Standing>,
    /// The way of the session that stands.
    first: watch::Sender<Option<Way>>,
    /// To the second session.
    beside: Line,
    closing: JoinSet<()>,
    /// What was last said of each way's failure: it is said once.
    said: BTreeMap<Way, String>,
}

/// Why a session ended.
enum End {
    /// The node wants another one, or none.
    Unwanted,
    /// It fell.
    Fell(String),
    /// Nothing came back.
    Silent(String),
    /// A better way stands.
    Better(Box<Dialled>),
}

impl Dialler {
    async fn run(mut self, beside: Option<Beside>, mut stop: Stop) {
        let second = async {
            match beside {
                Some(beside) => beside.keep().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.keep() => {}
            () = second => {}
            () = stop.stopped() => {}
        }
        let closing = &mut self.closing;
        let _ = tokio::time::timeout(GOOD_BYE_MAX, async { while closing.join_next().await.is_some() {} }).await;
    }

    /// Keeps a session while one is wanted. Returns when the node is gone.
    async fn keep(&mut self) {
        let mut better = None;
        loop {
            if self.hello.has_changed().is_err() {
                return;
            }
            let was_wanted = self.hello.borrow().is_some();
            let Ok(hello) = self.hello.wait_for(Option::is_some).await.map(|hello| hello.clone()) else {
                return;
            };
            if !was_wanted {
                self.ways.handle_wanted(clock::now());
            }
            let Some(hello) = hello else { continue };
            // One that has waited for a hello may have fallen meanwhile.
            better = better.filter(|dialled: &Dialled| dialled.connection.close_reason().is_none());
            let dialled = match better.take() {
                Some(dialled) => dialled,
                None => match self.dial().await {
                    Some(dialled) => dialled,
                    None => continue,
                },
            };
            better = self.one(dialled, &hello).await;
            if self.hello.borrow().is_none()
                && let Some(dialled) = better.take()
            {
                dialled.hang_up();
            }
        }
    }

    /// Dials every way in its turn until one answers; `None` where another session is wanted, or none.
    async fn dial(&mut self) -> Option<Dialled> {
        self.ways.begin(clock::now());
        // Those that are left when one has answered end with the set.
        let mut attempts = JoinSet::new();
        let mut begun = vec![0_u64; self.ways.count()];
        loop {
            let now = clock::now();
            while let Some(way) = self.ways.due(now) {
                let begun = &mut begun[self.ways.rank(way)];
                let is_long = self.ways.is_patient(now) || begun.is_multiple_of(LONG_EVERY);
                *begun += 1;
                attempts.spawn(attempt(Arc::clone(&self.caller), way, is_long));
            }
            let nap = clock::nap(Deadline { at: self.ways.next_at(), why: "the next attempt" }, now);
            tokio::select! {
                biased;
                _ = self.hello.changed() => return None,
                Some(done) = attempts.join_next() => {
                    let Ok((way, answer)) = done else { continue };
                    match answer {
                        Answer::Stands(dialled) => return Some(*dialled),
                        Answer::Refused(why) => {
                            self.ways.handle_refused(way, clock::now());
                            self.lament(way, &why);
                        }
                        Answer::Silent { is_long: true } => self.lament(way, "it does not answer"),
                        Answer::Silent { is_long: false } => {}
                    }
                }
                () = tokio::time::sleep(nap) => {}
            }
        }
    }

    fn lament(&mut self, way: Way, why: &str) {
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        let failure = format!("{}: {why}", self.caller.name(way));
        if self.said.get(&way) != Some(&failure) {
            tracing::warn!(why = failure, "no session with the region; trying on");
            self.said.insert(way, failure);
        }
    }

    /// Serves one session, and says how it ended; returns the better way that stands, if that is why.
    async fn one(&mut self, dialled: Dialled, hello: &Hello) -> Option<Dialled> {
        let Dialled { way, address, listening, connection } = dialled;
        let (stream, frames) = match introduce(&connection, hello).await {
            Ok(introduced) => introduced,
            Err(why) => {
                self.ways.handle_refused(way, clock::now());
                self.lament(way, &why);
                return None;
            }
        };
        self.counts.opened.fetch_add(1, Ordering::Relaxed);
        self.ways.handle_opened(way, clock::now());
        self.said.clear();
        let name = self.caller.name(way);
        let (path, gateway) = (&self.caller.paths[way.path], &self.caller.gateways[way.gateway]);
        let region = gateway.region.as_ref().map(Name::to_string);
        tracing::info!(gateway = name, region, term = %hello.term, "a session with the region stands");
        let over = Over {
            path: path.name.clone(),
            gateway: gateway.name.to_string(),
            region,
            address: address.to_string(),
        };
        self.standing.send_modify(|standing| {
            standing.over = Some(over);
            standing.since = clock::now();
        });
        self.first.send_replace(Some(way));
        let end = self.serve(way, (connection, stream, frames)).await;
        self.first.send_replace(None);
        // Good-bye is on its way while the next dial begins.
        self.closing.spawn(async move { listening.endpoint.wait_idle().await });
        while self.closing.try_join_next().is_some() {}
        self.handle_end(end, &name)
    }

    /// Notes how a session ended.
    fn handle_end(&mut self, end: End, name: &str) -> Option<Dialled> {
        let now = clock::now();
        let (fall, why, better) = match end {
            End::Unwanted => (Fall::Left, "this board no longer speaks for its site in this term".to_owned(), None),
            End::Fell(why) => (Fall::Ended, format!("{name}: {why}"), None),
            End::Silent(why) => {
                self.counts.silent.fetch_add(1, Ordering::Relaxed);
                (Fall::Silent, format!("{name}: {why}"), None)
            }
            End::Better(better) => {
                self.counts.moved.fetch_add(1, Ordering::Relaxed);
                (Fall::Left, format!("{} is better than {name}", self.caller.name(better.way)), Some(*better))
            }
        };
        self.ways.handle_fell(fall, now);
        match fall {
            Fall::Silent | Fall::Ended => tracing::warn!(why, "the session with the region fell"),
            Fall::Left => tracing::info!(why, "the session with the region is over"),
        }
        self.standing.send_modify(|standing| {
            *standing = Standing { over: None, since: now, why, changes: standing.changes + 1 };
        });
        better
    }

    async fn serve(&mut self, way: Way, session: (Connection, SendStream, FrameReader)) -> End {
        let (connection, stream, mut frames) = session;
        let (messages, queue) = mpsc::channel(PEER_QUEUE_MAX);
        let (backlog, waiting) = mpsc::channel(PEER_QUEUE_MAX);
        let counts = Arc::clone(&self.counts);
        let beside = self.beside.clone();
        let region = self.caller.gateways[way.gateway].region.as_ref().map(RegionTag::of);
        let session = Session { messages, backlog, beside, connection: connection.clone(), counts, region };
        if self.inputs.send(RegionInput::Up(session)).await.is_err() {
            return End::Unwanted;
        }
        // Without another path little is won by haste, and a busy gateway must not lose all its sites at once.
        let mistakes = self.ways.mistakes(way).max(u32::from(!self.caller.has_other_path()));
        let sent = AtomicU64::new(0);
        let budget = self.caller.paths[way.path].bandwidth_mbit;
        let end = tokio::select! {
            why = receive(&mut frames, &self.inputs, &self.counts) => End::Fell(why),
            why = send(stream, queue, &sent) => End::Fell(why),
            why = send_backlog(&connection, waiting, (budget, &sent)) => End::Fell(why),
            why = fall_silent(&connection, mistakes) => End::Silent(why),
            better = look_for_better(&mut self.ways, &self.caller) => End::Better(Box::new(better)),
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

fn ways(region: &Region, now: Instant) -> Ways {
    let ways = Ways::new(region.paths.len(), &region.ranks(), now);
    let somebody_pays = region.paths.iter().any(|path| path.is_metered);
    if somebody_pays { ways.without_haste() } else { ways }
}

/// What came of an attempt.
enum Answer {
    Stands(Box<Dialled>),
    Refused(String),
    Silent { is_long: bool },
}

async fn attempt(caller: Arc<Caller>, way: Way, is_long: bool) -> (Way, Answer) {
    let patience = if is_long { DIAL_MAX } else { ATTEMPT_MAX };
    let answer = match tokio::time::timeout(patience, caller.attempt(way, None)).await {
        Ok(Ok(dialled)) => Answer::Stands(Box::new(dialled)),
        Ok(Err(why)) => Answer::Refused(why),
        Err(_) => Answer::Silent { is_long },
    };
    (way, answer)
}

/// A part of `most` by chance, so that the sites of a gateway that comes back do not knock in step.
fn apart(most: Duration) -> Duration {
    most / 256 * u32::try_from(RandomState::new().hash_one(0_u8) % 256).unwrap_or(0)
}

/// Tries better ways than the one in use, whenever that is due; returns one that is to be taken.
async fn look_for_better(ways: &mut Ways, caller: &Arc<Caller>) -> Dialled {
    loop {
        let now = clock::now();
        let Some(way) = ways.look(now) else {
            let nap = clock::nap(Deadline { at: ways.look_at(), why: "a better way" }, now);
            tokio::time::sleep(nap).await;
            continue;
        };
        match attempt(Arc::clone(caller), way, true).await.1 {
            Answer::Stands(dialled) => {
                // A gateway that serves no more says so when it has shaken hands.
                let word = 2 * dialled.connection.rtt() + SAYS_NO_WITHIN;
                if tokio::time::timeout(word, dialled.connection.closed()).await.is_ok() {
                    ways.handle_look_refused(clock::now());
                } else if ways.handle_looked(way, true, clock::now()) {
                    return *dialled;
                } else {
                    dialled.hang_up();
                }
            }
            Answer::Refused(_) => ways.handle_look_refused(clock::now()),
            Answer::Silent { .. } => {
                ways.handle_looked(way, false, clock::now());
            }
        }
        tokio::time::sleep(apart(LOOKS_APART)).await;
    }
}

#[cfg(test)]
mod tests;
