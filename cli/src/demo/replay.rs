//! The log as readings of publishers: who sends which event, as what, and when. Any log will do: nothing here knows
//! what an event means, and a log that is too short is replayed from its beginning.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;

use super::log::{Log, LogEvent};
use crate::failure::Failure;

/// Publishers of one device: its parameters (detectors, phases) are dealt out among them.
const GROUPS: i64 = 16;
/// Publishers altogether. Devices beyond them share.
const PUBLISHERS_MAX: usize = 64;
/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(2);

/// One reading to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Where.
    pub(crate) topic: String,
    /// What.
    pub(crate) payload: Bytes,
}

impl Reading {
    /// Digest of topic and payload.
    pub(crate) fn content(&self) -> u64 {
        content(self.topic.as_bytes(), &self.payload)
    }
}

/// Digest of a topic and a payload, equal in this process only.
pub(crate) fn content(topic: &[u8], payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (topic, payload).hash(&mut hasher);
    hasher.finish()
}

/// A log and its publishers.
#[derive(Debug)]
pub(crate) struct Replay {
    log: Log,
    publishers: Vec<String>,
    by_group: HashMap<(u32, i64), usize>,
}

impl Replay {
    /// Refused: a log without events.
    pub(crate) fn new(log: Log) -> Result<Self, Failure> {
        if log.events.is_empty() {
            return Err(Failure::new("the log has no events").remedy("it needs at least one line below the header"));
        }
        let mut publishers = Vec::new();
        let mut by_group = HashMap::new();
        for event in &log.events {
            let group = group(event);
            if by_group.contains_key(&group) {
                continue;
            }
            let at = if publishers.len() < PUBLISHERS_MAX {
                publishers.len()
            } else {
                by_group.len() % PUBLISHERS_MAX
            };
            if at == publishers.len() {
                publishers.push(format!("{}-{}", word(&log.devices[event.device as usize]), group.1 + 1));
            }
            by_group.insert(group, at);
        }
        // Two devices may come to the same word: names tell publishers apart, so they must differ.
        for (at, name) in publishers.iter_mut().enumerate() {
            name.insert_str(0, &format!("controller-{}-", at + 1));
        }
        Ok(Self { log, publishers, by_group })
    }

    /// The publishers' names.
    pub(crate) fn publishers(&self) -> &[String] {
        &self.publishers
    }

    /// Events of one pass.
    pub(crate) fn events(&self) -> usize {
        self.log.events.len()
    }

    /// The reading `at` (counted over all passes), and whose it is.
    fn reading(&self, at: u64) -> (usize, Reading) {
        let event = &self.log.events[(at % self.log.events.len() as u64) as usize];
        let publisher = self.by_group.get(&group(event)).copied().unwrap_or(0);
        let LogEvent { at_ms, event: code, param, .. } = event;
        let device = &self.log.devices[event.device as usize];
        let topic = format!("controller/{}/{code}/{param}", word(device));
        let payload = serde_json::json!({ "at_ms": at_ms, "device": device, "event": code, "param": param });
        (publisher, Reading { topic, payload: payload.to_string().into() })
    }

    /// Hands out readings, `rate` a second, for `during`; `feeds` are the publishers' in their order.
    pub(crate) async fn run(&self, rate: u32, during: Duration, feeds: &[UnboundedSender<Reading>]) {
        let begun = Instant::now();
        let mut handed = 0_u64;
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            let elapsed = begun.elapsed().min(during);
            let due = (elapsed.as_secs_f64() * f64::from(rate)) as u64;
            while handed < due {
                let (publisher, reading) = self.reading(handed);
                // A publisher that is gone has said why.
                let _ = feeds[publisher].send(reading);
                handed += 1;
            }
            if elapsed == during {
                return;
            }
        }
    }
}

fn group(event: &LogEvent) -> (u32, i64) {
    (event.device, event.param.rem_euclid(GROUPS))
}

/// A device's name as one level of a topic and as part of a client's identifier.
fn word(device: &str) -> String {
    device
        .chars()
        .map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(lines: &str) -> Replay {
        let text = format!("ts,device,event,param\n{lines}");
        Replay::new(Log::read_csv(text.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn a_short_log_begins_again_and_words_fit_topics() {
        let replay = replay("2024-04-15T12:00:00,a/#,82,3\n2024-04-15T12:00:01,a+,81,-3\n");
        assert_eq!(replay.publishers(), ["controller-1-a__-4", "controller-2-a_-14"]);
        let (who, first) = replay.reading(0);
        assert_eq!((who, first.topic.as_str()), (0, "controller/a__/82/3"));
        assert_eq!(&first.payload[..], br##"{"at_ms":1713182400000,"device":"a/#","event":82,"param":3}"##);
        assert_eq!(replay.reading(1).0, 1);
        assert_eq!(replay.reading(2), (0, first));
        assert!(Replay::new(Log::default()).is_err());
    }

    #[test]
    fn many_devices_share_publishers() {
        let lines: String = (0..200).map(|device| format!("2024-04-15T12:00:00,d{device},1,1\n")).collect();
        let replay = replay(&lines);
        assert_eq!(replay.publishers().len(), PUBLISHERS_MAX);
        assert!((0..200).all(|at| replay.reading(at).0 < PUBLISHERS_MAX));
    }

    #[tokio::test]
    async fn the_rate_is_kept_over_the_whole_time() {
        let replay = replay("2024-04-15T12:00:00,a,1,1\n2024-04-15T12:00:00,a,1,2\n");
        let (one, mut first) = tokio::sync::mpsc::unbounded_channel();
        let (two, mut second) = tokio::sync::mpsc::unbounded_channel();
        replay.run(1000, Duration::from_millis(100), &[one, two]).await;
        assert_eq!((first.len(), second.len()), (50, 50), "however late the ticks were");
        assert_eq!(first.try_recv().unwrap().topic, "controller/a/1/1");
        assert_eq!(second.try_recv().unwrap().topic, "controller/a/1/2");
    }
}
