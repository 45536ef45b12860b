//! Reading the database from outside of the writer, on a connection of its own that is made anew where it is gone.

use std::cell::RefCell;
use std::collections::BTreeMap;

use shared::ids::{Class, Name, Stream};
use shared::ranges::RangeSet;
use shared::record::{GapReason, Kind};
use shared::region::ledger::FilingKey;
use shared::time::WallMillis;
use tokio_postgres::Row as Line;

use super::filing::{range_at, small, stream_at};
use super::key::KeyBytes;
use super::names::of_text;
use super::parts;
use super::place::PostgresPlace;
use super::schema;
use super::session::{Session, Values, get};
use crate::store::StoreError;
use crate::store::counts::{self, Counted, SiteCounts};
use crate::store::parts::{Due, Part};
use crate::store::read::{Cursor, Looked, Row, Shed, StoreReader, StoredEvent};

/// The columns of a row, as [`row_of`] reads them.
macro_rules! rows {
    ($rest:literal) => {
        concat!(
            "SELECT r.seq, r.kind, p.name, r.key_kind, r.key, r.taken_ms, t.name, r.payload
             FROM record r JOIN publisher p ON p.id = r.publisher JOIN topic t ON t.id = r.topic ",
            $rest
        )
    };
}

/// The store in PostgreSQL, open for reading.
#[derive(Debug)]
pub struct PostgresReader {
    place: PostgresPlace,
    session: RefCell<Option<Session>>,
}

/// A block whose rows are looked at.
struct Arrived {
    id: i64,
    stream_id: i32,
    stream: Stream,
    first: i64,
    last: i64,
}

impl PostgresReader {
    /// Opens the store at `place`, which was opened for writing before.
    pub fn open(place: &PostgresPlace) -> Result<Self, StoreError> {
        let mut session = Session::to_read(place)?;
        schema::check(&mut session)?;
        Ok(Self { place: place.clone(), session: RefCell::new(Some(session)) })
    }

    /// Reads one committed state. A connection that turns out to be gone is made anew once.
    fn read<A>(&self, read: impl FnOnce(&mut Session) -> Result<A, StoreError>) -> Result<A, StoreError> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let mut kept = self.session.borrow_mut();
        let begun = kept.take().and_then(|mut session| session.batch(begin).map(|()| session).ok());
        let mut session = match begun {
            Some(session) => session,
            None => {
                let mut session = Session::to_read(&self.place)?;
                session.batch(begin)?;
                session
            }
        };
        // After an error the connection is given up: nobody knows how far it has read.
        let answer = read(&mut session)?;
        session.batch("COMMIT")?;
        *kept = Some(session);
        Ok(answer)
    }
}

impl StoreReader for PostgresReader {
    fn bytes(&self) -> Result<u64, StoreError> {
        let select = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
                      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                      WHERE n.nspname = 'roadstead' AND c.relkind = 'r'";
        self.read(|session| {
            let row = session.query_opt(select, &[])?;
            row.map_or(Ok(0), |row| Ok(get::<i64>(&row, 0)?.cast_unsigned()))
        })
    }

    fn sites(&self) -> Result<Vec<String>, StoreError> {
        self.read(|session| {
            let rows = session.query("SELECT name FROM site ORDER BY name COLLATE \"C\"", &[])?;
            rows.iter().map(|row| get(row, 0)).collect()
        })
    }

    fn stored(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let select =
            "SELECT site.name, sum(s.rows)::bigint FROM stream s JOIN site ON site.id = s.site GROUP BY site.name";
        self.read(|session| {
            let rows = session.query(select, &[])?;
            rows.iter()
                .map(|row| Ok((get(row, 0)?, get::<i64>(row, 1)?.cast_unsigned())))
                .collect()
        })
    }

    fn counts(&self, site: &Name) -> Result<SiteCounts, StoreError> {
        self.read(|session| {
            let covered = ranges(session, "SELECT stream, first, last FROM coverage WHERE stream = ANY($1)", site)?;
            let declared = ranges(session, "SELECT stream, first, last FROM shed WHERE stream = ANY($1)", site)?;
            let mut streams = Vec::new();
            for (id, stream, counted) in streams_of(session, site)? {
                let none = RangeSet::EMPTY;
                let covered = covered.get(&id).unwrap_or(&none);
                streams.push(counts::reckon(stream, counted, covered, declared.get(&id).unwrap_or(&none)));
            }
            Ok(SiteCounts { streams })
        })
    }

    fn coverage(&self, site: &Name) -> Result<Vec<(Stream, RangeSet)>, StoreError> {
        self.read(|session| {
            let mut covered = ranges(session, "SELECT stream, first, last FROM coverage WHERE stream = ANY($1)", site)?;
            let streams = streams_of(session, site)?.into_iter();
            Ok(streams
                .map(|(id, stream, _)| (stream, covered.remove(&id).unwrap_or_default()))
                .collect())
        })
    }

    fn shed(&self, site: &Name) -> Result<Vec<Shed>, StoreError> {
        let select = "SELECT s.board, s.boot, s.nonce, s.class, d.first, d.last, d.bytes, d.reason
                      FROM shed d JOIN stream s ON s.id = d.stream JOIN site ON site.id = s.site
                      WHERE site.name = $1 ORDER BY d.id";
        let shed = |row: &Line| {
            let (bytes, reason): (i64, u8) = (get(row, 6)?, small(row, 7)?);
            let reason = if reason == GapReason::JournalFull as u8 {
                GapReason::JournalFull
            } else {
                GapReason::Damaged
            };
            Ok(Shed { stream: stream_at(row, 0)?, range: range_at(row, 4)?, bytes: bytes.cast_unsigned(), reason })
        };
        self.read(|session| session.query(select, &[&site.as_str()])?.iter().map(shed).collect())
    }

    fn events(&self, site: &Name, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        let select = "SELECT e.at_ms, e.name, e.detail FROM event e JOIN site s ON s.id = e.site
                      WHERE s.name = $1 ORDER BY e.id DESC LIMIT $2";
        let event = |row: &Line| Ok(StoredEvent { at_ms: get(row, 0)?, name: get(row, 1)?, detail: get(row, 2)? });
        self.read(|session| {
            session
                .query(select, &[&site.as_str(), &i64::from(limit)])?
                .iter()
                .map(event)
                .collect()
        })
    }

    fn rows(&self, site: &Name, each: &mut dyn FnMut(Row<'_>)) -> Result<u64, StoreError> {
        self.read(|session| {
            let mut count = 0;
            for (id, stream, _) in streams_of(session, site)? {
                count += pass(session, stream, rows!("WHERE r.stream = $1 ORDER BY r.seq"), &[&id], each)?;
            }
            Ok(count)
        })
    }

    fn look(
        &self,
        site: &Name,
        after: Option<Cursor>,
        limit: u32,
        each: &mut dyn FnMut(Row<'_>),
    ) -> Result<Looked, StoreError> {
        self.read(|session| {
            let mut looked = Looked { rows: 0, next: after };
            // Each block holds a row at least, but for those that were all duplicates: a few more blocks than rows do.
            for arrived in arrived(session, site, after, limit.saturating_add(64))? {
                if looked.rows == limit {
                    break;
                }
                look_into(session, &arrived, after, limit, &mut looked, each)?;
            }
            Ok(looked)
        })
    }

    fn unarchived(&self, before: WallMillis) -> Result<Option<String>, StoreError> {
        self.read(|session| parts::unarchived(session, before))
    }

    fn waiting(&self) -> Result<Option<Part>, StoreError> {
        self.read(parts::waiting)
    }

    fn part_rows(&self, part: &Part, each: &mut dyn FnMut(Row<'_>, i64)) -> Result<Option<u64>, StoreError> {
        self.read(|session| {
            let Some(blocks) = parts::blocks(session, part)? else { return Ok(None) };
            let select = rows!("WHERE r.stream = $1 AND r.seq BETWEEN $2 AND $3 AND r.block = $4 ORDER BY r.seq");
            let mut count = 0;
            for block in &blocks {
                let values: Values<'_> = &[&block.stream_id, &block.first, &block.last, &block.id];
                count += pass(session, block.stream, select, values, &mut |row| each(row, block.received_ms))?;
            }
            Ok(Some(count))
        })
    }

    fn due(&self, class: Class, before: WallMillis, archived: bool) -> Result<Vec<Due>, StoreError> {
        self.read(|session| parts::due(session, class, before, archived))
    }

    fn newest(&self, site: &Name, class: Class, limit: u32, each: &mut dyn FnMut(Row<'_>)) -> Result<(), StoreError> {
        let newest = rows!("WHERE r.stream = $1 ORDER BY r.seq DESC LIMIT $2");
        self.read(|session| {
            let streams = streams_of(session, site)?.into_iter();
            for (id, stream, _) in streams.filter(|(_, stream, _)| stream.class == class) {
                pass(session, stream, newest, &[&id, &i64::from(limit)], each)?;
            }
            Ok(())
        })
    }
}

/// Passes on each row that a statement finds; how many.
fn pass(
    session: &mut Session,
    stream: Stream,
    select: &'static str,
    values: Values<'_>,
    each: &mut dyn FnMut(Row<'_>),
) -> Result<u64, StoreError> {
    let mut rows = session.stream(select, values)?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let (seq, kind): (i64, u8) = (get(&row, 0)?, small(&row, 1)?);
        let KeyBytes(bytes) = get(&row, 4)?;
        let (publisher, topic) = (of_text(get(&row, 2)?), of_text(get(&row, 6)?));
        each(Row {
            stream,
            seq: seq.cast_unsigned(),
            kind: if kind == Kind::Gap as u8 { Kind::Gap } else { Kind::Reading },
            publisher: &publisher,
            key: FilingKey { kind: small(&row, 3)?, bytes },
            taken_ms: get(&row, 5)?,
            topic: &topic,
            payload: get(&row, 7)?,
        });
        count += 1;
    }
    Ok(count)
}

/// Streams of `site` with their numbers and counts, in order of board, epoch and class.
fn streams_of(session: &mut Session, site: &Name) -> Result<Vec<(i32, Stream, Counted)>, StoreError> {
    let select = "SELECT s.board, s.boot, s.nonce, s.class, s.id, s.rows, s.duplicates, s.gaps, s.archived, s.expired
                  FROM stream s JOIN site ON site.id = s.site
                  WHERE site.name = $1 ORDER BY s.board, s.boot, s.nonce, s.class";
    let of_row = |row: &Line| {
        let figure = |at| get::<i64>(row, at).map(i64::cast_unsigned);
        let counted = Counted {
            rows: figure(5)?,
            duplicates: figure(6)?,
            gaps: figure(7)?,
            archived: figure(8)?,
            expired: figure(9)?,
        };
        Ok((get(row, 4)?, stream_at(row, 0)?, counted))
    };
    session.query(select, &[&site.as_str()])?.iter().map(of_row).collect()
}

/// Ranges of all streams of `site`, by stream.
fn ranges(session: &mut Session, select: &'static str, site: &Name) -> Result<BTreeMap<i32, RangeSet>, StoreError> {
    let streams: Vec<i32> = streams_of(session, site)?.into_iter().map(|(id, ..)| id).collect();
    let mut found: BTreeMap<i32, RangeSet> = BTreeMap::new();
    for row in session.query(select, &[&streams])? {
        found.entry(get(&row, 0)?).or_default().insert(range_at(&row, 1)?);
    }
    Ok(found)
}

fn arrived(session: &mut Session, site: &Name, after: Option<Cursor>, limit: u32) -> Result<Vec<Arrived>, StoreError> {
    let newest = "SELECT b.id, b.first, b.first + (b.count - 1), s.board, s.boot, s.nonce, s.class, s.id
                  FROM block b JOIN stream s ON s.id = b.stream JOIN site ON site.id = s.site
                  WHERE site.name = $1 AND b.id >= $2 ORDER BY b.id DESC LIMIT $3";
    let since = "SELECT b.id, b.first, b.first + (b.count - 1), s.board, s.boot, s.nonce, s.class, s.id
                 FROM block b JOIN stream s ON s.id = b.stream JOIN site ON site.id = s.site
                 WHERE site.name = $1 AND b.id >= $2 ORDER BY b.id ASC LIMIT $3";
    let select = if after.is_some() { since } else { newest };
    let from = after.map_or(0, |cursor| cursor.block);
    let of_row = |row: &Line| {
        Ok(Arrived {
            id: get(row, 0)?,
            first: get(row, 1)?,
            last: get(row, 2)?,
            stream: stream_at(row, 3)?,
            stream_id: get(row, 7)?,
        })
    };
    session
        .query(select, &[&site.as_str(), &from, &i64::from(limit)])?
        .iter()
        .map(of_row)
        .collect()
}

fn look_into(
    session: &mut Session,
    arrived: &Arrived,
    after: Option<Cursor>,
    limit: u32,
    looked: &mut Looked,
    each: &mut dyn FnMut(Row<'_>),
) -> Result<(), StoreError> {
    let newest = rows!("WHERE r.stream = $1 AND r.seq BETWEEN $2 AND $3 AND r.block = $4 ORDER BY r.seq DESC LIMIT $5");
    let since = rows!("WHERE r.stream = $1 AND r.seq BETWEEN $2 AND $3 AND r.block = $4 ORDER BY r.seq ASC LIMIT $5");
    let first = match after {
        Some(cursor) if cursor.block == arrived.id => {
            // Behind the last sequence that there can be is nothing.
            let Some(next) = cursor.seq.cast_signed().checked_add(1) else { return Ok(()) };
            arrived.first.max(next)
        }
        Some(_) | None => arrived.first,
    };
    let select = if after.is_some() { since } else { newest };
    let left = i64::from(limit - looked.rows);
    let values: Values<'_> = &[&arrived.stream_id, &first, &arrived.last, &arrived.id, &left];
    let mut next = looked.next;
    let mut seen = |row: Row<'_>| {
        next = next.max(Some(Cursor { block: arrived.id, seq: row.seq }));
        each(row);
    };
    let count = pass(session, arrived.stream, select, values, &mut seen)?;
    looked.next = next;
    looked.rows += u32::try_from(count).unwrap_or(u32::MAX);
    Ok(())
}
