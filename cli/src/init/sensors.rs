//! Who may publish at a new site, and who may look at its boards' pages: the user that its sensors name, the token, and the files that
//! say so to a board. Where all
//! boards listen on loopback alone nobody needs to, because the board takes local clients without a name.

use firmware::front_door::DoorUser;
use rustix::rand::{GetRandomFlags, getrandom};

use super::plan::SitePlan;
use crate::failure::Failure;

/// Name of the users' file in a board's directory.
pub(super) const USERS_FILE: &str = "mqtt-users";
/// Name of the file of the page's token in a board's directory.
pub(super) const TOKEN_FILE: &str = "status-token";
/// Name under which the sensors of a new site publish.
const USER: &str = "sensor";
/// Bytes of entropy in a password: nobody guesses 2^128.
const PASSWORD_ENTROPY_BYTES: usize = 16;

/// The user of a site whose boards listen beyond loopback, with a password that nobody had before.
pub(super) fn user_of(plan: &SitePlan) -> Result<Option<DoorUser>, Failure> {
    if !plan.is_open_to_other_hosts() {
        return Ok(None);
    }
    Ok(Some(DoorUser { name: USER.to_owned(), password: password()? }))
}

/// The token of the pages of a site whose boards listen beyond loopback, the same on all of them.
pub(super) fn token_of(plan: &SitePlan) -> Result<Option<String>, Failure> {
    plan.is_open_to_other_hosts().then(password).transpose()
}

/// The file that lets `user` in.
pub(super) fn users_file(user: &DoorUser) -> String {
    format!(
        "# Who may publish here: name:password, one a line. Any board of the site takes any sensor: keep the same lines\n\
         # on all of them. Read at the start of the board; for its owner alone (0600).\n\
         {}:{}\n",
        user.name, user.password
    )
}

/// In hexadecimal digits: no shell and no sensor's web form takes offence at them.
fn password() -> Result<String, Failure> {
    let mut entropy = [0_u8; PASSWORD_ENTROPY_BYTES];
    let drawn = getrandom(&mut entropy, GetRandomFlags::empty())
        .map_err(|errno| Failure::new("cannot draw a password").because(std::io::Error::from(errno)))?;
    // The system gives up to 256 bytes whole.
    assert_eq!(drawn, entropy.len(), "entropy came short");
    Ok(entropy.iter().map(|byte| format!("{byte:02x}")).collect())
}
