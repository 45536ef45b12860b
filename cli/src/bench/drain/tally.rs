//! Which records have arrived, and how often: a bit each, so that five million of them need less than a megabyte.

use super::readings::{Id, Kind};

/// Records of the backlog, as they are counted when they are read.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// For each board a bit for each record.
    seen: Vec<Vec<u64>>,
    arrived: u64,
    duplicated: u64,
    strange: u64,
}

impl Tally {
    /// Of a backlog of so many records for each board.
    pub(super) fn new(shares: &[u64]) -> Self {
        let bits = |share: &u64| vec![0; share.div_ceil(64) as usize];
        Self { seen: shares.iter().map(bits).collect(), arrived: 0, duplicated: 0, strange: 0 }
    }

    /// A record was read.
    pub(super) fn handle(&mut self, payload: &[u8]) {
        match Id::of(payload) {
            Some(id) if id.kind == Kind::Backlog => self.mark(id),
            Some(_) => {}
            None => self.strange += 1,
        }
    }

    fn mark(&mut self, id: Id) {
        let board = usize::from(id.board).checked_sub(1).and_then(|board| self.seen.get_mut(board));
        let Some(word) = board.and_then(|bits| bits.get_mut((id.number / 64) as usize)) else {
            self.strange += 1;
            return;
        };
        let bit = 1 << (id.number % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        self.arrived += u64::from(is_new);
        self.duplicated += u64::from(!is_new);
    }

    /// Different records.
    pub(super) const fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Rows beyond the first of each, and rows that nobody published.
    pub(super) const fn duplicated(&self) -> u64 {
        self.duplicated + self.strange
    }
}

#[cfg(test)]
mod tests {
    use super::super::readings::Readings;
    use super::*;

    #[test]
    fn each_counts_once_and_what_is_not_ours_is_noticed() {
        let mut tally = Tally::new(&[65, 1]);
        let mut readings = Readings::new(Kind::Backlog, 1);
        for _ in 0..65 {
            let frame = readings.next().to_vec();
            tally.handle(&frame);
        }
        tally.handle(Readings::new(Kind::Backlog, 2).next());
        tally.handle(Readings::new(Kind::Event, 1).next());
        assert_eq!((tally.arrived(), tally.duplicated()), (66, 0));
        tally.handle(Readings::new(Kind::Backlog, 1).next());
        tally.handle(Readings::new(Kind::Backlog, 3).next());
        tally.handle(b"noise");
        assert_eq!((tally.arrived(), tally.duplicated()), (66, 3));
    }
}
