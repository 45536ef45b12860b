//! Others that do the same, from Debian's packages, on machines like ours: three of them behind one switch, the same
//! faults, the same clock. Owns what they have in common: members, faults, and how a takeover is read from what they
//! claim. Each claims in its own way, and in the way that serves it best.

mod etcd;
mod keepalived;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use super::beat::Stamp;
use super::dice::Dice;
use super::figures::Trial;
use super::lab::Lab;
use crate::bench::kin::{Kin, send};
use crate::bench::{install, waits};
use crate::demo::site::Home;
use crate::failure::Failure;
use etcd::Etcd;
use keepalived::Keepalived;

/// Members of every cluster.
const MEMBERS: usize = 3;
/// A cluster is whole after so long.
const WHOLE_MAX: Duration = Duration::from_secs(60);
/// Somebody takes over after so long, or it counts as a failure: the slowest, keepalived at 1 s, takes 4.
const TAKEOVER_MAX: Duration = Duration::from_secs(30);

/// Who is measured beside us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    /// With its defaults.
    Etcd,
    /// As fast as its documentation allows.
    EtcdTuned,
    /// An advertisement a second, its default.
    Keepalived,
    /// Ten a second.
    Keepalived100,
}

impl Name {
    /// As it stands in the figures.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::EtcdTuned => "etcd-tuned",
            Self::Keepalived => "keepalived",
            Self::Keepalived100 => "keepalived-100ms",
        }
    }

    /// What was set, for the figures.
    pub(super) fn timing(self) -> &'static str {
        match self {
            Self::Etcd => {
                "heartbeat-interval 100 ms, election-timeout 1000 ms (its defaults); it leads when it logs so"
            }
            Self::EtcdTuned => "heartbeat-interval 10 ms, election-timeout 100 ms; it leads when it logs so",
            Self::Keepalived => "advert_int 1 s (its default), VRRPv3; it is master when it has the address",
            Self::Keepalived100 => "advert_int 0.1 s, VRRPv3; it is master when it has the address",
        }
    }

    /// Installs what it needs, or says how.
    pub(super) fn install(self) -> Result<(), Failure> {
        match self {
            Self::Etcd | Self::EtcdTuned => install::ensure("etcd", "etcd-server"),
            Self::Keepalived | Self::Keepalived100 => install::ensure("keepalived", "keepalived"),
        }
    }
}

/// Pauses that a cluster may spoil by changing its leader, before it counts as unfit for a trial.
const PAUSES_MAX: usize = 60;

/// What is done to the one that leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its cable is pulled.
    Cable,
    /// Its process is killed.
    Kill,
}

/// Something that a member has said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    member: usize,
    stamp: Stamp,
    leads: bool,
}

/// All claims, in the order in which they were heard.
#[derive(Clone, Debug, Default)]
struct Claims(Arc<Mutex<Vec<Claim>>>);

impl Claims {
    fn add(&self, member: usize, leads: bool) {
        let claim = Claim { member, stamp: Stamp::now(), leads };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(claim);
    }

    fn all(&self) -> Vec<Claim> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first other member that claims to lead after `fault`.
    fn next(&self, old: usize, fault: Stamp) -> Option<Claim> {
        let all = self.all();
        all.into_iter()
            .find(|claim| claim.leads && claim.member != old && claim.stamp > fault)
    }

    /// How long nothing has changed.
    fn quiet(&self) -> Duration {
        self.all()
            .last()
            .map_or(Duration::ZERO, |claim| Stamp::now().since(claim.stamp))
    }
}

/// What one kind of cluster knows of itself.
trait Kind {
    /// Starts a member.
    fn start(&mut self, lab: &Lab, member: usize, home: &Path, claims: &Claims) -> Result<Kin, Failure>;
    /// Who leads, if the cluster is whole and has been for long enough.
    fn settled(&self, lab: &Lab, claims: &Claims) -> Option<usize>;
}

/// A running cluster.
pub(super) struct Cluster {
    members: Vec<Option<Kin>>,
    claims: Claims,
    kind: Box<dyn Kind + Send>,
    lab: Lab,
    home: Home,
}

impl Cluster {
    /// Starts one in `below` and waits until it is whole.
    pub(super) async fn start(name: Name, below: &Path) -> Result<Self, Failure> {
        let lab = Lab::build(MEMBERS)?;
        let home = Home::temporary_in(below, "failover")?;
        let claims = Claims::default();
        let kind: Box<dyn Kind + Send> = match name {
            Name::Etcd => Box::new(Etcd::new(100, 1000)),
            Name::EtcdTuned => Box::new(Etcd::new(10, 100)),
            Name::Keepalived => Box::new(Keepalived::new(&lab, &claims, Duration::from_secs(1))?),
            Name::Keepalived100 => Box::new(Keepalived::new(&lab, &claims, Duration::from_millis(100))?),
        };
        let mut cluster = Self { members: (0..MEMBERS).map(|_| None).collect(), claims, kind, lab, home };
        cluster.restart()?;
        cluster.whole().await?;
        Ok(cluster)
    }

    /// Starts every member that does not run.
    fn restart(&mut self) -> Result<(), Failure> {
        for member in 0..MEMBERS {
            if self.members[member].as_mut().is_none_or(|kin| kin.ended().is_some()) {
                self.members[member] = None;
                let kin = self.kind.start(&self.lab, member, self.home.path(), &self.claims)?;
                self.members[member] = Some(kin);
            }
        }
        Ok(())
    }

    async fn whole(&mut self) -> Result<usize, Failure> {
        let settled = waits::until(WHOLE_MAX, || self.kind.settled(&self.lab, &self.claims)).await;
        settled.ok_or_else(|| {
            let logs = (0..MEMBERS).map(|member| self.home.path().join(format!("{member}.log")));
            let tails: Vec<String> = logs.map(|log| crate::demo::group::tail(&log)).collect();
            Failure::new(format!("a rival does not get whole\n{}", tails.join("\n")))
        })
    }

    /// Who leads, unchanged since before a random pause: on a busy machine a nervous cluster changes its mind by itself.
    async fn leader_after_a_while(&mut self, dice: &mut Dice) -> Result<usize, Failure> {
        for _ in 0..PAUSES_MAX {
            let leader = self.whole().await?;
            let since = self.claims.all().len();
            tokio::time::sleep(dice.below(waits::PHASES)).await;
            if self.claims.all().len() == since {
                return Ok(leader);
            }
        }
        Err(Failure::new("a rival changes its leader all the time, without any fault"))
    }

    /// One fault, and its mending.
    pub(super) async fn trial(&mut self, fault: Fault, dice: &mut Dice) -> Result<Trial, Failure> {
        let old = self.leader_after_a_while(dice).await?;
        let struck = match fault {
            Fault::Cable => self.lab.pull(old)?,
            Fault::Kill => {
                // Children first: one that outlives its parent for an instant may take its leave, and this is no leave.
                let mut all = self.members[old].as_ref().map(Kin::all).unwrap_or_default();
                all.reverse();
                send(&all, Signal::KILL)
            }
        };
        let claims = self.claims.clone();
        let next = waits::until(TAKEOVER_MAX, || claims.next(old, struck)).await;
        let next = next.ok_or_else(|| Failure::new(format!("nobody took over from a rival's member {}", old + 1)))?;
        match fault {
            Fault::Cable => self.lab.plug(old).map(drop)?,
            Fault::Kill => self.restart()?,
        }
        Ok(Trial { takeover: next.stamp.since(struck), ..Trial::default() })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.members.iter_mut().for_each(|member| *member = None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_member_takes_over_and_only_after_the_fault() {
        let claims = Claims::default();
        claims.add(1, true);
        let fault = Stamp::now();
        claims.add(0, true);
        claims.add(2, false);
        assert_eq!(claims.next(0, fault), None);
        claims.add(2, true);
        assert_eq!(claims.next(0, fault).map(|claim| claim.member), Some(2));
    }
}
