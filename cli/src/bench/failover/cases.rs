//! The cases: what is done to whoever acts, on which site, and one trial of each from a whole site to a whole site. Owns
//! the order of a trial; what it shows is judged by `judge`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;

use super::beat::{Beat, Stamp};
use super::dice::Dice;
use super::figures::Trial;
use super::judge::{self, Next, Verdict};
use super::site::{ACTS_WITHIN, Site, Wanted};
use crate::bench::waits;
use crate::failure::Failure;

/// A site is whole after so long, on a machine that does other things too.
const WHOLE_MAX: Duration = Duration::from_secs(60);
/// Somebody acts again after so long, or the trial has failed.
const TAKEOVER_MAX: Duration = Duration::from_secs(20);
/// Beats of so long before a fault are judged with it.
const BEFORE: Duration = Duration::from_millis(200);
/// After a takeover the old holder is watched for so long: twice the longest default lease.
const LINGER: Duration = Duration::from_millis(500);
/// A site that looks whole stays so for this long before it is struck.
const SETTLE: Duration = Duration::from_millis(300);
/// A leader that has its partner back lets go of the witness, and where that word is lost the witness's lease (2 s) ends:
/// before, the site is not whole, and a second fault costs what is left of it.
const WITNESS_LET_GO: Duration = Duration::from_millis(2500);
/// The witness of the pair is this round trip away.
pub(super) const WITNESS_RTT: Duration = Duration::from_millis(60);

/// What happens to the board that acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Case {
    /// SIGKILL to its node; the supervisor sees it
    #[value(name = "process_crash")]
    ProcessCrash,
    /// SIGKILL to its supervisor and node at one stroke
    #[value(name = "supervisor_crash")]
    SupervisorCrash,
    /// Its cable is pulled; 3 boards, default clockwork
    #[value(name = "board_gone")]
    BoardGone,
    /// The same with the preset `fast`
    #[value(name = "board_gone_fast")]
    BoardGoneFast,
    /// Its cable is pulled; 2 boards and a witness 60 ms away
    #[value(name = "pair_witness")]
    PairWitness,
    /// The leader is asked to hand over
    #[value(name = "hand_over")]
    HandOver,
}

/// A kind of site. Cases on one kind share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Arena {
    /// 3 boards, default clockwork.
    Three,
    /// 3 boards, `fast`.
    Fast,
    /// 2 boards and a witness.
    Pair,
}

impl Arena {
    /// The site for it.
    pub(super) fn wanted(self, program: &Path, below: &Path) -> Wanted {
        let pair = self == Self::Pair;
        Wanted {
            boards: if pair { 2 } else { 3 },
            preset: (self == Self::Fast).then_some("fast"),
            witness: pair.then_some(WITNESS_RTT),
            relays: false,
            program: program.to_owned(),
            below: below.to_owned(),
        }
    }
}

impl Case {
    /// As it stands in the figures.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::ProcessCrash => "process_crash",
            Self::SupervisorCrash => "supervisor_crash",
            Self::BoardGone => "board_gone",
            Self::BoardGoneFast => "board_gone_fast",
            Self::PairWitness => "pair_witness",
            Self::HandOver => "hand_over",
        }
    }

    /// Where it is tried.
    pub(super) fn arena(self) -> Arena {
        match self {
            Self::ProcessCrash | Self::SupervisorCrash | Self::BoardGone | Self::HandOver => Arena::Three,
            Self::BoardGoneFast => Arena::Fast,
            Self::PairWitness => Arena::Pair,
        }
    }

    /// Whether a cable is pulled.
    pub(super) fn needs_cable(self) -> bool {
        match self {
            Self::BoardGone | Self::BoardGoneFast | Self::PairWitness => true,
            Self::ProcessCrash | Self::SupervisorCrash | Self::HandOver => false,
        }
    }

    /// A hand-over may leave the duty where it is, under the next leader.
    fn next(self) -> Next {
        if self == Self::HandOver { Next::Anybody } else { Next::Another }
    }

    fn strike(self, site: &mut Site, board: u8) -> Result<Stamp, Failure> {
        match self {
            Self::ProcessCrash => site.kill_node(board),
            Self::SupervisorCrash => site.kill_supervisor_and_node(board),
            Self::BoardGone | Self::BoardGoneFast | Self::PairWitness => match site.lab() {
                Some(lab) => lab.pull(usize::from(board) - 1),
                None => Ok(site.kill_all(board)),
            },
            Self::HandOver => site.hand_over(board),
        }
    }
}

/// Waits until `site` is whole and stays so.
pub(super) async fn whole(site: &mut Site) -> Result<(), Failure> {
    for _ in 0..2 {
        let mut lacks = None;
        let mut failed = None;
        let is_whole = waits::until(WHOLE_MAX, || {
            // A supervisor that gave up would be started again by the system.
            failed = site.restart_ended().err();
            lacks = site.lacks();
            (lacks.is_none() || failed.is_some()).then_some(())
        });
        let found = is_whole.await;
        if let Some(failure) = failed {
            return Err(failure);
        }
        if found.is_none() {
            let what = format!("the site does not get whole: {}", lacks.unwrap_or_default());
            return Err(Failure::new(format!("{what}\n{}", site.tails())));
        }
        tokio::time::sleep(SETTLE).await;
    }
    Ok(())
}

/// One trial of `case` on `site`, which is whole before and after. `raw` gets the beats.
pub(super) async fn trial(
    case: Case,
    site: &mut Site,
    dice: &mut Dice,
    raw: Option<PathBuf>,
) -> Result<Trial, Failure> {
    whole(site).await?;
    if case == Case::PairWitness {
        tokio::time::sleep(WITNESS_LET_GO).await;
    }
    tokio::time::sleep(dice.below(waits::PHASES)).await;
    let holder = site
        .observer()
        .acting(ACTS_WITHIN)
        .ok_or_else(|| nobody(site, "before the fault"))?;
    let fault = case.strike(site, holder.board)?;
    let from = fault.minus(BEFORE);
    let who = case.next();
    let next = waits::until(TAKEOVER_MAX, || judge::judge(&site.observer().since(from), fault, who).takeover);
    next.await
        .ok_or_else(|| nobody(site, &format!("{} s after {}", TAKEOVER_MAX.as_secs(), case.as_str())))?;
    tokio::time::sleep(LINGER).await;
    if let Some(lab) = site.lab().filter(|_| case.needs_cable()) {
        lab.plug(usize::from(holder.board) - 1)?;
    }
    whole(site).await?;
    let beats = site.observer().since(from);
    if let Some(path) = raw {
        keep(&path, &beats, fault)?;
    }
    site.observer().forget(Stamp::now().minus(BEFORE));
    let Verdict { takeover, gap, overlaps, board } = judge::judge(&beats, fault, who);
    if overlaps > 0 {
        eprintln!(
            "OVERLAP: {overlaps} beats in a trial of {}, from board {} to {board:?}",
            case.as_str(),
            holder.board
        );
    }
    Ok(Trial { takeover: takeover.unwrap_or_default(), gap, overlaps })
}

fn nobody(site: &Site, when: &str) -> Failure {
    Failure::new(format!("nobody acts {when}\n{}", site.tails()))
}

/// Writes the beats of a trial, as a table for programs.
fn keep(path: &Path, beats: &[Beat], fault: Stamp) -> Result<(), Failure> {
    let mut text = String::from("ns_after_fault,board,process,token,number\n");
    for beat in beats {
        let at = i128::from(beat.stamp.0) - i128::from(fault.0);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{at},{},{},{},{}", beat.board, beat.process, beat.token, beat.number);
    }
    crate::files::write(path, text.as_bytes(), crate::files::Readers::All)
}
