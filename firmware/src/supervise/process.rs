//! One process of a user's: started through the launcher in a group of its own, told by lines on its standard input,
//! heard over systemd's notify protocol, ended as a group. Decides nothing.

use std::io::{self, PipeWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process_group};
use shared::ids::{BoardId, Fencing, Name};
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};

use super::launch::{LAUNCH_VARIABLE, Launch};
use crate::config::DutyProcess;

/// Bytes of one message of a process. What is longer is cut, and what does not fit is passed over.
const SAID_BYTES_MAX: usize = 4096;
/// Bytes of a socket's path that every system takes.
const SOCKET_PATH_MAX: usize = 100;

/// Where processes are started.
#[derive(Clone, Debug)]
pub struct Place {
    /// The site.
    pub site: Name,
    /// This board.
    pub board: BoardId,
    /// A directory for sockets; made where it does not exist, closed to others.
    pub directory: PathBuf,
    /// The program that becomes a process, and its arguments: it calls [`super::launch`].
    pub launcher: Vec<PathBuf>,
}

/// Something that a process has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Ready,
    Alive,
    /// It has come to rest, as it was told by the line of this number.
    StandsBy(u64),
}

/// Something about a process.
#[derive(Debug)]
pub(super) enum ProcessEvent {
    Ended(io::Result<ExitStatus>),
    Said(Vec<Said>),
}

/// A running process.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    group: Option<Pid>,
    lines: PipeWriter,
    notify: UnixDatagram,
    path: PathBuf,
}

impl Process {
    pub(super) fn start(duty: &DutyProcess, place: &Place, token: Option<Fencing>) -> io::Result<Self> {
        let (theirs, lines) = io::pipe()?;
        // A process that does not read never holds the supervisor up.
        fcntl_setfl(&lines, fcntl_getfl(&lines)? | OFlags::NONBLOCK)?;
        let path = socket_path(&place.directory, &duty.name)?;
        let notify = UnixDatagram::bind(&path)?;
        let launch = serde_json::to_string(&Launch::of(duty)).map_err(io::Error::other)?;
        let (program, words) = place
            .launcher
            .split_first()
            .ok_or_else(|| io::Error::other("there is no launcher"))?;
        let mut command = Command::new(program);
        command
            .args(words)
            .env(LAUNCH_VARIABLE, launch)
            .env("NOTIFY_SOCKET", &path)
            .env("ROADSTEAD_DUTY", duty.name.as_str())
            .env("ROADSTEAD_SITE", place.site.as_str())
            .env("ROADSTEAD_BOARD", place.board.get().to_string())
            .env("ROADSTEAD_MODE", duty.mode)
            .env_remove(super::LIFE_VARIABLE)
            .stdin(Stdio::from(theirs))
            .process_group(0)
            .kill_on_drop(true);
        if let Some(token) = token {
            command.env("ROADSTEAD_TOKEN", token.token().to_string());
        }
        if let Some(watchdog) = duty.watchdog {
            command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        }
        let child = command.spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Self { child, group, lines, notify, path })
    }

    /// Writes one line. It is dropped where the process does not read: a line is shorter than a pipe writes at once.
    pub(super) fn tell(&mut self, line: &str) {
        let _ = self.lines.write(format!("{line}\n").as_bytes());
    }

    /// Sends `signal` to the process and all that it started.
    pub(super) fn signal(&self, signal: Signal) {
        // Where the group is gone already, the wait says so.
        let _ = self.group.map(|group| kill_process_group(group, signal));
    }

    /// The next thing about it.
    pub(super) async fn event(&mut self) -> ProcessEvent {
        let mut said = [0; SAID_BYTES_MAX];
        tokio::select! {
            status = self.child.wait() => ProcessEvent::Ended(status),
            length = self.notify.recv(&mut said) => match length {
                Ok(length) => ProcessEvent::Said(parse(&said[..length])),
                Err(error) => ProcessEvent::Ended(Err(error)),
            },
        }
    }

    /// Ends it and all that it started, and waits until it is gone.
    pub(super) async fn kill(mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::KILL);
        let status = self.child.wait().await;
        // What it started in its group and left behind.
        self.signal(Signal::KILL);
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn parse(said: &[u8]) -> Vec<Said> {
    let lines = said
        .split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok());
    lines
        .filter_map(|line| match line.split_once('=')? {
            ("READY", "1") => Some(Said::Ready),
            ("WATCHDOG", "1") => Some(Said::Alive),
            ("X_ROADSTEAD", word) => Some(Said::StandsBy(word.strip_prefix("standby ")?.trim().parse().ok()?)),
            _ => None,
        })
        .collect()
}

/// Where the process says how it is: in the board's directory, or in a new one where that path is too long.
fn socket_path(directory: &Path, duty: &Name) -> io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    let mut path = std::path::absolute(directory)?.join(format!("{duty}.sock"));
    if path.as_os_str().len() > SOCKET_PATH_MAX {
        path = std::env::temp_dir()
            .join(format!("roadstead-{}", std::process::id()))
            .join(format!("{duty}.sock"));
    }
    if let Some(directory) = path.parent() {
        builder.create(directory)?;
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(path),
    }
}

#[test]
fn only_whole_words_of_the_protocol_are_heard() {
    let said = b"READY=1\nSTATUS=up\nWATCHDOG=1\nX_ROADSTEAD=standby 12\nX_ROADSTEAD=active\nREADY=0\n\xff=1";
    assert_eq!(parse(said), [Said::Ready, Said::Alive, Said::StandsBy(12)]);
}
