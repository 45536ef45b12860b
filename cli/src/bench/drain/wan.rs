//! A site and a region, each a network namespace, and the uplink between them: every IP packet of either passes through this
//! process, which treats it as [`Line`] says. Many kernels have no netem, and so TCP and QUIC meet the same link on all of
//! them. Owns namespaces, the emulator's sockets and threads.
//!
//! ```text
//!  site 10.84.1.1 ─cable─┐                                        ┌─cable─ region 10.84.2.1
//!               10.84.1.2│ a packet socket ═▶ line ═▶ a raw one │10.84.2.2
//!                        └────────── a namespace without routes ──┘
//! ```

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, Protocol, RawProtocol, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::line::{Carried, Fate, Line, Terms};
use super::packet::Packet;
use crate::bench::failover::namespace::{Namespace, ip};
use crate::failure::Failure;

/// The site's address towards its region.
pub(super) const SITE: Ipv4Addr = Ipv4Addr::new(10, 84, 1, 1);
/// The region's.
pub(super) const REGION: Ipv4Addr = Ipv4Addr::new(10, 84, 2, 1);
/// The cables' ends between them.
const SITE_SIDE: Ipv4Addr = Ipv4Addr::new(10, 84, 1, 2);
const REGION_SIDE: Ipv4Addr = Ipv4Addr::new(10, 84, 2, 2);
/// Threads look so often whether they are to end.
const GLANCE: Duration = Duration::from_millis(50);
/// ETH_P_IP as the wire has it.
const IP_PACKETS: u16 = 0x0800_u16.to_be();
/// IPPROTO_RAW: whole packets, header included.
const WHOLE_PACKETS: u32 = 255;
/// Packets that wait for the emulator itself, in bytes: a second of 30 Mbit/s, so that a busy machine loses none.
const WAITING_BYTES: usize = 4 * 1024 * 1024;
/// No packet is larger.
const PACKET_MAX: usize = 65_535;
/// The emulator's threads come before what they measure, where they may: a packet must not be late for want of a processor.
const NICE: i32 = -10;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A packet on its way.
struct Parcel {
    due: Instant,
    target: Ipv4Addr,
    bytes: Vec<u8>,
}

/// One direction.
struct Way {
    /// Packets on their way, the earliest first: a line lets none overtake. It bounds them by its rate, queue and delay.
    line: Mutex<(Line, VecDeque<Parcel>)>,
    bell: Condvar,
}

impl Way {
    fn locked(&self) -> MutexGuard<'_, (Line, VecDeque<Parcel>)> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, packet: Packet<'_>, begun: Instant) {
        let (now, target) = (begun.elapsed(), packet.target());
        let bytes = packet.mended();
        let mut line = self.locked();
        if let Fate::Arrives(at) = line.0.take(bytes.len() as u64, now) {
            line.1.push_back(Parcel { due: begun + at, target, bytes: bytes.to_vec() });
            self.bell.notify_one();
        }
    }

    /// The next packet once it is due; `None` after a while without one.
    fn next(&self) -> Option<Parcel> {
        let mut line = self.locked();
        let now = Instant::now();
        let due = line.1.front().map(|parcel| parcel.due);
        if due.is_some_and(|due| due <= now) {
            return line.1.pop_front();
        }
        let nap = due.map_or(GLANCE, |due| (due - now).min(GLANCE));
        drop(self.bell.wait_timeout(line, nap).unwrap_or_else(PoisonError::into_inner));
        None
    }
}

struct Shared {
    there: Way,
    back: Way,
    begun: Instant,
    ends: AtomicBool,
    /// Packets that the kernel did not take back, or that were none.
    refused: AtomicU64,
}

/// The uplink with both its ends.
pub(super) struct Wan {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    site: Namespace,
    region: Namespace,
    // Dropped last: the cables end in it.
    _between: Namespace,
}

/// What TCP does about loss, in both namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Congestion {
    /// Linux's default.
    Cubic,
    /// Google's.
    Bbr,
}

impl Congestion {
    /// The kernel's word.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        }
    }
}

impl Wan {
    /// Builds it, mended, with these terms both ways; `seed` decides what is lost.
    pub(super) fn build(terms: Terms, seed: u64, congestion: Congestion) -> Result<Self, Failure> {
        let id = format!("rs{}-w{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let between = Namespace::make(&id)?;
        let site = Namespace::make(&format!("{id}-site"))?;
        let region = Namespace::make(&format!("{id}-region"))?;
        set(&between, "ip_forward", "0")?;
        cable(&between, ("near", SITE_SIDE), (&site, SITE), congestion)?;
        cable(&between, ("far", REGION_SIDE), (&region, REGION), congestion)?;
        let shared = Arc::new(Shared {
            there: Way::of(terms, seed),
            back: Way::of(terms, !seed),
            begun: Instant::now(),
            ends: AtomicBool::new(false),
            refused: AtomicU64::new(0),
        });
        let mut wan = Self { shared, threads: Vec::new(), site, region, _between: between };
        wan.run()
            .map_err(|error| Failure::new("cannot pass packets on").because(error))?;
        Ok(wan)
    }

    fn run(&mut self) -> io::Result<()> {
        let open = || -> io::Result<_> { Ok((packets()?, raw()?, raw()?)) };
        let opened = self._between.within(open).map_err(io::Error::other)?;
        let (packets, towards, home) = opened?;
        let shared = Arc::clone(&self.shared);
        self.spawn(move || listen(&shared, &packets))?;
        let shared = Arc::clone(&self.shared);
        self.spawn(move || deliver(&shared, &shared.there, &towards))?;
        let shared = Arc::clone(&self.shared);
        self.spawn(move || deliver(&shared, &shared.back, &home))
    }

    fn spawn(&mut self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = std::thread::Builder::new().name("uplink".to_owned()).spawn(move || {
            // Of this thread alone. Where it is refused the thread is as late as all others.
            let _ = rustix::process::setpriority_process(None, NICE);
            work();
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// Where boards and their sensors are.
    pub(super) const fn site(&self) -> &Namespace {
        &self.site
    }

    /// Where the gateway is.
    pub(super) const fn region(&self) -> &Namespace {
        &self.region
    }

    /// Cuts both ways, or mends them.
    pub(super) fn set_cut(&self, is_cut: bool) {
        for way in [&self.shared.there, &self.shared.back] {
            way.locked().0.set_cut(is_cut);
        }
    }

    /// Other terms, both ways.
    pub(super) fn set_terms(&self, terms: Terms) {
        for way in [&self.shared.there, &self.shared.back] {
            way.locked().0.set_terms(terms);
        }
    }

    /// What it has done towards the region, and back.
    pub(super) fn carried(&self) -> (Carried, Carried) {
        (self.shared.there.locked().0.carried(), self.shared.back.locked().0.carried())
    }

    /// Packets that could not be passed on as they were: too large, or none. Each is a fault of the emulator.
    pub(super) fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Way {
    fn of(terms: Terms, seed: u64) -> Self {
        Self { line: Mutex::new((Line::new(terms, seed), VecDeque::new())), bell: Condvar::new() }
    }
}

/// Why TCP cannot be measured so here; `None` where it can.
pub(super) fn lacks(congestion: Congestion) -> Option<String> {
    let known = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").unwrap_or_default();
    let word = congestion.as_str();
    let is_known = known.split_whitespace().any(|known| known == word);
    (!is_known).then(|| format!("this kernel has no {word} (it has: {})", known.trim()))
}

/// A cable from `name` in `between` to `eth0` in `end`, whose way to everywhere it is. No packet on it is larger than the
/// wire's: a kernel would hand a virtual card many in one. `congestion` is set for this way, not for the namespace, where a
/// kernel may allow less than it has.
fn cable(
    between: &Namespace,
    (name, address): (&str, Ipv4Addr),
    (end, end_address): (&Namespace, Ipv4Addr),
    congestion: Congestion,
) -> Result<(), Failure> {
    let (at, far) = (between.name(), end.name());
    ip(&format!("-n {at} link add {name} type veth peer name eth0 netns {far}"))?;
    ip(&format!("-n {at} addr add {address}/30 dev {name}"))?;
    ip(&format!("-n {at} link set dev {name} up"))?;
    ip(&format!("-n {far} addr add {end_address}/30 dev eth0"))?;
    ip(&format!("-n {far} link set dev eth0 gso_max_segs 1 gso_max_size 1500"))?;
    ip(&format!("-n {far} link set dev eth0 up"))?;
    let word = congestion.as_str();
    ip(&format!("-n {far} route add default via {address} congctl {word}"))
}

fn set(namespace: &Namespace, key: &'static str, value: &'static str) -> Result<(), Failure> {
    let path = format!("/proc/sys/net/ipv4/{key}");
    let written = namespace.within(move || std::fs::write(path, value))?;
    written.map_err(|error| Failure::new(format!("cannot set {key} to {value}")).because(error))
}

/// A socket that hears every IP packet that comes in.
fn packets() -> io::Result<OwnedFd> {
    let protocol = RawProtocol::new(u32::from(IP_PACKETS)).map(Protocol::from_raw);
    let kind = SocketType::DGRAM;
    let socket = rustix::net::socket_with(AddressFamily::PACKET, kind, SocketFlags::CLOEXEC, protocol)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(GLANCE))?;
    if sockopt::set_socket_recv_buffer_size_force(&socket, WAITING_BYTES).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, WAITING_BYTES)?;
    }
    Ok(socket)
}

/// A socket that sends packets as they are.
fn raw() -> io::Result<OwnedFd> {
    let protocol = RawProtocol::new(WHOLE_PACKETS).map(Protocol::from_raw);
    let kind = SocketType::RAW;
    Ok(rustix::net::socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, protocol)?)
}

fn listen(shared: &Shared, packets: &OwnedFd) {
    let mut bytes = vec![0; PACKET_MAX];
    while !shared.ends.load(Ordering::Relaxed) {
        let Ok((count, _)) = rustix::net::recv(packets, &mut bytes[..], RecvFlags::empty()) else {
            continue;
        };
        match Packet::read(&mut bytes[..count]) {
            Some(packet) if packet.target() == REGION => shared.there.take(packet, shared.begun),
            Some(packet) if packet.target() == SITE => shared.back.take(packet, shared.begun),
            // What the kernels say to each other about themselves: multicast reports.
            Some(_) => {}
            None => drop(shared.refused.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

fn deliver(shared: &Shared, way: &Way, socket: &OwnedFd) {
    while !shared.ends.load(Ordering::Relaxed) {
        let Some(parcel) = way.next() else { continue };
        let target = SocketAddrV4::new(parcel.target, 0);
        if rustix::net::sendto(socket, &parcel.bytes, SendFlags::empty(), &target).is_err() {
            shared.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;
    use crate::bench::failover::namespace::lacking;

    const SLOW: Terms = Terms {
        rate_bps: 8_000_000,
        delay: Duration::from_millis(20),
        queue: Duration::from_millis(100),
        loss_ppm: 0,
    };

    #[test]
    fn real_packets_meet_the_rate_the_delay_and_the_cut() {
        if let Some(why) = lacking() {
            eprintln!("SKIPPED real_packets_meet_the_rate_the_delay_and_the_cut: {why}");
            return;
        }
        let wan = Wan::build(SLOW, 1, Congestion::Cubic).unwrap();
        let listener = wan.region().within(|| TcpListener::bind((REGION, 7000))).unwrap().unwrap();
        let count = 2_000_000;
        let reader = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            all.len()
        });
        let begun = Instant::now();
        let mut stream = wan.site().within(|| TcpStream::connect((REGION, 7000))).unwrap().unwrap();
        assert!(begun.elapsed() >= 2 * SLOW.delay, "a handshake is a round trip");
        stream.write_all(&vec![7; count]).unwrap();
        drop(stream);
        assert_eq!(reader.join().unwrap(), count);
        // A megabyte a second: never faster; a busy machine may be slower.
        assert!(begun.elapsed() >= Duration::from_millis(1950), "{:?}", begun.elapsed());
        let (there, back) = wan.carried();
        assert!(there.through.bytes > count as u64 && back.through.packets > 0 && there.lost.packets == 0);
        assert_eq!(wan.refused(), 0);

        let (here, far) = (|| UdpSocket::bind((SITE, 0)), || UdpSocket::bind((REGION, 7000)));
        let (here, far) = (wan.site().within(here).unwrap().unwrap(), wan.region().within(far).unwrap().unwrap());
        far.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        wan.set_cut(true);
        here.send_to(b"gone", (REGION, 7000)).unwrap();
        assert!(far.recv(&mut [0; 8]).is_err());
        wan.set_cut(false);
        here.send_to(b"here", (REGION, 7000)).unwrap();
        assert_eq!(far.recv(&mut [0; 8]).unwrap(), 4);
        assert!(wan.carried().0.swallowed.packets > 0);
    }
}
