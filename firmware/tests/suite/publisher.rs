//! A publisher that speaks just enough MQTT 3.1.1 (OASIS standard, sections 3.1 to 3.4), byte by byte.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) struct Publisher {
    stream: TcpStream,
}

impl Publisher {
    pub(crate) async fn connect(address: SocketAddr, client: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut packet = vec![0x10, u8::try_from(12 + client.len()).unwrap()];
        packet.extend_from_slice(b"\x00\x04MQTT\x04\x02\x00\x3c");
        packet.extend_from_slice(&u16::try_from(client.len()).unwrap().to_be_bytes());
        packet.extend_from_slice(client.as_bytes());
        stream.write_all(&packet).await.unwrap();
        let mut accepted = [0; 4];
        stream.read_exact(&mut accepted).await.unwrap();
        assert_eq!(accepted, [0x20, 2, 0, 0]);
        Self { stream }
    }

    /// Publishes `payload` with QoS 1.
    pub(crate) async fn publish(&mut self, packet: u16, payload: &str) {
        self.stream.write_all(&encoded(packet, payload)).await.unwrap();
    }

    /// The packet that is acknowledged next.
    pub(crate) async fn acknowledged(&mut self) -> u16 {
        let mut packet = [0; 4];
        let read = self.stream.read_exact(&mut packet);
        tokio::time::timeout(Duration::from_secs(30), read)
            .await
            .expect("no acknowledgement came")
            .unwrap();
        assert_eq!(packet[..2], [0x40, 2]);
        u16::from_be_bytes([packet[2], packet[3]])
    }

    /// Publishes `payload` with QoS 1 and waits for its acknowledgement; false where the board is gone.
    pub(crate) async fn try_publish(&mut self, packet: u16, payload: &str) -> bool {
        let bytes = encoded(packet, payload);
        let mut answer = [0; 4];
        let both = async {
            self.stream.write_all(&bytes).await?;
            self.stream.read_exact(&mut answer).await
        };
        let gone = tokio::time::timeout(Duration::from_secs(30), both)
            .await
            .expect("no answer came")
            .is_err();
        !gone && answer[..2] == [0x40, 2]
    }
}

fn encoded(packet: u16, payload: &str) -> Vec<u8> {
    let mut bytes = vec![0x32, u8::try_from(2 + 3 + 2 + payload.len()).unwrap()];
    bytes.extend_from_slice(b"\x00\x03det");
    bytes.extend_from_slice(&packet.to_be_bytes());
    bytes.extend_from_slice(payload.as_bytes());
    bytes
}
