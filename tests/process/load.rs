//! Publishers that keep a board busy, each on its own thread, and know what they were promised. What they send says who
//! they are and which reading it is, so that a stored row can be held against it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::mqtt::{Publish, Publisher, Version};

/// Publishes on their way at once.
const WINDOW: u64 = 32;

/// What a publisher knows of its readings: they have the numbers 1 to `sent`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    pub(crate) publisher: String,
    pub(crate) sent: u64,
    /// By number, from 1: whether it was acknowledged.
    acked: Vec<bool>,
    /// Bytes of each payload.
    bytes: usize,
}

impl Account {
    /// Of a publisher that has sent nothing yet.
    pub(crate) fn new(publisher: &str, bytes: usize) -> Self {
        Self { publisher: publisher.to_owned(), bytes, ..Self::default() }
    }

    /// Numbers of the readings that were acknowledged.
    pub(crate) fn acked(&self) -> impl Iterator<Item = u64> {
        (1..).zip(&self.acked).filter_map(|(number, acked)| acked.then_some(number))
    }

    /// What the reading `number` says.
    pub(crate) fn payload(&self, number: u64) -> Vec<u8> {
        let mut payload = format!("{} {number} ", self.publisher).into_bytes();
        payload.resize(payload.len().max(self.bytes), b'x');
        payload
    }

    /// The next number: handed to a board now.
    pub(crate) fn send(&mut self) -> u64 {
        self.sent += 1;
        self.acked.push(false);
        self.sent
    }

    /// The board has promised the reading `number`.
    pub(crate) fn acknowledge(&mut self, number: u64) {
        let acked = &mut self.acked[usize::try_from(number).unwrap() - 1];
        assert!(!*acked, "reading {number} of {} was acknowledged twice", self.publisher);
        *acked = true;
    }
}

/// A publisher at work.
#[derive(Debug)]
pub(crate) struct Load {
    thread: JoinHandle<Account>,
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
}

impl Load {
    /// Publishes readings of `bytes` bytes to the board at `mqtt` as `publisher`, without a pause, until `most` are
    /// acknowledged, the connection breaks, or it is told to end.
    pub(crate) fn start(mqtt: SocketAddr, publisher: &str, bytes: usize, most: u64) -> Self {
        Self::paced(mqtt, publisher, bytes, most, Duration::ZERO)
    }

    /// The same with a `pause` after each window of readings.
    pub(crate) fn paced(mqtt: SocketAddr, publisher: &str, bytes: usize, most: u64, pause: Duration) -> Self {
        let (stop, acked) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let account = Account::new(publisher, bytes);
        let (told, count) = (Arc::clone(&stop), Arc::clone(&acked));
        let thread = std::thread::spawn(move || work(mqtt, account, (most, pause), &told, &count));
        Self { thread, stop, acked }
    }

    /// How many were acknowledged so far.
    pub(crate) fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Waits for its end.
    pub(crate) fn wait(self) -> Account {
        self.thread.join().expect("a publisher does not panic")
    }

    /// Ends it once everything on its way is acknowledged.
    pub(crate) fn end(self) -> Account {
        self.stop.store(true, Ordering::Relaxed);
        self.wait()
    }
}

fn work(
    mqtt: SocketAddr,
    mut account: Account,
    (most, pause): (u64, Duration),
    stop: &AtomicBool,
    count: &AtomicU64,
) -> Account {
    let Ok(mut publisher) = Publisher::connect(mqtt, &account.publisher, Version::V5) else {
        return account;
    };
    while !stop.load(Ordering::Relaxed) && account.sent < most {
        let first = account.sent + 1;
        let numbers: Vec<u64> = (0..WINDOW.min(most - account.sent)).map(|_| account.send()).collect();
        let payloads: Vec<Vec<u8>> = numbers.iter().map(|number| account.payload(*number)).collect();
        let publishes = numbers.iter().zip(&payloads).map(|(number, payload)| Publish {
            topic: "detector/7",
            payload,
            packet: u16::try_from(number - first + 1).unwrap(),
            dup: false,
            seq: Some(*number),
        });
        if publisher.send_all(publishes).is_err() {
            return account;
        }
        for _ in numbers {
            // Broken: what was on its way was not promised.
            let Ok((packet, _)) = publisher.acknowledged() else { return account };
            account.acknowledge(first + u64::from(packet) - 1);
            count.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(pause);
    }
    account
}
