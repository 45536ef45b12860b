//! Why a connection ends from this side. Owns the MQTT 5 reason code and the word in counters and logs of each; MQTT
//! 3.1.1 has no words for it, there the connection just closes.

/// Why this side ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// Bytes that are no MQTT packet.
    Malformed,
    /// A packet that may not be sent, or not now.
    Protocol,
    /// The board is stopping, or its node is gone.
    ShuttingDown,
    /// Silence for one and a half keep-alive periods, or a packet begun and not finished.
    KeepAlive,
    /// Another connection came with the same client identifier.
    TakenOver,
    /// A topic that is empty, too long, or has a wildcard.
    TopicName,
    /// More publishes in flight than announced.
    ReceiveMaximum,
    /// An alias that was not announced or does not stand for a topic.
    TopicAlias,
    /// A packet or a payload over the limit.
    PacketTooLarge,
    /// A bound of this server: buffers of all connections, identifiers of one session.
    Quota,
    /// A payload declared to be UTF-8 that is not.
    PayloadFormat,
    /// The peer does not read its acknowledgements.
    Stalled,
}

impl Fault {
    /// Every fault, in the order of their counters.
    pub(super) const ALL: [Self; 12] = [
        Self::Malformed,
        Self::Protocol,
        Self::ShuttingDown,
        Self::KeepAlive,
        Self::TakenOver,
        Self::TopicName,
        Self::ReceiveMaximum,
        Self::TopicAlias,
        Self::PacketTooLarge,
        Self::Quota,
        Self::PayloadFormat,
        Self::Stalled,
    ];

    /// Reason code of an MQTT 5 DISCONNECT.
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Malformed => 0x81,
            Self::Protocol => 0x82,
            Self::ShuttingDown => 0x8b,
            Self::KeepAlive => 0x8d,
            Self::TakenOver => 0x8e,
            Self::TopicName => 0x90,
            Self::ReceiveMaximum => 0x93,
            Self::TopicAlias => 0x94,
            Self::PacketTooLarge => 0x95,
            Self::Quota => 0x97,
            Self::PayloadFormat => 0x99,
            Self::Stalled => 0x80,
        }
    }

    /// The word in counters and logs.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Protocol => "protocol",
            Self::ShuttingDown => "shutting_down",
            Self::KeepAlive => "keep_alive",
            Self::TakenOver => "taken_over",
            Self::TopicName => "topic_name",
            Self::ReceiveMaximum => "receive_maximum",
            Self::TopicAlias => "topic_alias",
            Self::PacketTooLarge => "packet_too_large",
            Self::Quota => "quota",
            Self::PayloadFormat => "payload_format",
            Self::Stalled => "stalled",
        }
    }

    /// Whether the peer sent what it must not: such a peer is named once in the log.
    pub(super) const fn is_peers_fault(self) -> bool {
        match self {
            Self::Malformed
            | Self::Protocol
            | Self::TopicName
            | Self::ReceiveMaximum
            | Self::TopicAlias
            | Self::PacketTooLarge
            | Self::PayloadFormat => true,
            Self::ShuttingDown | Self::KeepAlive | Self::TakenOver | Self::Quota | Self::Stalled => false,
        }
    }
}
