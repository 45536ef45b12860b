//! What a person sees while the demo runs, on stderr: bars on a terminal, plain lines elsewhere, and in both the
//! timeline as it happens. Shows what it is given; asks nobody.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::site::BoardStatus;

/// Between two plain lines about how far things are.
const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// Boards with a line of their own. A terminal has few lines: the others are summed up in one.
const BOARD_LINES_MAX: usize = 8;

/// What is to be seen at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scene {
    /// Readings sent, acknowledged, stored by the region.
    pub(crate) sent: u64,
    /// Readings acknowledged.
    pub(crate) acked: u64,
    /// Readings that the region says it has.
    pub(crate) stored: u64,
    /// Readings sent once more.
    pub(crate) resent: u64,
    /// Whether the uplink is cut, and the datagrams it has swallowed.
    pub(crate) cut: Option<u64>,
    /// The boards.
    pub(crate) boards: Vec<BoardScene>,
}

/// One board at one moment.
#[derive(Clone, Debug)]
pub(crate) enum BoardScene {
    /// Killed by us and not started again.
    Dead,
    /// Its process runs but does not answer (yet).
    Silent,
    /// What it says.
    Up(BoardStatus),
}

/// The screen. Bars are cleared when it is dropped.
#[derive(Debug)]
pub(crate) struct Screen {
    begun: Instant,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Bars(Bars),
    Plain { next: Instant },
}

#[derive(Debug)]
struct Bars {
    all: MultiProgress,
    readings: ProgressBar,
    uplink: ProgressBar,
    boards: Vec<ProgressBar>,
}

impl Screen {
    /// A screen for `boards` boards and about `readings` readings.
    pub(crate) fn new(boards: usize, readings: u64) -> Self {
        let begun = Instant::now();
        let shown = if std::io::stderr().is_terminal() {
            Shown::Bars(Bars::new(boards, readings))
        } else {
            Shown::Plain { next: begun + PLAIN_EVERY }
        };
        Self { begun, shown }
    }

    /// A line of the timeline, with the time before it.
    pub(crate) fn say(&self, line: &str) {
        let line = format!("{:>6.1} s  {line}", self.begun.elapsed().as_secs_f64());
        match &self.shown {
            // An error means that the terminal is gone: then nobody reads.
            Shown::Bars(bars) => drop(bars.all.println(line)),
            Shown::Plain { .. } => eprintln!("{line}"),
        }
    }

    /// How things are now.
    pub(crate) fn show(&mut self, scene: &Scene) {
        match &mut self.shown {
            Shown::Bars(bars) => bars.show(scene),
            Shown::Plain { next } => {
                if Instant::now() < *next {
                    return;
                }
                *next += PLAIN_EVERY;
                let boards: Vec<String> = scene
                    .boards
                    .iter()
                    .enumerate()
                    .map(|(at, board)| format!("{} {}", at + 1, word(board)))
                    .collect();
                self.say(&format!("{}; uplink {}; boards {}", counts(scene), uplink(scene), boards.join(", ")));
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        match &self.shown {
            Shown::Bars(bars) => drop(bars.all.clear()),
            Shown::Plain { .. } => {}
        }
    }
}

impl Bars {
    fn new(boards: usize, readings: u64) -> Self {
        let all = MultiProgress::new();
        let line = |template: &str| {
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            style.progress_chars("=> ")
        };
        let bar = all.add(ProgressBar::new(readings.max(1)).with_style(line("readings [{bar:30}] {wide_msg}")));
        let uplink = all.add(ProgressBar::new_spinner().with_style(line("uplink   {wide_msg}")));
        let boards = (0..boards.min(BOARD_LINES_MAX + 1))
            .map(|_| all.add(ProgressBar::new_spinner().with_style(line("{wide_msg}"))))
            .collect();
        Self { all, readings: bar, uplink, boards }
    }

    fn show(&self, scene: &Scene) {
        self.readings.set_position(scene.stored);
        self.readings.set_message(counts(scene));
        self.uplink.set_message(uplink(scene));
        for (at, (bar, board)) in self.boards.iter().zip(&scene.boards).enumerate() {
            let is_rest = at == BOARD_LINES_MAX;
            bar.set_message(if is_rest {
                rest(&scene.boards[at..])
            } else {
                format!("board {:<2} {}", at + 1, long(board))
            });
        }
    }
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn counts(scene: &Scene) -> String {
    let Scene { sent, acked, stored, resent, .. } = scene;
    let mut text = format!("sent {}, acked {}, stored {}", grouped(*sent), grouped(*acked), grouped(*stored));
    if *resent > 0 {
        text.push_str(&format!(", re-sent {}", grouped(*resent)));
    }
    text
}

fn uplink(scene: &Scene) -> String {
    match scene.cut {
        None => "up".to_owned(),
        Some(swallowed) => format!("CUT ({} datagrams swallowed)", grouped(swallowed)),
    }
}

fn word(board: &BoardScene) -> String {
    match board {
        BoardScene::Dead => "dead".to_owned(),
        BoardScene::Silent => "silent".to_owned(),
        BoardScene::Up(status) if status.lease_remaining_ms.is_some() => "leads".to_owned(),
        BoardScene::Up(status) if status.degraded => "up, degraded".to_owned(),
        BoardScene::Up(_) => "up".to_owned(),
    }
}

fn long(board: &BoardScene) -> String {
    let word = word(board);
    match board {
        BoardScene::Dead | BoardScene::Silent => word,
        BoardScene::Up(status) => {
            format!("{word:<13} backlog {:>8}   committed {:>9}", grouped(status.backlog), grouped(status.committed))
        }
    }
}

fn rest(boards: &[BoardScene]) -> String {
    let up = boards.iter().filter(|board| matches!(board, BoardScene::Up(_))).count();
    let leads = boards
        .iter()
        .any(|board| matches!(board, BoardScene::Up(status) if status.lease_remaining_ms.is_some()));
    let leader = if leads { ", the leader among them" } else { "" };
    format!("and {} more boards: {up} up{leader}", boards.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands() {
        let shown: Vec<String> = [0, 7, 999, 1000, 12_345, 1_234_567].map(grouped).to_vec();
        assert_eq!(shown, ["0", "7", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn boards_in_a_word() {
        let status = BoardStatus::default();
        let leads = BoardStatus { lease_remaining_ms: Some(1), ..status.clone() };
        let degraded = BoardStatus { degraded: true, ..status.clone() };
        let boards = [BoardScene::Dead, BoardScene::Silent, status.into(), leads.into(), degraded.into()];
        let words: Vec<String> = boards.iter().map(word).collect();
        assert_eq!(words, ["dead", "silent", "up", "leads", "up, degraded"]);
        assert_eq!(rest(&boards), "and 5 more boards: 3 up, the leader among them");
    }

    impl From<BoardStatus> for BoardScene {
        fn from(status: BoardStatus) -> Self {
            Self::Up(status)
        }
    }
}
