//! etcd: three members of Debian's etcd-server. A member leads when its own log says so, which is before it has committed
//! anything as leader, and costs it no question.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Claims, Kind, MEMBERS};
use crate::bench::failover::lab::Lab;
use crate::bench::kin::Kin;
use crate::failure::Failure;

const CONFIGURATION: &str = include_str!("../../../../assets/rivals/etcd.yml");
/// A member that is well answers within so long.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// A cluster's settings.
pub(super) struct Etcd {
    heartbeat_ms: u32,
    election_ms: u32,
}

impl Etcd {
    /// With these periods.
    pub(super) fn new(heartbeat_ms: u32, election_ms: u32) -> Self {
        Self { heartbeat_ms, election_ms }
    }

    fn configuration(&self, member: usize, home: &Path) -> String {
        let cluster: Vec<String> = (0..MEMBERS)
            .map(|member| format!("m{member}=http://{}:2380", Lab::address(member)))
            .collect();
        CONFIGURATION
            .replace("{name}", &format!("m{member}"))
            .replace("{dir}", &home.join(format!("data-{member}")).to_string_lossy())
            .replace("{address}", &Lab::address(member).to_string())
            .replace("{cluster}", &cluster.join(","))
            .replace("{heartbeat_ms}", &self.heartbeat_ms.to_string())
            .replace("{election_ms}", &self.election_ms.to_string())
    }
}

impl Kind for Etcd {
    fn start(&mut self, lab: &Lab, member: usize, home: &Path, claims: &Claims) -> Result<Kin, Failure> {
        let cannot = |error: std::io::Error| Failure::new("cannot start etcd").because(error);
        let path = home.join(format!("{member}.yml"));
        fs::write(&path, self.configuration(member, home)).map_err(cannot)?;
        let mut command = Command::new("etcd");
        command
            .arg("--config-file")
            .arg(path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut kin = lab.machine(member).within(move || Kin::spawn(command))?.map_err(cannot)?;
        let mut log = File::options()
            .create(true)
            .append(true)
            .open(home.join(format!("{member}.log")))
            .map_err(cannot)?;
        let (errors, claims) = (kin.take_errors(), claims.clone());
        // It ends when the member does.
        std::thread::spawn(move || {
            for line in errors
                .into_iter()
                .flat_map(|pipe| BufReader::new(pipe).lines())
                .map_while(Result::ok)
            {
                if says_that_it_leads(&line) {
                    claims.add(member, true);
                }
                let _ = writeln!(log, "{line}");
            }
        });
        Ok(kin)
    }

    /// Every member is well, which takes a round through the leader, and no other has led for two elections.
    fn settled(&self, lab: &Lab, claims: &Claims) -> Option<usize> {
        if claims.quiet() < Duration::from_millis(u64::from(self.election_ms) * 2) {
            return None;
        }
        let well = |member| lab.machine(member).within(is_well).unwrap_or(false);
        let leader = claims.all().last()?.member;
        (0..MEMBERS).all(well).then_some(leader)
    }
}

/// raft's own line, from becoming leader to nothing else: `8e9e05c52164694d became leader at term 2`.
fn says_that_it_leads(line: &str) -> bool {
    line.contains(" became leader at term ")
}

fn is_well() -> bool {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, 2379).into(), ANSWER_MAX).ok()?;
        stream.set_read_timeout(Some(ANSWER_MAX)).ok()?;
        stream
            .write_all(b"GET /health HTTP/1.1\r\nHost: member\r\nConnection: close\r\n\r\n")
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.contains("\"health\":\"true\""))
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_log_is_read_and_its_configuration_complete() {
        let line = r#"{"level":"info","caller":"raft/raft.go:765","msg":"8e9e05c52164694d became leader at term 2"}"#;
        assert!(says_that_it_leads(line));
        assert!(!says_that_it_leads(&line.replace("leader", "follower")));
        let text = Etcd::new(10, 100).configuration(1, Path::new("/tmp/x"));
        let bare: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#') && line.contains('{'))
            .collect();
        assert_eq!(bare, [""; 0], "all braces are filled in");
        assert!(text.contains("m0=http://10.83.0.1:2380,m1=http://10.83.0.2:2380"));
    }
}
