//! What a site will look like before any of it exists: names, boards, addresses, votes. Owns the arithmetic of
//! addresses and ports; writes nothing.

use std::net::{IpAddr, SocketAddr};

use shared::config::JournalConfig;
use shared::config::site::default_voters;
use shared::config::text::check_name;
use shared::ids::{BoardId, BoardSet, Name};

use crate::failure::Failure;

/// Ports between one board and the next where all of them share one machine.
const PORTS_A_BOARD: u16 = 10;

/// A site with its gateway.
#[derive(Clone, Debug)]
pub struct SitePlan {
    /// The site's name.
    pub site: Name,
    /// Its boards, 1 to 64, each number once.
    pub boards: Vec<BoardPlan>,
    /// The gateway it reports to.
    pub gateway: GatewayPlan,
    /// Who votes beside the boards; `None` where they are among themselves.
    pub witness: Option<WitnessPlan>,
    /// Journal size to write into the configurations; `None`: the default, as a comment.
    pub journal: Option<JournalConfig>,
}

/// One board's number and addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoardPlan {
    /// Its number.
    pub board: BoardId,
    /// QUIC among boards, UDP.
    pub mesh: SocketAddr,
    /// MQTT, TCP.
    pub mqtt: SocketAddr,
    /// HTTP, TCP.
    pub http: SocketAddr,
}

/// The gateway's name and addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayPlan {
    /// Its name.
    pub name: Name,
    /// QUIC, UDP.
    pub quic: SocketAddr,
    /// HTTP, TCP.
    pub http: SocketAddr,
}

/// The witness's name and address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessPlan {
    /// Its name.
    pub name: Name,
    /// QUIC, UDP.
    pub address: SocketAddr,
    /// Whether it is a machine of its own; else it is the gateway.
    pub is_apart: bool,
}

impl SitePlan {
    /// All numbers.
    pub fn numbers(&self) -> BoardSet {
        self.boards.iter().map(|plan| plan.board).collect()
    }

    /// Whether any board takes MQTT from other hosts.
    pub fn is_open_to_other_hosts(&self) -> bool {
        self.boards.iter().any(|board| !board.mqtt.ip().to_canonical().is_loopback())
    }

    /// Who votes: see [`default_voters`].
    pub fn voters(&self) -> BoardSet {
        default_voters(self.numbers(), self.witness.is_some())
    }

    /// Boards that keep each record: 2, or 1 where there is one.
    pub fn copies(&self) -> usize {
        self.boards.len().min(2)
    }
}

/// Where boards and gateway will be, from a first address and port.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// Loopback: everything is on this machine, each board on ports of its own. Else: the address of board 1; the
    /// others follow, each on a machine of its own with the same ports.
    pub host_base: IpAddr,
    /// First port: of the gateway on a shared machine, of every machine's mesh otherwise.
    pub port_base: u16,
    /// The gateway's address where it is not beside the boards (loopback) or right after them.
    pub gateway: Option<IpAddr>,
}

impl Places {
    /// Boards 1 to `count` and the gateway `name`. Refused where ports or addresses run out.
    pub fn lay_out(&self, count: u8, name: Name) -> Result<(Vec<BoardPlan>, GatewayPlan), Failure> {
        let boards = (1..=count)
            .map(|number| {
                let board = BoardId::new(number)
                    .ok_or_else(|| Failure::new(format!("{number} is no board's number: 1 to 64 are")))?;
                let (ip, first) = self.of_board(number)?;
                Ok(BoardPlan {
                    board,
                    mesh: self.at(ip, first, 0)?,
                    mqtt: self.at(ip, first, 1)?,
                    http: self.at(ip, first, 2)?,
                })
            })
            .collect::<Result<_, Failure>>()?;
        let ip = match self.gateway {
            Some(ip) => ip,
            None if self.host_base.is_loopback() => self.host_base,
            None => later(self.host_base, count)?,
        };
        let gateway =
            GatewayPlan { name, quic: self.at(ip, self.port_base, 0)?, http: self.at(ip, self.port_base, 2)? };
        Ok((boards, gateway))
    }

    /// The witness: `apart` at an address of its own, else the gateway, on the port after its first.
    pub fn witness(&self, gateway: &GatewayPlan, apart: Option<IpAddr>) -> Result<WitnessPlan, Failure> {
        let ip = apart.unwrap_or(gateway.quic.ip());
        let name = match apart {
            Some(_) => check_name("witness").map_err(Failure::new)?,
            None => gateway.name.clone(),
        };
        Ok(WitnessPlan { name, address: self.at(ip, self.port_base, 1)?, is_apart: apart.is_some() })
    }

    fn of_board(&self, number: u8) -> Result<(IpAddr, u16), Failure> {
        if !self.host_base.is_loopback() {
            return Ok((later(self.host_base, number - 1)?, self.port_base));
        }
        let first = self.port_base.checked_add(PORTS_A_BOARD * u16::from(number));
        first.map(|first| (self.host_base, first)).ok_or_else(|| self.no_ports())
    }

    fn at(&self, ip: IpAddr, first: u16, offset: u16) -> Result<SocketAddr, Failure> {
        let port = first.checked_add(offset).ok_or_else(|| self.no_ports())?;
        Ok(SocketAddr::new(ip, port))
    }

    fn no_ports(&self) -> Failure {
        Failure::new(format!("ports run out above 65535 when they begin at {}", self.port_base))
            .remedy("give a lower --port-base")
    }
}

/// The address `by` after `base`.
fn later(base: IpAddr, by: u8) -> Result<IpAddr, Failure> {
    let next = match base {
        IpAddr::V4(base) => u32::from(base).checked_add(u32::from(by)).map(|n| IpAddr::V4(n.into())),
        IpAddr::V6(base) => u128::from(base).checked_add(u128::from(by)).map(|n| IpAddr::V6(n.into())),
    };
    next.ok_or_else(|| Failure::new(format!("addresses run out above {base}")).remedy("give a lower --host-base"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(host: &str, port: u16) -> Places {
        Places { host_base: host.parse().unwrap(), port_base: port, gateway: None }
    }

    fn name() -> Name {
        Name::try_from("central").unwrap()
    }

    #[test]
    fn on_one_machine_every_port_is_its_own() {
        let (boards, gateway) = places("127.0.0.1", 7400).lay_out(64, name()).unwrap();
        let mut ports: Vec<u16> = boards
            .iter()
            .flat_map(|plan| [plan.mesh.port(), plan.mqtt.port(), plan.http.port()])
            .chain([gateway.quic.port(), gateway.http.port()])
            .chain(
                places("127.0.0.1", 7400)
                    .witness(&gateway, None)
                    .map(|witness| witness.address.port()),
            )
            .collect();
        let count = ports.len();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!((ports.len(), count), (195, 195));
        assert_eq!(boards[2].mqtt.to_string(), "127.0.0.1:7431");
    }

    #[test]
    fn elsewhere_boards_follow_each_other() {
        let (boards, gateway) = places("10.0.0.254", 7400).lay_out(3, name()).unwrap();
        assert_eq!(boards[2].http.to_string(), "10.0.1.0:7402");
        assert_eq!(gateway.quic.to_string(), "10.0.1.1:7400");
        let away = Places { gateway: Some("192.0.2.1".parse().unwrap()), ..places("::2", 7400) };
        let (boards, gateway) = away.lay_out(2, name()).unwrap();
        assert_eq!(boards[1].mesh.to_string(), "[::3]:7400");
        assert_eq!(gateway.http.to_string(), "192.0.2.1:7402");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(places("127.0.0.1", 65_523).lay_out(1, name()).is_ok(), "the last port is 65535");
        assert!(places("127.0.0.1", 65_524).lay_out(1, name()).is_err());
        assert!(places("127.0.0.1", 7400).lay_out(65, name()).is_err());
        assert!(places("255.255.255.254", 7400).lay_out(1, name()).is_ok());
        assert!(places("255.255.255.254", 7400).lay_out(2, name()).is_err());
    }
}
