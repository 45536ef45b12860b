//! Envelopes of [`shared::frame`] over QUIC streams: many frames in one write, several messages from one read. A
//! length is judged before anything is allocated by it; what does not hold is refused and ends the stream.

use bytes::{Buf, Bytes, BytesMut};
use quinn::{RecvStream, SendStream, WriteError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::frame::{self, Conversation, FrameRefusal, HEADER_BYTES};

/// Chunks taken from the transport at once: about 32 packets.
const CHUNKS: usize = 32;
/// A buffer that has grown past this is given back once it is empty: an idle connection stays small.
const BUFFER_KEPT_BYTES: usize = 64 * 1024;

/// Why a stream of frames ended other than by its sender.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What came is no frame of this conversation: the sender's fault, close the connection.
    #[error("the peer sent what is no message")]
    Refused(#[from] FrameRefusal),
    /// The connection or stream is gone.
    #[error("the stream broke off")]
    Stream(#[from] quinn::ReadError),
}

/// Bytes on their way to becoming messages of one conversation.
#[derive(Debug)]
pub struct FrameBuffer {
    kind: Conversation,
    bytes: BytesMut,
}

impl FrameBuffer {
    /// An empty buffer for messages of `kind`.
    pub fn new(kind: Conversation) -> Self {
        Self { kind, bytes: BytesMut::new() }
    }

    /// Adds what was read.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether half a frame waits for its rest.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next whole message, or `None` until more has come. After a refusal the stream is of no more use.
    pub fn take<M: DeserializeOwned>(&mut self) -> Result<Option<M>, FrameRefusal> {
        let Some(header) = self.bytes.first_chunk::<HEADER_BYTES>().copied() else {
            return Ok(None);
        };
        let length = frame::body_length(self.kind, &header)?;
        let Some(body) = self.bytes.get(HEADER_BYTES..HEADER_BYTES + length) else {
            return Ok(None);
        };
        let message = frame::decode(&header, body)?;
        self.bytes.advance(HEADER_BYTES + length);
        if self.bytes.is_empty() && self.bytes.capacity() > BUFFER_KEPT_BYTES {
            self.bytes = BytesMut::new();
        }
        Ok(Some(message))
    }
}

/// Reads messages of one conversation from a stream.
#[derive(Debug)]
pub struct FrameReader {
    stream: RecvStream,
    buffer: FrameBuffer,
}

impl FrameReader {
    /// Reads messages of `kind` from `stream`.
    pub fn new(stream: RecvStream, kind: Conversation) -> Self {
        Self { stream, buffer: FrameBuffer::new(kind) }
    }

    /// The next message; `None` where the sender has finished. May be dropped half-way and called again.
    pub async fn read<M: DeserializeOwned>(&mut self) -> Result<Option<M>, ReadError> {
        loop {
            if let Some(message) = self.buffer.take()? {
                return Ok(Some(message));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// All messages that are there, waiting for the first: 1 to `max` of them, in order; `None` where the sender has
    /// finished. May be dropped half-way and called again.
    pub async fn read_batch<M: DeserializeOwned>(&mut self, max: usize) -> Result<Option<Vec<M>>, ReadError> {
        let Some(first) = self.read().await? else {
            return Ok(None);
        };
        let mut batch = vec![first];
        while batch.len() < max {
            match self.buffer.take() {
                Ok(Some(message)) => batch.push(message),
                // A refusal is met again by the next call: what stands before it is good.
                Ok(None) | Err(_) => break,
            }
        }
        Ok(Some(batch))
    }

    /// Takes what the transport has, waiting for the first byte; false at the end.
    async fn fill(&mut self) -> Result<bool, ReadError> {
        let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
        match self.stream.read_chunks(&mut chunks).await? {
            Some(count) => {
                for chunk in &chunks[..count] {
                    self.buffer.extend(chunk);
                }
                Ok(true)
            }
            None if self.buffer.is_empty() => Ok(false),
            None => Err(FrameRefusal::Short.into()),
        }
    }
}

/// `message` as the bytes of one frame.
pub fn encode<M: Serialize>(kind: Conversation, message: &M) -> Bytes {
    Bytes::from(frame::encode(kind, message))
}

/// Writes all `frames` in order, as few packets as they fit, and empties the list. Waits for the peer's window.
pub async fn write_all_frames(stream: &mut SendStream, frames: &mut Vec<Bytes>) -> Result<(), WriteError> {
    stream.write_all_chunks(frames).await?;
    frames.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use shared::ids::{BoardId, Term};
    use shared::wire::peer::PeerMessage;

    use super::*;

    fn message(counter: u64) -> PeerMessage {
        PeerMessage::UplinkOpen { term: Term::new(counter, BoardId::new(1).unwrap()) }
    }

    #[test]
    fn frames_cut_anywhere_come_whole() {
        let mut stream = Vec::new();
        for counter in 0..3 {
            stream.extend_from_slice(&encode(Conversation::Peer, &message(counter)));
        }
        for cut in 0..stream.len() {
            let mut buffer = FrameBuffer::new(Conversation::Peer);
            let mut read = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                buffer.extend(part);
                while let Some(message) = buffer.take::<PeerMessage>().unwrap() {
                    read.push(message);
                }
            }
            assert_eq!(read, [message(0), message(1), message(2)], "cut at {cut}");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn garbage_is_refused_before_its_length_is_believed() {
        let mut buffer = FrameBuffer::new(Conversation::Peer);
        buffer.extend(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(buffer.take::<PeerMessage>(), Err(FrameRefusal::NotAFrame));

        let mut huge = encode(Conversation::Peer, &message(1)).to_vec();
        huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut buffer = FrameBuffer::new(Conversation::Peer);
        buffer.extend(&huge);
        assert_eq!(buffer.take::<PeerMessage>(), Err(FrameRefusal::TooLong(u32::MAX)));
        assert!(buffer.bytes.capacity() < 4096);

        let mut buffer = FrameBuffer::new(Conversation::Peer);
        buffer.extend(&encode(Conversation::ToRegion, &message(1)));
        assert_eq!(buffer.take::<PeerMessage>(), Err(FrameRefusal::Kind(3)));
    }

    #[test]
    fn a_large_buffer_is_given_back() {
        let run = shared::wire::peer::Run {
            stream: shared::ids::Stream {
                origin: shared::ids::Origin {
                    board: BoardId::new(1).unwrap(),
                    epoch: shared::ids::Epoch { boot: 1, nonce: 1 },
                },
                class: shared::ids::Class::Event,
            },
            first: 1,
            count: 1,
            crc: 0,
            bytes: Bytes::from(vec![7; 4 * BUFFER_KEPT_BYTES]),
        };
        let mut buffer = FrameBuffer::new(Conversation::Peer);
        buffer.extend(&encode(Conversation::Peer, &PeerMessage::Copy { run: run.clone(), committed: 7 }));
        assert_eq!(buffer.take(), Ok(Some(PeerMessage::Copy { run, committed: 7 })));
        assert!(buffer.bytes.capacity() <= BUFFER_KEPT_BYTES);
    }
}
