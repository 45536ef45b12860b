//! Alarms by a second path: beside the session that stands another one is kept over another path, with the same hello, which takes
//! copies of what alarms are fresh. So an alarm that was on its way when a path died has arrived by the other; the region counts
//! it once. Owns that second session. Nobody waits for it: what it cannot take is dropped, since the first session has it too. What the
//! region says over it is for nobody: its answers would overtake those of the first session, whose order says what they mean.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use link::endpoint::SignsOfLife;
use link::frames::{FrameReader, encode, write_all_frames};
use quinn::SendStream;
use shared::block::{pack_for, unpack};
use shared::frame::Conversation;
use shared::ids::Class;
use shared::uplink::ways::Way;
use shared::wire::peer::Reader;
use shared::wire::uplink::{FromRegion, Hello, Reads, ToRegion};
use tokio::sync::{mpsc, watch};

use super::dial::{Caller, Dialled};
use super::traffic::introduce;
use super::{DIAL_MAX, UplinkCounts, apart};

/// Blocks that wait for a path that is slower than alarms come; what comes then goes by the first path alone.
const WAITING_MAX: usize = 64;
/// Wait before a path is dialled again that did not answer or fell.
const AGAIN_MIN: Duration = Duration::from_secs(2);
/// Longest such wait: a path may be away for days, and a handshake is some 6 KB.
const AGAIN_MAX: Duration = Duration::from_secs(32);
/// A session that stood so long was a good one: the next is dialled soon.
const GOOD_AFTER: Duration = Duration::from_secs(30);
/// Messages of the region taken at once.
const BATCH_MAX: usize = 64;

/// Where copies are handed over; nothing in it while no second session stands.
pub(super) type Line = watch::Receiver<Option<mpsc::Sender<ToRegion>>>;

/// Whether `message` is what goes over both paths: a block of alarms. What `waits` has been told late already.
pub(super) fn is_urgent(message: &ToRegion, waits: bool) -> bool {
    matches!(message, ToRegion::Block(block) if !waits && block.stream.class == Class::Alarm)
}

/// Keeps the second session.
pub(super) struct Beside {
    pub(super) caller: Arc<Caller>,
    /// The hello of the session that is wanted.
    pub(super) hello: watch::Receiver<Option<Hello>>,
    /// The way of the session that stands.
    pub(super) first: watch::Receiver<Option<Way>>,
    pub(super) line: watch::Sender<Option<mpsc::Sender<ToRegion>>>,
    pub(super) counts: Arc<UplinkCounts>,
}

impl Beside {
    /// Runs until whoever wants sessions is gone.
    pub(super) async fn keep(mut self) {
        let mut wait = AGAIN_MIN;
        while let Some((first, hello)) = self.wanted().await {
            let was_good = match self.dial(first).await {
                Dial::Stands(dialled) => {
                    let begun = Instant::now();
                    self.serve(*dialled, &hello, first).await;
                    begun.elapsed() >= GOOD_AFTER
                }
                Dial::Nobody => false,
                Dial::Over => {
                    wait = AGAIN_MIN;
                    continue;
                }
            };
            wait = if was_good { AGAIN_MIN } else { (wait * 2).min(AGAIN_MAX) };
            tokio::select! {
                () = tokio::time::sleep(wait + apart(AGAIN_MIN)) => {}
                () = self.is_over(first, None) => wait = AGAIN_MIN,
            }
        }
    }

    /// The way of the session that stands, and its hello, once there is one that another path may stand beside.
    async fn wanted(&mut self) -> Option<(Way, Hello)> {
        loop {
            self.hello.has_changed().ok()?;
            let hello = self.hello.borrow_and_update().clone();
            let first = *self.first.borrow_and_update();
            if let (Some(hello), Some(first)) = (hello, first) {
                return Some((first, hello));
            }
            tokio::select! {
                changed = self.hello.changed() => changed.ok()?,
                changed = self.first.changed() => changed.ok()?,
            }
        }
    }

    /// Returns once another hello is wanted, or the first session stands over another way, but not while it has only fallen: its
    /// successor may fit what stands here, over `own` path.
    async fn is_over(&mut self, first: Way, own: Option<usize>) {
        loop {
            tokio::select! {
                _ = self.hello.changed() => return,
                changed = self.first.changed() => {
                    let now = *self.first.borrow_and_update();
                    let fits = match (now, own) {
                        (None, _) => true,
                        (Some(now), None) => now == first,
                        (Some(now), Some(own)) => now.path != own && now.gateway == first.gateway,
                    };
                    if changed.is_err() || !fits {
                        return;
                    }
                }
            }
        }
    }

    /// Tries the other paths, the same gateway first, and gateways of the same region alone.
    async fn dial(&mut self, first: Way) -> Dial {
        let paths = self.caller.paths.iter().enumerate();
        let others: Vec<usize> = paths
            .filter(|(path, about)| *path != first.path && about.takes_alarms)
            .map(|(path, _)| path)
            .collect();
        // Each region gets what its own session brings, so that a region that stands by has nothing in it before its time.
        let caller = Arc::clone(&self.caller);
        let of = |gateway: &usize| &caller.gateways[*gateway].region;
        let gateways = (0..caller.gateways.len()).filter(|gateway| of(gateway) == of(&first.gateway));
        let order = std::iter::once(first.gateway).chain(gateways.filter(|gateway| *gateway != first.gateway));
        for gateway in order {
            for path in &others {
                let attempt = Arc::clone(&self.caller).attempt(Way { path: *path, gateway }, Some(SignsOfLife::Seldom));
                let answer = tokio::select! {
                    answer = tokio::time::timeout(DIAL_MAX, attempt) => answer,
                    () = self.is_over(first, None) => return Dial::Over,
                };
                if let Ok(Ok(dialled)) = answer {
                    return Dial::Stands(Box::new(dialled));
                }
            }
        }
        Dial::Nobody
    }

    /// Serves a second session until it falls or is not wanted.
    async fn serve(&mut self, dialled: Dialled, hello: &Hello, first: Way) {
        let (way, connection) = (dialled.way, dialled.connection.clone());
        let Ok((stream, frames)) = introduce(&connection, hello).await else {
            return;
        };
        let path = self.caller.name(way);
        tracing::info!(path, "alarms go by a second path, too");
        let (line, waiting) = mpsc::channel(WAITING_MAX);
        let tell = self.line.clone();
        let counts = Arc::clone(&self.counts);
        // What this gateway reads may be less than what the first one does.
        let columns = AtomicBool::new(false);
        tokio::select! {
            () = listen(frames, &columns, || drop(tell.send_replace(Some(line)))) => {}
            () = copy(stream, waiting, (&counts, &columns)) => {}
            () = self.is_over(first, Some(way.path)) => {}
        }
        self.line.send_replace(None);
        tracing::info!(path, "alarms go by the first path alone");
        dialled.hang_up();
    }
}

/// What came of dialling.
enum Dial {
    Stands(Box<Dialled>),
    Nobody,
    /// Another hello or another way is to be dialled for.
    Over,
}

/// Hears what the gateway reads, until the session ends; calls `stands` when it is welcome.
async fn listen(mut frames: FrameReader, columns: &AtomicBool, stands: impl FnOnce()) {
    let mut stands = Some(stands);
    // A refusal is no news: the first session is told the same.
    while let Ok(Some(said)) = frames.read_batch(BATCH_MAX).await {
        for message in said {
            match message {
                FromRegion::Welcome { .. } => {
                    if let Some(stands) = stands.take() {
                        stands();
                    }
                }
                FromRegion::Coverage(lines) => {
                    if let Some(reads) = lines.iter().find_map(|line| line.as_reads(Reader::Region)) {
                        columns.store(reads == Reads::Columns, Ordering::Relaxed);
                    }
                }
                FromRegion::Refused(_) => {}
            }
        }
    }
}

/// Writes copies until a write fails, in a form that the gateway reads.
async fn copy(
    mut stream: SendStream,
    mut waiting: mpsc::Receiver<ToRegion>,
    (counts, columns): (&UplinkCounts, &AtomicBool),
) {
    let mut frames: Vec<Bytes> = Vec::new();
    while let Some(message) = waiting.recv().await {
        let reads = match columns.load(Ordering::Relaxed) {
            true => Reads::Columns,
            false => Reads::Lz4,
        };
        frames.push(encode(Conversation::ToRegion, &readable(message, reads)));
        if write_all_frames(&mut stream, &mut frames).await.is_err() {
            return;
        }
        counts.copies.fetch_add(1, Ordering::Relaxed);
    }
    std::future::pending().await
}

/// A block is packed anew for who cannot read it as it is.
fn readable(message: ToRegion, reads: Reads) -> ToRegion {
    match message {
        ToRegion::Block(block) if !reads.takes(block.codec) => {
            let packed = unpack(&block).map(|raw| pack_for(reads, block.stream, block.first, block.count, &raw));
            ToRegion::Block(packed.unwrap_or(block))
        }
        other => other,
    }
}
