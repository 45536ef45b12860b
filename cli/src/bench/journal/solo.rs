//! A board's node alone on its disk, without sockets: the code that a board runs, from the offer of a record to its answer.
//! Performs what the node decides for its disk and drops the rest.

use std::path::Path;

use bytes::Bytes;
use firmware::config::BoardConfig;
use firmware::disk::{self, Disk};
use link::clock;
use shared::action::{Action, Offer};
use shared::ids::{Class, Ticket};
use shared::node::{Node, Start};
use shared::outbox::Outbox;
use shared::record::{Key, Record};

use crate::bench::ingest::client::noise;
use crate::failure::Failure;

/// The node and its disk.
pub(super) struct Solo {
    node: Node,
    disk: Disk,
    out: Outbox<Action>,
    answered: usize,
}

impl Solo {
    /// The board of the configuration file `path`, which no process runs.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let text = crate::files::read_config(path)?;
        let config = BoardConfig::parse(path, &text).map_err(|refusal| Failure::new(refusal.to_string()))?;
        let nonce = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default()
            .subsec_nanos();
        let opened = disk::open(&config.data_dir, &config.node.site, config.node.board, u64::from(nonce));
        let opened = opened
            .map_err(|error| Failure::new(format!("{} cannot be opened", config.data_dir.display())).because(error))?;
        let start = Start {
            epoch: opened.epoch,
            memory: opened.memory,
            seed: 1,
            restarts: 0,
            recovered: opened.recovered,
        };
        let mut out = Outbox::default();
        let mut node = Node::new(config.node, start, clock::now());
        node.handle_start(clock::now(), &mut out);
        let mut solo = Self { node, disk: opened.disk, out, answered: 0 };
        solo.perform();
        Ok(solo)
    }

    /// Offers `records` at once and waits until each of them is answered.
    pub(super) async fn commit(&mut self, records: Vec<Record>) -> Result<(), Failure> {
        let wanted = records.len();
        self.answered = 0;
        let mut waiting = Some(records);
        loop {
            if self.node.accepts()
                && let Some(records) = waiting.take()
            {
                let offer = |(at, record)| Offer { ticket: Some(Ticket(at as u64)), record };
                let offers = records.into_iter().enumerate().map(offer).collect();
                self.node.handle_offers(offers, clock::now(), &mut self.out);
                self.perform();
            }
            if self.answered == wanted {
                return Ok(());
            }
            if self.disk.gauge().has_failed() {
                return Err(Failure::new("the disk failed"));
            }
            let nap = clock::nap(self.node.next_deadline(), clock::now());
            tokio::select! {
                done = self.disk.done() => self.node.handle_disk(done, clock::now(), &mut self.out),
                () = tokio::time::sleep(nap) => {}
            }
            let now = clock::now();
            if now >= self.node.next_deadline().at {
                self.node.handle_deadline(now, &mut self.out);
            }
            self.perform();
        }
    }

    fn perform(&mut self) {
        while let Some(action) = self.out.pop() {
            match action {
                Action::Disk(job) => self.disk.submit(job),
                Action::Answer(answers) => self.answered += answers.len(),
                _ => {}
            }
        }
    }
}

/// Records as a front door makes them of readings that carry their own number: `payload` bytes each, no two alike.
pub(super) struct Readings {
    payload: Vec<u8>,
    count: u64,
}

impl Readings {
    /// With payloads of `payload` bytes, 16 or more.
    pub(super) fn new(payload: usize) -> Self {
        Self { payload: noise(0, payload).collect(), count: 0 }
    }

    /// The next `count`.
    pub(super) fn next(&mut self, count: u32) -> Vec<Record> {
        (0..count).map(|_| self.one()).collect()
    }

    fn one(&mut self) -> Record {
        self.count += 1;
        let digits = format!("{:016x}", self.count);
        let length = digits.len().min(self.payload.len());
        self.payload[..length].copy_from_slice(&digits.as_bytes()[..length]);
        let (publisher, topic) = (Bytes::from_static(b"bench-0"), Bytes::from_static(b"bench/0"));
        let key = Key::content(&publisher, &topic, &self.payload);
        let payload = Bytes::copy_from_slice(&self.payload);
        Record { class: Class::Event, publisher, key, taken: clock::wall(), topic, payload }
    }
}
