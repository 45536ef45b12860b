//! Supervision of real processes: the node's and the users', each a small shell script, started through the real launcher,
//! which is this test binary once more.

use std::path::PathBuf;

use link::clock;
use shared::action::{DutyOrder, DutyReport};
use shared::ids::{BoardId, Fencing, Term};
use shared::time::Instant as Moment;
use tokio::net::UnixDatagram;

use super::channel::{LINE_BYTES_MAX, Order, Report};
use super::*;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Not a test: the launcher, as a process of its own. Run by the others.
#[test]
#[ignore = "it becomes another process"]
fn launcher() {
    if std::env::var(LAUNCH_VARIABLE).is_ok() {
        panic!("{}", launch());
    }
}

fn shell(script: String) -> impl FnMut() -> Command {
    move || {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(&script);
        command
    }
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("roadstead-supervise-{}-{name}", std::process::id()))
}

fn charge(name: &str, processes: Vec<DutyProcess>) -> Charge {
    let launcher = [
        std::env::current_exe().unwrap(),
        "supervise::tests::launcher".into(),
        "--exact".into(),
        "--ignored".into(),
        "--nocapture".into(),
    ];
    let place = Place {
        site: "north".try_into().unwrap(),
        board: BoardId::new(3).unwrap(),
        directory: scratch(&format!("{name}-run")),
        launcher: launcher.to_vec(),
    };
    Charge { processes, place }
}

fn idle(name: &str) -> Charge {
    charge(name, Vec::new())
}

/// A duty whose process is this shell script.
fn duty(script: &str) -> DutyProcess {
    DutyProcess {
        name: "signal".try_into().unwrap(),
        mode: "exclusive",
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        standby: false,
        notify: false,
        ready_within: PATIENCE,
        watchdog: None,
        stop_within: Duration::from_secs(10),
        restarts_max: 2,
        restarts_within: PATIENCE,
        memory_max_mib: None,
        files_max: 64,
        nice: 0,
        directory: None,
        environment: std::collections::BTreeMap::new(),
    }
}

/// A duty whose process is this Python program.
fn python(program: &str) -> DutyProcess {
    let command = ["python3", "-c", program].map(str::to_owned).to_vec();
    DutyProcess { command, standby: true, notify: true, ..duty("") }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it took too long")
}

fn token(revision: u16) -> Fencing {
    Fencing::new(Term::new(7, BoardId::new(2).unwrap()), revision)
}

/// A crew, and the node that commands it.
struct Commander {
    crew: Crew,
    node: UnixDatagram,
    seq: u64,
}

impl Commander {
    fn new(name: &str, duty: DutyProcess) -> Self {
        let (ours, theirs) = StdDatagram::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let crew = Crew::start(&charge(name, vec![duty]), ours).unwrap();
        Self { crew, node: UnixDatagram::from_std(theirs).unwrap(), seq: 0 }
    }

    async fn order(&mut self, order: DutyOrder) {
        self.seq += 1;
        self.extend(order).await;
    }

    async fn extend(&mut self, order: DutyOrder) {
        let line = Order { duty: "signal".try_into().unwrap(), seq: self.seq, order }.encode();
        self.node.send(line.as_bytes()).await.unwrap();
    }

    /// The next report that answers the newest order.
    async fn report(&mut self) -> DutyReport {
        let mut line = [0; LINE_BYTES_MAX];
        loop {
            let length = tokio::select! {
                length = self.node.recv(&mut line) => length.unwrap(),
                () = self.crew.serve() => unreachable!(),
            };
            let report = Report::decode(&line[..length]).unwrap();
            if report.seq == self.seq {
                return report.report;
            }
        }
    }

    async fn await_report(&mut self, wanted: DutyReport) -> Moment {
        within(async { while self.report().await != wanted {} }).await;
        clock::now()
    }
}

fn read(path: &std::path::Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

async fn until_written(path: &std::path::Path, words: &str) {
    within(async {
        while !read(path).contains(words) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_poisoned_node_is_started_again_and_a_clean_end_is_the_end() {
    let file = scratch("poisoned");
    let path = file.display();
    let script = format!("echo $ROADSTEAD_LIFE >> {path}; test $(wc -l < {path}) -ge 3 || exit {EXIT_POISONED}");
    let mut ended = Vec::new();
    within(supervise(shell(script), idle("poisoned"), |life| ended.push(life.to_string())))
        .await
        .unwrap();
    let lives: Vec<String> = read(&file).lines().map(str::to_owned).collect();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(lives.len(), 3);
    assert_eq!(lives, ended, "each life has its number, and each end is announced");
}

#[tokio::test]
async fn an_unusable_node_is_not_started_again() {
    let file = scratch("unusable");
    let script = format!("echo x >> {}; exit {EXIT_UNUSABLE}", file.display());
    let ended = within(supervise(shell(script), idle("unusable"), |_| {})).await;
    let starts = read(&file).lines().count();
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(ended, Err(SuperviseError::Unusable)), "{ended:?}");
    assert_eq!(starts, 1);
}

#[tokio::test]
async fn a_program_that_is_not_there_is_an_error() {
    let ended = supervise(|| Command::new("/nowhere/roadstead"), idle("nowhere"), |_| {}).await;
    assert!(matches!(ended, Err(SuperviseError::Start(_))), "{ended:?}");
}

#[tokio::test]
async fn the_node_is_told_who_supervises_it() {
    let script = format!("test \"${SUPERVISOR_VARIABLE}\" = {} -a $PPID = {}", std::process::id(), std::process::id());
    within(supervise(shell(script), idle("told"), |_| {})).await.unwrap();
}

#[tokio::test]
async fn a_cold_duty_acts_with_its_token_and_is_told_before_it_is_stopped() {
    let file = scratch("cold");
    let script = "trap 'echo term; exit 0' TERM; echo $ROADSTEAD_DUTY $ROADSTEAD_SITE $ROADSTEAD_BOARD $ROADSTEAD_MODE \
         $ROADSTEAD_TOKEN; while read line; do echo $line; done; while :; do sleep 0.01; done";
    let mut bench = Commander::new(
        "cold",
        DutyProcess {
            command: ["/bin/sh", "-c", &format!("exec >{}; {script}", file.display())]
                .map(str::to_owned)
                .to_vec(),
            ..duty("")
        },
    );
    bench
        .order(DutyOrder::Act { token: token(1), until: clock::now() + PATIENCE })
        .await;
    bench.await_report(DutyReport::Acts { token: token(1) }).await;
    let number = token(1).token();
    within(async {
        tokio::select! {
            () = until_written(&file, "active") => {}
            () = bench.crew.serve() => {}
        }
    })
    .await;
    bench.order(DutyOrder::StandBy).await;
    bench.await_report(DutyReport::Ended { failed: false }).await;
    let said = read(&file);
    std::fs::remove_file(&file).unwrap();
    assert!(said.starts_with(&format!("signal north 3 exclusive {number}\nactive {number} ")), "{said}");
    assert!(said.ends_with("term\n") || said.ends_with("stop\n"), "{said}");
}

/// The process notes when it still runs, and obeys nothing.
#[tokio::test]
async fn a_process_that_does_not_obey_is_killed_before_its_lease_ends() {
    for warm in [false, true] {
        let file = scratch(if warm { "deaf-warm" } else { "deaf" });
        let program = format!(
            "import os,signal,socket,time\n\
             signal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
             s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM);s.connect(os.environ['NOTIFY_SOCKET']);s.send(b'READY=1')\n\
             if os.fork() == 0:\n  f=open('{}','w',buffering=1)\n  while True: f.write('%d\\n' % (time.clock_gettime(time.CLOCK_BOOTTIME)*1e6));time.sleep(0.001)\n\
             time.sleep(100)",
            file.display()
        );
        let mut bench = Commander::new("deaf", DutyProcess { standby: warm, ..python(&program) });
        if warm {
            bench.order(DutyOrder::StandBy).await;
            bench.await_report(DutyReport::StandsBy).await;
        }
        let boot = || {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
            u64::try_from(time.tv_sec).unwrap() * 1_000_000 + u64::try_from(time.tv_nsec).unwrap() / 1000
        };
        let lease = Duration::from_millis(1500);
        let until = clock::now() + lease;
        let over = boot() + 1_500_000;
        bench.order(DutyOrder::Act { token: token(1), until }).await;
        bench.await_report(DutyReport::Acts { token: token(1) }).await;
        let rest = async { while matches!(bench.report().await, DutyReport::Acts { .. }) {} };
        within(rest).await;
        assert!(clock::now() < until + Duration::from_millis(20), "it was seen to end in time");
        let last: u64 = read(&file).lines().last().unwrap().parse().unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(last < over, "what it had started went on {} us beyond its lease", last - over);
        assert!(last + 200_000 > over, "it acted nearly to the end");
        bench.crew.end().await;
    }
}

/// The 15 lines of `docs/duties.md`.
#[tokio::test]
async fn the_documented_program_is_promoted_and_stands_by_when_told() {
    let page = include_str!("../../../docs/duties.md");
    let program = page
        .split("```python\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    let file = scratch("documented");
    let program = program.replace("drive_signal(token)", &format!("open('{}','a').write(token+'\\n')", file.display()));
    let mut bench = Commander::new("documented", python(&program));
    bench.order(DutyOrder::StandBy).await;
    bench.await_report(DutyReport::StandsBy).await;
    for revision in [1, 2] {
        let token = token(revision);
        bench.order(DutyOrder::Act { token, until: clock::now() + PATIENCE }).await;
        bench.await_report(DutyReport::Acts { token }).await;
        until_written(&file, &token.token().to_string()).await;
        bench.order(DutyOrder::StandBy).await;
        bench.await_report(DutyReport::StandsBy).await;
    }
    let before = read(&file);
    bench.order(DutyOrder::End).await;
    bench.await_report(DutyReport::Ended { failed: false }).await;
    assert_eq!(read(&file), before, "it does nothing while it stands by");
    std::fs::remove_file(&file).unwrap();
}

/// The shell example of `docs/duties.md`.
#[tokio::test]
async fn the_documented_script_acts_and_is_stopped() {
    let page = include_str!("../../../docs/duties.md");
    let script = page.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let file = scratch("documented-sh");
    let script =
        script.replace("drive_signal \"$ROADSTEAD_TOKEN\"", &format!("echo $ROADSTEAD_TOKEN >>{}", file.display()));
    let mut bench = Commander::new("documented-sh", duty(&script));
    bench
        .order(DutyOrder::Act { token: token(9), until: clock::now() + PATIENCE })
        .await;
    bench.await_report(DutyReport::Acts { token: token(9) }).await;
    until_written(&file, &token(9).token().to_string()).await;
    bench.order(DutyOrder::StandBy).await;
    bench.await_report(DutyReport::Ended { failed: false }).await;
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn a_process_that_keeps_ending_uses_up_its_budget_and_gets_a_new_one() {
    let file = scratch("budget");
    let script = format!("echo x >> {}; exit 1", file.display());
    let within = Duration::from_secs(1);
    let mut bench = Commander::new("budget", DutyProcess { restarts_within: within, ..duty(&script) });
    bench
        .order(DutyOrder::Act { token: token(1), until: clock::now() + PATIENCE })
        .await;
    bench.await_report(DutyReport::Ended { failed: true }).await;
    assert_eq!(read(&file).lines().count(), 3, "the first and two restarts");
    bench.await_report(DutyReport::Acts { token: token(1) }).await;
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn a_process_that_is_not_ready_or_falls_silent_is_started_again() {
    let ready = "import os,socket,time\ns=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\n\
                 s.connect(os.environ['NOTIFY_SOCKET'])\ns.send(b'READY=1')\ntime.sleep(100)";
    for (program, watchdog, ready_within) in
        [("import time; time.sleep(100)", None, 300), (ready, Some(Duration::from_millis(300)), 20_000)]
    {
        let mut bench = Commander::new(
            "silent",
            DutyProcess {
                watchdog,
                ready_within: Duration::from_millis(ready_within),
                restarts_max: 1,
                ..python(program)
            },
        );
        bench.order(DutyOrder::StandBy).await;
        bench.await_report(DutyReport::Ended { failed: true }).await;
        bench.crew.end().await;
    }
}

#[tokio::test]
async fn a_process_has_no_more_memory_than_it_is_given() {
    let file = scratch("memory");
    let program = format!(
        "try:\n  x=bytearray(512*1024*1024); w='had'\nexcept MemoryError: w='refused'\nopen('{}','w').write(w)\nimport time; time.sleep(100)",
        file.display()
    );
    let limited = DutyProcess { notify: false, memory_max_mib: Some(128), ..python(&program) };
    let mut bench = Commander::new("memory", limited);
    bench.order(DutyOrder::StandBy).await;
    tokio::select! {
        () = until_written(&file, "refused") => {}
        () = bench.crew.serve() => {}
    }
    std::fs::remove_file(&file).unwrap();
}

/// The node is killed: its processes are dead before that is announced.
#[tokio::test]
async fn a_killed_node_takes_its_processes_with_it_before_that_is_told() {
    let file = scratch("orphan");
    let script = format!("echo $$ > {}; while :; do sleep 1; done", file.display());
    // The node orders over its standard input, which is a socket: what a shell cannot do, Python can.
    let node = format!(
        "import socket,os,time\ns=socket.socket(fileno=0)\ns.send(b'1 order signal 1 act {} {}')\n\
         while not os.path.exists('{}') or not open('{}').read(): time.sleep(0.01)\nos.kill(os.getpid(),9)",
        token(1).token(),
        (clock::now() + PATIENCE).micros(),
        file.display(),
        file.display(),
    );
    let mut lives = 0;
    let mut told = None;
    let command = || {
        lives += 1;
        let mut command = Command::new("python3");
        command.arg("-c").arg(if lives == 1 { node.as_str() } else { "pass" });
        command
    };
    let announce = |_| {
        if told.is_none() {
            let pid: u32 = read(&file).trim().parse().unwrap();
            told = Some(PathBuf::from(format!("/proc/{pid}")).exists());
        }
    };
    within(supervise(command, charge("orphan", vec![duty(&script)]), announce))
        .await
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(told, Some(false), "it still ran when its end was announced");
}

/// The supervisor is killed: the kernel takes its processes with it.
#[tokio::test]
async fn a_killed_supervisor_takes_its_processes_with_it() {
    let file = scratch("killed");
    let mut supervisor = Command::new(std::env::current_exe().unwrap())
        .args(["supervise::tests::supervisor", "--exact", "--ignored", "--nocapture"])
        .env("ROADSTEAD_TEST_FILE", &file)
        .spawn()
        .unwrap();
    within(async {
        while read(&file).trim().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let pid = read(&file).trim().to_owned();
    supervisor.kill().await.unwrap();
    // What the kernel ended is a zombie until somebody reaps it.
    let state = || {
        read(&PathBuf::from(format!("/proc/{pid}/stat")))
            .split(") ")
            .nth(1)
            .map(|rest| rest.starts_with('Z'))
    };
    within(async {
        while state() == Some(false) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    std::fs::remove_file(&file).unwrap();
}

/// Not a test: a supervisor to be killed.
#[test]
#[ignore = "it is killed"]
fn supervisor() {
    let Some(file) = std::env::var_os("ROADSTEAD_TEST_FILE") else { return };
    let script = format!("echo $$ > {}; while :; do sleep 1; done", PathBuf::from(file).display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut bench = Commander::new("killed", duty(&script));
        bench
            .order(DutyOrder::Act { token: token(1), until: clock::now() + PATIENCE })
            .await;
        bench.crew.serve().await;
    });
}
