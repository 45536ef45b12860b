//! A switch and machines on it, each a network namespace of its own with one cable. Owns cables: they are pulled at the
//! switch, so that the machine loses its carrier as it would, and plugged in again.
//!
//! ```text
//!   machine 1        machine 2        machine 3
//!    eth0             eth0             eth0          10.83.0.1 and so on
//!      |                |                |
//!    port1 ========== port2 ========== port3         the switch: a bridge, 10.83.0.254
//! ```

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::beat::Stamp;
use super::namespace::{Namespace, ip};
use super::netlink::Conversation;
use crate::failure::Failure;

/// The bridge.
const BRIDGE: &str = "switch0";
/// A machine's end of its cable.
pub(super) const OWN_END: &str = "eth0";
/// The switch's own address, for what stands in the switch: relays.
pub(super) const SWITCH: Ipv4Addr = Ipv4Addr::new(10, 83, 0, 254);
/// Bits of the network's part of an address.
const PREFIX: u8 = 24;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The switch with its machines. Machines go by their index, from 0.
#[derive(Debug)]
pub struct Lab {
    machines: Vec<Namespace>,
    ports: Vec<u32>,
    wire: Arc<Conversation>,
    // Dropped last: the machines' cables end in it.
    switch: Namespace,
}

impl Lab {
    /// Builds one with `count` machines, all plugged in; names carry this process's number and are this lab's alone.
    pub fn build(count: usize) -> Result<Self, Failure> {
        let id = format!("rs{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let switch = Namespace::make(&format!("{id}-switch"))?;
        let at = switch.name();
        ip(&format!("-n {at} link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"))?;
        ip(&format!("-n {at} addr add {SWITCH}/{PREFIX} dev {BRIDGE}"))?;
        ip(&format!("-n {at} link set {BRIDGE} up"))?;
        let mut machines = Vec::with_capacity(count);
        for number in 1..=count {
            machines.push(plug_new_machine(&switch, &format!("{id}-{number}"), number)?);
        }
        let (wire, ports) = switch
            .within(move || -> io::Result<_> {
                let wire = Conversation::open()?;
                let ports: io::Result<Vec<u32>> =
                    (1..=count).map(|number| wire.number_of(&format!("port{number}"))).collect();
                Ok((wire, ports?))
            })?
            .map_err(|error| Failure::new("the switch has no ports").because(error))?;
        Ok(Self { machines, ports, wire: Arc::new(wire), switch })
    }

    /// The namespace of a machine.
    pub fn machine(&self, at: usize) -> &Namespace {
        &self.machines[at]
    }

    /// The switch's own namespace.
    pub fn switch(&self) -> &Namespace {
        &self.switch
    }

    /// A machine's address.
    pub fn address(at: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 83, 0, u8::try_from(at + 1).unwrap_or(u8::MAX))
    }

    /// Pulls a machine's cable; returns the instant just before.
    pub fn pull(&self, at: usize) -> Result<Stamp, Failure> {
        self.set(at, false)
    }

    /// Plugs a machine's cable in again; returns the instant just before.
    pub fn plug(&self, at: usize) -> Result<Stamp, Failure> {
        self.set(at, true)
    }

    fn set(&self, at: usize, plugged: bool) -> Result<Stamp, Failure> {
        let stamp = Stamp::now();
        // The socket belongs to the switch's namespace, wherever the thread that uses it is.
        self.wire
            .set_up(self.ports[at], plugged)
            .map_err(|error| Failure::new(format!("cannot set the cable of machine {}", at + 1)).because(error))?;
        Ok(stamp)
    }

    /// Lets nothing through from machine `from` to machine `to`; the other way stays open. Needs `nft`.
    pub fn cut(&self, from: usize, to: usize) -> Result<(), Failure> {
        let (from, to) = (from + 1, to + 1);
        let rules = format!(
            "add table bridge cuts\n\
             add chain bridge cuts forward {{ type filter hook forward priority 0; }}\n\
             add rule bridge cuts forward iifname port{from} oifname port{to} drop\n"
        );
        self.nft(&rules)
    }

    /// Takes every cut back.
    pub fn mend(&self) -> Result<(), Failure> {
        self.nft("add table bridge cuts\ndelete table bridge cuts\n")
    }

    fn nft(&self, rules: &str) -> Result<(), Failure> {
        let rules = rules.to_owned();
        self.switch.within(move || feed_nft(&rules))?.map_err(|error| {
            Failure::new("`nft` failed")
                .because(error)
                .remedy("Debian: apt-get install -y nftables")
        })
    }
}

fn plug_new_machine(switch: &Namespace, name: &str, number: usize) -> Result<Namespace, Failure> {
    let machine = Namespace::make(name)?;
    let (at, address) = (switch.name(), Lab::address(number - 1));
    ip(&format!("-n {at} link add port{number} type veth peer name {OWN_END} netns {name}"))?;
    ip(&format!("-n {at} link set port{number} master {BRIDGE} up"))?;
    ip(&format!("-n {name} addr add {address}/{PREFIX} dev {OWN_END}"))?;
    ip(&format!("-n {name} link set {OWN_END} up"))?;
    Ok(machine)
}

fn feed_nft(rules: &str) -> io::Result<()> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = nft.stdin.take() {
        stdin.write_all(rules.as_bytes())?;
    }
    let output = nft.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;
    use crate::bench::failover::namespace::lacking;

    fn socket(lab: &Lab, at: usize) -> UdpSocket {
        let address = (Lab::address(at), 7000);
        let socket = lab.machine(at).within(move || UdpSocket::bind(address)).unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        socket
    }

    /// Whether something gets through within a second, tried again as ARP needs its time after a change.
    fn passes(lab: &Lab, from: usize, to: usize) -> bool {
        let (sender, receiver) = (socket(lab, from), socket(lab, to));
        (0..50).any(|_| {
            let _ = sender.send_to(b"x", (Lab::address(to), 7000));
            receiver.recv(&mut [0; 8]).is_ok()
        })
    }

    #[test]
    fn cables_and_cuts_do_what_they_say() {
        if let Some(why) = lacking() {
            eprintln!("SKIPPED cables_and_cuts_do_what_they_say: {why}");
            return;
        }
        let lab = Lab::build(3).unwrap();
        assert!(passes(&lab, 0, 1) && passes(&lab, 1, 0));
        lab.pull(0).unwrap();
        assert!(!passes(&lab, 0, 1) && !passes(&lab, 1, 0) && passes(&lab, 1, 2));
        lab.plug(0).unwrap();
        assert!(passes(&lab, 0, 1));
        if std::process::Command::new("nft").arg("-v").output().is_err() {
            eprintln!("SKIPPED the cuts of cables_and_cuts_do_what_they_say: there is no `nft`");
            return;
        }
        lab.cut(0, 1).unwrap();
        assert!(!passes(&lab, 0, 1) && passes(&lab, 1, 0) && passes(&lab, 0, 2));
        lab.mend().unwrap();
        assert!(passes(&lab, 0, 1));
        let names: Vec<String> = lab.machines.iter().map(|machine| machine.name().to_owned()).collect();
        drop(lab);
        let left = names
            .iter()
            .filter(|name| std::path::Path::new("/run/netns").join(name).exists());
        assert_eq!(left.count(), 0);
    }
}
