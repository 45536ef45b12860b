//! One run: start, show that the way is open, cut it, publish, mend it, watch. The same for everyone who is measured.
//!
//! ```text
//!  uplink  ───────╳ ── down ── ╳───────────────────────────────
//!            warm      publish   first record ... last one       the rest at leisure, then every row is read
//!             up      the backlog │◀──────── drain ────────▶│
//! ```

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::figures::Sample;
use super::line::{Count, Terms};
use super::ours::{BOARDS, Site};
use super::publish::{Live, dial, trickle};
use super::readings::{Kind, Readings};
use super::rivals::Name;
use super::subject::Subject;
use super::wan::{Congestion, Wan};
use crate::failure::Failure;

/// Records that show that the way is open, of each publisher.
const WARM_UPS: u64 = 10;
/// They arrive within so long: NATS joins its halves after some seconds.
const WARM_MAX: Duration = Duration::from_secs(60);
/// The uplink is down for so long at least: both ends have noticed, and dials have failed often enough to be patient.
const OUTAGE_LEAST: Duration = Duration::from_secs(12);
/// Between two looks at the region.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The same where a look is a question to another program.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Where nothing has arrived for so long a drain has failed.
const STALL_MAX: Duration = Duration::from_secs(60);
/// What a drain has not brought is let through an easy link for so long, to be counted.
const REST_MAX: Duration = Duration::from_secs(120);
/// The easy link.
const EASY: Terms = Terms {
    rate_bps: 1_000_000_000,
    delay: Duration::from_millis(1),
    queue: Duration::from_millis(100),
    loss_ppm: 0,
};

/// What all runs have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course<'a> {
    /// The link's terms, each way.
    pub(super) terms: Terms,
    /// Records of the backlog.
    pub(super) records: u64,
    /// A rival is watched for so long at most.
    pub(super) rival_max: Duration,
    /// Where directories are made.
    pub(super) below: &'a Path,
}

/// How a watch ended.
struct Watched {
    took: Duration,
    first: Option<Duration>,
    arrived: u64,
    /// What the link let through towards the region, and lost, until then.
    through: Count,
    lost: Count,
    dropped: Count,
}

impl Course<'_> {
    /// Measures ours, or `rival`, with losses decided by `seed`.
    pub(super) async fn run(&self, rival: Option<Name>, seed: u64) -> Result<Sample, Failure> {
        let congestion = rival.map_or(Congestion::Cubic, Name::congestion);
        let wan = Wan::build(self.terms, seed, congestion)?;
        let shares = self.shares();
        let mut subject = Subject::start(&wan, rival, self.below, &shares).await?;
        self.warm_up(&wan, &mut subject).await?;
        wan.set_cut(true);
        let down_since = Instant::now();
        subject.publish(&wan, Kind::Backlog, &shares).await?;
        tokio::time::sleep(OUTAGE_LEAST.saturating_sub(down_since.elapsed())).await;
        let live = Live::default();
        let max = if rival.is_none() { Duration::MAX } else { self.rival_max };
        let sensors = if rival.is_none() { dial_sensors(&wan).await? } else { Vec::new() };
        let before = wan.carried().0;
        let mended = Instant::now();
        wan.set_cut(false);
        let mut publishing = JoinSet::new();
        for (kind, board, stream) in sensors {
            publishing.spawn(trickle(stream, kind, board, live.clone()));
        }
        let mut watched = self.watch(&wan, &mut subject, &live, (mended, max)).await?;
        let after = wan.carried().0;
        watched.through = after.through.since(before.through);
        watched.lost = after.lost.since(before.lost);
        watched.dropped = after.dropped.since(before.dropped);
        live.end();
        // They end with their next turn; what they published before is watched meanwhile.
        while !publishing.is_empty() {
            subject.arrived(&wan, &live).await?;
            tokio::select! {
                Some(done) = publishing.join_next() => {
                    let done = done.map_err(std::io::Error::other).flatten();
                    done.map_err(|error| Failure::new("publishing failed").because(error))?;
                }
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        let is_whole = watched.arrived >= self.records;
        let all_came = is_whole || self.rest(&wan, &mut subject, &live).await?;
        let ended = self.settle(&wan, &mut subject, &live).await?;
        let (tally, amiss) = subject.judge(&wan, &shares, &live).await?;
        if wan.refused() > 0 {
            return Err(Failure::new(format!("the emulator could not pass {} packets on", wan.refused())));
        }
        let missing = self.records - tally.arrived();
        Ok(Sample {
            lost: all_came.then_some(missing + amiss),
            duplicated: tally.duplicated(),
            event: live.took(Kind::Event, ended),
            alarm: live.took(Kind::Alarm, ended),
            ..self.sample(&watched)
        })
    }

    fn shares(&self) -> Vec<u64> {
        let boards = u64::from(BOARDS);
        (0..boards)
            .map(|board| self.records / boards + u64::from(board < self.records % boards))
            .collect()
    }

    async fn warm_up(&self, wan: &Wan, subject: &mut Subject) -> Result<(), Failure> {
        let shares = [WARM_UPS; BOARDS as usize];
        let (count, none) = (shares.iter().sum(), Live::default());
        let begun = Instant::now();
        subject.publish(wan, Kind::WarmUp, &shares).await?;
        while subject.arrived(wan, &none).await? < count {
            subject.check()?;
            if begun.elapsed() > WARM_MAX {
                return Err(Failure::new(format!("nothing comes through after {} s", WARM_MAX.as_secs())));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        subject.handle_warm(count);
        Ok(())
    }

    /// Watches until everything has arrived, for `max` at most.
    async fn watch(
        &self,
        wan: &Wan,
        subject: &mut Subject,
        live: &Live,
        (mended, max): (Instant, Duration),
    ) -> Result<Watched, Failure> {
        let every = if max == Duration::MAX { LOOK_EVERY } else { ASK_EVERY };
        let (mut first, mut last, mut progress) = (None, 0, Instant::now());
        loop {
            let arrived = subject.arrived(wan, live).await?;
            let took = mended.elapsed();
            if arrived > last {
                (last, progress) = (arrived, Instant::now());
                first.get_or_insert(took);
            }
            if arrived >= self.records || took >= max {
                let none = Count::default();
                return Ok(Watched { took, first, arrived, through: none, lost: none, dropped: none });
            }
            subject.check()?;
            if max == Duration::MAX && progress.elapsed() > STALL_MAX {
                let seconds = STALL_MAX.as_secs();
                return Err(Failure::new(format!("{arrived} records arrived, and none for {seconds} s since")));
            }
            tokio::time::sleep(every).await;
        }
    }

    /// Lets what is left come over an easy link; whether all came.
    async fn rest(&self, wan: &Wan, subject: &mut Subject, live: &Live) -> Result<bool, Failure> {
        wan.set_terms(EASY);
        let watched = self.watch(wan, subject, live, (Instant::now(), REST_MAX)).await?;
        Ok(watched.arrived >= self.records)
    }

    /// Waits for what was published meanwhile; returns when.
    async fn settle(&self, wan: &Wan, subject: &mut Subject, live: &Live) -> Result<Instant, Failure> {
        let begun = Instant::now();
        while !live.are_all_seen() && begun.elapsed() < STALL_MAX {
            subject.arrived(wan, live).await?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(Instant::now())
    }

    fn sample(&self, watched: &Watched) -> Sample {
        let seconds = watched.took.as_secs_f64();
        let capacity = self.terms.rate_bps as f64 / 8.0 * seconds;
        let payload = watched.arrived as f64 * Readings::length() as f64;
        Sample {
            is_whole: watched.arrived >= self.records,
            drain_s: seconds,
            wire_share: watched.through.bytes as f64 / capacity,
            goodput_share: payload / capacity,
            records_per_s: watched.arrived as f64 / seconds,
            first_record_s: watched.first.map(|first| first.as_secs_f64()),
            wire_bytes_per_record: watched.through.bytes as f64 / (watched.arrived as f64).max(1.0),
            packets_lost: watched.lost.packets,
            packets_dropped: watched.dropped.packets,
            ..Sample::default()
        }
    }
}

/// Connections of sensors that publish now and then, two to each board.
async fn dial_sensors(wan: &Wan) -> Result<Vec<(Kind, u8, TcpStream)>, Failure> {
    let mut sensors = Vec::new();
    for board in 1..=BOARDS {
        for kind in [Kind::Event, Kind::Alarm] {
            let dialled = dial(wan.site(), Site::mqtt(board)).await;
            let stream = dialled.map_err(|error| Failure::new("cannot publish").because(error))?;
            sensors.push((kind, board, stream));
        }
    }
    Ok(sensors)
}
