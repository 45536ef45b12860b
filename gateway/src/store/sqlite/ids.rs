//! Numbers for the names that rows repeat: sites, streams, publishers, topics. Keeps the ones in use at hand, bounded;
//! what is not at hand is looked up in its table.

use std::collections::HashMap;
use std::hash::Hash;

use rusqlite::{Connection, OptionalExtension, params};
use shared::ids::{Name, Stream};

use super::numbers::Numbered;
use crate::store::StoreError;
use crate::store::lots::{FIRST_LOT, LOT_ROWS, rows_of_next};

/// Entries of one kind kept at hand. At the limit they are dropped together: the next uses look them up.
const AT_HAND_MAX: usize = 64 * 1024;

/// A row of the table `site`.
pub(super) type SiteId = i64;
/// A row of the table `stream`.
pub(super) type StreamId = i64;

/// A publisher at hand: its place among them.
#[derive(Clone, Copy, Debug)]
pub(super) struct At(usize);

/// What is known of a publisher.
#[derive(Clone, Copy, Debug)]
pub(super) struct Publisher {
    /// Its row of the table `publisher`.
    pub(super) id: i64,
    /// The lot in which its readings are filed that have no place of their own in the index of keys.
    pub(super) lot: i64,
    /// So many more are filed there before the next lot is begun.
    room: u32,
    /// Whether copies may be there that wait for their original.
    pub(super) may_wait: bool,
    /// Whether readings may be there that were filed by their content before there were lots.
    pub(super) may_be_old: bool,
}

#[derive(Debug, Default)]
pub(super) struct Ids {
    sites: HashMap<Name, SiteId>,
    streams: HashMap<(SiteId, Stream), StreamId>,
    publishers: HashMap<SiteId, HashMap<String, At>>,
    known: Vec<Publisher>,
    topics: HashMap<String, i64>,
    pub(super) numbered: Numbered,
}

impl Ids {
    /// Drops what is at hand: a transaction that gave out numbers did not commit.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    pub(super) fn site(&mut self, sql: &Connection, name: &Name) -> Result<SiteId, StoreError> {
        if let Some(id) = self.sites.get(name) {
            return Ok(*id);
        }
        let found = sql
            .prepare_cached("SELECT id FROM site WHERE name = ?1")?
            .query_row([name.as_str()], |row| row.get(0))
            .optional()?;
        let id = match found {
            Some(id) => id,
            None => sql
                .prepare_cached("INSERT INTO site (name) VALUES (?1)")?
                .insert([name.as_str()])?,
        };
        Ok(keep(&mut self.sites, name.clone(), id))
    }

    pub(super) fn stream(&mut self, sql: &Connection, site: SiteId, stream: &Stream) -> Result<StreamId, StoreError> {
        if let Some(id) = self.streams.get(&(site, *stream)) {
            return Ok(*id);
        }
        let id = match select_stream(sql, site, stream)? {
            Some(id) => id,
            None => {
                let Stream { origin, class } = stream;
                sql.prepare_cached("INSERT INTO stream (site, board, boot, nonce, class) VALUES (?1, ?2, ?3, ?4, ?5)")?
                    .insert(params![
                        site,
                        origin.board.get(),
                        origin.epoch.boot,
                        origin.epoch.nonce.cast_signed(),
                        *class as u8
                    ])?
            }
        };
        Ok(keep(&mut self.streams, (site, *stream), id))
    }

    /// The stream, if the store knows it; gives out no number.
    pub(super) fn find_stream(
        &mut self,
        sql: &Connection,
        site: &Name,
        stream: &Stream,
    ) -> Result<Option<StreamId>, StoreError> {
        let known = self.sites.get(site).and_then(|id| self.streams.get(&(*id, *stream)));
        if let Some(id) = known {
            return Ok(Some(*id));
        }
        let site = sql
            .prepare_cached("SELECT id FROM site WHERE name = ?1")?
            .query_row([site.as_str()], |row| row.get(0))
            .optional()?;
        match site {
            Some(site) => select_stream(sql, site, stream),
            None => Ok(None),
        }
    }

    /// Brings a publisher to hand. Those at hand before may be dropped for it.
    pub(super) fn publisher(&mut self, sql: &Connection, site: SiteId, name: &str) -> Result<At, StoreError> {
        if let Some(at) = self.publishers.get(&site).and_then(|names| names.get(name)) {
            return Ok(*at);
        }
        let publisher = match find_publisher(sql, site, name)? {
            Some(publisher) => publisher,
            None => {
                let id = sql
                    .prepare_cached("INSERT INTO publisher (site, name) VALUES (?1, ?2)")?
                    .insert(params![site, name])?;
                Publisher { id, lot: FIRST_LOT, room: LOT_ROWS, may_wait: false, may_be_old: false }
            }
        };
        if self.known.len() >= AT_HAND_MAX {
            self.publishers.clear();
            self.known.clear();
        }
        let at = At(self.known.len());
        self.known.push(publisher);
        self.publishers.entry(site).or_default().insert(name.to_owned(), at);
        Ok(at)
    }

    /// The publisher at hand.
    pub(super) fn known(&self, at: At) -> Publisher {
        self.known[at.0]
    }

    /// A copy was filed that waits for its original.
    pub(super) fn handle_waiting(&mut self, at: At) {
        self.known[at.0].may_wait = true;
    }

    /// A row was filed in the publisher's lot; once that is full the next one is begun.
    pub(super) fn handle_filed(&mut self, sql: &Connection, at: At) -> Result<(), StoreError> {
        let publisher = &mut self.known[at.0];
        publisher.room -= 1;
        if publisher.room == 0 {
            let oldest: Option<i64> = sql
                .prepare_cached("SELECT min(lot) FROM record WHERE publisher = ?1 AND key_kind = 2 AND lot > 0")?
                .query_row([publisher.id], |row| row.get(0))?;
            publisher.lot += 1;
            publisher.room = rows_of_next(publisher.lot - oldest.unwrap_or(publisher.lot));
            sql.prepare_cached("UPDATE publisher SET lot = ?2 WHERE id = ?1")?
                .execute([publisher.id, publisher.lot])?;
        }
        Ok(())
    }

    pub(super) fn topic(&mut self, sql: &Connection, name: &str) -> Result<i64, StoreError> {
        if let Some(id) = self.topics.get(name) {
            return Ok(*id);
        }
        let found = sql
            .prepare_cached("SELECT id FROM topic WHERE name = ?1")?
            .query_row([name], |row| row.get(0))
            .optional()?;
        let id = match found {
            Some(id) => id,
            None => sql.prepare_cached("INSERT INTO topic (name) VALUES (?1)")?.insert([name])?,
        };
        Ok(keep(&mut self.topics, name.to_owned(), id))
    }
}

fn keep<K: Eq + Hash>(at_hand: &mut HashMap<K, i64>, key: K, id: i64) -> i64 {
    if at_hand.len() >= AT_HAND_MAX {
        at_hand.clear();
    }
    at_hand.insert(key, id);
    id
}

/// What the store knows of a publisher, if it does.
fn find_publisher(sql: &Connection, site: SiteId, name: &str) -> Result<Option<Publisher>, StoreError> {
    let found = sql
        .prepare_cached(
            "SELECT id, lot, EXISTS (SELECT 1 FROM record WHERE publisher = p.id AND awaits_original = 1),
                    EXISTS (SELECT 1 FROM record WHERE publisher = p.id AND key_kind = 1 AND lot = 0)
             FROM publisher p WHERE site = ?1 AND name = ?2",
        )?
        .query_row(params![site, name], |row| {
            let (may_wait, may_be_old) = (row.get(2)?, row.get(3)?);
            Ok(Publisher { id: row.get(0)?, lot: row.get(1)?, room: LOT_ROWS, may_wait, may_be_old })
        })
        .optional()?;
    Ok(found)
}

fn select_stream(sql: &Connection, site: SiteId, stream: &Stream) -> Result<Option<StreamId>, StoreError> {
    let Stream { origin, class } = stream;
    let found = sql
        .prepare_cached(
            "SELECT id FROM stream WHERE site = ?1 AND board = ?2 AND boot = ?3 AND nonce = ?4 AND class = ?5",
        )?
        .query_row(
            params![site, origin.board.get(), origin.epoch.boot, origin.epoch.nonce.cast_signed(), *class as u8],
            |row| row.get(0),
        )
        .optional()?;
    Ok(found)
}
