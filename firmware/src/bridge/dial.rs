//! The client side of MQTT, either version, as the bridge sees it: what was heard, and how it is acknowledged. Wraps
//! `rumqttc`; keeps no state over a connection, so that a client that has gone wrong is replaced and not repaired.

use std::time::Duration;

use bytes::Bytes;
use shared::limits::{BRIDGE_IN_FLIGHT_MAX, DOOR_PACKET_BYTES_MAX};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::BridgeConfig;
use crate::config::BridgeProtocol;

/// Requests to the client that wait: every acknowledgement, the subscription, and some.
const REQUESTS_MAX: usize = BRIDGE_IN_FLIGHT_MAX as usize + 64;
/// Between PINGREQs: a broker that is gone without a word is noticed within two.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Longest packet of MQTT 3.1.1, where the broker cannot be told a maximum: what is larger than a record is refused by
/// the bridge, because a packet refused by the client would come again at every connection.
const OLD_PACKET_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long the broker keeps the session (MQTT 5).
const SESSION_EXPIRY_S: u32 = 7 * 24 * 3600;

/// What the broker said.
pub(super) enum Heard {
    /// The connection stands.
    Connected { session_present: bool },
    /// The subscription was answered: so many of its filters were granted, so many refused.
    Subscribed { granted: usize, refused: usize },
    /// A message.
    Message(Message),
    /// The connection is over; nothing follows.
    Lost(String),
}

/// A message of the broker.
pub(super) struct Message {
    pub(super) topic: Bytes,
    pub(super) payload: Bytes,
    pub(super) packet: u16,
    pub(super) resent: bool,
    pub(super) properties: Vec<(String, String)>,
    /// Nothing for QoS 0.
    pub(super) receipt: Option<Receipt>,
}

/// The acknowledgement that a message waits for.
pub(super) enum Receipt {
    Old(rumqttc_v4::ManualAck),
    New(rumqttc::ManualAck),
}

enum Client {
    Old(rumqttc_v4::AsyncClient),
    New(rumqttc::AsyncClient),
}

/// One connection to the broker.
pub(super) struct Line {
    client: Client,
    pub(super) heard: mpsc::Receiver<Heard>,
    listening: JoinHandle<()>,
}

/// The request queue is full, or the connection is over: the connection is of no more use.
pub(super) struct Useless;

impl Line {
    /// Starts to connect; what comes of it is heard.
    pub(super) fn dial(config: &BridgeConfig) -> Self {
        let (tell, heard) = mpsc::channel(usize::from(BRIDGE_IN_FLIGHT_MAX));
        match config.protocol {
            BridgeProtocol::V311 => {
                let (client, events) = rumqttc_v4::AsyncClient::builder(old_options(config))
                    .capacity(REQUESTS_MAX)
                    .build();
                Self { client: Client::Old(client), heard, listening: tokio::spawn(listen_old(events, tell)) }
            }
            BridgeProtocol::V5 => {
                let (client, events) = rumqttc::AsyncClient::builder(new_options(config))
                    .capacity(REQUESTS_MAX)
                    .build();
                Self { client: Client::New(client), heard, listening: tokio::spawn(listen_new(events, tell)) }
            }
        }
    }

    pub(super) fn subscribe(&self, config: &BridgeConfig) -> Result<(), Useless> {
        let topics = config.topics.iter();
        match &self.client {
            Client::Old(client) => {
                let filters = topics.map(|topic| rumqttc_v4::SubscribeFilterInput::new(topic, old_qos(config.qos)));
                client.try_subscribe_many(filters).map_err(|_| Useless)
            }
            Client::New(client) => {
                let filters = topics.map(|topic| rumqttc::SubscribeFilterInput::new(topic, new_qos(config.qos)));
                client.try_subscribe_many(filters).map_err(|_| Useless)
            }
        }
    }

    pub(super) fn acknowledge(&self, receipt: Receipt) -> Result<(), Useless> {
        match (&self.client, receipt) {
            (Client::Old(client), Receipt::Old(ack)) => client.try_manual_ack(ack).map_err(|_| Useless),
            (Client::New(client), Receipt::New(ack)) => client.try_manual_ack(ack).map_err(|_| Useless),
            // A receipt of a connection in the other version cannot be: the configuration does not change.
            (Client::Old(_), Receipt::New(_)) | (Client::New(_), Receipt::Old(_)) => Err(Useless),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

fn old_options(config: &BridgeConfig) -> rumqttc_v4::MqttOptions {
    let mut options = rumqttc_v4::MqttOptions::new(&config.client_id, (config.host.clone(), config.port));
    options
        .set_keep_alive(KEEP_ALIVE.as_secs() as u16)
        .set_clean_session(false)
        .set_ack_mode(rumqttc_v4::AckMode::Manual)
        .set_max_packet_size(OLD_PACKET_BYTES_MAX, OLD_PACKET_BYTES_MAX);
    if let Some((user, password)) = &config.credentials {
        options.set_credentials(user, password.clone());
    }
    options
}

fn new_options(config: &BridgeConfig) -> rumqttc::MqttOptions {
    let mut options = rumqttc::MqttOptions::new(&config.client_id, (config.host.clone(), config.port));
    options
        .set_keep_alive(KEEP_ALIVE.as_secs() as u16)
        .set_clean_start(false)
        // This end publishes nothing, so it has no session state that the broker's could contradict.
        .set_broker_session_resume_policy(rumqttc::BrokerSessionResumePolicy::AllowBrokerOnly)
        .set_ack_mode(rumqttc::AckMode::Manual);
    let mut properties = rumqttc::ConnectProperties::new();
    properties.session_expiry_interval = Some(SESSION_EXPIRY_S);
    properties.receive_maximum = Some(BRIDGE_IN_FLIGHT_MAX);
    properties.max_packet_size = Some(DOOR_PACKET_BYTES_MAX as u32);
    options.set_connect_properties(properties);
    if let Some((user, password)) = &config.credentials {
        options.set_credentials(user, password.clone());
    }
    options
}

const fn old_qos(qos: u8) -> rumqttc_v4::QoS {
    match qos {
        0 => rumqttc_v4::QoS::AtMostOnce,
        1 => rumqttc_v4::QoS::AtLeastOnce,
        _ => rumqttc_v4::QoS::ExactlyOnce,
    }
}

const fn new_qos(qos: u8) -> rumqttc::QoS {
    match qos {
        0 => rumqttc::QoS::AtMostOnce,
        1 => rumqttc::QoS::AtLeastOnce,
        _ => rumqttc::QoS::ExactlyOnce,
    }
}

/// Listens until the first error. The channel is bounded: a bridge that takes nothing stops the listening.
async fn listen_old(mut events: rumqttc_v4::EventLoop, tell: mpsc::Sender<Heard>) {
    use rumqttc_v4::{Event, Packet, SubscribeReasonCode};
    loop {
        let heard = match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                Heard::Connected { session_present: connack.session_present }
            }
            Ok(Event::Incoming(Packet::SubAck(suback))) => {
                let refused = suback
                    .return_codes
                    .iter()
                    .filter(|code| **code == SubscribeReasonCode::Failure)
                    .count();
                Heard::Subscribed { granted: suback.return_codes.len() - refused, refused }
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => Heard::Message(Message {
                receipt: receipt_old(&publish),
                topic: publish.topic,
                payload: publish.payload,
                packet: publish.pkid,
                resent: publish.dup,
                properties: Vec::new(),
            }),
            Ok(_) => continue,
            Err(error) => Heard::Lost(error.to_string()),
        };
        let is_over = matches!(heard, Heard::Lost(_));
        if tell.send(heard).await.is_err() || is_over {
            return;
        }
    }
}

fn receipt_old(publish: &rumqttc_v4::Publish) -> Option<Receipt> {
    use rumqttc_v4::{ManualAck, PubAck, PubRec, QoS};
    match publish.qos {
        QoS::AtMostOnce => None,
        QoS::AtLeastOnce => Some(Receipt::Old(ManualAck::PubAck(PubAck::new(publish.pkid)))),
        QoS::ExactlyOnce => Some(Receipt::Old(ManualAck::PubRec(PubRec::new(publish.pkid)))),
    }
}

async fn listen_new(mut events: rumqttc::EventLoop, tell: mpsc::Sender<Heard>) {
    use rumqttc::{Event, Packet, SubscribeReasonCode};
    loop {
        let heard = match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                Heard::Connected { session_present: connack.session_present }
            }
            Ok(Event::Incoming(Packet::SubAck(suback))) => {
                let is_granted = |code: &&SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
                let granted = suback.return_codes.iter().filter(is_granted).count();
                Heard::Subscribed { granted, refused: suback.return_codes.len() - granted }
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => Heard::Message(Message {
                receipt: receipt_new(&publish),
                topic: publish.topic,
                payload: publish.payload,
                packet: publish.pkid,
                resent: publish.dup,
                properties: publish
                    .properties
                    .map(|properties| properties.user_properties)
                    .unwrap_or_default(),
            }),
            Ok(_) => continue,
            Err(error) => Heard::Lost(error.to_string()),
        };
        let is_over = matches!(heard, Heard::Lost(_));
        if tell.send(heard).await.is_err() || is_over {
            return;
        }
    }
}

fn receipt_new(publish: &rumqttc::Publish) -> Option<Receipt> {
    use rumqttc::{ManualAck, PubAck, PubRec, QoS};
    match publish.qos {
        QoS::AtMostOnce => None,
        QoS::AtLeastOnce => Some(Receipt::New(ManualAck::PubAck(PubAck::new(publish.pkid, None)))),
        QoS::ExactlyOnce => Some(Receipt::New(ManualAck::PubRec(PubRec::new(publish.pkid, None)))),
    }
}
