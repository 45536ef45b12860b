//! The declared table, row by row.

use alloc::vec::Vec;

use super::{Assignments, Duties, Duty, Output};
use crate::ids::{BoardId, Term};
use crate::outbox::Outbox;

#[test]
fn each_row_of_the_table() {
    let board = BoardId::new(2).unwrap();
    let (t, u) = (Term::new(1, board), Term::new(2, board));
    let duty = Duty::Uplink;
    let started = |term| Output::Started { duty, term };
    let stopped = |term| Output::Stopped { duty, term };
    let rows = [
        (None, None, Vec::new()),
        (None, Some(t), [started(t)].to_vec()),
        (Some(t), Some(t), Vec::new()),
        (Some(t), Some(u), [stopped(t), started(u)].to_vec()),
        (Some(t), None, [stopped(t)].to_vec()),
    ];
    for (before, now, told) in rows {
        let mut duties = Duties::new(board);
        let mut out = Outbox::default();
        duties.handle_lease(before, &mut out);
        while out.pop().is_some() {}
        duties.handle_lease(now, &mut out);
        let outputs: Vec<Output> = core::iter::from_fn(|| out.pop()).collect();
        assert_eq!(outputs, told, "{before:?} to {now:?}");
        assert_eq!(duties.holds(duty), now);
        let assignments = now.map(|term| Assignments { term, revision: 1, uplink: board });
        assert_eq!(duties.assignments(), assignments);
    }
}
