//! The judgement of a run: what publishers got acknowledged, held against the rows of the region's store. Pure: takes
//! no counter of any process on trust, reads no file, shows nothing.
//!
//! ```text
//! lost          acknowledged, in no row, and not among what the site says it shed
//! duplicated    readings with more than one row
//! out of order  rows of one publisher in one stream whose numbers do not rise with the stream's
//! unaccounted   sent, but neither acknowledged nor stored; and rows that nobody sent, or with another content
//! ```

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

/// What one publisher knows of its readings: the first has the number 1, the next 2, and so on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// The publisher's name, as the store knows it.
    pub(crate) publisher: String,
    /// Its readings by number.
    pub(crate) readings: Vec<Fate>,
}

/// One reading as its publisher knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    /// Digest of topic and payload.
    pub(crate) content: u64,
    /// Handed to a board at least once.
    pub(crate) sent: bool,
    /// A board acknowledged it.
    pub(crate) acked: bool,
}

/// One row of the region's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    /// The stream, by any number that is the same for all its rows.
    pub(crate) stream: u64,
    /// Place in the stream.
    pub(crate) seq: u64,
    /// Who sent it.
    pub(crate) publisher: &'a str,
    /// The publisher's own number; `None` where the row is not filed under one.
    pub(crate) number: Option<u64>,
    /// Digest of topic and payload.
    pub(crate) content: u64,
}

/// What the run came to. Serialises as the demo's `--json` says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Verdict {
    /// Readings handed to a board at least once.
    pub(crate) sent: u64,
    /// Readings acknowledged.
    pub(crate) acked: u64,
    /// Readings of ours with a row.
    pub(crate) stored: u64,
    /// Acknowledged, not stored, not shed.
    pub(crate) lost: u64,
    /// Readings with more than one row.
    pub(crate) duplicated: u64,
    /// Rows that stand before an earlier reading of their publisher.
    pub(crate) out_of_order: u64,
    /// Records that the site's gap records say were shed.
    pub(crate) shed: u64,
    /// Readings without a known fate, and rows without a reading.
    pub(crate) unaccounted: u64,
    /// From the leader's SIGKILL until another board held the lease under a higher term; `None`: it did not happen.
    pub(crate) takeover_ms: Option<u64>,
    /// From the uplink's return until everything acknowledged was stored; `None`: it was not.
    pub(crate) drain_s: Option<f64>,
    /// `pass` or `fail`.
    pub(crate) verdict: &'static str,
}

impl Verdict {
    /// Whether the promises were kept.
    pub(crate) fn passes(&self) -> bool {
        self.verdict == PASS
    }
}

const PASS: &str = "pass";
const FAIL: &str = "fail";

/// Takes in rows one by one, in any order.
#[derive(Debug)]
pub(crate) struct Judge<'a> {
    accounts: &'a [Account],
    by_name: HashMap<&'a str, usize>,
    /// Rows of each reading.
    rows: Vec<Vec<u32>>,
    /// Numbers by stream and publisher, by place in the stream.
    order: BTreeMap<(u64, usize), Vec<(u64, u64)>>,
    strangers: u64,
    shed: u64,
}

impl<'a> Judge<'a> {
    /// A judge who has seen no row yet.
    pub(crate) fn new(accounts: &'a [Account]) -> Self {
        let by_name = accounts
            .iter()
            .enumerate()
            .map(|(at, account)| (account.publisher.as_str(), at))
            .collect();
        let rows = accounts.iter().map(|account| vec![0; account.readings.len()]).collect();
        Self { accounts, by_name, rows, order: BTreeMap::new(), strangers: 0, shed: 0 }
    }

    /// A row of the store.
    pub(crate) fn handle_row(&mut self, row: &Row<'_>) {
        let Some((account, number)) = self.reading_of(row) else {
            self.strangers += 1;
            return;
        };
        self.rows[account][number as usize - 1] += 1;
        self.order.entry((row.stream, account)).or_default().push((row.seq, number));
    }

    /// A gap record of the store that says so many records were shed.
    pub(crate) fn handle_gap(&mut self, records: u64) {
        self.shed += records;
    }

    /// The verdict; the two times are the caller's measurements.
    pub(crate) fn finish(self, takeover_ms: Option<u64>, drain_s: Option<f64>) -> Verdict {
        let mut verdict = Verdict {
            sent: 0,
            acked: 0,
            stored: 0,
            lost: 0,
            duplicated: 0,
            out_of_order: self.order.into_values().map(falls).sum(),
            shed: self.shed,
            unaccounted: self.strangers,
            takeover_ms,
            drain_s,
            verdict: FAIL,
        };
        let mut missing = 0;
        for (account, rows) in self.accounts.iter().zip(&self.rows) {
            for (fate, rows) in account.readings.iter().zip(rows) {
                verdict.sent += u64::from(fate.sent);
                verdict.acked += u64::from(fate.acked);
                verdict.stored += u64::from(*rows > 0);
                verdict.duplicated += u64::from(*rows > 1);
                missing += u64::from(fate.acked && *rows == 0);
                verdict.unaccounted += u64::from(fate.sent && !fate.acked && *rows == 0);
            }
        }
        // A gap names places in a stream, not publishers: so many of those missing are explained, no more.
        verdict.lost = u64::saturating_sub(missing, verdict.shed);
        let clean = verdict.lost + verdict.duplicated + verdict.out_of_order + verdict.unaccounted == 0;
        // A run in which nothing was acknowledged shows nothing.
        if clean && verdict.acked > 0 {
            verdict.verdict = PASS;
        }
        verdict
    }

    /// The reading that `row` is: sent by us, with this content.
    fn reading_of(&self, row: &Row<'_>) -> Option<(usize, u64)> {
        let account = *self.by_name.get(row.publisher)?;
        let number = row.number?;
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        let fate = self.accounts[account].readings.get(at)?;
        (fate.sent && fate.content == row.content).then_some((account, number))
    }
}

/// How many rows stand before an earlier reading: each that is not above all before it. A second row of the same
/// reading counts as duplicated, and not here too.
fn falls(mut rows: Vec<(u64, u64)>) -> u64 {
    rows.sort_unstable();
    let mut highest = 0;
    let mut falls = 0;
    for (_, number) in rows {
        falls += u64::from(number < highest);
        highest = highest.max(number);
    }
    falls
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(publisher: &str, readings: u64) -> Account {
        let readings = (1..=readings)
            .map(|number| Fate { content: number * 7, sent: true, acked: true })
            .collect();
        Account { publisher: publisher.to_owned(), readings }
    }

    fn row(stream: u64, seq: u64, publisher: &str, number: u64) -> Row<'_> {
        Row { stream, seq, publisher, number: Some(number), content: number * 7 }
    }

    fn judged(accounts: &[Account], rows: &[Row<'_>]) -> Verdict {
        let mut judge = Judge::new(accounts);
        rows.iter().for_each(|row| judge.handle_row(row));
        judge.finish(Some(1), Some(1.0))
    }

    /// lost, duplicated, out of order, unaccounted
    fn faults(verdict: &Verdict) -> [u64; 4] {
        [verdict.lost, verdict.duplicated, verdict.out_of_order, verdict.unaccounted]
    }

    #[test]
    fn everything_once_and_in_order_passes_in_whatever_order_rows_come() {
        let accounts = [account("a", 3), account("b", 2)];
        let mut rows = [row(1, 1, "a", 1), row(1, 2, "b", 1), row(1, 3, "a", 2), row(2, 1, "a", 3), row(2, 2, "b", 2)];
        for _ in 0..rows.len() {
            rows.rotate_left(1);
            let verdict = judged(&accounts, &rows);
            assert_eq!((verdict.sent, verdict.acked, verdict.stored), (5, 5, 5));
            assert_eq!(faults(&verdict), [0; 4]);
            assert!(verdict.passes());
        }
    }

    #[test]
    fn an_acknowledged_reading_without_a_row_is_lost() {
        let verdict = judged(&[account("a", 2)], &[row(1, 1, "a", 1)]);
        assert_eq!((faults(&verdict), verdict.passes()), ([1, 0, 0, 0], false));
    }

    #[test]
    fn what_was_shed_is_not_lost_but_explains_no_more_than_its_number() {
        let accounts = [account("a", 4)];
        let mut judge = Judge::new(&accounts);
        judge.handle_row(&row(1, 1, "a", 1));
        judge.handle_gap(2);
        let verdict = judge.finish(None, None);
        assert_eq!((verdict.shed, faults(&verdict), verdict.passes()), (2, [1, 0, 0, 0], false));
        let mut judge = Judge::new(&accounts);
        judge.handle_row(&row(1, 1, "a", 1));
        judge.handle_gap(3);
        assert!(judge.finish(None, None).passes());
    }

    #[test]
    fn a_second_row_is_a_duplicate_also_from_another_stream() {
        for second in [row(1, 2, "a", 1), row(2, 1, "a", 1)] {
            let verdict = judged(&[account("a", 1)], &[row(1, 1, "a", 1), second, second]);
            assert_eq!((faults(&verdict), verdict.passes()), ([0, 1, 0, 0], false));
        }
    }

    #[test]
    fn numbers_must_rise_within_a_stream_and_publisher_only() {
        let accounts = [account("a", 3), account("b", 1)];
        let rows = [row(1, 1, "a", 2), row(1, 2, "a", 1), row(1, 3, "a", 3), row(1, 4, "b", 1)];
        let verdict = judged(&accounts, &rows);
        assert_eq!((faults(&verdict), verdict.passes()), ([0, 0, 1, 0], false));
        let rows = [row(1, 1, "a", 2), row(2, 2, "a", 1), row(1, 3, "a", 3), row(1, 4, "b", 1)];
        assert!(judged(&accounts, &rows).passes(), "re-sent through another board");
    }

    #[test]
    fn a_sent_reading_of_unknown_fate_is_unaccounted() {
        let mut accounts = [account("a", 3)];
        accounts[0].readings[1].acked = false;
        accounts[0].readings[2] = Fate { content: 21, sent: false, acked: false };
        let verdict = judged(&accounts, &[row(1, 1, "a", 1)]);
        assert_eq!((verdict.sent, verdict.acked), (2, 1));
        assert_eq!((faults(&verdict), verdict.passes()), ([0, 0, 0, 1], false));
        let stored = judged(&accounts, &[row(1, 1, "a", 1), row(1, 2, "a", 2)]);
        assert!(stored.passes(), "stored although the acknowledgement never came: known");
    }

    #[test]
    fn a_row_that_nobody_sent_is_unaccounted() {
        let mut accounts = [account("a", 2)];
        accounts[0].readings[1] = Fate { content: 14, sent: false, acked: false };
        let strangers = [
            row(1, 9, "b", 1),
            row(1, 9, "a", 0),
            row(1, 9, "a", 2),
            row(1, 9, "a", 3),
            row(1, 9, "a", u64::MAX / 7),
            Row { number: None, ..row(1, 9, "a", 1) },
            Row { content: 8, ..row(1, 9, "a", 1) },
        ];
        for stranger in strangers {
            let verdict = judged(&accounts, &[row(1, 1, "a", 1), stranger]);
            assert_eq!((faults(&verdict), verdict.passes()), ([0, 0, 0, 1], false), "{stranger:?}");
        }
    }

    #[test]
    fn a_run_without_any_acknowledgement_shows_nothing() {
        assert!(!judged(&[], &[]).passes());
        assert!(!judged(&[Account { publisher: "a".to_owned(), readings: Vec::new() }], &[]).passes());
    }

    #[test]
    fn the_json_has_exactly_these_members() {
        let verdict = judged(&[account("a", 1)], &[row(1, 1, "a", 1)]);
        let text = serde_json::to_string(&verdict).unwrap();
        assert_eq!(
            text,
            "{\"sent\":1,\"acked\":1,\"stored\":1,\"lost\":0,\"duplicated\":0,\"out_of_order\":0,\"shed\":0,\
             \"unaccounted\":0,\"takeover_ms\":1,\"drain_s\":1.0,\"verdict\":\"pass\"}"
        );
    }
}
