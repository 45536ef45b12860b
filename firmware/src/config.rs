//! A board's configuration: TOML text to raw to checked, once, at start. Owns what the shell needs beside the node's
//! part (addresses, files, publishers, bridge) and how it all fits together. Pure: the text is passed in.

mod broker;
mod duty;
mod publishers;
mod status;
mod uplink;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use boards::Profile;
use link::sites::gateway_name;
use link::tables::{self, RawIdentity};
use link::witness::config::{RawServed, Served};
use serde::Deserialize;
use shared::config::NodeConfig;
use shared::config::site::{RawJournal, RawMembers, RawRepair, RawTiming};
use shared::config::text::{ConfigError, Spanned, Text, check_name};
use shared::ids::{BoardId, Name, WitnessId};
use shared::limits::BOARDS_MAX;

pub use broker::{BRIDGE_TOPICS_MAX, Bridge, BridgeLogin, BridgeProtocol};
pub use duty::{CAPABILITIES_MAX, COMMAND_WORDS_MAX, DutyProcess, ENVIRONMENT_MAX, WORD_BYTES_MAX};
pub use publishers::Publishers;
pub use uplink::{GatewayPlace, UPLINKS_MAX, UplinkPath};

/// Gateways that one board knows. More are refused.
pub const GATEWAYS_MAX: usize = 8;

/// What one board runs with. Paths are as usable from the process's working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardConfig {
    /// The file that said so, to be read again.
    pub file: PathBuf,
    /// What its node decides by.
    pub node: NodeConfig,
    /// Where state and journal live; made where it does not exist.
    pub data_dir: PathBuf,
    /// Bytes that may be written to the medium of `data_dir` in its life: what the configuration says, else what the profile
    /// of the hardware says. `None`: not known.
    pub endurance: Option<u64>,
    /// File with the keys that the journal is encrypted with, unless a service manager gives one of its name; `None` where
    /// the journal is plain.
    pub journal_key: Option<PathBuf>,
    /// Where it listens.
    pub listen: Listen,
    /// Who may publish.
    pub publishers: Publishers,
    /// Who it is.
    pub identity: IdentityFiles,
    /// Where the other boards listen for the mesh: exactly the boards of `node.peers()`.
    pub peers: BTreeMap<BoardId, SocketAddr>,
    /// The witness; `None` where only boards vote.
    pub witness: Option<Witness>,
    /// For which other sites this board is the witness; `None` where for none.
    pub witness_for: Option<Served>,
    /// The region; `None` where the site keeps its records to itself.
    pub region: Option<Region>,
    /// An existing broker whose messages are taken in; `None` where there is none.
    pub bridge: Option<Bridge>,
    /// The file of the token that is asked for at `listen.http`, which then is HTTPS; `None`: HTTP on loopback, and nobody is asked.
    pub status_token: Option<PathBuf>,
    /// The processes of those duties of the site that this board can perform.
    pub processes: Vec<DutyProcess>,
}

/// Addresses of this board's own ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Boards among themselves: QUIC, over UDP.
    pub mesh: SocketAddr,
    /// Sensors: MQTT, over TCP.
    pub mqtt: SocketAddr,
    /// People and monitoring: status, metrics, health, over TCP.
    pub http: SocketAddr,
}

/// PEM files that say who this board is and whom it believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// Its certificate.
    pub certificate: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
    /// The site's authority.
    pub ca: PathBuf,
}

/// Where the witness is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Its number.
    pub id: WitnessId,
    /// Its name, for people.
    pub name: Name,
    /// The name that its certificate must carry. Default that of the gateway called `name`.
    pub certificate_name: String,
    /// Its QUIC address, UDP.
    pub address: SocketAddr,
    /// Its authority, PEM.
    pub ca: PathBuf,
}

/// Where the region is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// The region's authority, PEM.
    pub ca: PathBuf,
    /// Its gateways, in the order in which they are preferred: 1 to [`GATEWAYS_MAX`]. They may be of several regions, and then
    /// each says of which; the region whose gateway comes first is the most preferred.
    pub gateways: Vec<GatewayAddress>,
    /// The paths to them, in the order in which they are preferred: 1 to [`UPLINKS_MAX`]. All gateways of a region over the first
    /// are preferred to any over the second.
    pub paths: Vec<UplinkPath>,
}

/// One gateway as a board dials it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayAddress {
    /// Its name, which its certificate must carry.
    pub name: Name,
    /// Its QUIC address, UDP.
    pub address: GatewayPlace,
    /// The region whose store it writes, for people and to tell it from the others: with a store and a history of its own. `None`
    /// where all gateways are of one region.
    pub region: Option<Name>,
}

impl Region {
    /// Of each gateway the place of its region among the regions, in the order in which they are preferred.
    pub fn ranks(&self) -> Vec<usize> {
        let mut known: Vec<Option<&Name>> = Vec::new();
        let mut ranks = Vec::new();
        for gateway in &self.gateways {
            let region = gateway.region.as_ref();
            if !known.contains(&region) {
                known.push(region);
            }
            ranks.extend(known.iter().position(|other| *other == region));
        }
        ranks
    }
}

/// The text's shape, before anything is checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBoard {
    site: Spanned<String>,
    board: Spanned<u8>,
    data_dir: PathBuf,
    profile: Option<Spanned<String>>,
    voters: Option<Spanned<Vec<Spanned<u8>>>>,
    copies: Option<Spanned<u8>>,
    priority: Option<u8>,
    domain: Option<Spanned<String>>,
    witness: Option<Spanned<RawWitness>>,
    witness_for: Option<RawServed>,
    listen: RawListen,
    #[serde(default)]
    mqtt: publishers::RawPublishers,
    identity: RawIdentity,
    #[serde(default)]
    peer: Vec<RawPeer>,
    region: Option<Spanned<RawRegion>>,
    #[serde(default)]
    uplink: Vec<Spanned<uplink::RawUplink>>,
    bridge: Option<broker::RawBridge>,
    status: Option<status::RawStatus>,
    #[serde(default)]
    capabilities: Vec<Spanned<String>>,
    #[serde(default)]
    duty: Vec<Spanned<duty::RawDuty>>,
    #[serde(default)]
    timing: RawTiming,
    #[serde(default)]
    journal: RawJournal,
    #[serde(default)]
    repair: RawRepair,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawListen {
    mesh: Spanned<String>,
    mqtt: Spanned<String>,
    http: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPeer {
    board: Spanned<u8>,
    mesh: Spanned<String>,
}

/// Where the site's witness is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWitness {
    id: Spanned<u8>,
    name: Spanned<String>,
    certificate_name: Option<Spanned<String>>,
    address: Spanned<String>,
    ca: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRegion {
    ca: PathBuf,
    #[serde(default)]
    gateway: Vec<RawGatewayAddress>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGatewayAddress {
    name: Spanned<String>,
    address: Spanned<String>,
    region: Option<Spanned<String>>,
}

impl BoardConfig {
    /// The configuration in `bytes`, read from `path`: the name is for refusals, and relative paths in the text are
    /// relative to the directory that holds it. Touches no file.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let text = Text::new(&file, bytes)?;
        let raw: RawBoard = text.parse()?;
        let beside = path.parent().unwrap_or(Path::new(""));
        let numbers: Vec<&Spanned<u8>> = raw.peer.iter().map(|peer| &peer.board).collect();
        let members = RawMembers {
            board: &raw.board,
            peers: &numbers,
            voters: raw.voters.as_ref(),
            witness: raw.witness.as_ref().map(|witness| &witness.get_ref().id),
            copies: raw.copies.as_ref(),
        }
        .check(&text)?;
        let site = text.name("site", &raw.site)?;
        let listen = raw.listen.check(&text)?;
        let publishers = raw.mqtt.check(&text, beside)?;
        publishers.check_reachable(&text, &raw.listen.mqtt, listen.mqtt)?;
        let status_token = status::check(raw.status.as_ref(), &text, beside, (&raw.listen.http, listen.http))?;
        let region = check_region(&text, &raw, beside)?;
        let bridge = raw
            .bridge
            .as_ref()
            .map(|bridge| bridge.check(&text, beside, &site, members.board))
            .transpose()?;
        let witness_for = raw
            .witness_for
            .as_ref()
            .map(|served| check_served(&text, served, beside, (&site, listen.mesh)))
            .transpose()?;
        let (duties, processes) = duty::check(&text, &raw.duty, &raw.capabilities, beside)?;
        Ok(Self {
            file: path.to_owned(),
            peers: check_peers(&text, &raw.peer, listen.mesh)?,
            node: NodeConfig {
                site,
                board: members.board,
                boards: members.boards,
                voters: members.voters,
                priority: raw.priority.unwrap_or(0),
                domain: domain(&text, raw.domain.as_ref())?,
                duties,
                copies: members.copies,
                timing: raw.timing.check(&text)?,
                journal: raw.journal.check(&text)?,
                repair: raw.repair.check(&text)?,
                has_region: region.is_some(),
            },
            data_dir: beside.join(&raw.data_dir),
            endurance: endurance(&text, raw.profile.as_ref(), &raw.journal)?,
            journal_key: journal_key(&text, raw.journal.key.as_ref(), beside)?,
            listen,
            publishers,
            identity: identity_files(&raw.identity, beside),
            witness: raw
                .witness
                .as_ref()
                .map(|witness| check_witness(&text, witness, beside))
                .transpose()?,
            witness_for,
            region,
            bridge,
            status_token,
            processes,
        })
    }
}

fn identity_files(raw: &RawIdentity, beside: &Path) -> IdentityFiles {
    IdentityFiles {
        certificate: beside.join(&raw.certificate),
        key: beside.join(&raw.key),
        ca: beside.join(&raw.ca),
    }
}

impl RawListen {
    fn check(&self, text: &Text<'_>) -> Result<Listen, ConfigError> {
        let listen = Listen {
            mesh: address(text, "listen.mesh", &self.mesh)?,
            mqtt: address(text, "listen.mqtt", &self.mqtt)?,
            http: address(text, "listen.http", &self.http)?,
        };
        if listen.mqtt == listen.http {
            let message = format!("`listen.http` is {}, which `listen.mqtt` takes", listen.http);
            return Err(text.refuse(self.http.span(), message).suggest("give each its own port"));
        }
        Ok(listen)
    }
}

fn address(text: &Text<'_>, key: &str, value: &Spanned<String>) -> Result<SocketAddr, ConfigError> {
    tables::address(text, key, value, "192.0.2.11:7400")
}

/// A file that the text names, relative to `beside`.
fn file(text: &Text<'_>, key: &str, value: &Spanned<PathBuf>, beside: &Path) -> Result<PathBuf, ConfigError> {
    if value.get_ref().as_os_str().is_empty() {
        let message = format!("`{key}` is empty: it names no file");
        return Err(text
            .refuse(value.span(), message)
            .suggest("give a path, relative to this file's directory"));
    }
    Ok(beside.join(value.get_ref()))
}

/// An address that is dialled, not listened on: it must name a machine.
fn target(text: &Text<'_>, key: &str, value: &Spanned<String>) -> Result<SocketAddr, ConfigError> {
    let target = address(text, key, value)?;
    if target.ip().is_unspecified() {
        let message = format!("`{key}` is {target}, which names no machine to dial");
        return Err(text
            .refuse(value.span(), message)
            .suggest("give the other machine's own address"));
    }
    Ok(target)
}

/// The peers' numbers have been checked; here it is their addresses.
fn check_peers(
    text: &Text<'_>,
    raw: &[RawPeer],
    own: SocketAddr,
) -> Result<BTreeMap<BoardId, SocketAddr>, ConfigError> {
    let mut peers = BTreeMap::new();
    for peer in raw.iter().take(BOARDS_MAX) {
        let mesh = target(text, "peer.mesh", &peer.mesh)?;
        if mesh == own || peers.values().any(|taken| *taken == mesh) {
            let message = format!("`peer.mesh` is {mesh}, which another board of this file has");
            return Err(text
                .refuse(peer.mesh.span(), message)
                .suggest("give each board its own address, this one's `listen.mesh` included"));
        }
        if let Some(board) = BoardId::new(*peer.board.get_ref()) {
            peers.insert(board, mesh);
        }
    }
    Ok(peers)
}

fn check_witness(text: &Text<'_>, raw: &Spanned<RawWitness>, beside: &Path) -> Result<Witness, ConfigError> {
    let raw = raw.get_ref();
    let id = WitnessId::new(*raw.id.get_ref())
        .ok_or_else(|| text.refuse(raw.id.span(), "`witness.id` is outside 1 to 63"))?;
    let name = text.name("witness.name", &raw.name)?;
    let certificate_name = match &raw.certificate_name {
        Some(given) => certificate_name(text, given)?,
        None => gateway_name(&name),
    };
    Ok(Witness {
        id,
        name,
        certificate_name,
        address: target(text, "witness.address", &raw.address)?,
        ca: beside.join(&raw.ca),
    })
}

/// A name as certificates of Roadstead carry it: words with dots between them, the last of which is ours.
fn certificate_name(text: &Text<'_>, value: &Spanned<String>) -> Result<String, ConfigError> {
    let given = value.get_ref();
    let words = given.strip_suffix(".roadstead");
    if !words.is_some_and(|words| words.split('.').all(|word| check_name(word).is_ok())) {
        let message = format!("`witness.certificate_name` is \"{given}\", which no certificate of Roadstead says");
        return Err(text.refuse(value.span(), message).suggest(
            "write \"board-3.north.roadstead\" for board 3 of site north, \"witness.third.roadstead\" for the witness \
             third, or leave it out for a gateway",
        ));
    }
    Ok(given.clone())
}

/// Other sites' votes come in on a port of their own.
fn check_served(
    text: &Text<'_>,
    raw: &RawServed,
    beside: &Path,
    (site, mesh): (&Name, SocketAddr),
) -> Result<Served, ConfigError> {
    let served = raw.check(text, beside, site)?;
    if served.listen == mesh {
        let message = format!("`witness_for.listen` is {mesh}, which `listen.mesh` takes");
        return Err(text.refuse(raw.listen.span(), message).suggest("give each its own port"));
    }
    Ok(served)
}

/// What the board shares its fate with; by default something of its own: nothing is said.
fn domain(text: &Text<'_>, raw: Option<&Spanned<String>>) -> Result<Name, ConfigError> {
    raw.map_or(Ok(Name::new()), |domain| text.name("domain", domain))
}

fn journal_key(text: &Text<'_>, key: Option<&Spanned<String>>, beside: &Path) -> Result<Option<PathBuf>, ConfigError> {
    let Some(key) = key else { return Ok(None) };
    if key.get_ref().is_empty() {
        return Err(text
            .refuse(key.span(), "`journal.key` is empty: it names no file")
            .suggest("make one with `roadstead journal key new`, or take the key out: then the journal is plain"));
    }
    Ok(Some(beside.join(key.get_ref())))
}

/// How much may be written to the medium. The part that was bought knows best; a profile knows where the board comes with one.
fn endurance(
    text: &Text<'_>,
    profile: Option<&Spanned<String>>,
    journal: &RawJournal,
) -> Result<Option<u64>, ConfigError> {
    let profile = profile.map(|name| find_profile(text, name)).transpose()?;
    if let Some(given) = &journal.endurance_tbw {
        let terabytes = text.within("journal.endurance_tbw", given, 1..=1_000_000, "TB")?;
        return Ok(Some(u64::from(terabytes) * 1_000_000_000_000));
    }
    Ok(profile.and_then(|profile| profile.storage?.endurance()))
}

fn find_profile(text: &Text<'_>, name: &Spanned<String>) -> Result<Profile, ConfigError> {
    boards::find(name.get_ref()).ok_or_else(|| {
        let message = format!("`profile` is \"{}\", which no board has", name.get_ref());
        let names: Vec<&str> = boards::names().collect();
        text.refuse(name.span(), message)
            .suggest(format!("write one of {}, or leave it out", names.join(", ")))
    })
}

fn check_region(text: &Text<'_>, raw: &RawBoard, beside: &Path) -> Result<Option<Region>, ConfigError> {
    let paths = uplink::check(text, &raw.uplink, raw.region.is_some())?;
    let Some(raw) = &raw.region else { return Ok(None) };
    let region = raw.get_ref();
    if !(1..=GATEWAYS_MAX).contains(&region.gateway.len()) {
        let message = format!("{} gateways, but a region has 1 to {GATEWAYS_MAX}", region.gateway.len());
        return Err(text.refuse(raw.span(), message).suggest(
            "add [[region.gateway]] with `name` and `address`, or take [region] out: then the site keeps its records",
        ));
    }
    let is_named = region.gateway.iter().any(|gateway| gateway.region.is_some());
    if let Some(unnamed) = region.gateway.iter().find(|gateway| is_named && gateway.region.is_none()) {
        let message = format!("the gateway \"{}\" does not say of which region it is", unnamed.name.get_ref());
        return Err(text
            .refuse(unnamed.name.span(), message)
            .suggest("give every [[region.gateway]] its `region`, or none where all share one store"));
    }
    let gateways = region
        .gateway
        .iter()
        .map(|gateway| {
            let of = gateway.region.as_ref();
            Ok(GatewayAddress {
                name: text.name("region.gateway.name", &gateway.name)?,
                address: uplink::place(text, &gateway.address)?,
                region: of.map(|of| text.name("region.gateway.region", of)).transpose()?,
            })
        })
        .collect::<Result<_, ConfigError>>()?;
    Ok(Some(Region { ca: beside.join(&region.ca), gateways, paths }))
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
