//! A link as it might be: a UDP relay that loses and delays datagrams by a seed, each direction by its own conditions,
//! because many kernels have no netem. Owns the relay's sockets and threads; knows nothing of what it carries.
//!
//! ```text
//!  dialler ──▶ front ══ there: lost? delayed ══▶ back ──▶ target
//!          ◀──       ══ back:  lost? delayed ══       ◀──
//! ```

use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::dice::Dice;

/// Threads look so often whether they are to end.
const GLANCE: Duration = Duration::from_millis(50);
/// Diallers that are told apart; more are not served.
const DIALLERS_MAX: usize = 64;
/// Datagrams on their way in one direction; more are lost, as in a full queue.
const WAITING_MAX: usize = 4096;
/// No datagram is larger.
const DATAGRAM_MAX: usize = 65_535;

/// How one direction treats datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Of a thousand so many are lost, each by itself.
    pub loss_permille: u32,
    /// Each takes so long.
    pub delay: Duration,
    /// And up to so much longer, evenly: datagrams may overtake each other.
    pub jitter: Duration,
}

/// What a direction has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Datagrams that came in.
    pub came: u64,
    /// Of these, lost by the dice or the queue's end.
    pub lost: u64,
}

/// A datagram on its way; the earliest is the greatest.
#[derive(PartialEq, Eq)]
struct Parcel {
    due: Instant,
    number: u64,
    bytes: Vec<u8>,
    door: usize,
}

impl Ord for Parcel {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

impl PartialOrd for Parcel {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Where a parcel leaves: a socket, and an address where the socket is not connected.
type Door = (Arc<UdpSocket>, Option<SocketAddr>);

#[derive(Default)]
struct Waiting {
    parcels: BinaryHeap<Parcel>,
    number: u64,
    doors: Vec<Door>,
}

/// One direction.
struct Direction {
    conditions: Mutex<Conditions>,
    dice: Mutex<Dice>,
    waiting: Mutex<Waiting>,
    bell: Condvar,
    came: AtomicU64,
    lost: AtomicU64,
}

impl Direction {
    fn new(conditions: Conditions, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            conditions: Mutex::new(conditions),
            dice: Mutex::new(Dice::new(seed)),
            waiting: Mutex::new(Waiting::default()),
            bell: Condvar::new(),
            came: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        })
    }

    /// A new place to leave by.
    fn add_door(&self, door: Door) -> usize {
        let mut waiting = locked(&self.waiting);
        waiting.doors.push(door);
        waiting.doors.len() - 1
    }

    fn roll(&self) -> u64 {
        locked(&self.dice).roll()
    }

    fn take(&self, bytes: &[u8], door: usize) {
        let conditions = *locked(&self.conditions);
        self.came.fetch_add(1, Ordering::Relaxed);
        // Two rolls a datagram, whatever becomes of it: the fate of the nth depends on the seed and n alone.
        let (fate, late) = (self.roll() % 1000, self.roll() % 1000);
        let mut waiting = locked(&self.waiting);
        if fate < u64::from(conditions.loss_permille) || waiting.parcels.len() >= WAITING_MAX {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let late = conditions.jitter.mul_f64(late as f64 / 1000.0);
        let due = Instant::now() + conditions.delay + late;
        waiting.number += 1;
        let number = waiting.number;
        waiting.parcels.push(Parcel { due, number, bytes: bytes.to_vec(), door });
        self.bell.notify_one();
    }

    /// Lets parcels leave when they are due, until `ends`.
    fn deliver(&self, ends: &AtomicBool) {
        let mut waiting = locked(&self.waiting);
        while !ends.load(Ordering::Relaxed) {
            let now = Instant::now();
            let due = waiting.parcels.peek().map(|parcel| parcel.due);
            if due.is_some_and(|due| due <= now)
                && let Some(parcel) = waiting.parcels.pop()
            {
                let door = waiting.doors.get(parcel.door).cloned();
                drop(waiting);
                leave(door, &parcel.bytes);
                waiting = locked(&self.waiting);
                continue;
            }
            let nap = due.map_or(GLANCE, |due| due.saturating_duration_since(now).min(GLANCE));
            waiting = self.bell.wait_timeout(waiting, nap).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn carried(&self) -> Carried {
        Carried { came: self.came.load(Ordering::Relaxed), lost: self.lost.load(Ordering::Relaxed) }
    }
}

/// A datagram that nobody takes is lost, as on a wire.
fn leave(door: Option<Door>, bytes: &[u8]) {
    let _ = match door {
        Some((socket, Some(address))) => socket.send_to(bytes, address),
        Some((socket, None)) => socket.send(bytes),
        None => return,
    };
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the relay's threads share.
struct Shared {
    front: Arc<UdpSocket>,
    target: SocketAddr,
    there: Arc<Direction>,
    back: Arc<Direction>,
    ends: AtomicBool,
}

/// A relay before `target`. Its threads end with it.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "relay at {} before {}", self.address, self.shared.target)
    }
}

impl Relay {
    /// Listens at `at` in the network namespace of the calling thread, and relays to `target`. `there` holds from the
    /// dialler to the target, `back` the other way.
    ///
    /// # Errors
    /// Where the socket or a thread cannot be had.
    pub fn start(
        at: SocketAddr,
        target: SocketAddr,
        there: Conditions,
        back: Conditions,
        seed: u64,
    ) -> io::Result<Self> {
        let front = Arc::new(UdpSocket::bind(at)?);
        front.set_read_timeout(Some(GLANCE))?;
        let address = front.local_addr()?;
        let shared = Arc::new(Shared {
            front,
            target,
            there: Direction::new(there, seed),
            back: Direction::new(back, !seed),
            ends: AtomicBool::new(false),
        });
        let mut relay = Self { address, shared: Arc::clone(&shared), threads: Vec::new() };
        let line = Arc::clone(&shared);
        relay.spawn(move || line.there.deliver(&line.ends))?;
        let line = Arc::clone(&shared);
        relay.spawn(move || line.back.deliver(&line.ends))?;
        relay.spawn(move || listen(&shared))?;
        Ok(relay)
    }

    fn spawn(&mut self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = std::thread::Builder::new().name("relay".to_owned()).spawn(work)?;
        self.threads.push(thread);
        Ok(())
    }

    /// Where it is dialled.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the conditions for datagrams that come from now on.
    pub fn set(&self, there: Conditions, back: Conditions) {
        *locked(&self.shared.there.conditions) = there;
        *locked(&self.shared.back.conditions) = back;
    }

    /// What it has done with datagrams to the target, and with those back.
    pub fn carried(&self) -> (Carried, Carried) {
        (self.shared.there.carried(), self.shared.back.carried())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Takes what comes to the front and gives each dialler a socket of its own towards the target.
fn listen(shared: &Arc<Shared>) {
    let mut diallers: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    let mut readers = Vec::new();
    let mut bytes = vec![0; DATAGRAM_MAX];
    while !shared.ends.load(Ordering::Relaxed) {
        let Ok((count, from)) = shared.front.recv_from(&mut bytes) else { continue };
        let door = match diallers.get(&from) {
            Some(door) => *door,
            None if diallers.len() < DIALLERS_MAX => {
                let Ok((door, reader)) = welcome(shared, from) else { continue };
                readers.push(reader);
                diallers.insert(from, door);
                door
            }
            None => continue,
        };
        shared.there.take(&bytes[..count], door);
    }
    for reader in readers {
        let _ = reader.join();
    }
}

fn welcome(shared: &Arc<Shared>, from: SocketAddr) -> io::Result<(usize, JoinHandle<()>)> {
    let local = if shared.target.ip().is_loopback() {
        Ipv4Addr::LOCALHOST
    } else {
        Ipv4Addr::UNSPECIFIED
    };
    let socket = Arc::new(UdpSocket::bind((local, 0))?);
    socket.connect(shared.target)?;
    socket.set_read_timeout(Some(GLANCE))?;
    let door = shared.there.add_door((Arc::clone(&socket), None));
    let home = shared.back.add_door((Arc::clone(&shared.front), Some(from)));
    let shared = Arc::clone(shared);
    let reader = std::thread::Builder::new().name("relay".to_owned()).spawn(move || {
        let mut bytes = vec![0; DATAGRAM_MAX];
        while !shared.ends.load(Ordering::Relaxed) {
            if let Ok(count) = socket.recv(&mut bytes) {
                shared.back.take(&bytes[..count], home);
            }
        }
    })?;
    Ok((door, reader))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

    /// A target that sends everything back, in a thread that ends when it has been silent for long.
    fn echo() -> SocketAddr {
        let socket = UdpSocket::bind(ANY).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 64];
            while let Ok((count, from)) = socket.recv_from(&mut bytes) {
                let _ = socket.send_to(&bytes[..count], from);
            }
        });
        address
    }

    /// Sends `count` datagrams through a relay with these conditions; how many came back, and the round trips, sorted.
    fn exchange(there: Conditions, back: Conditions, seed: u64, count: u32) -> (Relay, Vec<Duration>) {
        let relay = Relay::start(ANY.into(), echo(), there, back, seed).unwrap();
        let socket = UdpSocket::bind(ANY).unwrap();
        socket.connect(relay.address()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let (begun, reader) = (Instant::now(), socket.try_clone().unwrap());
        // Read meanwhile: what waits in the socket's own queue beyond its end is lost too.
        let reads = std::thread::spawn(move || {
            let (mut came, mut bytes) = (Vec::new(), [0; 4]);
            while let Ok(4) = reader.recv(&mut bytes) {
                came.push((u32::from_le_bytes(bytes) as usize, begun.elapsed()));
            }
            came
        });
        let mut sent = Vec::new();
        for number in 0..count {
            sent.push(begun.elapsed());
            socket.send(&number.to_le_bytes()).unwrap();
            // A burst would overrun the queues on the way, and that loss is not the relay's.
            if number % 16 == 15 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let came = reads.join().unwrap();
        let mut took: Vec<Duration> = came.into_iter().map(|(number, at)| at - sent[number]).collect();
        took.sort_unstable();
        (relay, took)
    }

    #[test]
    fn as_many_are_lost_as_the_conditions_say() {
        let third = Conditions { loss_permille: 300, ..Conditions::default() };
        let (relay, back) = exchange(third, Conditions::default(), 7, 2000);
        let (there, _) = relay.carried();
        assert_eq!(there.came, 2000);
        // Four standard deviations of 2000 throws at 0.3: sqrt(2000 * 0.3 * 0.7) = 20.5.
        assert!((518..=682).contains(&there.lost), "{there:?}");
        assert_eq!(back.len() as u64, there.came - there.lost, "and nothing else is lost on loopback");
    }

    #[test]
    fn a_seed_decides_who_is_lost() {
        let half = Conditions { loss_permille: 500, ..Conditions::default() };
        let lost = |seed| exchange(half, Conditions::default(), seed, 200).0.carried().0.lost;
        assert_eq!(lost(3), lost(3));
        let direction = |seed| {
            let direction = Direction::new(half, seed);
            (0..64).map(|_| direction.roll()).collect::<Vec<_>>()
        };
        assert_eq!(direction(3), direction(3));
        assert_ne!(direction(3), direction(4));
    }

    #[test]
    fn nothing_passes_a_way_that_is_cut_and_the_other_way_stays_open() {
        let cut = Conditions { loss_permille: 1000, ..Conditions::default() };
        let (relay, back) = exchange(Conditions::default(), cut, 1, 50);
        let (there, home) = relay.carried();
        assert_eq!((there.lost, home.came, home.lost, back.len()), (0, 50, 50, 0));
    }

    #[test]
    fn delay_and_jitter_hold_their_bounds() {
        let slow = Conditions { delay: Duration::from_millis(30), jitter: Duration::from_millis(4), loss_permille: 0 };
        let (_relay, took) = exchange(slow, slow, 9, 100);
        assert_eq!(took.len(), 100);
        assert!(took[0] >= Duration::from_millis(60), "{:?}", took[0]);
        // A busy machine may be late; half of them are not.
        assert!(took[50] <= Duration::from_millis(80), "{:?}", took[50]);
    }
}
