//! `roadstead leader`, `voters`, `vote` and `reload`: what an operator asks of a running board, over the socket in its data
//! directory. Owns the words around question and answer.

use std::path::Path;
use std::process::ExitCode;

use firmware::admin::{Answer, Question, ask};
use shared::ids::{BoardId, WitnessId};

use crate::arguments::{Leader, LeaderCommand, Reload, Vote, Voters};
use crate::check::{self, Checked};
use crate::failure::Failure;

/// Hands the leadership over.
pub(crate) fn leader(asked: &Leader) -> Result<ExitCode, Failure> {
    match &asked.command {
        LeaderCommand::HandOver { config, to } => wish(config, &Question::HandOver { to: to.and_then(BoardId::new) }),
    }
}

/// Changes who votes.
pub(crate) fn voters(asked: &Voters) -> Result<ExitCode, Failure> {
    let boards = asked.boards.iter().copied().filter_map(BoardId::new).collect();
    wish(&asked.config, &Question::Voters { boards, witness: asked.witness.and_then(WitnessId::new) })
}

/// Lets a board vote whose disk remembers no leader.
pub(crate) fn vote(asked: &Vote) -> Result<ExitCode, Failure> {
    wish(&asked.config, &Question::Vote {})
}

/// Lets a board read its list of boards again.
pub(crate) fn reload(asked: &Reload) -> Result<ExitCode, Failure> {
    wish(&asked.config, &Question::Reload {})
}

fn wish(config: &Path, question: &Question) -> Result<ExitCode, Failure> {
    let board = match check::load(config)? {
        Checked::Board(board) => board,
        Checked::Gateway(_) | Checked::Witness(_) => {
            return Err(Failure::new(format!("{} is no board's", config.display())).remedy("give a board's"));
        }
    };
    let name = board.node.board;
    let answer = ask(&board.data_dir, question).map_err(|error| {
        Failure::new(format!("{name} does not answer"))
            .because(error)
            .remedy("it must run on this machine, and you must be its user or root")
    })?;
    told(&name, answer)
}

fn told(name: &BoardId, answer: Answer) -> Result<ExitCode, Failure> {
    match (answer.ok.as_deref(), answer.error, answer.leader) {
        (Some("already"), _, _) => crate::say("it is so already\n"),
        (Some(_), _, _) => crate::say(&format!("{name} does it; `roadstead status` shows how far it is\n")),
        (None, Some(why), Some(leader)) => {
            Err(Failure::new(format!("{name}: {why}")).remedy(format!("{leader} leads: ask it, on its machine")))
        }
        (None, why, None) => Err(Failure::new(format!("{name}: {}", why.unwrap_or_default()))),
        (None, None, Some(_)) => Err(Failure::new(format!("{name} said nothing"))),
    }
}
