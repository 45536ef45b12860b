//! Threads that share a long row of like jobs, for places that answer late. Bounded: a few jobs wait for each of them. The first
//! failure ends all of it.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

/// Threads: a bucket some 30 ms away takes 250 pieces a second then.
const THREADS: usize = 8;
/// Jobs that wait for each.
const WAITING: usize = 1;

/// Hands jobs out in turn.
#[derive(Debug)]
pub(super) struct Hands<J> {
    queues: Vec<SyncSender<J>>,
    next: usize,
}

impl<J> Hands<J> {
    /// Gives a job to the next one, and waits for room. False once one has failed: there is no use in more.
    #[must_use]
    pub(super) fn give(&mut self, job: J) -> bool {
        let given = self.queues.get(self.next).is_some_and(|queue| queue.send(job).is_ok());
        self.next = (self.next + 1) % self.queues.len().max(1);
        given
    }
}

/// Does with `work` all the jobs that `lead` gives out, and returns when all are done. The failure of a job comes before one of
/// `lead`.
pub(super) fn crew<J: Send, T, E: Send>(
    work: impl Fn(J) -> Result<(), E> + Sync,
    lead: impl FnOnce(&mut Hands<J>) -> Result<T, E>,
) -> Result<T, E> {
    thread::scope(|scope| {
        let mut queues = Vec::with_capacity(THREADS);
        let mut threads = Vec::with_capacity(THREADS);
        for _ in 0..THREADS {
            let (give, take) = sync_channel::<J>(WAITING);
            let work = &work;
            queues.push(give);
            threads.push(scope.spawn(move || take.into_iter().try_for_each(work)));
        }
        let mut hands = Hands { queues, next: 0 };
        let led = lead(&mut hands);
        drop(hands);
        for thread in threads {
            thread.join().expect("what a thread does with a job does not panic")?;
        }
        led
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn every_job_is_done_once_and_a_failure_ends_it() {
        let sum = AtomicU64::new(0);
        let add = |job: u64| -> Result<(), u64> {
            sum.fetch_add(job, Ordering::Relaxed);
            Ok(())
        };
        let led = crew(add, |hands| {
            assert!((1..=1000).all(|job| hands.give(job)));
            Ok("led")
        });
        assert_eq!((led, sum.into_inner()), (Ok("led"), 500_500));
        let fail = |job: u64| if job == 17 { Err(job) } else { Ok(()) };
        let led: Result<bool, u64> = crew(fail, |hands| Ok((0..1_000_000).all(|job| hands.give(job))));
        assert_eq!(led, Err(17));
        assert_eq!(crew(|_: u64| Ok(()), |_| Err::<(), _>(5)), Err(5));
    }
}
