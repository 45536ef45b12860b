//! The commented TOML files of a new site, filled in from its plan. Owns the text; each is checked before use.

use std::fmt::Write as _;

use shared::ids::BoardSet;

use super::plan::{BoardPlan, SitePlan, WitnessPlan};

const BOARD: &str = include_str!("../../assets/board.toml");
const GATEWAY: &str = include_str!("../../assets/gateway.toml");

const WITNESS: &str = include_str!("../../assets/witness.toml");

/// What the comment above `voters` must say of a pair.
const PAIR_NOTE: &str = "\
# With two boards and no witness both must agree: while one of them is gone nobody leads, and exclusive duties stop,
# the uplink among them, because one board alone cannot know whether the other still acts. Records are still taken and
# kept; they go up when both boards are back.
";

/// The configuration of one board.
pub(super) fn board(plan: &SitePlan, board: &BoardPlan) -> String {
    let pair_note = if plan.boards.len() == 2 && plan.witness.is_none() {
        PAIR_NOTE
    } else {
        ""
    };
    let users_marker = if plan.is_open_to_other_hosts() { "" } else { "# " };
    filled(
        BOARD,
        &[
            ("site", plan.site.to_string()),
            ("board", board.board.get().to_string()),
            ("voters_note", pair_note.to_owned()),
            ("voters", list(plan.voters())),
            ("copies", plan.copies().to_string()),
            ("mesh", board.mesh.to_string()),
            ("mqtt", board.mqtt.to_string()),
            ("http", board.http.to_string()),
            ("users_marker", users_marker.to_owned()),
            ("peers", peers(plan, board)),
            ("witness", witness_of(plan)),
            ("gateway", plan.gateway.name.to_string()),
            ("gateway_address", plan.gateway.quic.to_string()),
            ("journal", journal(plan)),
        ],
    )
}

/// Where a board finds its witness; as comments where it has none.
fn witness_of(plan: &SitePlan) -> String {
    let Some(witness) = &plan.witness else {
        return "# [witness]\n\
                # id = 1                            # 1 to 63, never given to another machine\n\
                # name = \"{gateway}\"                # for people\n\
                # address = \"192.0.2.1:7401\"        # QUIC, UDP\n\
                # ca = \"region-ca.pem\"              # its authority: PEM\n\
                # certificate_name = \"gateway.{gateway}.roadstead\""
            .to_owned();
    };
    let WitnessPlan { name, address, is_apart } = witness;
    let certificate_name = if *is_apart {
        format!("certificate_name = \"{}\"", link::sites::witness_name(name))
    } else {
        format!("# certificate_name = \"{}\"", link::sites::gateway_name(name))
    };
    format!(
        "[witness]\n\
         # Its number: 1 to 63, never given to another machine.\n\
         id = 1\n\
         name = \"{name}\"\n\
         address = \"{address}\"\n\
         ca = \"region-ca.pem\"\n\
         {certificate_name}"
    )
}

/// The configuration of a witness that is a machine of its own.
pub(super) fn witness(plan: &SitePlan, witness: &WitnessPlan) -> String {
    let values = [
        ("witness", witness.name.to_string()),
        ("address", witness.address.to_string()),
        ("site", plan.site.to_string()),
    ];
    filled(WITNESS, &values)
}

/// The configuration of the gateway.
pub(super) fn gateway(plan: &SitePlan) -> String {
    let witness = match &plan.witness {
        Some(witness) if !witness.is_apart => format!("witness = \"{}\"", witness.address),
        Some(_) | None => "# witness = \"127.0.0.1:7501\"".to_owned(),
    };
    filled(
        GATEWAY,
        &[
            ("gateway", plan.gateway.name.to_string()),
            ("site", plan.site.to_string()),
            ("quic", plan.gateway.quic.to_string()),
            ("http", plan.gateway.http.to_string()),
            ("witness", witness),
            ("access", access(!plan.gateway.http.ip().is_loopback())),
        ],
    )
}

/// How HTTPS is spoken; as comments where HTTP stays on this machine.
fn access(is_beyond_loopback: bool) -> String {
    let marker = if is_beyond_loopback { "" } else { "# " };
    format!(
        "{marker}[access]\n\
         # HTTPS is spoken with this certificate: your own for browsers, or the one that `roadstead init` made, which a browser has\n\
         # to be told to believe. Accounts and tokens: `roadstead user`, `roadstead token`.\n\
         {marker}certificate = \"{CERTIFICATE}\"\n\
         {marker}key = \"{KEY}\"\n\
         # Machines that may read by a certificate of this authority, if it is for one of these names.\n\
         # machines_ca = \"machines-ca.pem\"\n\
         # machines = [\"prometheus\"]",
        CERTIFICATE = super::HTTPS_CERTIFICATE,
        KEY = super::HTTPS_KEY,
    )
}

fn filled(template: &str, values: &[(&str, String)]) -> String {
    let mut text = template.to_owned();
    for (key, value) in values {
        text = text.replace(&format!("{{{key}}}"), value);
    }
    text
}

fn list(boards: BoardSet) -> String {
    let numbers: Vec<String> = boards.iter().map(|board| board.get().to_string()).collect();
    numbers.join(", ")
}

fn peers(plan: &SitePlan, own: &BoardPlan) -> String {
    let mut text = String::new();
    for (nth, peer) in plan.boards.iter().filter(|peer| peer.board != own.board).enumerate() {
        let note = if nth == 0 {
            "# Every other board of the site [site], with its `listen.mesh`.\n"
        } else {
            ""
        };
        let number = peer.board.get();
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{note}[[peer]]\nboard = {number}\nmesh = \"{}\"\n", peer.mesh);
    }
    text
}

fn journal(plan: &SitePlan) -> String {
    let (marker, journal) = match plan.journal {
        Some(journal) => ("", journal),
        None => ("# ", shared::config::JournalConfig::default()),
    };
    let mib = journal.segment_bytes / (1024 * 1024);
    let (segments, reserve, kept) = (journal.segments_max, journal.alarm_reserve, journal.covered_kept);
    let ahead = journal.written_ahead;
    format!(
        "{marker}segment_mib = {mib}                   # MiB of one file; 4 to 256\n\
         {marker}segments_max = {segments}                # files at most; 8 to 65536\n\
         # alarm_reserve = {reserve}                # of these, files for alarms alone; 1 to half of them\n\
         # covered_kept = {kept}                 # files of what the region has, kept for one that loses its store; 0 to half\n\
         # written_ahead = {ahead}                # files written through before they are needed, once; 0 to half\n\
         # event_mib_max, bulk_mib_max: MiB of a class that the region has not, past which its oldest are shed; from 16\n\
         # event_linger_ms = 0               # an event waits so long for others to be written with; 0 to 1000\n\
         # bulk_linger_ms = 10               # the same for bulk: longer spares the flash; 0 to 10000"
    )
}
