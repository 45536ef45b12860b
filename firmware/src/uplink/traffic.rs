//! What goes over a session that stands: the hello, what the region says, what the node says, and the backlog on streams of its
//! own, within the path's budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use link::clock;
use link::endpoint::{BACKLOG_STREAMS, acknowledged};
use link::frames::{FrameReader, ReadError, encode, write_all_frames};
use link::logging::whole_story;
use quinn::{Connection, SendStream};
use shared::frame::Conversation;
use shared::time::Deadline;
use shared::uplink::budget::Budget;
use shared::uplink::silence::{SAMPLE_EVERY, Sample, Silence, Verdict};
use shared::wire::uplink::{Hello, ToRegion};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::{RegionInput, UplinkCounts};

/// Messages taken at once, either way.
const BATCH_MAX: usize = 64;
/// Below that of the conversation's own stream, which has the transport's default, 0.
const BACKLOG_PRIORITY: i32 = -1;
/// Of a backlog within a budget so much is sent at once, and small blocks go together up to that: some ten packets.
const PIECE_BYTES: usize = 12 * 1024;

/// Says who is there, on the session's stream.
pub(super) async fn introduce(connection: &Connection, hello: &Hello) -> Result<(SendStream, FrameReader), String> {
    let (mut stream, back) = connection.open_bi().await.map_err(|error| whole_story(&error))?;
    let hello = encode(Conversation::ToRegion, &ToRegion::Hello(hello.clone()));
    stream.write_all(&hello).await.map_err(|error| whole_story(&error))?;
    Ok((stream, FrameReader::new(back, Conversation::FromRegion)))
}

/// Brings what the region says, until the stream ends; returns why.
pub(super) async fn receive(
    frames: &mut FrameReader,
    inputs: &mpsc::Sender<RegionInput>,
    counts: &UplinkCounts,
) -> String {
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

/// Returns once the path counts as dead: says for how long nothing came back. What is in doubt is asked for.
pub(super) async fn fall_silent(connection: &Connection, mistakes: u32) -> String {
    let mut judge = Silence::new(mistakes);
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let sample = sample(connection);
        match judge.handle_sample(sample) {
            Verdict::Fine => {}
            Verdict::Ask => {
                // A region that takes no datagrams leaves it to QUIC's own probes; one that cannot be sent now is asked again soon.
                let _ = connection.send_datagram(Bytes::from_static(b"?"));
            }
            Verdict::Dead => {
                let silent = judge.silent_for(sample.at).unwrap_or_default();
                return format!("nothing came back for {} ms", silent.as_millis());
            }
        }
    }
}

fn sample(connection: &Connection) -> Sample {
    let stats = connection.stats();
    let sent = stats.frame_tx;
    // All that is sent on a session that stands and must be acknowledged (RFC 9002, 2).
    let asked = [
        sent.stream,
        sent.ping,
        sent.datagram,
        sent.max_data,
        sent.max_stream_data,
        sent.data_blocked,
        sent.stream_data_blocked,
        sent.reset_stream,
        sent.stop_sending,
        sent.new_connection_id,
        sent.retire_connection_id,
        sent.path_challenge,
        sent.path_response,
        sent.crypto,
        sent.immediate_ack,
    ];
    Sample {
        at: clock::now(),
        asked: asked.iter().sum(),
        answered: acknowledged(connection),
        rtt: connection.rtt(),
    }
}

/// Writes what is queued, until a write fails; returns why. Counts the bytes.
pub(super) async fn send(mut stream: SendStream, mut queue: mpsc::Receiver<ToRegion>, sent: &AtomicU64) -> String {
    let (mut batch, mut frames) = (Vec::new(), Vec::new());
    while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
        frames.extend(batch.drain(..).map(|message| encode(Conversation::ToRegion, &message)));
        let bytes: usize = frames.iter().map(Bytes::len).sum();
        sent.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Err(error) = write_all_frames(&mut stream, &mut frames).await {
            return whole_story(&error);
        }
    }
    // The node let go of the session: it is told to close by the switch.
    std::future::pending().await
}

/// Writes what waits for all else to streams of its own, which the transport serves when the other has nothing to send: several
/// where the gateway takes them, so that a packet that is lost holds up those behind it on its own alone. Where there is a budget of so
/// many Mbit/s it is one stream, and what is `sent` beside it counts as spent. Ends where a write fails; returns why.
pub(super) async fn send_backlog(
    connection: &Connection,
    mut queue: mpsc::Receiver<ToRegion>,
    (budget, sent): (Option<u32>, &AtomicU64),
) -> String {
    // A gateway that takes no such stream is told of none before there is something for it.
    let Some(first) = queue.recv().await else {
        return std::future::pending().await;
    };
    let mut stream = match backlog_stream(connection).await {
        Ok(stream) => stream,
        Err(why) => return why,
    };
    let mut frames = vec![encode(Conversation::ToRegion, &first)];
    if let Some(megabits) = budget {
        return send_within(megabits, (stream, frames), queue, sent).await;
    }
    if let Err(error) = write_all_frames(&mut stream, &mut frames).await {
        return whole_story(&error);
    }
    let queue = Arc::new(Mutex::new(queue));
    // They end with the set.
    let mut writers = JoinSet::new();
    writers.spawn(send_share(stream, Arc::clone(&queue)));
    for _ in 1..BACKLOG_STREAMS {
        let (connection, queue) = (connection.clone(), Arc::clone(&queue));
        writers.spawn(async move {
            // One of an earlier build takes one stream, and this waits for ever.
            match backlog_stream(&connection).await {
                Ok(stream) => send_share(stream, queue).await,
                Err(why) => why,
            }
        });
    }
    match writers.join_next().await {
        Some(Ok(why)) => why,
        Some(Err(_)) | None => "what sends its backlog broke off".to_owned(),
    }
}

/// A stream of a backlog, as soon as the gateway takes one more.
async fn backlog_stream(connection: &Connection) -> Result<SendStream, String> {
    let stream = connection.open_uni().await.map_err(|error| whole_story(&error))?;
    match stream.set_priority(BACKLOG_PRIORITY) {
        Ok(()) => Ok(stream),
        Err(_) => Err("the stream broke off".to_owned()),
    }
}

/// Writes to `stream` what the writers of the others have not taken, until a write fails; returns why. What is taken at once is a block,
/// or small ones up to a few packets.
async fn send_share(mut stream: SendStream, queue: Arc<Mutex<mpsc::Receiver<ToRegion>>>) -> String {
    let mut frames = Vec::new();
    loop {
        let mut waiting = queue.lock().await;
        let mut next = waiting.recv().await;
        let mut bytes = 0;
        while let Some(message) = next.take() {
            let frame = encode(Conversation::ToRegion, &message);
            bytes += frame.len();
            frames.push(frame);
            if bytes < PIECE_BYTES {
                next = waiting.try_recv().ok();
            }
        }
        drop(waiting);
        if frames.is_empty() {
            return std::future::pending().await;
        }
        if let Err(error) = write_all_frames(&mut stream, &mut frames).await {
            return whole_story(&error);
        }
    }
}

/// Writes `frames`, then what is queued, within so many Mbit/s; returns why it could not go on.
async fn send_within(
    megabits: u32,
    (mut stream, mut frames): (SendStream, Vec<Bytes>),
    mut queue: mpsc::Receiver<ToRegion>,
    sent: &AtomicU64,
) -> String {
    // What went while nothing waited is over.
    let counted = sent.load(Ordering::Relaxed);
    let mut pace = Pace { budget: Budget::new(megabits, clock::now()), counted };
    let mut batch = Vec::new();
    loop {
        if let Err(error) = pace.write(&mut stream, &mut frames, sent).await {
            return whole_story(&error);
        }
        let was_idle = queue.is_empty();
        if queue.recv_many(&mut batch, BATCH_MAX).await == 0 {
            return std::future::pending().await;
        }
        if was_idle {
            pace.counted = sent.load(Ordering::Relaxed);
        }
        frames.extend(batch.drain(..).map(|message| encode(Conversation::ToRegion, &message)));
    }
}

/// A backlog within a budget.
struct Pace {
    budget: Budget,
    /// Bytes sent beside it that the budget knows of.
    counted: u64,
}

impl Pace {
    async fn write(
        &mut self,
        stream: &mut SendStream,
        frames: &mut Vec<Bytes>,
        sent: &AtomicU64,
    ) -> Result<(), quinn::WriteError> {
        for mut frame in frames.drain(..) {
            while !frame.is_empty() {
                let piece = frame.split_to(PIECE_BYTES.min(frame.len()));
                self.wait(piece.len() as u64, sent).await;
                stream.write_chunk(piece).await?;
            }
        }
        Ok(())
    }

    /// Waits until the budget has room, and takes `bytes` of it.
    async fn wait(&mut self, bytes: u64, sent: &AtomicU64) {
        let budget = &mut self.budget;
        loop {
            let now = clock::now();
            let beside = sent.load(Ordering::Relaxed);
            budget.spend(beside - std::mem::replace(&mut self.counted, beside), now);
            let at = budget.rests_until();
            if at <= now {
                budget.spend(bytes, now);
                return;
            }
            let nap: Duration = clock::nap(Deadline { at, why: "the path's budget" }, now);
            tokio::time::sleep(nap).await;
        }
    }
}
