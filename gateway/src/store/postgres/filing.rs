//! What happens within one transaction, for the deposits of all sites that wait: streams are locked, coverage is read, blocks are
//! settled against it, their fresh readings become rows or duplicates, and all of it is written in a few statements. Every
//! judgement is `shared::region::ledger`'s.
//!
//! A row of a stream is locked before its coverage is read and until the commit, so of two gateways that bring blocks of
//! one stream the second sees what the first has stored. Rows of publishers are locked after all streams, for deliveries (`lots`) and for
//! readings that their publisher has numbered (`numbers`). Digests of content have no such lock: the table's unique index refuses one that
//! is filed already, and the transaction is done again, *careful* this time: it asks first (`standing`).

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use shared::block::BadBlock;
use shared::hub::{Stored, Tally};
use shared::ids::{BoardId, Class, Epoch, Origin, Seq, Stream, Term};
use shared::ranges::{RangeSet, SeqRange};
use shared::record::{Key, Kind, Reading};
use shared::region::ledger::{self, Filed, FilingKey, Settled, Verdict};
use shared::region::numbers::{self, Numbers};
use shared::time::WallMillis;
use shared::wire::uplink::Block;
use tokio_postgres::Row;

use super::copy::Rows;
use super::ids::{Ids, SiteId, StreamId};
use super::key::KeyBytes;
use super::session::{Session, Value, get};
use super::standing::{FiledRows, KEYS_AT_ONCE, Sought};
use crate::store::parts::millis;
use crate::store::{Deposit, EVENTS_MAX, Happening, StoreError, lots};

/// Bytes of one COPY, about: what is gathered beyond goes in the next.
const COPY_BYTES: usize = 2 * 1024 * 1024;
/// Its records, about. Also where each costs a read of a millisecond, in the index of keys, they are filed before the server gives the
/// statement up.
const COPY_RECORDS: usize = 6144;
const COPY_BLOCKS: &str = "COPY block (id, first, received_ms, crc, stream, count, raw_len, codec, body)
                           FROM STDIN (FORMAT binary)";
const COPY_ROWS: &str = "COPY record (seq, block, taken_ms, stream, publisher, topic, kind, key_kind, awaits_original,
                                         lot, key, payload) FROM STDIN (FORMAT binary)";

/// The filing of one transaction.
pub(super) struct Filing<'t> {
    pub(super) session: &'t mut Session,
    pub(super) ids: &'t mut Ids,
    pub(super) now: WallMillis,
    /// Whether also keys are looked up that the index would refuse.
    pub(super) careful: bool,
}

/// A block of a deposit.
struct Sent<'b> {
    /// Number of its deposit.
    deposit: usize,
    site: SiteId,
    id: StreamId,
    block: &'b Block,
    /// Its readings that the store lacks; none where it does not hold together.
    fresh: Vec<Named<'b>>,
    tally: Tally,
}

/// A fresh reading, with the numbers of its names.
struct Named<'r> {
    seq: Seq,
    reading: Reading<'r>,
    publisher: i32,
    topic: i32,
}

/// No name has it.
const NO_NUMBER: i32 = 0;

/// Coverage of a stream, as it is and as it will be.
#[derive(Default)]
struct Covered {
    before: RangeSet,
    after: RangeSet,
}

/// What gap records declare lost.
#[derive(Default)]
struct Losses {
    streams: Vec<StreamId>,
    firsts: Vec<i64>,
    lasts: Vec<i64>,
    bytes: Vec<i64>,
    reasons: Vec<i16>,
}

impl Filing<'_> {
    /// Files all deposits and notes what happened, up to the commit, which is the caller's; one outcome a block.
    pub(super) fn file(
        &mut self,
        deposits: &[Deposit],
        happenings: &[Happening],
    ) -> Result<Vec<Vec<Stored>>, StoreError> {
        self.ids.tidy();
        let mut placed = self.place(deposits)?;
        let mut coverage = self.lock(&placed)?;
        let settled: Vec<Result<Settled, BadBlock>> = placed
            .iter_mut()
            .map(|sent| {
                let covered = coverage.entry(sent.id).or_default();
                let settled = ledger::settle(&covered.after, sent.block)?;
                sent.tally.again = settled.again();
                covered.after.insert(settled.range);
                Ok(settled)
            })
            .collect();
        let mut sent = self.name(placed, &settled)?;
        self.write(&mut sent)?;
        self.count(&sent)?;
        self.cover(&coverage)?;
        self.note(happenings)?;
        // What fails of all that is no failure of the commit.
        self.session.catch_up()?;
        let mut stored = vec![Vec::new(); deposits.len()];
        for (sent, settled) in sent.iter().zip(&settled) {
            let outcome = settled.as_ref().map(|_| sent.tally).map_err(|bad| *bad);
            stored[sent.deposit].push(Stored { stream: sent.block.stream, outcome });
        }
        Ok(stored)
    }

    /// Numbers of sites and streams, and fences.
    fn place<'b>(&mut self, deposits: &'b [Deposit]) -> Result<Vec<Sent<'b>>, StoreError> {
        let mut sent = Vec::new();
        for (number, deposit) in deposits.iter().enumerate() {
            let site = self.ids.site(self.session, &deposit.site)?;
            if let Some(term) = deposit.fence {
                self.raise(site, term)?;
            }
            for block in &deposit.blocks {
                let id = self.ids.stream(self.session, site, &block.stream)?;
                let (fresh, tally) = (Vec::new(), Tally::default());
                sent.push(Sent { deposit: number, site, id, block, fresh, tally });
            }
        }
        Ok(sent)
    }

    /// Writes the fence where it is higher than the one that stands.
    fn raise(&mut self, site: SiteId, term: Term) -> Result<(), StoreError> {
        let standing = self
            .session
            .query_opt("SELECT fence FROM site WHERE id = $1 FOR UPDATE", &[&site])?;
        let standing: i64 = standing.map_or(Err(StoreError::Vanished), |row| get(&row, 0))?;
        if standing.cast_unsigned() < term.token() {
            let fence = term.token().cast_signed();
            self.session
                .execute("UPDATE site SET fence = $2 WHERE id = $1", &[&site, &fence])?;
        }
        Ok(())
    }

    /// Locks the streams in the order of their numbers, so that two gateways cannot wait for one another, then reads their coverage.
    fn lock(&mut self, sent: &[Sent<'_>]) -> Result<BTreeMap<StreamId, Covered>, StoreError> {
        let streams: Vec<StreamId> = sent.iter().map(|sent| sent.id).collect::<BTreeSet<_>>().into_iter().collect();
        if streams.is_empty() {
            return Ok(BTreeMap::new());
        }
        let lock = "SELECT id FROM stream WHERE id = ANY($1) ORDER BY id FOR UPDATE";
        let select = "SELECT stream, first, last FROM coverage WHERE stream = ANY($1)";
        let (locked, ranges) = self.session.query_both((lock, &[&streams]), (select, &[&streams]))?;
        if locked.len() != streams.len() {
            return Err(StoreError::Vanished);
        }
        let mut coverage: BTreeMap<StreamId, Covered> = BTreeMap::new();
        for row in ranges {
            let covered = coverage.entry(get(&row, 0)?).or_default();
            covered.before.insert(range_at(&row, 1)?);
        }
        for covered in coverage.values_mut() {
            covered.after = covered.before.clone();
        }
        Ok(coverage)
    }

    /// Reads the fresh readings and finds the numbers of their names, giving numbers to those that are new.
    fn name<'s>(
        &mut self,
        mut sent: Vec<Sent<'s>>,
        settled: &'s [Result<Settled, BadBlock>],
    ) -> Result<Vec<Sent<'s>>, StoreError> {
        let mut publishers: BTreeMap<SiteId, BTreeSet<&str>> = BTreeMap::new();
        let mut topics = BTreeSet::new();
        for (sent, settled) in sent.iter_mut().zip(settled) {
            let Ok(settled) = settled else { continue };
            sent.fresh.reserve_exact(settled.count());
            for (seq, reading) in settled.readings() {
                let publisher = self.ids.publisher(sent.site, reading.publisher).unwrap_or(NO_NUMBER);
                if publisher == NO_NUMBER {
                    publishers.entry(sent.site).or_default().insert(reading.publisher);
                }
                let topic = self.ids.topic(reading.topic).unwrap_or(NO_NUMBER);
                if topic == NO_NUMBER {
                    topics.insert(reading.topic);
                }
                sent.fresh.push(Named { seq, reading, publisher, topic });
            }
        }
        if publishers.is_empty() && topics.is_empty() {
            return Ok(sent);
        }
        for (site, names) in publishers {
            self.ids.bring_publishers(self.session, site, &names)?;
        }
        self.ids.bring_topics(self.session, &topics)?;
        for sent in &mut sent {
            for named in &mut sent.fresh {
                if named.publisher == NO_NUMBER {
                    let number = self.ids.publisher(sent.site, named.reading.publisher);
                    named.publisher = number.ok_or(StoreError::Vanished)?;
                }
                if named.topic == NO_NUMBER {
                    named.topic = self.ids.topic(named.reading.topic).ok_or(StoreError::Vanished)?;
                }
            }
        }
        Ok(sent)
    }

    /// Judges every fresh reading, in order, and writes blocks, rows and what gaps declare.
    fn write(&mut self, sent: &mut [Sent<'_>]) -> Result<(), StoreError> {
        let mut sought = seek(sent, self.careful);
        let (mut filed, mut numbered) = self.look_up(&mut sought)?;
        let numbers = self.number_blocks(sent)?;
        let (mut blocks, mut records) = (Rows::new(), Rows::new());
        let (mut met, mut losses) = (Vec::new(), Losses::default());
        for (number, sent) in numbers.iter().copied().zip(sent.iter_mut().filter(|sent| sent.has_rows())) {
            put_block(&mut blocks, number, sent.block, sent.id, self.now);
            let place = Place { id: sent.id, stream: &sent.block.stream, block: number };
            for named in &sent.fresh {
                let Named { seq, reading, publisher, .. } = named;
                let judged = match (reading.kind, reading.key) {
                    (Kind::Reading, Key::Sequence { .. }) => {
                        judge_number(numbered.of(*publisher), reading, place.stream, *seq)
                    }
                    _ => judge(&mut filed, *publisher, reading, place.stream, *seq),
                };
                match (judged, reading.kind) {
                    (Judged::Row { key, awaits_original }, kind) => {
                        let lot = self.ids.lots.put(*publisher, lots::of(reading, key, awaits_original))?;
                        put_record(&mut records, &place, named, (key, lot, awaits_original));
                        match kind {
                            Kind::Reading => sent.tally.rows += 1,
                            Kind::Gap => {
                                sent.tally.gaps += 1;
                                self.lose(sent.site, reading, &mut losses)?;
                            }
                        }
                    }
                    (Judged::Duplicate { meets }, Kind::Reading | Kind::Gap) => {
                        sent.tally.duplicates += 1;
                        met.extend(meets.map(|key| (*publisher, key)));
                    }
                }
            }
            if blocks.len() + records.len() > COPY_BYTES || records.count() > COPY_RECORDS {
                self.copy(&mut blocks, &mut records)?;
            }
            self.session.carry_on();
        }
        self.copy(&mut blocks, &mut records)?;
        numbered.write(self.session)?;
        self.keep(&numbers, sent)?;
        self.meet(&met)?;
        self.ids.lots.raise(self.session, &sought.publishers)?;
        self.write_losses(&losses)
    }

    /// Copies what has gathered: the server files it while more is gathered.
    fn copy(&mut self, blocks: &mut Rows, records: &mut Rows) -> Result<(), StoreError> {
        for (sql, rows) in [(COPY_BLOCKS, blocks), (COPY_ROWS, records)] {
            if !rows.is_empty() {
                self.session.copy_along(sql, rows.take())?;
            }
        }
        Ok(())
    }

    /// Notes the blocks' age, and how many records came with each.
    fn keep(&mut self, numbers: &[i64], sent: &[Sent<'_>]) -> Result<(), StoreError> {
        if numbers.is_empty() {
            return Ok(());
        }
        let (mut streams, mut records) = (Vec::new(), Vec::new());
        for sent in sent.iter().filter(|sent| sent.has_rows()) {
            streams.push(sent.id);
            records.push((sent.tally.rows + sent.tally.gaps).cast_signed());
        }
        let insert = "INSERT INTO kept (stream, part, received_ms, block, records)
                      SELECT came.stream, 0, $1, came.block, came.records::integer
                      FROM unnest($2::integer[], $3::bigint[], $4::bigint[]) AS came (stream, block, records)";
        let values: Vec<Value> =
            vec![Box::new(millis(self.now)), Box::new(streams), Box::new(numbers.to_vec()), Box::new(records)];
        self.session.execute_along(insert, values)
    }

    /// Numbers for the blocks that have rows, in the order in which the blocks came. Other gateways draw from the same ones.
    fn number_blocks(&mut self, sent: &[Sent<'_>]) -> Result<Vec<i64>, StoreError> {
        let count = sent.iter().filter(|sent| sent.has_rows()).count() as i64;
        if count == 0 {
            return Ok(Vec::new());
        }
        let select = "SELECT nextval('block_number') FROM generate_series(1, $1::bigint)";
        let drawn = self.session.query(select, &[&count])?;
        let mut numbers = drawn.iter().map(|row| get(row, 0)).collect::<Result<Vec<i64>, _>>()?;
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Notes what a gap record declares lost.
    fn lose(&mut self, site: SiteId, reading: &Reading<'_>, losses: &mut Losses) -> Result<(), StoreError> {
        // Settling has read it already.
        let Ok(gap) = ledger::gap(reading) else { return Ok(()) };
        losses.streams.push(self.ids.stream(self.session, site, &gap.stream)?);
        losses.firsts.push(gap.range.first.cast_signed());
        losses.lasts.push(gap.range.last.cast_signed());
        losses.bytes.push(i64::try_from(gap.bytes).unwrap_or(i64::MAX));
        losses.reasons.push(i16::from(gap.reason as u8));
        Ok(())
    }

    fn write_losses(&mut self, losses: &Losses) -> Result<(), StoreError> {
        if losses.streams.is_empty() {
            return Ok(());
        }
        let insert = "INSERT INTO shed (stream, first, last, bytes, reason)
                      SELECT * FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[])";
        let Losses { streams, firsts, lasts, bytes, reasons } = losses;
        self.session.execute(insert, &[streams, firsts, lasts, bytes, reasons])?;
        Ok(())
    }

    /// The originals of these rows have come. What waits is a delivery, in lot 0.
    fn meet(&mut self, met: &[(i32, FilingKey)]) -> Result<(), StoreError> {
        let update = "UPDATE record SET awaits_original = false
                      FROM unnest($1::integer[], $2::uuid[]) AS met (publisher, key)
                      WHERE record.publisher = met.publisher AND record.key_kind = 2 AND record.lot = 0
                        AND record.key = met.key";
        for met in met.chunks(KEYS_AT_ONCE) {
            let publishers: Vec<i32> = met.iter().map(|(publisher, _)| *publisher).collect();
            let keys: Vec<KeyBytes> = met.iter().map(|(_, key)| KeyBytes(key.bytes)).collect();
            self.session.execute(update, &[&publishers, &keys])?;
        }
        Ok(())
    }

    /// Adds to the streams' counts.
    fn count(&mut self, sent: &[Sent<'_>]) -> Result<(), StoreError> {
        let mut sums: BTreeMap<StreamId, [i64; 3]> = BTreeMap::new();
        for sent in sent.iter().filter(|sent| sent.has_rows()) {
            let sum = sums.entry(sent.id).or_default();
            for (sum, more) in sum.iter_mut().zip([sent.tally.rows, sent.tally.duplicates, sent.tally.gaps]) {
                *sum += more.cast_signed();
            }
        }
        if sums.is_empty() {
            return Ok(());
        }
        let figure = |at: usize| sums.values().map(|sum| sum[at]).collect::<Vec<i64>>();
        let streams: Vec<StreamId> = sums.keys().copied().collect();
        let update =
            "UPDATE stream SET rows = stream.rows + more.rows, duplicates = stream.duplicates + more.duplicates,
                             gaps = stream.gaps + more.gaps
                      FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::bigint[])
                           AS more (stream, rows, duplicates, gaps)
                      WHERE stream.id = more.stream";
        let values: Vec<Value> = vec![Box::new(streams), Box::new(figure(0)), Box::new(figure(1)), Box::new(figure(2))];
        self.session.execute_along(update, values)
    }

    /// Puts the ranges that are new in the place of those that they join.
    fn cover(&mut self, coverage: &BTreeMap<StreamId, Covered>) -> Result<(), StoreError> {
        let ranges = |from: fn(&Covered) -> &RangeSet, but: fn(&Covered) -> &RangeSet| {
            let (mut streams, mut firsts, mut lasts) = (Vec::new(), Vec::new(), Vec::new());
            for (stream, covered) in coverage {
                let but = but(covered).ranges();
                for range in from(covered).ranges() {
                    let is_in_both = but
                        .binary_search_by_key(&range.first, |other| other.first)
                        .is_ok_and(|at| but[at] == *range);
                    if !is_in_both {
                        streams.push(*stream);
                        firsts.push(range.first.cast_signed());
                        lasts.push(range.last.cast_signed());
                    }
                }
            }
            (streams, firsts, lasts)
        };
        let (streams, firsts, _) = ranges(|covered| &covered.before, |covered| &covered.after);
        if !streams.is_empty() {
            let delete = "DELETE FROM coverage USING unnest($1::integer[], $2::bigint[]) AS gone (stream, first)
                          WHERE coverage.stream = gone.stream AND coverage.first = gone.first";
            self.session.execute_along(delete, vec![Box::new(streams), Box::new(firsts)])?;
        }
        let (streams, firsts, lasts) = ranges(|covered| &covered.after, |covered| &covered.before);
        if !streams.is_empty() {
            let insert = "INSERT INTO coverage (stream, first, last)
                          SELECT * FROM unnest($1::integer[], $2::bigint[], $3::bigint[])";
            let values: Vec<Value> = vec![Box::new(streams), Box::new(firsts), Box::new(lasts)];
            self.session.execute_along(insert, values)?;
        }
        Ok(())
    }

    /// Remembers what happened, and forgets the oldest beyond [`EVENTS_MAX`].
    fn note(&mut self, happenings: &[Happening]) -> Result<(), StoreError> {
        if happenings.is_empty() {
            return Ok(());
        }
        let (mut sites, mut times, mut names, mut details) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for happening in happenings {
            sites.push(match &happening.site {
                Some(name) => Some(self.ids.site(self.session, name)?),
                None => None,
            });
            times.push(millis(happening.at));
            names.push(happening.name);
            details.push(happening.detail.replace('\0', " "));
        }
        let insert = "INSERT INTO event (site, at_ms, name, detail)
                      SELECT site, at_ms, name, detail
                      FROM unnest($1::integer[], $2::bigint[], $3::text[], $4::text[]) WITH ORDINALITY
                           AS happened (site, at_ms, name, detail, place)
                      ORDER BY place";
        self.session.execute(insert, &[&sites, &times, &names, &details])?;
        // Numbers of transactions that did not commit are left out: the oldest that stays is looked for, not reckoned.
        let delete = "DELETE FROM event WHERE id <= (SELECT id FROM event ORDER BY id DESC OFFSET $1 LIMIT 1)";
        self.session.execute(delete, &[&EVENTS_MAX.cast_signed()])?;
        Ok(())
    }
}

impl Sent<'_> {
    /// Whether the store lacks any of its records.
    const fn has_rows(&self) -> bool {
        !self.fresh.is_empty()
    }
}

/// Rows of the fresh readings to look for.
fn seek(sent: &[Sent<'_>], careful: bool) -> Sought {
    let mut sought = Sought::default();
    for sent in sent {
        for Named { seq, reading, publisher, .. } in &sent.fresh {
            sought.add(*publisher, reading, (&sent.block.stream, *seq), careful);
        }
    }
    sought
}

/// Where a block's readings go.
struct Place<'b> {
    id: StreamId,
    stream: &'b Stream,
    block: i64,
}

/// What becomes of a reading.
enum Judged {
    Row {
        key: FilingKey,
        awaits_original: bool,
    },
    /// With the key of the row whose original it is, if it is one.
    Duplicate {
        meets: Option<FilingKey>,
    },
}

/// Judges a reading by the number that its publisher gave it, which `numbers` then has.
fn judge_number(numbers: &mut Numbers, reading: &Reading<'_>, stream: &Stream, seq: Seq) -> Judged {
    match numbers::file(numbers, FilingKey::of(reading, stream, seq)) {
        Verdict::Insert { key, awaits_original } => Judged::Row { key, awaits_original },
        Verdict::Duplicate { .. } => Judged::Duplicate { meets: None },
    }
}

/// Judges a reading against what is `filed`, which then holds it too.
fn judge(filed: &mut FiledRows, publisher: i32, reading: &Reading<'_>, stream: &Stream, seq: Seq) -> Judged {
    let asked = FilingKey::of(reading, stream, seq);
    let standing = filed.get_mut(&(publisher, asked));
    match ledger::file(standing.as_deref(), reading, stream, seq) {
        Verdict::Insert { key, awaits_original } => match filed.entry((publisher, key)) {
            // Under its own address, which is covered by now.
            Entry::Occupied(_) => Judged::Duplicate { meets: None },
            Entry::Vacant(free) => {
                free.insert(Filed { stream: *stream, seq, taken: reading.taken, awaits_original });
                Judged::Row { key, awaits_original }
            }
        },
        Verdict::Duplicate { meets } => {
            if let Some(standing) = standing.filter(|_| meets) {
                standing.awaits_original = false;
            }
            Judged::Duplicate { meets: meets.then_some(asked) }
        }
    }
}

fn put_block(rows: &mut Rows, id: i64, block: &Block, stream: StreamId, now: WallMillis) {
    rows.row(9)
        .field(id)
        .field(block.first.cast_signed())
        .field(millis(now))
        .field(i64::from(block.crc))
        .field(stream)
        .field(block.count.cast_signed())
        .field(block.raw_len.cast_signed())
        .field(i16::from(block.codec as u8))
        .field(&block.body[..]);
}

fn put_record(
    rows: &mut Rows,
    place: &Place<'_>,
    named: &Named<'_>,
    (key, lot, awaits_original): (FilingKey, i64, bool),
) {
    let Named { seq, reading, publisher, topic } = named;
    rows.row(12)
        .field(seq.cast_signed())
        .field(place.block)
        .field(millis(reading.taken))
        .field(place.id)
        .field(*publisher)
        .field(*topic)
        .field(i16::from(reading.kind as u8))
        .field(i16::from(key.kind))
        .field(awaits_original)
        .field(lot)
        .field(&key.bytes[..])
        .field(reading.payload);
}

/// The range in two columns from `at` on.
pub(super) fn range_at(row: &Row, at: usize) -> Result<SeqRange, StoreError> {
    let (first, last): (i64, i64) = (get(row, at)?, get(row, at + 1)?);
    Ok(SeqRange { first: first.cast_unsigned(), last: last.cast_unsigned() })
}

/// The stream in the four columns board, boot, nonce, class from `at` on.
pub(super) fn stream_at(row: &Row, at: usize) -> Result<Stream, StoreError> {
    let nonce: i64 = get(row, at + 2)?;
    let boot: i64 = get(row, at + 1)?;
    let board = BoardId::new(small(row, at)?).ok_or(StoreError::Vanished)?;
    let class = Class::ALL.get(usize::from(small(row, at + 3)?)).ok_or(StoreError::Vanished)?;
    let boot = u32::try_from(boot).map_err(|_| StoreError::Vanished)?;
    let epoch = Epoch { boot, nonce: nonce.cast_unsigned() };
    Ok(Stream { origin: Origin { board, epoch }, class: *class })
}

/// A small number in a column.
pub(super) fn small(row: &Row, at: usize) -> Result<u8, StoreError> {
    u8::try_from(get::<i16>(row, at)?).map_err(|_| StoreError::Vanished)
}
