//! A running gateway with real certificates, boards that dial in, and requests to its HTTP face: what tests of whole sessions
//! stand on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use gateway::config::{GatewayConfig, Retention, StoreKind};
use gateway::{Gateway, GatewayError};
use link::endpoint::{self, Listening};
use link::frames::{FrameReader, encode, write_all_frames};
use link::identity::Identity;
use link::sites::{board_name, gateway_name};
use link::stop::Stopper;
use link::tables::ServedSite;
use quinn::{Connection, SendStream};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use shared::frame::Conversation;
use shared::ids::{BoardId, Epoch, Name, Stream, Term};
use shared::ranges::RangeSet;
use shared::wire::peer::Reader;
use shared::wire::uplink::{FromRegion, Hello, Reads, ToRegion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::scratch::Scratch;

/// Long enough for a busy machine; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Authorities and files of a region with the sites `elm` and `oak`.
pub(crate) struct Files {
    pub(crate) scratch: Scratch,
    pub(crate) authorities: BTreeMap<&'static str, Issuer<'static, KeyPair>>,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self::of(&["elm", "oak"])
    }

    /// The same with other sites.
    pub(crate) fn of(sites: &[&'static str]) -> Self {
        let scratch = Scratch::new();
        let mut authorities = BTreeMap::new();
        for name in ["region"].iter().chain(sites) {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            std::fs::write(scratch.path().join(format!("{name}-ca.pem")), params.self_signed(&key).unwrap().pem())
                .unwrap();
            authorities.insert(*name, Issuer::new(params, key));
        }
        let files = Self { scratch, authorities };
        files.certify("region", &gateway_name("centre"), "gateway");
        files
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.scratch.path().join(file)
    }

    /// A certificate for `name`, signed by `authority`.
    pub(crate) fn certify(&self, authority: &str, name: &str, file: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.authorities[authority]).unwrap();
        std::fs::write(self.path(&format!("{file}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    pub(crate) fn board(&self, authority: &str, site: &str, number: u8) -> Identity {
        let file = format!("{authority}-{site}-{number}");
        self.certify(authority, &board_name(site, board(number)), &file);
        let (certificate, key) = (self.path(&format!("{file}.pem")), self.path(&format!("{file}.key")));
        Identity::load(&certificate, &key, &self.path("region-ca.pem")).unwrap()
    }

    pub(crate) fn config(&self) -> GatewayConfig {
        let site = |site: &str| ServedSite { name: name(site), ca: self.path(&format!("{site}-ca.pem")) };
        GatewayConfig {
            listen_quic: SocketAddr::from(([127, 0, 0, 1], 0)),
            listen_http: SocketAddr::from(([127, 0, 0, 1], 0)),
            https: None,
            listen_witness: None,
            store: StoreKind::Sqlite,
            spread_sites: true,
            archive: None,
            retention: Retention::default(),
            data_dir: self.path("data"),
            certificate: self.path("gateway.pem"),
            key: self.path("gateway.key"),
            ca: self.path("region-ca.pem"),
            sites: vec![site("elm"), site("oak")],
            digest: [0; 32],
        }
    }

    pub(crate) async fn start(&self) -> Running {
        self.start_with(self.config()).await
    }

    pub(crate) async fn start_with(&self, config: GatewayConfig) -> Running {
        let gateway: Gateway = gateway::open(config).await.unwrap();
        let (quic, http) = (gateway.quic_address(), gateway.http_address());
        let (stopper, mut stop) = link::stop::signal();
        let serving = tokio::spawn(async move { gateway.serve(stop.stopped()).await });
        Running { quic, http, stopper, serving }
    }
}

pub(crate) struct Running {
    pub(crate) quic: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) stopper: Stopper,
    pub(crate) serving: JoinHandle<Result<(), GatewayError>>,
}

impl Running {
    pub(crate) async fn stop(self) {
        self.stopper.stop();
        tokio::time::timeout(PATIENCE, self.serving).await.unwrap().unwrap().unwrap();
    }

    /// The status and body of a GET.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        get(self.http, path).await.unwrap()
    }

    pub(crate) async fn json(&self, path: &str) -> serde_json::Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }
}

/// The status and body of a GET; an error where nobody listens.
pub(crate) async fn get(http: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut connection = TcpStream::connect(http).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    let reading = connection.read_to_string(&mut answer);
    tokio::time::timeout(PATIENCE, reading).await.unwrap()?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok((head[9..12].parse().unwrap(), body.to_owned()))
}

/// A board's end of a session.
pub(crate) struct Board {
    pub(crate) send: SendStream,
    pub(crate) frames: FrameReader,
    pub(crate) connection: Connection,
    /// What the region has said that it reads.
    pub(crate) reads: Option<Reads>,
    _listening: Listening,
}

impl Board {
    pub(crate) async fn dial(identity: &Identity, running: &Running) -> Result<Self, quinn::ConnectionError> {
        let listening = endpoint::uplink(identity, running.quic, endpoint::Binding::default()).unwrap();
        let connection = listening
            .endpoint
            .connect(running.quic, &gateway_name("centre"))
            .unwrap()
            .await?;
        let (send, receive) = connection.open_bi().await?;
        let frames = FrameReader::new(receive, Conversation::FromRegion);
        Ok(Self { send, frames, connection, reads: None, _listening: listening })
    }

    pub(crate) async fn say(&mut self, messages: &[ToRegion]) {
        let mut frames: Vec<Bytes> = messages.iter().map(|message| encode(Conversation::ToRegion, message)).collect();
        write_all_frames(&mut self.send, &mut frames).await.unwrap();
    }

    /// The next answer; `None` once the session is over. What the region says that it reads, behind its welcome, is noted and
    /// passed over.
    pub(crate) async fn hear(&mut self) -> Option<FromRegion> {
        loop {
            let read = tokio::time::timeout(PATIENCE, self.frames.read()).await.unwrap();
            let heard = read.ok().flatten();
            let reads = match &heard {
                Some(FromRegion::Coverage(lines)) => lines.iter().find_map(|line| line.as_reads(Reader::Region)),
                _ => None,
            };
            if reads.is_none() {
                return heard;
            }
            self.reads = reads;
        }
    }

    pub(crate) async fn hello(&mut self, site: &str, number: u8, counter: u64) -> Option<FromRegion> {
        let term = Term::new(counter, board(number));
        let hello = Hello { site: name(site), board: board(number), epoch: Epoch { boot: 1, nonce: 1 }, term };
        self.say(&[ToRegion::Hello(hello)]).await;
        self.hear().await
    }

    /// Hears until `of` is covered up to `last`, without a hole.
    pub(crate) async fn hear_covered(&mut self, of: Stream, last: u64) {
        self.hear_covered_from(of, 1, last).await;
    }

    /// Hears until the sequences from `first` to `last` are covered.
    pub(crate) async fn hear_covered_from(&mut self, of: Stream, first: u64, last: u64) {
        let mut covered = RangeSet::EMPTY;
        while !covered.contains_range(shared::ranges::SeqRange { first, last }) {
            let Some(FromRegion::Coverage(lines)) = self.hear().await else {
                panic!("coverage was due")
            };
            lines
                .iter()
                .filter(|line| line.stream == of)
                .for_each(|line| covered.extend(&line.ranges));
        }
    }
}

pub(crate) fn board(number: u8) -> BoardId {
    BoardId::new(number).unwrap()
}

pub(crate) fn name(name: &str) -> Name {
    Name::try_from(name).unwrap()
}
