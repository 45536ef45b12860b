//! `roadstead init`: authorities, keys, certificates and checked configurations of a new site, one directory a
//! machine, each complete in itself. Owns the layout of these directories.
//!
//! ```text
//! DIR/ca/        site-ca.key region-ca.key          to be kept offline; 0600 in a directory 0700
//!                site-ca.pem region-ca.pem
//! DIR/board-1/   board.toml certificate.pem key.pem site-ca.pem region-ca.pem
//!                mqtt-users status-token            where other hosts reach it; 0600
//!                journal.key                        where its journal is encrypted; 0600
//! DIR/gateway/   gateway.toml certificate.pem key.pem region-ca.pem sites/<site>.pem
//!                https.pem https.key                for browsers
//! DIR/witness/   witness.toml and the same           where the witness is a machine of its own
//! ```

pub mod certificates;
mod configurations;
mod encryption;
mod outdated;
pub mod plan;
mod sensors;

use std::path::{Path, PathBuf};

use firmware::config::BoardConfig;
use firmware::front_door::DoorUser;
use gateway::config::GatewayConfig;
use link::witness::config::WitnessConfig;

use crate::failure::Failure;
use crate::files::{self, Readers};
use certificates::{Authority, Credential};
pub use encryption::encrypt;
use plan::{BoardPlan, SitePlan, WitnessPlan};

/// Name of a board's configuration in its directory.
pub const BOARD_FILE: &str = "board.toml";
/// Name of a gateway's configuration in its directory.
pub const GATEWAY_FILE: &str = "gateway.toml";
/// Name of the certificate that browsers see.
const HTTPS_CERTIFICATE: &str = "https.pem";
/// Name of its key.
const HTTPS_KEY: &str = "https.key";
/// Directory of the gateway within a site's.
pub const GATEWAY_DIR: &str = "gateway";
/// Name of a witness's configuration in its directory.
pub const WITNESS_FILE: &str = "witness.toml";
/// Directory of the witness within a site's, where it is a machine of its own.
pub const WITNESS_DIR: &str = "witness";
/// How directories of boards begin within a site's; the number follows.
pub const BOARD_DIR_PREFIX: &str = "board-";

/// The configurations of a site that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteFiles {
    /// One a board, in the plan's order.
    pub boards: Vec<PathBuf>,
    /// The gateway's.
    pub gateway: PathBuf,
    /// The witness's, where it is a machine of its own.
    pub witness: Option<PathBuf>,
    /// The directory with the authorities' keys.
    pub authorities: PathBuf,
    /// Whom all boards let in from other hosts; `None` where they listen on loopback alone.
    pub user: Option<DoorUser>,
    /// Directories of boards of an earlier site that are not in the plan, and were kept because of what is in them.
    pub kept: Vec<PathBuf>,
}

/// Makes the site `plan` in `dir`, replacing files of the same names. Every configuration is checked as the
/// processes will check it; what an earlier site's boards beyond the plan had of them is removed. After a failure some of the files may be there. `done` is told how many machines are
/// complete.
pub fn make_site(dir: &Path, plan: &SitePlan, mut done: impl FnMut(usize)) -> Result<SiteFiles, Failure> {
    let user = sensors::user_of(plan)?;
    let token = sensors::token_of(plan)?;
    let site = Authority::new(&format!("Roadstead site {}", plan.site))?;
    let region = Authority::new(&format!("Roadstead region of {}", plan.gateway.name))?;
    let authorities = dir.join("ca");
    files::make_dir(dir, Readers::All)?;
    files::make_dir(&authorities, Readers::Owner)?;
    for (authority, name) in [(&site, "site-ca"), (&region, "region-ca")] {
        write(&authorities, &format!("{name}.pem"), &authority.certificate(), Readers::All)?;
        write(&authorities, &format!("{name}.key"), &authority.key(), Readers::Owner)?;
    }
    let gateway = make_gateway(dir, plan, &site, &region)?;
    let apart = plan.witness.as_ref().filter(|witness| witness.is_apart);
    let witness = apart
        .map(|witness| make_witness(dir, plan, witness, &site, &region))
        .transpose()?;
    done(1);
    let mut boards = Vec::with_capacity(plan.boards.len());
    for board in &plan.boards {
        let path = make_board(dir, plan, board, &site, &region)?;
        write_users(&path, user.as_ref())?;
        write_token(&path, token.as_deref())?;
        boards.push(path);
        done(boards.len() + 1);
    }
    let kept = outdated::remove(dir, plan.numbers())?;
    Ok(SiteFiles { boards, gateway, witness, authorities, user, kept })
}

/// Writes the users' file beside the configuration `path`, or takes an earlier site's away.
fn write_users(path: &Path, user: Option<&DoorUser>) -> Result<(), Failure> {
    let users = path.with_file_name(sensors::USERS_FILE);
    match user {
        Some(user) => files::write(&users, sensors::users_file(user).as_bytes(), Readers::Owner),
        None => files::remove(&users),
    }
}

/// Writes the page's token beside the configuration `path`, or takes an earlier site's away.
fn write_token(path: &Path, token: Option<&str>) -> Result<(), Failure> {
    let file = path.with_file_name(sensors::TOKEN_FILE);
    match token {
        Some(token) => files::write(&file, format!("{token}\n").as_bytes(), Readers::Owner),
        None => files::remove(&file),
    }
}

fn make_board(
    dir: &Path,
    plan: &SitePlan,
    board: &BoardPlan,
    site: &Authority,
    region: &Authority,
) -> Result<PathBuf, Failure> {
    let dir = dir.join(format!("{BOARD_DIR_PREFIX}{}", board.board.get()));
    files::make_dir(&dir, Readers::All)?;
    write_credential(&dir, &site.board(&plan.site, board.board, board.http.ip())?)?;
    write(&dir, "site-ca.pem", &site.certificate(), Readers::All)?;
    write(&dir, "region-ca.pem", &region.certificate(), Readers::All)?;
    let text = configurations::board(plan, board);
    let path = dir.join(BOARD_FILE);
    BoardConfig::parse(&path, text.as_bytes()).map_err(|refusal| unusable(&path, &refusal))?;
    files::write(&path, text.as_bytes(), Readers::All)?;
    Ok(path)
}

fn make_gateway(dir: &Path, plan: &SitePlan, site: &Authority, region: &Authority) -> Result<PathBuf, Failure> {
    let dir = dir.join(GATEWAY_DIR);
    write_beside_sites(&dir, plan, &region.gateway(&plan.gateway.name)?, (site, region))?;
    let https = certificates::https(&plan.gateway.name, plan.gateway.http.ip())?;
    write(&dir, HTTPS_CERTIFICATE, &https.certificate, Readers::All)?;
    write(&dir, HTTPS_KEY, &https.key, Readers::Owner)?;
    let text = configurations::gateway(plan);
    let path = dir.join(GATEWAY_FILE);
    GatewayConfig::parse(&path, text.as_bytes()).map_err(|refusal| unusable(&path, &refusal))?;
    files::write(&path, text.as_bytes(), Readers::All)?;
    Ok(path)
}

fn make_witness(
    dir: &Path,
    plan: &SitePlan,
    witness: &WitnessPlan,
    site: &Authority,
    region: &Authority,
) -> Result<PathBuf, Failure> {
    let dir = dir.join(WITNESS_DIR);
    write_beside_sites(&dir, plan, &region.witness(&witness.name)?, (site, region))?;
    let text = configurations::witness(plan, witness);
    let path = dir.join(WITNESS_FILE);
    WitnessConfig::parse(&path, text.as_bytes()).map_err(|refusal| unusable(&path, &refusal))?;
    files::write(&path, text.as_bytes(), Readers::All)?;
    Ok(path)
}

/// What a machine has that serves sites of which it is no board.
fn write_beside_sites(
    dir: &Path,
    plan: &SitePlan,
    credential: &Credential,
    (site, region): (&Authority, &Authority),
) -> Result<(), Failure> {
    files::make_dir(dir, Readers::All)?;
    write_credential(dir, credential)?;
    write(dir, "region-ca.pem", &region.certificate(), Readers::All)?;
    let sites = dir.join("sites");
    files::make_dir(&sites, Readers::All)?;
    write(&sites, &format!("{}.pem", plan.site), &site.certificate(), Readers::All)
}

fn write_credential(dir: &Path, credential: &Credential) -> Result<(), Failure> {
    write(dir, "certificate.pem", &credential.certificate, Readers::All)?;
    write(dir, "key.pem", &credential.key, Readers::Owner)
}

fn write(dir: &Path, name: &str, text: &str, readers: Readers) -> Result<(), Failure> {
    files::write(&dir.join(name), text.as_bytes(), readers)
}

fn unusable(path: &Path, refusal: &shared::config::text::ConfigError) -> Failure {
    Failure::new(format!("these values make no usable configuration {}\n{refusal}", path.display()))
}

#[cfg(test)]
mod tests;
