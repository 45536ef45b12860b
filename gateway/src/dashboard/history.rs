//! What sites did lately, kept for the plots: one sample of each every few seconds, for half an hour, and how each last
//! added up. One task writes it; pages and the API read it. It is lost with the process, and nothing decides by it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use link::stop::Stop;
use shared::ids::Name;
use shared::time::Instant;
use tokio::sync::watch;

use crate::picture::{Picture, SitePicture};
use crate::store::Desk;
use crate::store::read::SiteCounts;

/// Between two samples.
pub(crate) const SAMPLE_PERIOD: Duration = Duration::from_secs(5);
/// Samples kept of a site: half an hour. With 24 bytes each a thousand sites take 9 MB.
const SAMPLES_MAX: usize = 360;
/// Rates are taken over so many samples: a minute.
const RATE_SAMPLES: usize = 12;
/// Sites whose counts are read between two samples, in turn: with a thousand sites each comes after four minutes.
const JUDGED_MAX: usize = 20;

/// All sites that are served, by name.
pub(crate) type Histories = BTreeMap<Name, SiteHistory>;

/// One site at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// When.
    pub(crate) at: Instant,
    /// Rows that the store has of it.
    pub(crate) stored: u64,
    /// Records in its boards' journals that the region lacked, where it had a session.
    pub(crate) backlog: Option<u64>,
}

/// Whether a site added up when its counts were read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Nothing is missing that is not declared, or on its way.
    pub(crate) adds_up: bool,
    /// Records that gap records declared lost.
    pub(crate) declared: u64,
}

/// One site.
#[derive(Clone, Debug, Default)]
pub(crate) struct SiteHistory {
    samples: VecDeque<Sample>,
    verdict: Option<Verdict>,
}

impl SiteHistory {
    fn take(&mut self, sample: Sample) {
        if self.samples.len() >= SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// How it last added up.
    pub(crate) const fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Oldest first.
    pub(crate) fn samples(&self) -> impl ExactSizeIterator<Item = &Sample> {
        self.samples.iter()
    }

    /// Rows stored a second, between each two samples.
    pub(crate) fn flow(&self) -> Vec<f64> {
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        pairs
            .map(|(one, next)| per_second(next.stored.saturating_sub(one.stored), *one, *next))
            .collect()
    }

    /// Rows stored a second, over the last minute.
    pub(crate) fn rate(&self) -> Option<f64> {
        let (first, last) = self.lately()?;
        Some(per_second(last.stored.saturating_sub(first.stored), first, last))
    }

    /// How long the backlog takes to drain at the rate of the last minute; `None` where there is none or it does not shrink.
    pub(crate) fn drained_in(&self) -> Option<Duration> {
        let (first, last) = self.lately()?;
        let (before, now) = (first.backlog?, last.backlog?);
        let shrunk = before.checked_sub(now).filter(|shrunk| *shrunk > 0)?;
        let seconds = now as f64 / per_second(shrunk, first, last);
        Duration::try_from_secs_f64(seconds).ok().filter(|_| now > 0)
    }

    /// Whether the backlog is larger than a minute ago, all through which the site had a session.
    pub(crate) fn grows(&self) -> bool {
        let lately = self.samples.iter().rev().take(RATE_SAMPLES + 1);
        let backlogs: Option<Vec<u64>> = lately.map(|sample| sample.backlog).collect();
        backlogs.is_some_and(|newest_first| {
            newest_first.len() > RATE_SAMPLES && newest_first.windows(2).all(|pair| pair[0] > pair[1])
        })
    }

    /// The first and the last sample of the last minute, of which there must be two.
    fn lately(&self) -> Option<(Sample, Sample)> {
        let from = self.samples.len().saturating_sub(RATE_SAMPLES + 1);
        let (first, last) = (self.samples.get(from)?, self.samples.back()?);
        (last.at > first.at).then_some((*first, *last))
    }
}

fn per_second(count: u64, from: Sample, to: Sample) -> f64 {
    count as f64 / to.at.since(from.at).as_secs_f64().max(0.001)
}

/// Takes samples until told to stop.
pub(crate) async fn keep(
    picture: watch::Receiver<Picture>,
    desk: Desk,
    histories: watch::Sender<Histories>,
    mut stop: Stop,
) {
    let mut judged_last: Option<Name> = None;
    loop {
        let shown = picture.borrow().sites.clone();
        let chosen = next_of(&shown, judged_last.as_ref());
        judged_last = chosen.last().cloned().or(judged_last);
        let asked = chosen.clone();
        let read = desk.ask(move |store| {
            let counts = asked.iter().map(|site| store.counts(site)).collect::<Result<Vec<_>, _>>()?;
            Ok((store.stored()?, counts))
        });
        let read = tokio::select! {
            () = stop.stopped() => return,
            read = read => read,
        };
        // Where the store cannot be read, the pages say so themselves, and the plots have a hole.
        if let Ok((stored, counts)) = read {
            let at = link::clock::now();
            histories.send_modify(|histories| {
                for (site, picture) in &shown {
                    let stored = stored.get(site.as_str()).copied().unwrap_or(0);
                    histories
                        .entry(site.clone())
                        .or_default()
                        .take(Sample { at, stored, backlog: backlog(picture) });
                }
                for (site, counts) in chosen.iter().zip(&counts) {
                    let verdict = shown.get(site).map(|picture| verdict(picture, counts));
                    histories.entry(site.clone()).or_default().verdict = verdict;
                }
            });
        }
        tokio::select! {
            () = stop.stopped() => return,
            () = tokio::time::sleep(SAMPLE_PERIOD) => {}
        }
    }
}

/// The sites that come after `last`, round and round, each once at most.
fn next_of(sites: &BTreeMap<Name, SitePicture>, last: Option<&Name>) -> Vec<Name> {
    let after = sites.keys().filter(|name| last.is_none_or(|last| *name > last));
    let before = sites.keys().filter(|name| last.is_some_and(|last| *name <= last));
    after.chain(before).take(JUDGED_MAX).cloned().collect()
}

/// What the site says of its backlog, where it can say anything now.
pub(crate) fn backlog(picture: &SitePicture) -> Option<u64> {
    let told = picture.told.as_ref().filter(|_| picture.is_connected())?;
    Some(told.report.boards.iter().map(|line| line.backlog).fold(0, u64::saturating_add))
}

fn verdict(picture: &SitePicture, counts: &SiteCounts) -> Verdict {
    Verdict {
        adds_up: crate::reckon::reckon(picture, counts).adds_up,
        declared: counts.sum(|stream| stream.shed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn history(samples: impl IntoIterator<Item = (u64, u64, Option<u64>)>) -> SiteHistory {
        let mut history = SiteHistory::default();
        for (seconds, stored, backlog) in samples {
            history.take(Sample { at: at(seconds), stored, backlog });
        }
        history
    }

    #[test]
    fn rates_are_of_the_last_minute_and_of_what_is_there() {
        assert_eq!(history([]).rate(), None);
        assert_eq!(history([(5, 100, None)]).rate(), None);
        let long = history((0..40).map(|step| (5 * step, if step < 20 { 0 } else { 50 * (step - 19) }, None)));
        assert_eq!(long.rate(), Some(10.0));
        assert_eq!((long.flow().first(), long.flow().last()), (Some(&0.0), Some(&10.0)));
        let restored = history([(0, 500, None), (5, 100, None)]);
        assert_eq!(restored.rate(), Some(0.0), "a store that went back has no negative flow");
    }

    #[test]
    fn a_backlog_that_shrinks_has_an_end_and_one_that_does_not_has_none() {
        let drains = history([(0, 0, Some(1000)), (10, 0, Some(500))]);
        assert_eq!(drains.drained_in(), Some(Duration::from_secs(10)));
        assert_eq!(history([(0, 0, Some(500)), (10, 0, Some(500))]).drained_in(), None);
        assert_eq!(history([(0, 0, Some(500)), (10, 0, Some(0))]).drained_in(), None, "it is drained");
        assert_eq!(history([(0, 0, None), (10, 0, Some(10))]).drained_in(), None);
        let grows = |backlogs: Vec<Option<u64>>| {
            history(backlogs.into_iter().zip(0..).map(|(backlog, step)| (5 * step, 0, backlog))).grows()
        };
        assert!(grows((1..=13).map(Some).collect()));
        assert!(!grows((1..=12).map(Some).collect()), "less than a minute");
        assert!(!grows((1..=13).map(|step| Some(step).filter(|step| *step != 4)).collect()), "without a session");
        assert!(!grows(vec![Some(7); 13]));
    }

    #[test]
    fn samples_and_sites_come_in_turn_and_in_bounds() {
        let full = history((0..2 * SAMPLES_MAX as u64).map(|step| (step, step, None)));
        assert_eq!(full.samples().len(), SAMPLES_MAX);
        let sites: BTreeMap<Name, SitePicture> = (0..50)
            .map(|number| (Name::try_from(format!("s{number:02}").as_str()).unwrap(), SitePicture::default()))
            .collect();
        let first = next_of(&sites, None);
        let second = next_of(&sites, first.last());
        let third = next_of(&sites, second.last());
        let names: Vec<&str> = [first[0].as_str(), second[0].as_str(), third[0].as_str(), third[10].as_str()].into();
        assert_eq!(names, ["s00", "s20", "s40", "s00"]);
        let few: BTreeMap<_, _> = sites.into_iter().take(3).collect();
        assert_eq!(next_of(&few, few.keys().nth(1)).len(), 3);
    }
}
