//! Programs of others, from Debian's packages: looked for, installed where this process may, else the line that does it
//! is told. Installs nothing that was not asked for by name.

use std::process::Command;

use rustix::process::geteuid;

use crate::bench::failover::namespace::run;
use crate::failure::Failure;

/// Makes sure that `program` is there, from `package`.
pub(super) fn ensure(program: &str, package: &str) -> Result<(), Failure> {
    if is_there(program) {
        return Ok(());
    }
    let line = format!("apt-get install -y --no-install-recommends {package}");
    let missing = || Failure::new(format!("there is no `{program}` on this machine")).remedy(format!("sudo {line}"));
    if !geteuid().is_root() || !is_there("apt-get") {
        return Err(missing());
    }
    eprintln!("installing {package}");
    let install = || {
        let words: Vec<&str> = line.split(' ').collect();
        run("env", &[&["DEBIAN_FRONTEND=noninteractive"], &words[..]].concat())
    };
    // The lists may be missing or old, as in a fresh container.
    if install().is_err() {
        run("apt-get", &["-qq", "update"])?;
        install()?;
    }
    if is_there(program) { Ok(()) } else { Err(missing()) }
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Daemons stand where the path of a plain user may not look; those who may run them have it.
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
        || Command::new(program).arg("--version").output().is_ok()
}
