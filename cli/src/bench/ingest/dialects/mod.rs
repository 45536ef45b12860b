//! The protocols that publishers speak: ours and the rivals'. Each encodes what is written once beforehand and changes
//! only what differs, and reads no more of an answer than says which publish it is for.

pub(super) mod amqp;
pub(in crate::bench) mod mqtt;
pub(in crate::bench) mod nats;
pub(super) mod redis;

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Reads until `is_whole` finds a whole answer in what has come, and returns all that has.
async fn read_until(stream: &mut TcpStream, is_whole: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    while !is_whole(&answer) {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
    }
    Ok(answer)
}

/// The line at the front of `bytes` without its CR LF, and how many bytes it takes with it.
fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[..end], end + 2))
}
