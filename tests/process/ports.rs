//! Free ports on loopback for a site as `roadstead init` lays it out: a first port, and ten more for each board.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

/// Ports are looked for from here on: below those that Linux gives to outgoing connections, so that a killed board
/// finds its own port free when it comes back.
const FIRST: u16 = 20_000;
/// And up to here.
const LAST: u16 = 31_000;
/// Ports between one board and the next, and between the gateway and board 1.
const PORTS_A_BOARD: u16 = 10;
/// Two sites of one test are further apart than the largest one is long.
const APART: u16 = 700;
/// Of these, how many are used.
const USED: u16 = 3;

/// A first port such that the gateway's and all of `boards` boards' are free now, with TCP and UDP.
pub(crate) fn first_free(boards: u8) -> u16 {
    first_free_but(boards, 0)
}

/// The same beside what was given from `taken` on, which nothing listens on yet.
pub(crate) fn first_free_but(boards: u8, taken: u16) -> u16 {
    let span = PORTS_A_BOARD * (u16::from(boards) + 1);
    let steps = (LAST - FIRST) / span;
    // Two runs at the same time begin their search at different places.
    let begin = u16::try_from(std::process::id() % u32::from(steps)).unwrap_or(0);
    (0..steps)
        .map(|step| FIRST + (begin + step) % steps * span)
        .find(|first| first.abs_diff(taken) > APART && are_free(*first, boards))
        .expect("no free ports on 127.0.0.1 between 20000 and 31000")
}

fn are_free(first: u16, boards: u8) -> bool {
    (0..=u16::from(boards))
        .flat_map(|machine| (0..USED).map(move |port| first + machine * PORTS_A_BOARD + port))
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .all(|address| TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok())
}
