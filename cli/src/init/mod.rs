//! `roadstead init`: authorities, keys, certificates and checked configurations of a new site, one directory a
//! machine, each complete in itself. Owns the layout of these directories.
//!
//! ```text
//! DIR/ca/        site-ca.key region-ca.key          to be kept offline; 0600 in a directory 0700
//!                site-ca.pem region-ca.pem
//! DIR/board-1/   board.toml certificate.pem key.pem site-ca.pem region-ca.pem
//!                mqtt-users                         where it takes sensors on other hosts
//! DIR/gateway/   gateway.toml certificate.pem key.pem region-ca.pem sites/<site>.pem
//! ```

pub mod certificates;
mod configurations;
mod outdated;
pub mod plan;
mod sensors;

use std::path::{Path, PathBuf};

use firmware::config::BoardConfig;
use firmware::front_door::DoorUser;
use gateway::config::GatewayConfig;

use crate::failure::Failure;
use crate::files::{self, Readers};
use certificates::{Authority, Credential};
use plan::{BoardPlan, SitePlan};

/// Name of a board's configuration in its directory.
pub const BOARD_FILE: &str = "board.toml";
/// Name of a gateway's configuration in its directory.
pub const GATEWAY_FILE: &str = "gateway.toml";
/// Directory of the gateway within a site's.
pub const GATEWAY_DIR: &str = "gateway";
/// How directories of boards begin within a site's; the number follows.
pub const BOARD_DIR_PREFIX: &str = "board-";

/// The configurations of a site that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteFiles {
    /// One a board, in the plan's order.
    pub boards: Vec<PathBuf>,
    /// The gateway's.
    pub gateway: PathBuf,
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
    done(1);
    let mut boards = Vec::with_capacity(plan.boards.len());
    for board in &plan.boards {
        let path = make_board(dir, plan, board, &site, &region)?;
        write_users(&path, user.as_ref())?;
        boards.push(path);
        done(boards.len() + 1);
    }
    let kept = outdated::remove(dir, plan.numbers())?;
    Ok(SiteFiles { boards, gateway, authorities, user, kept })
}

/// Writes the users' file beside the configuration `path`, or takes an earlier site's away.
fn write_users(path: &Path, user: Option<&DoorUser>) -> Result<(), Failure> {
    let users = path.with_file_name(sensors::USERS_FILE);
    match user {
        Some(user) => files::write(&users, sensors::users_file(user).as_bytes(), Readers::Owner),
        None => files::remove(&users),
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
    write_credential(&dir, &site.board(&plan.site, board.board)?)?;
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
    files::make_dir(&dir, Readers::All)?;
    write_credential(&dir, &region.gateway(&plan.gateway.name)?)?;
    write(&dir, "region-ca.pem", &region.certificate(), Readers::All)?;
    let sites = dir.join("sites");
    files::make_dir(&sites, Readers::All)?;
    write(&sites, &format!("{}.pem", plan.site), &site.certificate(), Readers::All)?;
    let text = configurations::gateway(plan);
    let path = dir.join(GATEWAY_FILE);
    GatewayConfig::parse(&path, text.as_bytes()).map_err(|refusal| unusable(&path, &refusal))?;
    files::write(&path, text.as_bytes(), Readers::All)?;
    Ok(path)
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
