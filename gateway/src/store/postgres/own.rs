//! A PostgreSQL server of one's own, for measurements and tests: in a directory, on a Unix socket there and on no network, ended
//! with the value. As root it runs as `nobody`, because it refuses to run as root.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::place::PostgresPlace;
use super::session::Session;

/// Where Debian has the programs of each version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// User and group of `nobody` on Debian and most others.
const NOBODY: u32 = 65534;
/// A server starts and stops within this, after a crash too.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Its superuser, who needs no password on this socket.
const USER: &str = "roadstead";

/// The server.
#[derive(Debug)]
pub struct OwnServer {
    programs: PathBuf,
    dir: PathBuf,
    process: Option<Child>,
}

/// Where the server's programs (`initdb`, `postgres`) are: of the newest version that Debian's packages have brought.
pub fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir(DEBIAN)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let newest = versions.max()?;
    Some(Path::new(DEBIAN).join(newest.to_string()).join("bin"))
}

impl OwnServer {
    /// Makes a cluster in `dir`, which must not exist yet, and starts a server on it with the programs in `programs`.
    /// Its settings are the server's own but for the network.
    pub fn start(programs: &Path, dir: &Path) -> io::Result<Self> {
        fs::create_dir(dir)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        if geteuid().is_root() {
            chown(dir, Some(NOBODY), Some(NOBODY))?;
        }
        let mut server = Self { programs: programs.to_owned(), dir: dir.to_owned(), process: None };
        let made = server
            .program("initdb")
            .args(["--auth", "trust", "--username", USER, "--encoding", "UTF8", "--locale", "C", "--no-sync"])
            .args(["--no-instructions", "--pgdata"])
            .arg(server.data())
            .output()?;
        if !made.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&made.stderr).into_owned()));
        }
        server.go_on()?;
        Ok(server)
    }

    /// Starts the server again, which was stopped or killed, and waits until it takes connections.
    pub fn go_on(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            if self.process.is_none() {
                self.process = Some(self.spawn()?);
            }
            if self.connect("postgres").is_ok() {
                return Ok(());
            }
            // Children of one that was killed hold its memory for a moment: then it starts at a later attempt.
            if let Some(process) = &mut self.process
                && process.try_wait()?.is_some()
            {
                self.process = None;
            }
            if begun.elapsed() > PATIENCE {
                return Err(io::Error::other(fs::read_to_string(self.dir.join("log")).unwrap_or_default()));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        let log = fs::File::options().create(true).append(true).open(self.dir.join("log"))?;
        let mut command = self.program("postgres");
        command
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(&self.dir)
            .args(["-c", "listen_addresses="]);
        // A group of its own: Ctrl-C ends this process first.
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
    }

    /// Kills the server's first process with SIGKILL, as the kernel does where memory runs out; the others end when they notice.
    pub fn kill(&mut self) -> io::Result<()> {
        self.end(Signal::KILL)
    }

    /// Ends the server at once without tidying up: the next start recovers from the log, as after a power cut.
    pub fn stop_at_once(&mut self) -> io::Result<()> {
        self.end(Signal::QUIT)
    }

    /// Ends the server in good order, as a planned switch does; connections are cut.
    pub fn stop(&mut self) -> io::Result<()> {
        self.end(Signal::INT)
    }

    /// Stops all of its processes where they are, as where its machine or its disk hangs: it takes connections, which is its
    /// kernel's doing, and answers nothing.
    pub fn freeze(&self) -> io::Result<()> {
        self.signal_all(Signal::STOP)
    }

    /// Lets them go on.
    pub fn thaw(&self) -> io::Result<()> {
        self.signal_all(Signal::CONT)
    }

    /// The first process first, so that it makes no more of them.
    fn signal_all(&self, signal: Signal) -> io::Result<()> {
        let Some(first) = self.process() else { return Ok(()) };
        let send = |id: u32| match Pid::from_raw(id.cast_signed()) {
            Some(pid) => kill_process(pid, signal),
            None => Ok(()),
        };
        send(first)?;
        for child in children(first)? {
            // It may have ended meanwhile.
            let _ = send(child);
        }
        Ok(())
    }

    fn end(&mut self, signal: Signal) -> io::Result<()> {
        // One that is frozen would not hear of it.
        self.thaw()?;
        let Some(mut process) = self.process.take() else { return Ok(()) };
        if let Some(pid) = Pid::from_raw(process.id().cast_signed()) {
            kill_process(pid, signal)?;
        }
        process.wait()?;
        Ok(())
    }

    /// The first process's id; `None` while it does not run.
    pub fn process(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Makes a database; where to connect to it.
    pub fn database(&self, name: &str) -> io::Result<String> {
        self.execute("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(name))
    }

    /// Where to connect to a database.
    pub fn url(&self, database: &str) -> String {
        format!("host={} user={USER} dbname={database}", self.dir.display())
    }

    /// Does what `sql` says in a database, past the store.
    pub fn execute(&self, database: &str, sql: &str) -> io::Result<()> {
        let mut session = self.connect(database)?;
        session.be_patient(PATIENCE);
        session.batch(sql).map_err(io::Error::other)
    }

    fn connect(&self, database: &str) -> io::Result<Session> {
        let place = PostgresPlace::new(&self.url(database), None, None).map_err(io::Error::other)?;
        Session::to_read(&place).map_err(io::Error::other)
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &self.dir)
            .current_dir(&self.dir);
        // Where packages were unpacked and not installed, their libraries lie beside them.
        if let Some(root) = self.programs.ancestors().nth(5) {
            let libraries = ["usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu"].map(|place| root.join(place));
            let mut path = OsString::new();
            for place in libraries.iter().filter(|place| place.is_dir() && root != Path::new("/")) {
                path.push(place);
                path.push(":");
            }
            if !path.is_empty() {
                command.env("LD_LIBRARY_PATH", path);
            }
        }
        if geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

/// Processes whose parent is `parent`: the fourth field of their `stat`, behind the name in brackets.
fn children(parent: u32) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        if fields.split_whitespace().nth(1) == Some(parent.to_string().as_str()) {
            found.push(id);
        }
    }
    Ok(found)
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        let _ = self.stop();
        let _ = fs::remove_dir_all(&self.dir);
    }
}
