//! The files of a site under trial: made by `roadstead init` as an operator would, then changed where the trial needs it.
//! Owns the directory and the changes; starts nothing but `init` and `config check`.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use firmware::config::BoardConfig;

use super::lab::Lab;
use super::namespace;
use super::site::{PORT, Wanted};
use crate::demo::site::Home;
use crate::failure::Failure;
use crate::files::{Readers, rewrite, without_region, write};
use crate::init::{BOARD_FILE, GATEWAY_FILE};

/// A first port of which those that a site of `boards` boards takes on loopback are free now.
pub(super) fn free_ports(boards: u8) -> Result<u16, Failure> {
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};
    let span = 10 * (u16::from(boards) + 1);
    let is_free = |port: u16| {
        let address = (Ipv4Addr::LOCALHOST, port);
        TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
    };
    // Below the ports that Linux gives to outgoing connections; two runs at once begin at different places.
    let begin = 12_000 + u16::try_from(std::process::id() % 60).unwrap_or(0) * 100;
    (0..60_u16)
        .map(|step| begin + step * span)
        .find(|first| (0..span).all(|port| is_free(first + port)))
        .ok_or_else(|| Failure::new("no free ports on 127.0.0.1"))
}

/// Makes the site's files.
pub(super) fn init(wanted: &Wanted, home: &Home, is_in_namespaces: bool, first_port: u16) -> Result<(), Failure> {
    let program = wanted.program.to_string_lossy();
    let (dir, boards) = (home.path().to_string_lossy(), wanted.boards.to_string());
    let (host, gateway) = if is_in_namespaces {
        (Lab::address(0).to_string(), Lab::address(usize::from(wanted.boards)).to_string())
    } else {
        ("127.0.0.1".to_owned(), "127.0.0.1".to_owned())
    };
    let port = if is_in_namespaces { PORT } else { first_port }.to_string();
    let arguments = ["init", &dir, "--force", "--boards", &boards, "--site", "bench", "--host-base", &host];
    let rest = ["--gateway-host", &gateway, "--port-base", &port];
    namespace::run(&program, &[&arguments[..], &rest[..]].concat())?;
    // Nobody asks the gateway over HTTP, and beyond loopback it would want an account.
    let config = home.path().join(crate::init::GATEWAY_DIR).join(crate::init::GATEWAY_FILE);
    rewrite(&config, |text| text.replace(&format!("http = \"{gateway}:"), "http = \"127.0.0.1:"))
}

/// Makes a board's configuration fit: pages on loopback, where they are asked for and nobody is asked, no region, the clockwork's
/// `preset`.
pub(super) fn settle(dir: &Path, http: SocketAddr, preset: Option<&str>) -> Result<(), Failure> {
    rewrite(&dir.join(BOARD_FILE), |text| {
        let text = without_region(text);
        let asks = |line: &str| line == "[status]" || line.starts_with("token_file = ");
        let mut lines: Vec<String> = text.lines().filter(|line| !asks(line)).map(str::to_owned).collect();
        for line in &mut lines {
            if line.starts_with("http = ") {
                *line = format!("http = \"{http}\"");
            } else if line.trim() == "[timing]"
                && let Some(preset) = preset
            {
                line.push_str(&format!("\npreset = \"{preset}\""));
            }
        }
        lines.join("\n") + "\n"
    })
}

/// The measured duty as it stands in every board's configuration.
pub(super) fn duty(program: &Path, observer: &Path) -> String {
    format!(
        "\n[[duty]]\nname = \"beat\"\nmode = \"exclusive\"\nstandby = true\nnotify = true\n\
         nice = 0\nrestarts_max = 1000\n\
         command = [\"{}\", \"bench-beat\", \"--observer\", \"{}\"]\n",
        program.display(),
        observer.display()
    )
}

/// Adds `duty` to a board's configuration; `false`, and nothing added, where the program takes none.
pub(super) fn append_duty(program: &Path, dir: &Path, duty: &str) -> Result<bool, Failure> {
    let path = dir.join(BOARD_FILE);
    let before = read(&path)?;
    write(&path, format!("{before}{duty}").as_bytes(), Readers::All)?;
    let check = Command::new(program)
        .args(["config", "check"])
        .arg(&path)
        .output()
        .map_err(|error| Failure::new("cannot check a configuration").because(error))?;
    if check.status.success() {
        return Ok(true);
    }
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    if said.contains("unknown field `duty`") || said.contains("`duty`") && said.contains("unknown") {
        write(&path, before.as_bytes(), Readers::All)?;
        return Ok(false);
    }
    Err(Failure::new(format!("the measured duty is refused:\n{said}")))
}

/// Replaces text in a board's configuration; that nothing changes is a failure.
pub(super) fn replace(dir: &Path, what: &str, with: &str) -> Result<(), Failure> {
    let path = dir.join(BOARD_FILE);
    if !read(&path)?.contains(what) {
        return Err(Failure::new(format!("{} does not say {what}", path.display())));
    }
    rewrite(&path, |text| text.replace(what, with))
}

/// Where the gateway in `dir` listens as a witness.
pub(super) fn witness_address(dir: &Path) -> Result<SocketAddr, Failure> {
    let path = dir.join(GATEWAY_FILE);
    let text = read(&path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("witness = \""));
    line.and_then(|rest| rest.split('"').next()?.parse().ok())
        .ok_or_else(|| Failure::new(format!("{} says no address for a witness", path.display())))
}

/// Lets a board dial its witness at `relay` instead of `own`.
pub(super) fn point_witness(dir: &Path, own: SocketAddr, relay: SocketAddr) -> Result<(), Failure> {
    replace(dir, &format!("address = \"{own}\""), &format!("address = \"{relay}\""))
}

/// The clockwork that a board runs with, as its own program reads it.
pub(super) fn timing(dir: &Path) -> String {
    let path = dir.join(BOARD_FILE);
    let text = fs::read(&path).unwrap_or_default();
    let Ok(config) = BoardConfig::parse(&path, &text) else {
        return "its configuration cannot be read".to_owned();
    };
    let timing = config.node.timing;
    let values = [
        ("heartbeat", timing.heartbeat),
        ("down after", timing.down_after),
        ("lease", timing.lease),
        ("renewed every", timing.renew),
        ("lease at most", timing.lease_most),
        ("witness's lease", timing.witness_lease),
    ];
    let shown = values.map(|(name, value)| format!("{name} {} ms", value.as_millis()));
    shown.join(", ")
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::new(format!("cannot read {}", path.display())).because(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_settled_for_the_trial() {
        let home = Home::temporary("test").unwrap();
        let text = "http = \"10.0.0.1:7402\"\n[status]\ntoken_file = \"status-token\"\n[region]\nca = \"x\"\n[[region.gateway]]\nname = \"g\"\n[timing]\n# lease_ms = 200   # so long\n[journal]\n";
        fs::write(home.path().join(BOARD_FILE), text).unwrap();
        settle(home.path(), "127.0.0.1:9".parse().unwrap(), Some("fast")).unwrap();
        let settled = read(&home.path().join(BOARD_FILE)).unwrap();
        assert_eq!(
            settled,
            "http = \"127.0.0.1:9\"\n[timing]\npreset = \"fast\"\n# lease_ms = 200   # so long\n[journal]\n"
        );
        assert!(replace(home.path(), "not there", "x").is_err());
        let path = home.path().to_owned();
        drop(home);
        assert!(!path.exists());
    }
}
