//! Network namespaces: a machine of its own as far as the network goes, made with `ip netns`. Each has a thread here that
//! lives inside it, so that sockets can be opened and processes be started there. Removed with its owner.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::process::{Command, Output};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use rustix::process::geteuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::bench::leftovers;
use crate::failure::Failure;

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// Why namespaces cannot be made here; `None` where they can.
pub fn lacking() -> Option<&'static str> {
    if !geteuid().is_root() {
        return Some("this is not root");
    }
    match Command::new("ip").args(["netns", "list"]).output() {
        Ok(output) if output.status.success() => None,
        Ok(_) => Some("`ip netns` is refused"),
        Err(_) => Some("there is no `ip` (Debian: apt-get install -y iproute2)"),
    }
}

/// Runs `ip` with `arguments`, parted by spaces.
pub(in crate::bench) fn ip(arguments: &str) -> Result<(), Failure> {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    run("ip", &words).map(drop)
}

/// Runs `program` to its good end.
pub(in crate::bench) fn run(program: &str, arguments: &[&str]) -> Result<Output, Failure> {
    let line = || format!("`{program} {}` failed", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| Failure::new(line()).because(error))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::new(line()).because(io::Error::other(said)))
}

impl Namespace {
    /// Makes the namespace `name`, its loopback interface up.
    pub fn make(name: &str) -> Result<Self, Failure> {
        ip(&format!("netns add {name}"))?;
        leftovers::note_namespace(name);
        let mut made = Self { name: name.to_owned(), jobs: None, thread: None };
        ip(&format!("-n {name} link set lo up"))?;
        let cannot = |error: io::Error| Failure::new(format!("cannot enter namespace {name}")).because(error);
        let inside = File::open(format!("/run/netns/{name}")).map_err(cannot)?;
        let (jobs, asked) = mpsc::channel::<Job>();
        let (entered, has_entered) = mpsc::channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let done = move_into_link_name_space(inside.as_fd(), Some(LinkNameSpaceType::Network));
            let is_inside = done.is_ok();
            let _ = entered.send(done);
            while is_inside && let Ok(job) = asked.recv() {
                job();
            }
        });
        made.thread = Some(thread.map_err(cannot)?);
        made.jobs = Some(jobs);
        let done = has_entered
            .recv()
            .map_err(|_| cannot(io::Error::other("its thread has ended")))?;
        done.map_err(|error| cannot(error.into()))?;
        Ok(made)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Does `work` inside and waits for it: what it opens or starts belongs to the namespace.
    pub fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
        let ended = || Failure::new(format!("the thread in namespace {} has ended", self.name));
        let (done, is_done) = mpsc::channel();
        let job = Box::new(move || {
            let _ = done.send(work());
        });
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        jobs.send(job).map_err(|_| ended())?;
        is_done.recv().map_err(|_| ended())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        match ip(&format!("netns del {}", self.name)) {
            Ok(()) => leftovers::strike_namespace(&self.name),
            Err(failure) => eprintln!("namespace {} is left: {failure}", self.name),
        }
    }
}
