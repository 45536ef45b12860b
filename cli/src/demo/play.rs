//! One run of the demo from beginning to verdict: publishers publish, faults happen when the timeline says so, the
//! screen shows it, and the store is judged when all is over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use link::stop::{Stopper, signal};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;

use super::observer::Observer;
use super::publisher::{Publisher, Tallies};
use super::region;
use super::relay::Relay;
use super::replay::Replay;
use super::screen::{BoardScene, Scene, Screen, grouped};
use super::site::Site;
use super::timeline::{self, Faults, Moment};
use super::verdict::{Account, Verdict};
use crate::failure::Failure;

/// Publishers that have nothing new to say wait so long for their last acknowledgements.
const LAST_ACKS_MAX: Duration = Duration::from_secs(10);
/// The drain is given up after so long.
const DRAIN_MAX: Duration = Duration::from_secs(45);
/// Between two pictures.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// What a run needs beside its site.
#[derive(Debug)]
pub(crate) struct Script {
    /// The log and its publishers.
    pub(crate) replay: Replay,
    /// Readings a second.
    pub(crate) rate: u32,
    /// For how long.
    pub(crate) publishing: Duration,
}

/// A run under way.
struct Play<'s> {
    site: &'s mut Site,
    relay: &'s Relay,
    screen: Screen,
    observer: Observer,
    tallies: Arc<Tallies>,
    publishers: JoinSet<Account>,
    stopper: Stopper,
    accounts: Vec<Account>,
    faults: Faults,
    takeover: JoinSet<Option<(usize, Duration)>>,
    takeover_took: Option<Duration>,
}

/// Plays `script` on `site`, which runs and has a leader. The site is stopped when the verdict is known.
pub(crate) async fn play(site: &mut Site, relay: &Relay, script: Script) -> Result<Verdict, Failure> {
    let readings = u64::from(script.rate) * script.publishing.as_secs();
    let plan = site.plan();
    let faces = plan.boards.iter().map(|board| board.http).collect();
    let observer = Observer::start(faces, site.gateway_data(), plan.site.clone());
    let (stopper, _) = signal();
    let mut play = Play {
        screen: Screen::new(site.count(), readings),
        site,
        relay,
        observer,
        tallies: Arc::default(),
        publishers: JoinSet::new(),
        stopper,
        accounts: Vec::new(),
        faults: Faults::default(),
        takeover: JoinSet::new(),
        takeover_took: None,
    };
    let moments = timeline::moments(play.site.count(), script.publishing);
    let mut replay = JoinSet::new();
    play.begin(script, &moments, &mut replay);
    let begun = Instant::now();
    for (at, moment) in moments {
        play.wait_until(begun + at).await?;
        play.act(moment).await?;
    }
    let drain = play.drain().await?;
    play.finish(drain)
}

impl Play<'_> {
    /// Starts the publishers, and the replay that feeds them.
    fn begin(&mut self, script: Script, moments: &[(Duration, Moment)], replay: &mut JoinSet<()>) {
        let (stopper, stop) = signal();
        self.stopper = stopper;
        let boards: Vec<_> = self.site.plan().boards.iter().map(|board| board.mqtt).collect();
        let mut feeds = Vec::new();
        for (at, name) in script.replay.publishers().iter().enumerate() {
            let (feed, fed) = unbounded_channel();
            feeds.push(feed);
            let publisher = Publisher::new(name.clone(), boards.clone(), at, fed, Arc::clone(&self.tallies));
            self.publishers.spawn(publisher.run(stop.clone()));
        }
        self.screen.say(&format!(
            "{} publishers replay a log of {} events, {} a second, over {} boards",
            feeds.len(),
            grouped(script.replay.events() as u64),
            grouped(u64::from(script.rate)),
            boards.len()
        ));
        let quiet = moments
            .iter()
            .find(|(_, moment)| *moment == Moment::Quiet)
            .map_or(script.publishing, |(at, _)| *at);
        replay.spawn(async move { script.replay.run(script.rate, quiet, &feeds).await });
    }

    /// Shows how things are until `at`.
    async fn wait_until(&mut self, at: Instant) -> Result<(), Failure> {
        while let Some(left) = at.checked_duration_since(Instant::now()) {
            self.look()?;
            tokio::select! {
                () = tokio::time::sleep(left.min(SHOW_EVERY)) => {}
                Some(took) = self.takeover.join_next() => self.taken_over(took.ok().flatten()),
            }
        }
        Ok(())
    }

    fn taken_over(&mut self, by: Option<(usize, Duration)>) {
        match by {
            Some((board, took)) => {
                self.takeover_took = Some(took);
                self.screen
                    .say(&format!("board {} leads, {} ms after the SIGKILL", board + 1, took.as_millis()));
            }
            None => self.screen.say("no board has taken over"),
        }
    }

    async fn act(&mut self, moment: Moment) -> Result<(), Failure> {
        match moment {
            Moment::KillLeader => {
                let takeover = self.faults.kill_leader(self.site, &self.screen).await?;
                self.takeover.spawn(takeover.measure());
            }
            Moment::ReviveLeader => self.faults.revive_leader(self.site, &self.screen)?,
            Moment::Cut => timeline::cut(self.relay, &self.screen),
            Moment::KillAnother => self.faults.kill_another(self.site, &self.screen).await?,
            Moment::ReviveAnother => self.faults.revive_another(self.site, &self.screen)?,
            Moment::Quiet => self.last_acks().await?,
            Moment::Mend => timeline::mend(self.relay, &self.screen),
        }
        Ok(())
    }

    /// Waits for what publishers have on their way, and takes their accounts.
    async fn last_acks(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + LAST_ACKS_MAX;
        while !self.publishers.is_empty() {
            self.look()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.stopper.stop();
            }
            let wait = if left.is_zero() { SHOW_EVERY } else { left.min(SHOW_EVERY) };
            if let Ok(Some(ended)) = tokio::time::timeout(wait, self.publishers.join_next()).await {
                let account = ended.map_err(|error| Failure::new("a publisher failed").because(error))?;
                self.accounts.push(account);
            }
        }
        let waiting: usize = self.accounts.iter().map(unacknowledged).sum();
        let line = match waiting {
            0 => "publishers are done: every reading is acknowledged".to_owned(),
            some => format!("publishers give up: {some} readings are not acknowledged"),
        };
        self.screen.say(&line);
        Ok(())
    }

    /// Waits until the store holds as many readings as were acknowledged; how long that took since now.
    async fn drain(&mut self) -> Result<Option<Duration>, Failure> {
        let begun = Instant::now();
        let acked = self
            .accounts
            .iter()
            .flat_map(|account| &account.readings)
            .filter(|fate| fate.acked)
            .count();
        while begun.elapsed() < DRAIN_MAX {
            self.look()?;
            let holds = self.observer.holds(acked as u64);
            if tokio::time::timeout(SHOW_EVERY, holds).await.is_ok() {
                let took = begun.elapsed();
                self.look()?;
                self.screen
                    .say(&format!("everything is stored, {:.1} s after the uplink came back", took.as_secs_f64()));
                return Ok(Some(took));
            }
        }
        self.screen
            .say(&format!("{} s after the uplink came back not everything is stored", DRAIN_MAX.as_secs()));
        Ok(None)
    }

    /// Shows how things are now. A failure if a process has ended that nobody ended.
    fn look(&mut self) -> Result<(), Failure> {
        self.site.check()?;
        let said = self.observer.boards().into_iter().enumerate();
        let boards = said.map(|(at, said)| match said {
            _ if !self.site.runs(at) => BoardScene::Dead,
            None => BoardScene::Silent,
            Some(status) => BoardScene::Up(status),
        });
        let scene = Scene {
            sent: self.tallies.sent.load(Ordering::Relaxed),
            acked: self.tallies.acked.load(Ordering::Relaxed),
            stored: self.observer.stored(),
            resent: self.tallies.resent.load(Ordering::Relaxed),
            cut: self.relay.is_cut().then(|| self.relay.swallowed()),
            boards: boards.collect(),
        };
        self.screen.show(&scene);
        Ok(())
    }

    /// Stops everything and reads the store afresh.
    fn finish(self, drain: Option<Duration>) -> Result<Verdict, Failure> {
        for title in self.site.stop_all() {
            self.screen.say(&format!("{title} did not stop in time and was killed"));
        }
        self.screen.say("all processes have stopped: reading the region's store afresh");
        let takeover_ms = self
            .takeover_took
            .map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        // Milliseconds are as fine as this was measured.
        let drain_s = drain.map(|drain| (drain.as_secs_f64() * 1000.0).round() / 1000.0);
        region::judge(&self.site.gateway_data(), &self.site.plan().site, &self.accounts, takeover_ms, drain_s)
    }
}

fn unacknowledged(account: &Account) -> usize {
    account.readings.iter().filter(|fate| !fate.acked).count()
}
