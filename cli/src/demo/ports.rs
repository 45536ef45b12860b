//! Free ports on loopback for the processes of a site that lives for a minute.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use crate::failure::Failure;

/// Ports are looked for from here on: below those that Linux gives to outgoing connections (32768 and up, by its
/// default), so that a killed board finds its own port free when it comes back.
const FIRST: u16 = 20_000;
/// And up to here.
const LAST: u16 = 32_000;

/// `count` addresses on loopback that nobody listens on, with TCP or UDP, at this moment. Two sites that are set up at
/// the same time begin their search at different places.
pub(crate) fn free(count: usize) -> Result<Vec<SocketAddr>, Failure> {
    let span = u32::from(LAST - FIRST);
    let start = std::process::id().wrapping_mul(97) % span;
    let mut addresses = Vec::with_capacity(count);
    // Held until all are found.
    let mut held = Vec::with_capacity(count);
    for step in 0..span {
        if addresses.len() == count {
            break;
        }
        let port = FIRST + ((start + step) % span) as u16;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if let (Ok(tcp), Ok(udp)) = (TcpListener::bind(address), UdpSocket::bind(address)) {
            held.push((tcp, udp));
            addresses.push(address);
        }
    }
    if addresses.len() == count {
        return Ok(addresses);
    }
    Err(Failure::new(format!("{count} free ports are needed on 127.0.0.1, {} were found", addresses.len()))
        .remedy(format!("free some of the ports from {FIRST} to {LAST}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_ports_are_passed_over_and_no_port_is_given_twice() {
        let first = free(1).unwrap()[0];
        let _taken = UdpSocket::bind(first).unwrap();
        let mut ports: Vec<u16> = free(40).unwrap().iter().map(SocketAddr::port).collect();
        assert!(!ports.contains(&first.port()));
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 40);
    }
}
