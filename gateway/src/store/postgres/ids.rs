//! Numbers for the names that rows repeat: sites, streams, publishers, topics. Keeps the ones in use at hand, bounded. Several
//! gateways may give one out at the same time: whoever comes second takes the number of the first.

use std::collections::{BTreeSet, HashMap};

use shared::ids::{Name, Stream};

use super::lots::Lots;
use super::names::to_text;
use super::session::{Session, Values, get};
use crate::store::StoreError;

/// Entries of one kind kept at hand between transactions. At the limit they are dropped together: the next uses look them up.
const AT_HAND_MAX: usize = 64 * 1024;

/// A row of the table `site`.
pub(super) type SiteId = i32;
/// A row of the table `stream`.
pub(super) type StreamId = i32;

#[derive(Debug, Default)]
pub(super) struct Ids {
    sites: HashMap<Name, SiteId>,
    streams: HashMap<(SiteId, Stream), StreamId>,
    publishers: HashMap<SiteId, HashMap<String, i32>>,
    topics: HashMap<String, i32>,
    pub(super) lots: Lots,
}

impl Ids {
    /// Drops what is at hand: a transaction that gave out numbers did not commit.
    pub(super) fn forget(&mut self) {
        *self = Self { lots: std::mem::take(&mut self.lots), ..Self::default() };
    }

    /// Makes room, between transactions: within one all that it needs stays at hand.
    pub(super) fn tidy(&mut self) {
        let publishers: usize = self.publishers.values().map(HashMap::len).sum();
        let fullest = publishers.max(self.topics.len()).max(self.streams.len());
        if fullest.max(self.lots.len()) > AT_HAND_MAX {
            *self = Self::default();
        }
    }

    pub(super) fn site(&mut self, session: &mut Session, name: &Name) -> Result<SiteId, StoreError> {
        if let Some(id) = self.sites.get(name) {
            return Ok(*id);
        }
        let select = "SELECT id FROM site WHERE name = $1";
        let insert = "INSERT INTO site (name) VALUES ($1) ON CONFLICT (name) DO NOTHING";
        let id = numbered(session, select, insert, &[&name.as_str()])?;
        self.sites.insert(name.clone(), id);
        Ok(id)
    }

    pub(super) fn stream(
        &mut self,
        session: &mut Session,
        site: SiteId,
        stream: &Stream,
    ) -> Result<StreamId, StoreError> {
        if let Some(id) = self.streams.get(&(site, *stream)) {
            return Ok(*id);
        }
        let (board, boot, nonce, class) = columns(stream);
        let insert = "INSERT INTO stream (site, board, boot, nonce, class) VALUES ($1, $2, $3, $4, $5)
                      ON CONFLICT (site, board, boot, nonce, class) DO NOTHING";
        let select = "SELECT id FROM stream WHERE site = $1 AND board = $2 AND boot = $3 AND nonce = $4 AND class = $5";
        let id = numbered(session, select, insert, &[&site, &board, &boot, &nonce, &class])?;
        self.streams.insert((site, *stream), id);
        Ok(id)
    }

    pub(super) fn publisher(&self, site: SiteId, name: &str) -> Option<i32> {
        self.publishers.get(&site)?.get(name).copied()
    }

    pub(super) fn topic(&self, name: &str) -> Option<i32> {
        self.topics.get(name).copied()
    }

    /// Brings the publishers of `site` to hand, giving numbers to those that are new. In order, so that two gateways wait for one
    /// another and not both.
    pub(super) fn bring_publishers(
        &mut self,
        session: &mut Session,
        site: SiteId,
        names: &BTreeSet<&str>,
    ) -> Result<(), StoreError> {
        if names.is_empty() {
            return Ok(());
        }
        let texts: Vec<String> = names.iter().map(|name| to_text(name).into_owned()).collect();
        let insert = "INSERT INTO publisher (site, name)
                      SELECT $1, wanted.name FROM unnest($2::text[]) AS wanted (name)
                      WHERE NOT EXISTS (SELECT 1 FROM publisher p WHERE p.site = $1 AND p.name = wanted.name)
                      ON CONFLICT (site, name) DO NOTHING";
        session.execute(insert, &[&site, &texts])?;
        let select = "SELECT name, id FROM publisher WHERE site = $1 AND name = ANY($2)";
        let known = self.publishers.entry(site).or_default();
        for row in session.query(select, &[&site, &texts])? {
            let name: &str = get(&row, 0)?;
            known.insert(super::names::of_text(name).into_owned(), get(&row, 1)?);
        }
        Ok(())
    }

    /// The same of topics.
    pub(super) fn bring_topics(&mut self, session: &mut Session, names: &BTreeSet<&str>) -> Result<(), StoreError> {
        if names.is_empty() {
            return Ok(());
        }
        let texts: Vec<String> = names.iter().map(|name| to_text(name).into_owned()).collect();
        let insert = "INSERT INTO topic (name)
                      SELECT wanted.name FROM unnest($1::text[]) AS wanted (name)
                      WHERE NOT EXISTS (SELECT 1 FROM topic t WHERE t.name = wanted.name)
                      ON CONFLICT (name) DO NOTHING";
        session.execute(insert, &[&texts])?;
        for row in session.query("SELECT name, id FROM topic WHERE name = ANY($1)", &[&texts])? {
            let name: &str = get(&row, 0)?;
            self.topics.insert(super::names::of_text(name).into_owned(), get(&row, 1)?);
        }
        Ok(())
    }
}

/// The columns board, boot, nonce, class of a stream.
pub(super) fn columns(stream: &Stream) -> (i16, i64, i64, i16) {
    let Stream { origin, class } = stream;
    let epoch = origin.epoch;
    (
        i16::from(origin.board.get()),
        i64::from(epoch.boot),
        epoch.nonce.cast_signed(),
        i16::from(*class as u8),
    )
}

/// The number that `select` finds, or that it finds once `insert` has given one out. An insert draws a number also where it then meets
/// a row that is there, and numbers are not without end.
fn numbered(
    session: &mut Session,
    select: &'static str,
    insert: &'static str,
    values: Values<'_>,
) -> Result<i32, StoreError> {
    if let Some(row) = session.query_opt(select, values)? {
        return get(&row, 0);
    }
    session.execute(insert, values)?;
    session
        .query_opt(select, values)?
        .map_or(Err(StoreError::Vanished), |row| get(&row, 0))
}
