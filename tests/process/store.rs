//! The region's store, read afresh each time from its file, and held against what publishers were promised.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use gateway::store::read::{SqliteReader, StoreReader};
use shared::ids::Name;

use crate::load::Account;
use crate::site::Site;
use crate::until;

/// What is acknowledged is stored after so long, on a machine that does other things too.
const DRAIN_MAX: Duration = Duration::from_secs(60);
/// Kind of key of a publisher that counts.
const BY_NUMBER: u8 = 0;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) publisher: String,
    /// The publisher's own number, if it is filed under one.
    pub(crate) number: Option<u64>,
    pub(crate) payload: Vec<u8>,
    /// The stream, in words, and the place in it.
    place: (String, u64),
}

/// Sites are called this.
fn site_name() -> Name {
    Name::try_from("site").unwrap()
}

/// Every row in the store of `data_dir`; none where there is no store yet.
pub(crate) fn rows(data_dir: &Path) -> Vec<Stored> {
    SqliteReader::open(data_dir).map_or_else(|_| Vec::new(), |reader| rows_of(&reader))
}

/// Every row in a store.
pub(crate) fn rows_of(reader: &dyn StoreReader) -> Vec<Stored> {
    let mut found = Vec::new();
    let read = reader.rows(&site_name(), &mut |row| {
        let number = (row.key.kind == BY_NUMBER).then(|| u64::from_be_bytes(row.key.bytes[8..].try_into().unwrap()));
        found.push(Stored {
            publisher: row.publisher.to_owned(),
            number,
            payload: row.payload.to_vec(),
            place: (format!("{:?}", row.stream), row.seq),
        });
    });
    read.expect("a store that opens can be read");
    found
}

/// How many readings the store has seen: rows, and copies of them that it counted.
pub(crate) fn seen(data_dir: &Path) -> (u64, u64) {
    let counts = SqliteReader::open(data_dir).and_then(|reader| reader.counts(&site_name()));
    counts.map_or((0, 0), |counts| (counts.sum(|stream| stream.rows), counts.sum(|stream| stream.duplicates)))
}

/// As [`expect_stored`], and nobody else has a row.
pub(crate) fn expect_all(site: &Site, accounts: &[Account]) {
    let strangers: Vec<Stored> = expect_stored(site, accounts)
        .into_iter()
        .filter(|row| accounts.iter().all(|account| account.publisher != row.publisher))
        .collect();
    assert!(strangers.is_empty(), "{} rows of nobody, such as {:?}", strangers.len(), strangers.first());
}

/// Waits until everything that `accounts` were promised is stored, then holds the store to it: every acknowledged
/// reading once, none twice, none that was not sent, each as it was sent, and in order within each stream. Returns
/// every row.
pub(crate) fn expect_stored(site: &Site, accounts: &[Account]) -> Vec<Stored> {
    expect_read(accounts, || rows(&site.data_dir()))
}

/// The same of whatever `read` reads.
pub(crate) fn expect_read(accounts: &[Account], mut read: impl FnMut() -> Vec<Stored>) -> Vec<Stored> {
    let mut found = Vec::new();
    until(DRAIN_MAX, || {
        found = read();
        missing(accounts, &found).is_empty()
    });
    let missing = missing(accounts, &found);
    let shown = &missing[..missing.len().min(10)];
    assert!(missing.is_empty(), "{} acknowledged readings are not stored: {shown:?}", missing.len());
    let wrong = wrong(accounts, &found);
    let shown = &wrong[..wrong.len().min(10)];
    assert!(wrong.is_empty(), "{} rows that should not be: {shown:?}", wrong.len());
    found
}

/// Readings of `accounts` that were acknowledged and are not in `rows`.
pub(crate) fn missing(accounts: &[Account], rows: &[Stored]) -> Vec<(String, u64)> {
    let stored: BTreeMap<(&str, u64), ()> = rows
        .iter()
        .filter_map(|row| Some(((row.publisher.as_str(), row.number?), ())))
        .collect();
    let promised = accounts
        .iter()
        .flat_map(|account| account.acked().map(move |number| (account.publisher.as_str(), number)));
    promised
        .filter(|reading| !stored.contains_key(reading))
        .map(|(publisher, number)| (publisher.to_owned(), number))
        .collect()
}

/// What is wrong with `rows`, in words.
fn wrong(accounts: &[Account], rows: &[Stored]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut seen = BTreeMap::new();
    let mut highest: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    // They come in order within each stream.
    for row in rows {
        let Some(sender) = accounts.iter().find(|account| account.publisher == row.publisher) else {
            continue;
        };
        let Some(number) = row.number else {
            complaints.push(format!("{} has a row without a number at {:?}", row.publisher, row.place));
            continue;
        };
        if let Some(first) = seen.insert((&row.publisher, number), &row.place) {
            complaints.push(format!("{} {number} is stored twice: at {first:?} and {:?}", row.publisher, row.place));
        }
        if !(1..=sender.sent).contains(&number) || row.payload != sender.payload(number) {
            complaints.push(format!("{} {number} was never sent like this", row.publisher));
        }
        let before = highest.insert((&row.place.0, &row.publisher), number);
        if before.is_some_and(|before| before > number) {
            complaints.push(format!("{} {number} stands behind {before:?}", row.publisher));
        }
    }
    complaints
}
