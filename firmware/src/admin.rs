//! What an operator asks of a running board: a socket in its data directory, for the owner of the directory alone, so that
//! no port and no password is needed. One line of JSON in, one line out. Owns the socket and the words; what becomes of a
//! wish is the node's to say.
//!
//! ```text
//!  {"hand_over": {"to": 2}}                      the leadership goes to board 2; null: to the fittest
//!  {"voters": {"boards": [1, 2], "witness": 1}}  these vote from now on
//!  {"vote": {}}                                  this board votes though its disk remembers no leader
//!  {"reload": {}}                                the list of boards is read again from the configuration
//!  ──▶ {"ok": "begun"} | {"ok": "already"} | {"error": "...", "leader": 3}
//! ```

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::action::{Wish, WishAnswer};
use shared::ids::{BoardId, VoterId, VoterSet, WitnessId};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// The socket's name in the data directory.
pub const ADMIN_SOCKET: &str = "control.sock";
/// Bytes of a question. A longer one is refused.
const QUESTION_BYTES_MAX: u64 = 4096;
/// Questions at once. Further ones wait.
const QUESTIONS_MAX: usize = 4;
/// A question must be asked, and is answered, within so long.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// Give the leadership away.
    HandOver {
        /// To whom; by default to the fittest.
        to: Option<BoardId>,
    },
    /// Change who votes.
    Voters {
        /// Boards that vote.
        boards: Vec<BoardId>,
        /// The witness that votes, if any.
        witness: Option<WitnessId>,
    },
    /// Vote, though the disk remembers no leader.
    Vote {},
    /// Read the list of boards again.
    Reload {},
}

/// What is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What has become of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ok: Option<String>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Who could do it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<BoardId>,
}

impl Answer {
    fn ok(word: &str) -> Self {
        Self { ok: Some(word.to_owned()), ..Self::default() }
    }

    fn error(why: impl Into<String>) -> Self {
        Self { error: Some(why.into()), ..Self::default() }
    }
}

/// A question on its way to the node, and where its answer goes.
pub(crate) type Asked = (Wish, oneshot::Sender<WishAnswer>);

/// Reads the list of boards again: the word that is answered, or in words why it cannot.
pub(crate) type Reload = Arc<dyn Fn() -> Result<&'static str, String> + Send + Sync>;

/// Opens the socket in `data_dir`, which this process has locked: one that is there is of an earlier life.
pub(crate) fn open(data_dir: &Path) -> io::Result<UnixListener> {
    let path = data_dir.join(ADMIN_SOCKET);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers whoever asks, for as long as the process runs.
pub(crate) async fn serve(listener: UnixListener, wishes: mpsc::Sender<Asked>, reload: Reload) {
    let room = Arc::new(Semaphore::new(QUESTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files: somebody has to close some.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (wishes, reload) = (wishes.clone(), Arc::clone(&reload));
        tokio::spawn(async move {
            // Whoever does not ask in time is not waited for.
            let _ = tokio::time::timeout(ANSWER_MAX, converse(stream, &wishes, &reload)).await;
            drop(permit);
        });
    }
}

async fn converse(mut stream: UnixStream, wishes: &mpsc::Sender<Asked>, reload: &Reload) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    BufReader::new(reading.take(QUESTION_BYTES_MAX)).read_line(&mut line).await?;
    let answer = match serde_json::from_str::<Question>(&line) {
        Ok(question) => answer(question, wishes, reload).await,
        Err(error) => Answer::error(format!("not a question: {error}")),
    };
    let mut line = serde_json::to_vec(&answer).map_err(io::Error::other)?;
    line.push(b'\n');
    writing.write_all(&line).await
}

async fn answer(question: Question, wishes: &mpsc::Sender<Asked>, reload: &Reload) -> Answer {
    let wish = match question {
        Question::HandOver { to } => Wish::HandOver { to },
        Question::Voters { boards, witness } => {
            let boards = boards.into_iter().map(VoterId::from);
            Wish::Voters(boards.chain(witness.map(VoterId::from)).collect::<VoterSet>())
        }
        Question::Vote {} => Wish::Vote,
        Question::Reload {} => {
            return match reload() {
                Ok(word) => Answer::ok(word),
                Err(why) => Answer::error(why),
            };
        }
    };
    let (tell, told) = oneshot::channel();
    if wishes.send((wish, tell)).await.is_err() {
        return Answer::error("the board is stopping");
    }
    match told.await {
        Ok(WishAnswer::Begun) => Answer::ok("begun"),
        Ok(WishAnswer::Already) => Answer::ok("already"),
        Ok(WishAnswer::NotLeading(leader)) => Answer { leader, ..Answer::error("this board does not lead") },
        Ok(WishAnswer::Refused(why)) => Answer::error(why),
        Err(_) => Answer::error("the board is stopping"),
    }
}

/// Asks the board whose data directory is `data_dir`. Blocks for a few seconds at most.
///
/// # Errors
/// Where no board runs there, or it does not answer.
pub fn ask(data_dir: &Path, question: &Question) -> io::Result<Answer> {
    use std::io::{BufRead, Write};
    let path: PathBuf = data_dir.join(ADMIN_SOCKET);
    let mut stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_read_timeout(Some(2 * ANSWER_MAX))?;
    let mut line = serde_json::to_vec(question).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut said = String::new();
    std::io::BufReader::new(stream).read_line(&mut said)?;
    serde_json::from_str(&said).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> PathBuf {
        let path = std::env::temp_dir().join(format!("roadstead-admin-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[tokio::test]
    async fn a_wish_is_asked_and_answered_and_nonsense_is_refused() {
        let dir = scratch();
        let listener = open(&dir).unwrap();
        let mode = fs::metadata(dir.join(ADMIN_SOCKET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (wishes, mut asked) = mpsc::channel::<Asked>(1);
        let reload: Reload = Arc::new(|| Err("no such board".to_owned()));
        tokio::spawn(serve(listener, wishes, reload));
        let node = tokio::spawn(async move {
            let (wish, tell) = asked.recv().await.unwrap();
            assert_eq!(wish, Wish::HandOver { to: BoardId::new(2) });
            tell.send(WishAnswer::NotLeading(BoardId::new(3))).unwrap();
        });
        let asking = dir.clone();
        let answers = tokio::task::spawn_blocking(move || {
            let hand_over = ask(&asking, &Question::HandOver { to: BoardId::new(2) }).unwrap();
            (hand_over, ask(&asking, &Question::Reload {}).unwrap())
        });
        let (hand_over, reloaded) = answers.await.unwrap();
        node.await.unwrap();
        assert_eq!(hand_over.leader, BoardId::new(3));
        assert_eq!(reloaded.error.as_deref(), Some("no such board"));
        let mut stream = UnixStream::connect(dir.join(ADMIN_SOCKET)).await.unwrap();
        stream.write_all(b"{\"voters\": {\"boards\": [0]}}\n").await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert!(said.contains("not a question") && said.contains("1 to 64"), "{said}");
        fs::remove_dir_all(dir).unwrap();
    }
}
