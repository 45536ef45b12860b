//! The kernel's own messages about links and addresses (rtnetlink(7)): a cable is pulled by one message, sent on a socket
//! that is open already, so that the instant of the fault is known to microseconds; and a new address is heard of when it
//! is given, without asking. Owns the bytes of three kinds of message.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

/// RTM_NEWLINK.
const NEW_LINK: u16 = 16;
/// RTM_NEWADDR.
const NEW_ADDRESS: u16 = 20;
/// RTM_DELADDR.
const GONE_ADDRESS: u16 = 21;
/// NLM_F_REQUEST and NLM_F_ACK.
const REQUEST_AND_ANSWER: u16 = 1 | 4;
/// NLMSG_ERROR, also of a good end.
const ANSWER: u16 = 2;
/// IFF_UP.
const UP: u32 = 1;
/// RTMGRP_IPV4_IFADDR.
const ADDRESSES: u32 = 0x10;
/// Bytes of nlmsghdr.
const HEADER: usize = 16;
/// Bytes of ifinfomsg.
const LINK_BODY: usize = 16;
/// Bytes of ifaddrmsg.
const ADDRESS_BODY: usize = 8;
/// Messages in one datagram are smaller together.
const DATAGRAM_MAX: usize = 16 * 1024;
/// Whoever waits for addresses looks so often whether to go on.
const GLANCE: Duration = Duration::from_millis(100);

/// An open conversation with the kernel, in the network namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Conversation {
    socket: OwnedFd,
}

/// An address that has come or gone on some interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// Which.
    pub(super) address: Ipv4Addr,
    /// Whether it has come.
    pub(super) is_new: bool,
}

impl Conversation {
    /// To change links.
    pub(super) fn open() -> io::Result<Self> {
        Self::with(0)
    }

    /// To hear of addresses.
    pub(super) fn of_addresses() -> io::Result<Self> {
        let conversation = Self::with(ADDRESSES)?;
        sockopt::set_socket_timeout(&conversation.socket, sockopt::Timeout::Recv, Some(GLANCE))?;
        Ok(conversation)
    }

    fn with(groups: u32) -> io::Result<Self> {
        let kind = SocketType::RAW;
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, kind, SocketFlags::CLOEXEC, None)?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self { socket })
    }

    /// The number of the interface `name`.
    pub(super) fn number_of(&self, name: &str) -> io::Result<u32> {
        Ok(rustix::net::netdevice::name_to_index(&self.socket, name)?)
    }

    /// Sets interface `number` up or down; the kernel has done it when this returns.
    pub(super) fn set_up(&self, number: u32, up: bool) -> io::Result<()> {
        let message = link_message(number, up);
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.socket, &message, SendFlags::empty(), &kernel)?;
        let mut bytes = [0; DATAGRAM_MAX];
        let (count, _) = rustix::net::recv(&self.socket, &mut bytes[..], RecvFlags::empty())?;
        let answer = messages(&bytes[..count]).find(|(kind, _)| *kind == ANSWER);
        let code = answer.and_then(|(_, body)| Some(i32::from_ne_bytes(body.get(..4)?.try_into().ok()?)));
        match code {
            Some(0) => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(-code)),
            None => Err(io::Error::other("the kernel gave no answer about a link")),
        }
    }

    /// Waits for the next changes of addresses; there may be none in a while.
    pub(super) fn changes(&self) -> io::Result<Vec<Change>> {
        let mut bytes = [0; DATAGRAM_MAX];
        let (count, _) = match rustix::net::recv(&self.socket, &mut bytes[..], RecvFlags::empty()) {
            Ok(came) => came,
            Err(rustix::io::Errno::AGAIN) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        Ok(messages(&bytes[..count])
            .filter(|(kind, _)| matches!(*kind, NEW_ADDRESS | GONE_ADDRESS))
            .filter_map(|(kind, body)| Some(Change { address: address(body)?, is_new: kind == NEW_ADDRESS }))
            .collect())
    }
}

fn link_message(number: u32, up: bool) -> Vec<u8> {
    let length = u32::try_from(HEADER + LINK_BODY).unwrap_or(0);
    let mut message = Vec::with_capacity(HEADER + LINK_BODY);
    message.extend(length.to_ne_bytes());
    message.extend(NEW_LINK.to_ne_bytes());
    message.extend(REQUEST_AND_ANSWER.to_ne_bytes());
    // Sequence and port: one question at a time is asked.
    message.extend([0; 8]);
    // Family, padding and device type: any.
    message.extend([0; 4]);
    message.extend(number.to_ne_bytes());
    message.extend((if up { UP } else { 0 }).to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    message
}

/// The messages of one datagram: kind and body.
fn messages(datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?)).ok()?;
        let kind = u16::from_ne_bytes(rest.get(4..6)?.try_into().ok()?);
        let body = rest.get(HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, body))
    })
}

/// The IPv4 address in the body of an address message: IFA_LOCAL, type 2.
fn address(body: &[u8]) -> Option<Ipv4Addr> {
    let mut rest = body.get(ADDRESS_BODY..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        if kind == 2 {
            let octets: [u8; 4] = rest.get(4..8)?.try_into().ok()?;
            return Some(octets.into());
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_out_of_its_message() {
        let mut body = vec![0; ADDRESS_BODY];
        // IFA_ADDRESS, then IFA_LOCAL.
        for (kind, octets) in [(1_u16, [10, 0, 0, 1]), (2, [10, 0, 0, 2])] {
            body.extend(8_u16.to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(octets);
        }
        assert_eq!(address(&body), Some(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(address(&body[..ADDRESS_BODY + 8]), None);
        let mut message = Vec::from(u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes());
        message.extend(NEW_ADDRESS.to_ne_bytes());
        message.extend([0; 10]);
        message.extend(&body);
        let twice = [message.clone(), message].concat();
        assert_eq!(messages(&twice).filter(|(kind, _)| *kind == NEW_ADDRESS).count(), 2);
        assert_eq!(messages(&twice[..7]).count(), 0);
    }

    #[test]
    fn the_kernel_answers() {
        let conversation = Conversation::open().unwrap();
        assert_eq!(conversation.number_of("lo").unwrap(), 1);
        assert!(conversation.number_of("no-such-link").is_err());
        assert!(conversation.set_up(u32::MAX >> 1, true).is_err(), "there is no such interface");
    }
}
