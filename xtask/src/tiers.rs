//! The tiers of `cargo xtask test`, in the order in which they run: cheap and telling first. All share one target
//! folder and two profiles (dev for tests, release for whole processes), always for the whole workspace, so that
//! features are the same everywhere and nothing is compiled twice.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::steps::{Step, Stop};
use crate::tools;
use crate::workshop::{Workshop, is_root};

/// One kind of test.
pub(crate) struct Tier {
    /// What `--tier` calls it.
    pub(crate) name: &'static str,
    /// What it shows.
    pub(crate) about: &'static str,
    /// Runs it; what was left out of it comes back as notes.
    pub(crate) run: fn(&Workshop) -> Result<Vec<String>, Stop>,
}

/// Every tier.
pub(crate) const TIERS: &[Tier] = &[
    Tier { name: "fmt", about: "the code is formatted", run: fmt },
    Tier { name: "clippy", about: "no compiler or clippy warning in any target", run: clippy },
    Tier { name: "doc", about: "the documentation builds without a warning", run: doc },
    Tier {
        name: "deny",
        about: "licences, versions, sources and known holes of what is built in",
        run: deny,
    },
    Tier {
        name: "tidy",
        about: "the project's own rules: sizes, ranks, names, promises, links",
        run: tidy,
    },
    Tier { name: "unit", about: "each crate by itself", run: unit },
    Tier { name: "build", about: "the release build that the next tiers run", run: build },
    Tier {
        name: "sim",
        about: "whole sites in simulation, by seed, against a reference model",
        run: sim,
    },
    Tier {
        name: "crash",
        about: "power cuts at every step of a journal's life, on simulated disks",
        run: crash,
    },
    Tier { name: "scenarios", about: "named stories in simulation", run: scenarios },
    Tier {
        name: "process",
        about: "real processes over loopback: killed, cut off, fed garbage",
        run: process,
    },
    Tier {
        name: "postgres",
        about: "the store in PostgreSQL: the stores' contract on a real server, killed and restarted under load",
        run: postgres,
    },
    Tier {
        name: "s3",
        about: "objects and the archive in a real S3 server, killed half-way; read by DuckDB",
        run: s3,
    },
    Tier {
        name: "monitoring",
        about: "alert rules and dashboards: promtool, and a live site that tells every name",
        run: monitoring,
    },
    Tier {
        name: "browser",
        about: "the pages for people in a real browser: live, on a phone, by keyboard; screenshots",
        run: browser,
    },
    Tier {
        name: "failover",
        about: "one holder, always: boards killed, stopped, cut off, starved; the bench, short",
        run: failover,
    },
    Tier {
        name: "powercut",
        about: "power cuts of emulated boards, and rigs that must lose",
        run: powercut,
    },
    Tier {
        name: "demo",
        about: "the demo, short: a dead leader, a cut uplink, nothing lost",
        run: demo,
    },
    Tier {
        name: "interop",
        about: "publishers that others wrote: mosquitto_pub, Paho, rumqttc",
        run: interop,
    },
];

/// Seeds of one run: enough that a common fault shows, few enough for every push.
const SEEDS: &str = "200";
/// Workloads of one run of the crash points.
const WORKLOADS: [&str; 4] = ["--seeds", "1500", "--small", "300"];
/// Power cuts of emulated boards in one run.
const CUTS: &str = "5";
/// Programs of the release build.
const PROGRAMS: [&str; 3] = ["roadstead", "sim", "crash-points"];
/// Suites with a tier of their own; the unit tier leaves them out.
const SUITES: [&str; 4] = ["tidy", "simulation", "scenarios", "process"];
/// The part of the suite of real processes that needs namespaces; it has a tier of its own.
const FAILOVER: &str = "failover::";
/// The part of it that checks what operators are given to watch with.
const MONITORING: &str = "monitoring::";
/// The part of it that looks at the pages for people.
const BROWSER: &str = "browser::";
/// Tests that need a PostgreSQL server: of the store by itself, and of a whole gateway.
const POSTGRES: &str = "postgres::";
/// Several gateways on one database.
const SPREAD: &str = "spread::";
/// Tests that need an S3 server.
const S3: &str = "s3::";
/// Tests of the front door with publishers that others wrote; they have a tier of their own too.
const CLIENTS: &str = "front_door::tests::clients";
/// A stalled download of the advisory database is given up after so long.
const ADVISORIES_MAX: Duration = Duration::from_secs(60);
/// What is asked for by hand may take a night.
pub(crate) const LONG_MAX: Duration = Duration::from_secs(12 * 3600);
/// Targets in `tests/fuzz/fuzz_targets`.
const FUZZ_TARGETS: [&str; 13] = [
    "commit_block",
    "segment",
    "recovery",
    "run",
    "block",
    "peer",
    "control",
    "heartbeat",
    "election",
    "duty",
    "obituary",
    "to_region",
    "from_region",
];
/// A simulation or a demo that takes longer hangs.
const RUN_MAX: Duration = Duration::from_secs(10 * 60);

type Done = Result<Vec<String>, Stop>;

fn fmt(workshop: &Workshop) -> Done {
    tools::component(workshop, "cargo-fmt", "rustfmt")?;
    nothing_left_out(Step::new("cargo fmt --all --check").run(workshop))
}

fn clippy(workshop: &Workshop) -> Done {
    tools::c_compiler(workshop)?;
    tools::component(workshop, "cargo-clippy", "clippy")?;
    let step = Step::new("cargo clippy --locked --workspace --all-targets -- -D warnings");
    nothing_left_out(step.run(workshop))
}

fn doc(workshop: &Workshop) -> Done {
    tools::c_compiler(workshop)?;
    let step = Step::new("cargo doc --locked --workspace --no-deps").set("RUSTDOCFLAGS", "-D warnings");
    nothing_left_out(step.run(workshop))
}

fn deny(workshop: &Workshop) -> Done {
    tools::cargo_deny(workshop)?;
    Step::new("cargo deny --locked check --hide-inclusion-graph bans licenses sources").run(workshop)?;
    // git gives up a stalled transfer by itself; the limit is for a network that swallows packets.
    let fetched = Step::new("cargo deny --locked fetch db")
        .set("GIT_HTTP_LOW_SPEED_LIMIT", "1000")
        .set("GIT_HTTP_LOW_SPEED_TIME", "15")
        .within(ADVISORIES_MAX)
        .run(workshop);
    match fetched {
        Ok(()) => {
            let step = Step::new("cargo deny --locked check --hide-inclusion-graph --disable-fetch advisories");
            nothing_left_out(step.run(workshop))
        }
        Err(stop) => {
            let note = format!("known holes (advisories): their database could not be fetched: {stop}");
            println!("{note}");
            Ok(vec![note])
        }
    }
}

fn tidy(workshop: &Workshop) -> Done {
    nothing_left_out(suite(workshop, "tidy", &[]))
}

fn unit(workshop: &Workshop) -> Done {
    tools::c_compiler(workshop)?;
    if workshop.which("cargo-nextest").is_some() {
        let but_others = format!(
            "not (binary(/^({})$/) | test({CLIENTS}) | (binary(suite) & (test({POSTGRES}) | test({S3}))))",
            SUITES.join("|")
        );
        Step::new("cargo nextest run --locked --workspace -E")
            .args([but_others])
            .run(workshop)?;
    } else {
        Step::new("cargo test --locked --workspace --lib --bins --test suite -- --skip")
            .args([CLIENTS, "--skip", POSTGRES, "--skip", S3])
            .run(workshop)?;
    }
    nothing_left_out(Step::new("cargo test --locked --workspace --doc").run(workshop))
}

fn build(workshop: &Workshop) -> Done {
    tools::c_compiler(workshop)?;
    let mut line = String::from("cargo build --locked --release --workspace");
    for program in PROGRAMS {
        line.push_str(" --bin ");
        line.push_str(program);
    }
    nothing_left_out(Step::new(&line).run(workshop))
}

/// Builds one program for release, with the features that the whole workspace gives it.
pub(crate) fn build_release(workshop: &Workshop, program: &str) -> Result<(), Stop> {
    tools::c_compiler(workshop)?;
    Step::new("cargo build --locked --release --workspace --bin")
        .args([program])
        .run(workshop)
}

/// Searches every state of the election's core within bounds, and breaks each of its rules once; the searches print what
/// they saw.
pub(crate) fn model_check(workshop: &Workshop) -> Result<(), Stop> {
    let search = "cargo test --locked --release -p shared --lib -- --ignored --nocapture --test-threads 1";
    Step::new(search)
        .args(["election::model::tests::the_whole_model_check"])
        .within(LONG_MAX)
        .run(workshop)
}

fn sim(workshop: &Workshop) -> Done {
    build_release(workshop, "sim")?;
    Step::program(workshop.release("sim"))
        .args(["--seeds", SEEDS])
        .within(RUN_MAX)
        .run(workshop)?;
    nothing_left_out(suite(workshop, "simulation", &[]))
}

fn crash(workshop: &Workshop) -> Done {
    build_release(workshop, "crash-points")?;
    let step = Step::program(workshop.release("crash-points")).args(WORKLOADS).within(RUN_MAX);
    nothing_left_out(step.run(workshop))
}

fn scenarios(workshop: &Workshop) -> Done {
    nothing_left_out(suite(workshop, "scenarios", &[]))
}

fn process(workshop: &Workshop) -> Done {
    let binary = release_binary(workshop)?;
    nothing_left_out(part(
        workshop,
        "process",
        &["--skip", FAILOVER, "--skip", MONITORING, "--skip", BROWSER, "--skip", POSTGRES, "--skip", S3],
        &[binary],
    ))
}

/// A machine without a server says so in the summary.
fn postgres(workshop: &Workshop) -> Done {
    let programs = match tools::postgres(workshop) {
        Ok(programs) => programs,
        Err(Stop::Lacking { what, remedy }) => {
            let note = format!("NO DATABASE WAS TRIED: {what}; to mend it: {remedy}");
            println!("{note}");
            return Ok(vec![note]);
        }
        Err(stop) => return Err(stop),
    };
    let settings = [release_binary(workshop)?, ("ROADSTEAD_POSTGRES", programs.to_string_lossy().into_owned())];
    part(workshop, "suite", &[POSTGRES, SPREAD], &settings)?;
    part(workshop, "process", &[POSTGRES], &settings)?;
    Ok(Vec::new())
}

/// A machine without a server says so in the summary.
fn s3(workshop: &Workshop) -> Done {
    let (program, reader) = match tools::s3(workshop) {
        Ok(found) => found,
        Err(Stop::Lacking { what, remedy }) => {
            let note = format!("NO S3 SERVER WAS TRIED: {what}; to mend it: {remedy}");
            println!("{note}");
            return Ok(vec![note]);
        }
        Err(stop) => return Err(stop),
    };
    let settings = [
        release_binary(workshop)?,
        ("ROADSTEAD_S3", program.to_string_lossy().into_owned()),
        ("ROADSTEAD_DUCKDB", reader.to_string_lossy().into_owned()),
    ];
    part(workshop, "suite", &[S3], &settings)?;
    nothing_left_out(part(workshop, "process", &[S3], &settings))
}

/// Without promtool the names are held against a live site all the same, and the summary says what was not checked.
fn monitoring(workshop: &Workshop) -> Done {
    let mut settings = vec![release_binary(workshop)?];
    let mut left_out = Vec::new();
    match tools::promtool(workshop) {
        Ok(program) => settings.push(("ROADSTEAD_PROMTOOL", program.to_string_lossy().into_owned())),
        Err(Stop::Lacking { what, remedy }) => {
            left_out.push(format!("NO ALERT RULE WAS CHECKED: {what}; to mend it: {remedy}"));
        }
        Err(stop) => return Err(stop),
    }
    part(workshop, "process", &[MONITORING], &settings)?;
    Ok(left_out)
}

/// A machine without a browser says so in the summary. The screenshots stay for people to look at.
fn browser(workshop: &Workshop) -> Done {
    let (program, modules) = match tools::browser(workshop) {
        Ok(found) => found,
        Err(Stop::Lacking { what, remedy }) => {
            let note = format!("NO PAGE WAS LOOKED AT: {what}; to mend it: {remedy}");
            println!("{note}");
            return Ok(vec![note]);
        }
        Err(stop) => return Err(stop),
    };
    let screenshots = workshop.target.join("screenshots");
    let settings = [
        release_binary(workshop)?,
        ("ROADSTEAD_BROWSER", program.to_string_lossy().into_owned()),
        ("ROADSTEAD_NODE_MODULES", modules.to_string_lossy().into_owned()),
        ("ROADSTEAD_SCREENSHOTS", screenshots.to_string_lossy().into_owned()),
    ];
    part(workshop, "process", &[BROWSER, "--nocapture"], &settings)?;
    println!("screenshots: {}", screenshots.display());
    Ok(Vec::new())
}

/// The suite in network namespaces, then the bench: both say what they cannot do here, and so does the summary.
fn failover(workshop: &Workshop) -> Done {
    let (variable, roadstead) = release_binary(workshop)?;
    let mut left_out = Vec::new();
    if !is_root() {
        left_out.push("boards in network namespaces: this is not root".to_owned());
    } else if tools::namespaces(workshop).is_err() {
        left_out.push("boards in network namespaces: `ip netns` is missing or refused".to_owned());
    } else if tools::nft(workshop).is_err() {
        left_out.push("a cut in one direction: there is no `nft`".to_owned());
    }
    part(workshop, "process", &[FAILOVER, "--nocapture"], &[(variable, roadstead.clone())])?;
    let figures = workshop.target.join("failover.json");
    let bench = Step::program(roadstead)
        .args(["bench", "failover", "--trials", "3", "--verbose", "--json"])
        .args([figures.to_string_lossy()])
        .within(RUN_MAX);
    bench.run(workshop)?;
    Ok(left_out)
}

/// The emulator is fetched where that needs nobody; a machine that cannot have it says so in the summary.
fn powercut(workshop: &Workshop) -> Done {
    let said = BTreeMap::from([("--cuts", CUTS.to_owned())]);
    match powercut_with(workshop, &said) {
        Err(Stop::Lacking { what, remedy }) => {
            let note = format!("NO POWER WAS CUT: {what}; to mend it: {remedy}");
            println!("{note}");
            Ok(vec![note])
        }
        done => nothing_left_out(done),
    }
}

/// Cuts the power of emulated boards, as `said`: `--cuts`, `--seed`, `--json`.
pub(crate) fn powercut_with(workshop: &Workshop, said: &BTreeMap<&'static str, String>) -> Result<(), Stop> {
    const TEST: &str = "powercut::emulated_boards_that_lose_power_together_keep_what_they_acknowledged";
    let emulator = tools::emulator(workshop)?;
    let mut settings = vec![release_binary(workshop)?, ("ROADSTEAD_EMULATOR", emulator.to_string_lossy().into_owned())];
    for (option, variable) in [("--cuts", "ROADSTEAD_CUTS"), ("--seed", "ROADSTEAD_SEED")] {
        settings.extend(said.get(option).map(|value| (variable, value.clone())));
    }
    if let Some(path) = said.get("--json") {
        // The suite runs elsewhere.
        let path = std::env::current_dir().map_or_else(|_| path.into(), |here| here.join(path));
        settings.push(("ROADSTEAD_JSON", path.to_string_lossy().into_owned()));
    }
    long_part(workshop, &["--ignored", "--exact", TEST], &settings)
}

/// Kills all boards of a site at once, `rounds` times.
pub(crate) fn kills(workshop: &Workshop, rounds: &str) -> Result<(), Stop> {
    const TEST: &str = "kills::all_boards_killed_at_once_lose_nothing_acknowledged";
    let settings = [release_binary(workshop)?, ("ROADSTEAD_ROUNDS", rounds.to_owned())];
    long_part(workshop, &["--exact", TEST], &settings)
}

/// A part of the suite of real processes that may take hours.
fn long_part(workshop: &Workshop, words: &[&str], settings: &[(&'static str, String)]) -> Result<(), Stop> {
    tools::c_compiler(workshop)?;
    let step = Step::new("cargo test --locked --workspace --test process -- --nocapture")
        .args(words.iter().copied())
        .within(LONG_MAX);
    settings
        .iter()
        .fold(step, |step, (name, value)| step.set(name, value))
        .run(workshop)
}

/// Lets each fuzz target look for new inputs, as `said`: `--seconds` each, `--target` alone.
pub(crate) fn fuzz(workshop: &Workshop, said: &BTreeMap<&'static str, String>) -> Result<(), Stop> {
    tools::cargo_fuzz(workshop)?;
    let seconds = said.get("--seconds").map_or("60", String::as_str);
    let chosen = |target: &&&str| said.get("--target").is_none_or(|wanted| wanted == **target);
    for target in FUZZ_TARGETS.iter().filter(chosen) {
        // The instrumentation is the compiler's own, which it keeps behind its nightly gate.
        Step::new("cargo fuzz run --sanitizer none --fuzz-dir tests/fuzz")
            .args([*target, "--"])
            .args([format!("-max_total_time={seconds}"), "-max_len=65536".to_owned()])
            .set("RUSTC_BOOTSTRAP", "1")
            .within(LONG_MAX)
            .run(workshop)?;
    }
    Ok(())
}

fn demo(workshop: &Workshop) -> Done {
    let (_, roadstead) = release_binary(workshop)?;
    let verdict = workshop.target.join("demo.json");
    let step = Step::program(roadstead)
        .args(["demo", "--seconds", "20", "--json"])
        .args([verdict.to_string_lossy()])
        .within(RUN_MAX);
    nothing_left_out(step.run(workshop))
}

fn interop(workshop: &Workshop) -> Done {
    tools::c_compiler(workshop)?;
    tools::mosquitto_clients(workshop)?;
    tools::python_with_paho(workshop)?;
    let step = if workshop.which("cargo-nextest").is_some() {
        Step::new("cargo nextest run --locked --workspace -E").args([format!("test({CLIENTS})")])
    } else {
        Step::new("cargo test --locked --workspace --lib").args([CLIENTS])
    };
    nothing_left_out(step.set("ROADSTEAD_CLIENTS", "required").run(workshop))
}

/// The release build's `roadstead`, as the variable by which suites are told of it.
fn release_binary(workshop: &Workshop) -> Result<(&'static str, String), Stop> {
    build_release(workshop, "roadstead")?;
    Ok(("ROADSTEAD_BIN", workshop.release("roadstead").to_string_lossy().into_owned()))
}

/// Runs the test binary `name` and builds nothing else; fails where there is none. `settings` go into its environment.
fn suite(workshop: &Workshop, name: &str, settings: &[(&'static str, String)]) -> Result<(), Stop> {
    part(workshop, name, &[], settings)
}

/// The same with `words` for the test binary.
fn part(workshop: &Workshop, name: &str, words: &[&str], settings: &[(&'static str, String)]) -> Result<(), Stop> {
    tools::c_compiler(workshop)?;
    let mut step = Step::new("cargo test --locked --workspace --test").args([name]);
    if !words.is_empty() {
        step = step.args(["--"]).args(words.iter().copied());
    }
    settings
        .iter()
        .fold(step, |step, (name, value)| step.set(name, value))
        .run(workshop)
}

fn nothing_left_out(done: Result<(), Stop>) -> Done {
    done.map(|()| Vec::new())
}
