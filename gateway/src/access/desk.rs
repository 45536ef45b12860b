//! Where requests ask the keeper: a thread of its own, because it writes to disk before it answers.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use link::stop::Stop;
use tokio::sync::{mpsc, oneshot};

use super::hashing::Hasher;
use super::keeper::{Counts, Denied, Keeper, Moment};

/// Questions that may wait. At the limit the asker is told to come again.
const QUESTIONS_MAX: usize = 256;
/// Between two looks at what was held back.
const TICK: Duration = Duration::from_secs(30);

type Question = Box<dyn FnOnce(&mut Keeper) + Send>;

/// Asks keeper and hasher; clones ask the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    questions: mpsc::Sender<Question>,
    pub(crate) hasher: Hasher,
    /// Whether the port speaks TLS, so that a cookie may say that it is for TLS alone.
    pub(crate) is_encrypted: bool,
    /// Names of machines that may look by their certificates.
    pub(super) machines: Arc<BTreeSet<String>>,
    pub(crate) counts: Arc<Counts>,
}

/// The keeper has too many questions.
#[derive(Debug, thiserror::Error)]
#[error("too many questions wait; ask again in a second")]
pub(crate) struct Busy;

impl From<Busy> for Denied {
    fn from(_: Busy) -> Self {
        Self::Hash(super::hashing::HashError::Busy)
    }
}

/// Now.
pub(crate) fn moment() -> Moment {
    Moment { at: link::clock::now(), wall: link::clock::wall() }
}

impl Access {
    /// Starts both threads; they end when the last of the clones is dropped.
    pub(crate) fn start(
        mut keeper: Keeper,
        is_encrypted: bool,
        machines: BTreeSet<String>,
        counts: Arc<Counts>,
    ) -> io::Result<Self> {
        let (questions, mut waiting) = mpsc::channel::<Question>(QUESTIONS_MAX);
        let answer = move || {
            while let Some(question) = waiting.blocking_recv() {
                question(&mut keeper);
            }
        };
        std::thread::Builder::new().name("access".to_owned()).spawn(answer)?;
        Ok(Self { questions, hasher: Hasher::start()?, is_encrypted, machines: Arc::new(machines), counts })
    }

    /// What the keeper says.
    pub(crate) async fn ask<A: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Keeper, Moment) -> A + Send + 'static,
    ) -> Result<A, Busy> {
        let (answer, answered) = oneshot::channel();
        let question = move |keeper: &mut Keeper| {
            // The asker may have left meanwhile.
            let _ = answer.send(question(keeper, moment()));
        };
        self.questions.try_send(Box::new(question)).map_err(|_| Busy)?;
        answered.await.map_err(|_| Busy)
    }

    /// Has what was held back written down, now and then, until told to stop.
    pub(crate) async fn attend(self, mut stop: Stop) {
        loop {
            tokio::select! {
                () = stop.stopped() => break,
                () = tokio::time::sleep(TICK) => {}
            }
            // Where it is busy, the next time will do.
            let _ = self.ask(|keeper, now| keeper.tick(now)).await;
        }
    }
}
