//! Where the API has its questions answered: a thread of its own with its own connection for reading, so that neither
//! the writer nor the async tasks ever wait for a query.

use std::io;

use tokio::sync::{mpsc, oneshot};

use super::StoreError;
use super::read::StoreReader;

/// Questions that may wait. At the limit the asker is told to come again.
const QUESTIONS_MAX: usize = 64;

type Question = Box<dyn FnOnce(&dyn StoreReader) + Send>;

/// Asks the reader; clones ask the same one.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    questions: mpsc::Sender<Question>,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    /// Too many wait already.
    #[error("too many questions wait; ask again in a second")]
    Busy,
    /// The store could not be read.
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
}

impl Desk {
    /// Starts the thread over `reader`; it ends when the last desk is dropped.
    pub(crate) fn start(reader: Box<dyn StoreReader>) -> io::Result<Self> {
        let (questions, mut waiting) = mpsc::channel::<Question>(QUESTIONS_MAX);
        let answer = move || {
            while let Some(question) = waiting.blocking_recv() {
                question(&*reader);
            }
        };
        std::thread::Builder::new().name("store-reader".to_owned()).spawn(answer)?;
        Ok(Self { questions })
    }

    /// The answer of `question`.
    pub(crate) async fn ask<A: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn StoreReader) -> Result<A, StoreError> + Send + 'static,
    ) -> Result<A, Unanswered> {
        let (answer, answered) = oneshot::channel();
        let question = move |reader: &dyn StoreReader| {
            // Whoever has left is not answered: where the store is silent, each question costs its patience.
            if !answer.is_closed() {
                let _ = answer.send(question(reader));
            }
        };
        self.questions.try_send(Box::new(question)).map_err(|_| Unanswered::Busy)?;
        Ok(answered.await.map_err(|_| Unanswered::Busy)??)
    }
}
