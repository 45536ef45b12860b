//! keepalived: three routers of Debian's package that share one address. A router is master when the kernel says that
//! the address is on its interface, which costs it nothing and is what its users feel.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Claims, Kind, MEMBERS};
use crate::bench::failover::lab::{Lab, OWN_END};
use crate::bench::failover::namespace::ip;
use crate::bench::failover::netlink::Conversation;
use crate::bench::failover::site::begin;
use crate::bench::kin::Kin;
use crate::failure::Failure;

const CONFIGURATION: &str = include_str!("../../../../assets/rivals/keepalived.conf");
/// The address that they share.
const VIRTUAL: Ipv4Addr = Ipv4Addr::new(10, 83, 0, 100);

/// A group's settings.
pub(super) struct Keepalived {
    advert: Duration,
    ends: Arc<AtomicBool>,
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

impl Keepalived {
    /// With this period. From now on every machine of `lab` is watched.
    pub(super) fn new(lab: &Lab, claims: &Claims, advert: Duration) -> Result<Self, Failure> {
        let ends = Arc::new(AtomicBool::new(false));
        for member in 0..MEMBERS {
            let cannot = |error: std::io::Error| Failure::new("addresses cannot be watched").because(error);
            let kernel = lab.machine(member).within(Conversation::of_addresses)?.map_err(cannot)?;
            let (claims, ends) = (claims.clone(), Arc::clone(&ends));
            std::thread::spawn(move || follow(member, &kernel, &claims, &ends));
        }
        Ok(Self { advert, ends })
    }

    fn configuration(&self, member: usize) -> String {
        CONFIGURATION
            .replace("{number}", &(member + 1).to_string())
            .replace("{interface}", OWN_END)
            .replace("{priority}", &(200 - 50 * member).to_string())
            .replace("{advert_s}", &self.advert.as_secs_f64().to_string())
            .replace("{virtual}", &VIRTUAL.to_string())
    }
}

fn follow(member: usize, kernel: &Conversation, claims: &Claims, ends: &AtomicBool) {
    while !ends.load(Ordering::Relaxed)
        && let Ok(changes) = kernel.changes()
    {
        for change in changes.into_iter().filter(|change| change.address == VIRTUAL) {
            claims.add(member, change.is_new);
        }
    }
}

impl Kind for Keepalived {
    fn start(&mut self, lab: &Lab, member: usize, home: &Path, claims: &Claims) -> Result<Kin, Failure> {
        let own = lab.machine(member);
        // One that was killed has left the address where it was.
        if holders(claims).contains(&member) {
            ip(&format!("-n {} addr del {VIRTUAL}/24 dev {OWN_END}", own.name()))?;
        }
        let path = home.join(format!("{member}.conf"));
        fs::write(&path, self.configuration(member))
            .map_err(|error| Failure::new("cannot configure keepalived").because(error))?;
        let file = |what: &str| home.join(format!("{member}.{what}.pid"));
        let mut command = Command::new("keepalived");
        command.args(["--dont-fork", "--log-console", "--vrrp", "--use-file"]).arg(path);
        command.arg("--pid").arg(file("main")).arg("--vrrp_pid").arg(file("vrrp"));
        begin(Some(own), command, &home.join(format!("{member}.log")))
    }

    /// One has the address, and nothing has moved for longer than a silent master is waited for.
    fn settled(&self, _lab: &Lab, claims: &Claims) -> Option<usize> {
        let holders = holders(claims);
        let is_quiet = claims.quiet() > self.advert * 4 + Duration::from_millis(500);
        (is_quiet && holders.len() == 1).then(|| holders.first().copied()).flatten()
    }
}

/// Who has the address now.
fn holders(claims: &Claims) -> Vec<usize> {
    let all = claims.all();
    let has = |member: &usize| {
        let last = all.iter().rev().find(|claim| claim.member == *member);
        last.is_some_and(|claim| claim.leads)
    };
    (0..MEMBERS).filter(has).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_each_counts() {
        let claims = Claims::default();
        claims.add(0, true);
        claims.add(2, true);
        claims.add(0, false);
        assert_eq!(holders(&claims), [2]);
        let text = Keepalived { advert: Duration::from_millis(100), ends: Arc::default() }.configuration(1);
        assert!(text.contains("priority 150") && text.contains("advert_int 0.1") && text.contains("10.83.0.100/24"));
    }
}
