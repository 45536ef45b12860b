//! `roadstead init` as a conversation: refuses to overwrite, shows progress, says what to do next.

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use crate::arguments::Init;
use crate::failure::Failure;
use crate::files;
use crate::init::plan::{Places, SitePlan};
use crate::init::{SiteFiles, encrypt, make_site};
use crate::progress::Progress;

/// Makes the site that was asked for.
pub(crate) fn run(init: &Init) -> Result<ExitCode, Failure> {
    if !init.force && files::is_occupied(&init.dir)? {
        let what = format!("{} is not empty", init.dir.display());
        return Err(Failure::new(what).remedy(
            "new keys would replace those in it, and boards that run with the old ones would be strangers: \
             give another directory, or --force if that is what you want",
        ));
    }
    let places = Places { host_base: init.host_base, port_base: init.port_base, gateway: init.gateway_host };
    let (boards, gateway) = places.lay_out(init.boards, init.gateway.clone())?;
    let witness = match wanted_witness(init)? {
        Some(apart) => Some(places.witness(&gateway, apart)?),
        None => None,
    };
    let plan = SitePlan { site: init.site.clone(), boards, gateway, witness, journal: None };
    let mut progress = Progress::begin("making keys and files", u64::from(init.boards) + 1);
    let made = make_site(&init.dir, &plan, |done| progress.at(done as u64));
    progress.end();
    let made = made?;
    let mut steps = next_steps(&init.dir, &plan, &made);
    if init.encrypt {
        encrypt(&made.boards)?;
        steps.push_str(
            "Each board's journal is encrypted with the keys in its journal.key: who loses that file loses the board's \
             records.\n",
        );
    }
    eprint!("{steps}");
    Ok(ExitCode::SUCCESS)
}

/// Who is to be the witness: nobody, a machine apart, or (`None` within) the gateway. A pair has one unless told otherwise;
/// more boards do not need one; one board has nobody to be outvoted by.
fn wanted_witness(init: &Init) -> Result<Option<Option<IpAddr>>, Failure> {
    let asked = init.witness || init.witness_host.is_some();
    if asked && init.boards == 1 {
        return Err(Failure::new("one board has no use for a witness").remedy("leave it out, or make two boards"));
    }
    let wanted = asked || init.boards == 2 && !init.no_witness;
    Ok(wanted.then_some(init.witness_host))
}

fn next_steps(dir: &Path, plan: &SitePlan, made: &SiteFiles) -> String {
    let dir = dir.display();
    let count = plan.boards.len();
    let boards = if count == 1 {
        "1 board".to_owned()
    } else {
        format!("{count} boards")
    };
    let mut text = format!("Made site {} in {dir}: {boards} and gateway {}.\n\n", plan.site, plan.gateway.name);
    let here = plan.gateway.quic.ip().is_loopback();
    if here {
        text.push_str("Run them, each in its own terminal:\n");
    } else {
        text.push_str("Copy each directory in it to its own machine, and run there:\n");
    }
    if !plan.gateway.http.ip().is_loopback() {
        let config = made.gateway.display();
        text.push_str(&format!(
            "  roadstead user add NAME --role admin --config {config}    # it starts with an account\n"
        ));
    }
    text.push_str(&format!("  roadstead gateway --config {}\n", made.gateway.display()));
    if let Some(witness) = &made.witness {
        text.push_str(&format!("  roadstead witness --config {}\n", witness.display()));
    }
    for (config, board) in made.boards.iter().zip(&plan.boards).take(4) {
        let config = config.display();
        text.push_str(&format!("  roadstead node --config {config}    # MQTT at {}\n", board.mqtt));
    }
    if count > 4 {
        text.push_str(&format!("  ... and so on, to board {count}\n"));
    }
    text.push_str(&publishing(plan, made));
    text.push_str(&format!("Then look:\n  roadstead status --dir {dir}\n\n"));
    text.push_str(&of_witness(plan));
    text.push_str(&format!(
        "Keep {} offline: whoever has its keys can make boards for this site.\n",
        made.authorities.display()
    ));
    for dir in &made.kept {
        text.push_str(&format!(
            "{} is no board of this site any more, but has files of its own: its journal may hold records that the \
             region lacks.\n",
            dir.display()
        ));
    }
    text
}

/// What becomes of a pair that loses a board, and whom that takes.
fn of_witness(plan: &SitePlan) -> String {
    match &plan.witness {
        Some(witness) if witness.is_apart => {
            format!("The witness at {} votes too: put it where it does not fail with a board.\n", witness.address)
        }
        Some(witness) => {
            let (name, address) = (&witness.name, witness.address);
            format!(
                "The gateway {name} is the witness too, on UDP {address}: with it one board of two may lead alone.\n"
            )
        }
        None if plan.boards.len() == 2 => {
            "With two boards and no witness, exclusive duties and the uplink stop while one \
                                           of them is gone; records are taken and kept.\n"
                .to_owned()
        }
        None => String::new(),
    }
}

/// How a sensor on another host publishes: the one place where its password is shown.
fn publishing(plan: &SitePlan, made: &SiteFiles) -> String {
    let (Some(user), Some(board)) = (&made.user, plan.boards.first()) else {
        return String::new();
    };
    let (ip, port, name, password) = (board.mqtt.ip(), board.mqtt.port(), &user.name, &user.password);
    format!(
        "Sensors on any host publish as user {name}; the password is told here once, and is in each board's \
         mqtt-users:\n  mosquitto_pub -h {ip} -p {port} -q 1 -u {name} -P {password} -t det/1 -m on\n"
    )
}

#[cfg(test)]
#[path = "new_site_tests.rs"]
mod tests;
