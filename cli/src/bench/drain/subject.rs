//! Who is measured: a site of this program, or another program that keeps records at the site while the uplink is down. Owns
//! what is the same to do with each.

use std::path::Path;

use tokio::task::JoinSet;

use super::ours::{BOARDS, Site};
use super::publish::{Live, dial, fill};
use super::readings::{Kind, Readings};
use super::rivals::{Name, Pair};
use super::tally::Tally;
use super::wan::Wan;
use crate::bench::ingest::dialects::mqtt::Mqtt;
use crate::bench::ingest::dialects::nats::Nats;
use crate::failure::Failure;

/// One that runs.
pub(super) enum Subject {
    /// A site of ours.
    Site(Box<Site>),
    /// Another one.
    Rival(Box<Pair>),
}

impl Subject {
    /// Starts ours, or `rival`, on both sides of `wan`; ready to take `shares`, one for each board.
    pub(super) async fn start(wan: &Wan, rival: Option<Name>, below: &Path, shares: &[u64]) -> Result<Self, Failure> {
        Ok(match rival {
            None => Self::Site(Box::new(Site::start(wan, below, shares.iter().sum()).await?)),
            Some(name) => Self::Rival(Box::new(Pair::start(wan, name, below, shares).await?)),
        })
    }

    /// Publishes `shares`, one for each board, and returns when all are acknowledged. A rival takes all at its one server.
    pub(super) async fn publish(&self, wan: &Wan, kind: Kind, shares: &[u64]) -> Result<(), Failure> {
        let cannot = |error| Failure::new("publishing failed").because(error);
        let mut publishing = JoinSet::new();
        for (board, share) in (1..=BOARDS).zip(shares) {
            let (readings, share) = (Readings::new(kind, board), *share);
            let length = Readings::length();
            match self {
                Self::Site(_) => {
                    let stream = dial(wan.site(), Site::mqtt(board)).await.map_err(cannot)?;
                    publishing.spawn(fill(stream, Mqtt::new(usize::from(board), length), readings, share));
                }
                Self::Rival(pair) => {
                    let stream = dial(wan.site(), pair.server()).await.map_err(cannot)?;
                    let number = usize::from(board);
                    match pair.name() {
                        name if name.is_mqtt() => {
                            publishing.spawn(fill(stream, Mqtt::new(number, length), readings, share))
                        }
                        _ => publishing.spawn(fill(stream, Nats::new(number, length), readings, share)),
                    };
                }
            }
        }
        while let Some(done) = publishing.join_next().await {
            done.map_err(std::io::Error::other).flatten().map_err(cannot)?;
        }
        Ok(())
    }

    /// Records of the backlog that the region has.
    pub(super) async fn arrived(&mut self, wan: &Wan, live: &Live) -> Result<u64, Failure> {
        match self {
            Self::Site(site) => site.arrived(live),
            Self::Rival(pair) => pair.arrived(wan).await,
        }
    }

    /// So many records were published, and have arrived, that are not the backlog.
    pub(super) fn handle_warm(&mut self, records: u64) {
        match self {
            Self::Site(site) => site.handle_warm(records),
            Self::Rival(pair) => pair.handle_warm(records),
        }
    }

    /// A failure if a process has ended although nobody ended it.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        match self {
            Self::Site(site) => site.check(),
            Self::Rival(pair) => pair.check(),
        }
    }

    /// What the region has of the backlog, read afresh where that can be; and how many of `live` it does not have once.
    pub(super) async fn judge(&mut self, wan: &Wan, shares: &[u64], live: &Live) -> Result<(Tally, u64), Failure> {
        match self {
            Self::Site(site) => {
                let mut tally = Tally::new(shares);
                let mut rows = std::collections::BTreeMap::new();
                site.read(&mut tally, |id| *rows.entry(id).or_insert(0_u64) += u64::from(id.kind >= Kind::Event))?;
                let is_amiss = |id: &super::readings::Id| rows.get(id) != Some(&1);
                let amiss = live.ids().iter().filter(|id| is_amiss(id)).count();
                Ok((tally, amiss as u64))
            }
            Self::Rival(pair) => {
                let tally = pair.read(wan, shares).await?;
                Ok((tally, 0))
            }
        }
    }
}
