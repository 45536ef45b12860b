//! `roadstead bench-beat`: the process that performs the measured duty, as a user's own would: it takes its orders on
//! stdin, confirms them to the socket that it was told of, and while it may act it sends beats to the observer.
//!
//! Two threads share the order: one reads it, one beats. A beat is sent under the lock, so that `standby` is confirmed
//! only when no beat can follow.

use std::io::{self, BufRead};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::beat::{Beat, Stamp};
use crate::failure::Failure;

/// Between two beats of one that acts.
const BEAT_EVERY: Duration = Duration::from_micros(500);
/// Between two beats of one that stands by: every so many naps.
const STANDBY_EVERY: u64 = 40;

/// Who may act without a lease may act for so long: the word is `forever`.
const FOREVER: Duration = Duration::from_secs(1 << 32);

/// An order, as it stands on one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// With the number under which it is to be confirmed.
    Standby(u64),
    /// Until that instant, and for so long from the line at most.
    Active {
        token: u64,
        left: Duration,
        /// Milliseconds of CLOCK_BOOTTIME.
        end: u64,
    },
    Stop,
}

impl Order {
    /// The order on `line`; `None` of one that is not known, which later versions may send.
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        match words.next()? {
            "standby" => Some(Self::Standby(words.next().and_then(|word| word.parse().ok()).unwrap_or(0))),
            "stop" => Some(Self::Stop),
            "active" => {
                let token = words.next()?.parse().ok()?;
                let left = match words.next()? {
                    "forever" => FOREVER,
                    word => Duration::from_millis(word.parse().ok()?),
                };
                let end = words.next().and_then(|word| word.parse().ok()).unwrap_or(u64::MAX);
                Some(Self::Active { token, left, end })
            }
            _ => None,
        }
    }
}

/// What the two threads share.
struct Performer {
    observer: UnixDatagram,
    towards: PathBuf,
    notices: Option<(UnixDatagram, SocketAddr)>,
    board: u8,
    number: u64,
    /// Token, and the instant from which it may no longer act.
    lease: Option<(u64, Stamp)>,
}

impl Performer {
    /// Sends a beat, if it may.
    fn beat(&mut self) {
        let stamp = Stamp::now();
        if self.lease.is_some_and(|(_, until)| stamp >= until) {
            self.lease = None;
        }
        let token = self.lease.map_or(0, |(token, _)| token);
        if token == 0 && !self.number.is_multiple_of(STANDBY_EVERY) {
            self.number += 1;
            return;
        }
        let beat = Beat { stamp, token, number: self.number, process: std::process::id(), board: self.board };
        self.number += 1;
        // A full queue or an observer that is gone costs this beat alone; another follows at once.
        let _ = self.observer.send_to(&beat.bytes(), &self.towards);
    }

    fn tell(&self, notice: &str) {
        if let Some((socket, address)) = &self.notices {
            let _ = socket.send_to_addr(notice.as_bytes(), address);
        }
    }

    /// Follows an order that was read at `read`; whether it goes on.
    fn follow(&mut self, order: Order, read: Stamp) -> bool {
        match order {
            Order::Standby(number) => {
                self.lease = None;
                self.tell(&format!("X_ROADSTEAD=standby {number}"));
            }
            Order::Active { token, left, end } => {
                let is_new = self.lease.is_none_or(|(held, _)| held != token);
                // The line may have waited while this process stood still: what is left is what the clock says.
                let left = left.min(Duration::from_millis(end.saturating_sub(boot_millis())));
                self.lease = Some((token, read.plus(left)));
                if is_new {
                    self.beat();
                    self.tell("X_ROADSTEAD=active");
                }
            }
            Order::Stop => {
                self.lease = None;
                self.tell("STOPPING=1");
                return false;
            }
        }
        true
    }
}

/// Performs until it is told to stop, or whoever gives the orders is gone.
pub(crate) fn run(observer: &Path) -> Result<ExitCode, Failure> {
    let cannot = |error: io::Error| Failure::new("the measured duty cannot start").because(error);
    let socket = UnixDatagram::unbound().map_err(cannot)?;
    socket.set_nonblocking(true).map_err(cannot)?;
    let performer = Performer {
        observer: socket,
        towards: observer.to_owned(),
        notices: notices().map_err(cannot)?,
        board: std::env::var("ROADSTEAD_BOARD")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
        number: 0,
        lease: None,
    };
    performer.tell("READY=1");
    let shared = Arc::new(Mutex::new(performer));
    let beating = Arc::clone(&shared);
    std::thread::Builder::new()
        .name("beats".to_owned())
        .spawn(move || {
            loop {
                locked(&beating).beat();
                std::thread::sleep(BEAT_EVERY);
            }
        })
        .map_err(cannot)?;
    for line in io::stdin().lock().lines() {
        let read = Stamp::now();
        let Ok(line) = line else { break };
        let Some(order) = Order::read(&line) else { continue };
        if !locked(&shared).follow(order, read) {
            break;
        }
    }
    // No beat may follow the end of the orders: the lock is kept until the process is gone.
    let _held = locked(&shared);
    std::process::exit(0)
}

fn locked(performer: &Mutex<Performer>) -> MutexGuard<'_, Performer> {
    performer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since the machine's boot, by the clock that also counts while it sleeps.
fn boot_millis() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
}

/// Where confirmations go: systemd's protocol, sd_notify(3). A name that begins with @ is in the abstract name space.
fn notices() -> io::Result<Option<(UnixDatagram, SocketAddr)>> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(None) };
    let address = match name.to_str().and_then(|name| name.strip_prefix('@')) {
        Some(rest) => SocketAddr::from_abstract_name(rest)?,
        None => SocketAddr::from_pathname(Path::new(&name))?,
    };
    Ok(Some((UnixDatagram::unbound()?, address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn performer(towards: PathBuf) -> Performer {
        let observer = UnixDatagram::unbound().unwrap();
        Performer { observer, towards, notices: None, board: 2, number: 1, lease: None }
    }

    #[test]
    fn orders_are_read() {
        assert_eq!(Order::read("standby 3"), Some(Order::Standby(3)));
        assert_eq!(Order::read("standby"), Some(Order::Standby(0)));
        assert_eq!(Order::read("active 77 forever"), Some(Order::Active { token: 77, left: FOREVER, end: u64::MAX }));
        let active = |end| Order::Active { token: 77, left: Duration::from_millis(150), end };
        assert_eq!(Order::read("active 77 150"), Some(active(u64::MAX)));
        assert_eq!(Order::read("active 77 150 9000"), Some(active(9000)));
        assert_eq!(Order::read("active 77 150 9000 more"), Some(active(9000)), "later versions may say more");
        for unknown in ["", "active", "active 77", "active x 1", "dance"] {
            assert_eq!(Order::read(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn it_acts_from_the_order_to_the_end_of_its_lease() {
        let scratch = crate::scratch::Scratch::new("performer");
        let path = scratch.path().join("observer");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let heard = || {
            let mut bytes = [0; 64];
            socket.recv(&mut bytes).ok().and_then(|count| Beat::read(&bytes[..count]))
        };
        let mut performer = performer(path);
        let now = Stamp::now();
        assert!(performer.follow(Order::Active { token: 9, left: Duration::from_secs(60), end: u64::MAX }, now));
        let beat = heard().unwrap();
        assert_eq!((beat.token, beat.board), (9, 2), "it acts at once");
        performer.follow(
            Order::Active { token: 9, left: Duration::from_secs(1), end: u64::MAX },
            now.minus(Duration::from_secs(2)),
        );
        performer.beat();
        assert!(heard().is_none(), "its lease has run out, counted from when the order was read");
        performer.follow(Order::Active { token: 10, left: Duration::from_secs(60), end: u64::MAX }, Stamp::now());
        assert_eq!(heard().unwrap().token, 10);
        performer.follow(Order::Standby(1), Stamp::now());
        performer.beat();
        assert!(heard().is_none_or(|beat| !beat.acts()));
        assert!(!performer.follow(Order::Stop, Stamp::now()));
    }
}
