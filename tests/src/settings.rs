//! What kind of world a run takes place in: how many boards, how bad the network, which faults how often. Either
//! drawn from a seed (each seed draws its own mix, so that no fault hides behind the others) or set by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shared::config::{DutyConfig, DutyMode, RepairConfig};
use shared::ids::Name;
use shared::limits::DRIFT_PERMILLE;

use crate::dice::Dice;
use crate::disk::DiskSpeed;
use crate::faults::Fault;
use crate::mutant::Mutant;
use crate::story::Telling;

/// How far the worst clocks are off true time, in parts per million: a little within the bound that each may be off by.
const DRIFT_PPM: u64 = DRIFT_PERMILLE * 900;

/// How a way between two machines treats what travels on it.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Shortest delay.
    pub delay: Duration,
    /// What is mostly added at most; sometimes eight times as much.
    pub jitter: Duration,
    /// Packets lost, in a million.
    pub loss_ppm: u32,
    /// Datagrams that arrive twice, in a million.
    pub twice_ppm: u32,
}

/// Loss that comes in bursts: how long a way is good, and how long bad, on average.
#[derive(Clone, Copy, Debug)]
pub struct Bursts {
    /// Good.
    pub good: Duration,
    /// Bad: nearly all is lost.
    pub bad: Duration,
}

/// Everything that a run is decided by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether boards have a second path to the region, for alarms.
    pub second_path: bool,
    /// Whether a second region stands by.
    pub standby: bool,
    /// Files of what the region has that a journal keeps; `None`: as the configuration does by default.
    pub covered_kept: Option<u32>,
    /// Whether boards write the first files of their journals ahead.
    pub writes_ahead: bool,
    /// Decides every chance in the world.
    pub seed: u64,
    /// Boards of the site, 1 to 64.
    pub boards: u8,
    /// How many boards vote, from number 1 on; `None`: as the configuration does by default.
    pub voters: Option<u8>,
    /// Whether a witness votes, too.
    pub witness: bool,
    /// Whether an operator prefers a board as leader.
    pub ranked: bool,
    /// The users' duties.
    pub duties: Vec<DutyConfig>,
    /// Whether which boards can perform a duty is drawn; otherwise all can.
    pub scarce: bool,
    /// k: boards on which a reading is durable before it is acknowledged.
    pub copies: usize,
    /// Publishers.
    pub publishers: u8,
    /// Whether some publishers send some readings without asking for an acknowledgement (QoS 0).
    pub carefree: bool,
    /// Time between two readings of one publisher, at least and at most.
    pub interval: (Duration, Duration),
    /// How long publishers publish and faults happen.
    pub busy: Duration,
    /// How long the site may take after that to bring everything home.
    pub patience: Duration,
    /// Between boards.
    pub mesh: Weather,
    /// Between a board and the region.
    pub uplink: Weather,
    /// Between a board and the witness.
    pub witness_way: Weather,
    /// The boards' disks.
    pub disk: DiskSpeed,
    /// How much faster or slower than true time clocks run at most, in parts per million.
    pub drift_ppm: u64,
    /// Shortest and longest time from the end of a process to the start of the next.
    pub restart: (Duration, Duration),
    /// Bytes of one of a journal's files.
    pub segment_bytes: u32,
    /// Files that a journal may have.
    pub segments_max: u32,
    /// How the journals are verified, and when copies are made anew: everything often, so that a short run sees it.
    pub repair: RepairConfig,
    /// Which faults happen, and how far apart on average.
    pub faults: BTreeMap<Fault, Duration>,
    /// Which of the drawn faults strike, by their numbers; `None`: all.
    pub only: Option<BTreeSet<u32>>,
    /// The lie that is told, if any.
    pub mutant: Option<Mutant>,
    /// Who reads the story.
    pub telling: Telling,
}

impl Settings {
    /// A world without faults, slow disks or loss: for stories that bring their own.
    pub fn quiet(seed: u64, boards: u8, copies: usize) -> Self {
        let calm = |delay, jitter| Weather {
            delay: Duration::from_micros(delay),
            jitter: Duration::from_micros(jitter),
            loss_ppm: 0,
            twice_ppm: 0,
        };
        Self {
            second_path: false,
            standby: false,
            covered_kept: None,
            writes_ahead: false,
            seed,
            boards,
            // A pair without a witness has one that votes, so that losing the other is borne.
            voters: (boards == 2).then_some(1),
            witness: false,
            ranked: false,
            duties: Vec::new(),
            scarce: false,
            copies,
            publishers: 3,
            carefree: false,
            interval: (Duration::from_millis(10), Duration::from_millis(40)),
            busy: Duration::from_secs(10),
            patience: Duration::from_secs(60),
            mesh: calm(150, 200),
            uplink: calm(20_000, 4_000),
            witness_way: calm(1_000, 1_000),
            disk: DiskSpeed::default(),
            drift_ppm: 200,
            restart: (Duration::from_millis(20), Duration::from_millis(2_000)),
            segment_bytes: 512 * 1024,
            segments_max: 32,
            repair: RepairConfig {
                scrub_bytes_per_s: 8 * 1024 * 1024,
                scrub_every: Duration::from_secs(2),
                absent_after: Duration::from_secs(600),
            },
            faults: BTreeMap::new(),
            only: None,
            mutant: None,
            telling: Telling::Silent,
        }
    }

    /// The world that `seed` draws, with `fewest` to `most` boards.
    pub fn drawn(seed: u64, fewest: u8, most: u8) -> Self {
        let mut dice = Dice::new(seed ^ 0x5345_5454_494e_4753);
        let boards = draw_boards(&mut dice, fewest, most);
        let copies = match dice.below(4) {
            0 => dice.between(1, 3),
            _ => 2,
        };
        let quiet = Self::quiet(seed, boards, (copies as usize).min(usize::from(boards)));
        let fastest = dice.between(4, 40);
        let mut drawn = Self {
            publishers: (dice.between(1, 5) as u8).min(if boards > 7 { 2 } else { 5 }),
            carefree: true,
            scarce: true,
            interval: (Duration::from_millis(fastest), Duration::from_millis(fastest * 4)),
            busy: Duration::from_millis(dice.between(5_000, 10_000)),
            mesh: Weather {
                delay: Duration::from_micros(dice.between(50, 1_000)),
                jitter: Duration::from_micros(dice.between(50, 3_000)),
                loss_ppm: dice.pick(&[0, 1_000, 10_000, 50_000]).unwrap_or(0),
                twice_ppm: dice.pick(&[0, 10_000]).unwrap_or(0),
            },
            uplink: Weather {
                delay: Duration::from_millis(dice.between(5, 60)),
                jitter: Duration::from_millis(dice.between(1, 20)),
                loss_ppm: dice.pick(&[0, 10_000, 50_000]).unwrap_or(0),
                twice_ppm: 0,
            },
            disk: DiskSpeed { sync_max: Duration::from_millis(dice.between(2, 20)), ..DiskSpeed::default() },
            // Two clocks that differ most still keep to the bound that leases allow for.
            drift_ppm: dice.pick(&[0, 500, DRIFT_PPM]).unwrap_or(0),
            segment_bytes: dice.pick(&[64, 128, 512]).unwrap_or(512) * 1024,
            segments_max: dice.between(8, 16) as u32,
            repair: RepairConfig {
                scrub_every: Duration::from_millis(dice.between(1_000, 4_000)),
                absent_after: Duration::from_secs(dice.pick(&[3, 600]).unwrap_or(3)),
                ..quiet.repair
            },
            ..quiet
        };
        // By chances of their own, so that every other one stays as it was.
        let mut later = Dice::new(seed ^ 0x5345_434f_4e44);
        (drawn.second_path, drawn.writes_ahead) = (later.coin(), later.coin());
        drawn.draw_control(&mut dice.fork());
        for fault in Fault::ALL.into_iter().filter(|fault| *fault != Fault::RegionGone) {
            if dice.coin() {
                drawn
                    .faults
                    .insert(fault, fault.usual_gap().mul_f64(dice.between(5, 20) as f64 / 10.0));
            }
        }
        if dice.below(6) == 0 {
            drawn.becomes_a_storm();
        }
        if dice.below(5) == 0 {
            drawn.becomes_cramped();
        }
        if later.below(8) == 0 {
            drawn.gets_a_standby(&mut later);
        }
        drawn
    }

    /// Who votes, who is preferred, which duties there are.
    fn draw_control(&mut self, dice: &mut Dice) {
        let witnessed = if self.boards == 2 { dice.below(4) != 0 } else { dice.below(8) == 0 };
        self.witness = witnessed && self.boards > 1;
        let one_votes = self.boards == 2 && !self.witness && dice.coin();
        self.voters = one_votes.then_some(1);
        self.ranked = dice.below(4) == 0;
        let far = dice.pick(&[1, 1, 30, 80]).unwrap_or(1);
        self.witness_way =
            Weather { delay: Duration::from_millis(far), jitter: Duration::from_millis(far / 4 + 1), ..self.mesh };
        for place in 0..dice.below(4) {
            let active = dice.between(1, 2) as u8;
            let mode = if dice.coin() {
                DutyMode::Exclusive
            } else {
                DutyMode::Available { active }
            };
            let name = Name::try_from(["beat", "fuse", "count"][place as usize]).expect("the name is short");
            self.duties
                .push(DutyConfig { name, mode, standby: dice.coin(), is_local: true });
        }
    }

    /// Elections all the time: processes die and are back within a lease, and boards cannot hear one another.
    fn becomes_a_storm(&mut self) {
        self.restart = (Duration::from_millis(5), Duration::from_millis(300));
        for fault in [Fault::Crash, Fault::CrashMidway, Fault::OneWayCut, Fault::MeshCut, Fault::Pause, Fault::Stop] {
            self.faults.insert(fault, Duration::from_millis(900));
        }
    }

    /// A journal that is full within seconds, and a region that is away for as long.
    fn becomes_cramped(&mut self) {
        (self.segment_bytes, self.segments_max) = (64 * 1024, 8);
        self.interval = (Duration::from_millis(2), Duration::from_millis(8));
        self.faults.insert(Fault::RegionAway, Duration::from_millis(1_500));
    }

    /// A second region, the first of which is gone for seconds now and then, for which the world lasts longer. Some journals keep half of their files for the one that
    /// is away.
    fn gets_a_standby(&mut self, dice: &mut Dice) {
        self.standby = true;
        self.busy += Duration::from_secs(6);
        self.covered_kept = dice.coin().then_some(self.segments_max / 2);
        self.faults.insert(Fault::RegionGone, Fault::RegionGone.usual_gap());
    }

    /// In how many boards a lie shows. A pair has nobody else to keep a copy while one of it restarts: what that one
    /// claims is believed.
    pub const fn boards_for(mutant: Mutant) -> u8 {
        if matches!(mutant, Mutant::CacheTrusted | Mutant::WitnessForgets) {
            2
        } else {
            3
        }
    }

    /// The world that `seed` draws for a lie: the faults that bring it to light happen often.
    pub fn for_mutant(seed: u64, mutant: Mutant, boards: u8) -> Self {
        let mut settings = Self::drawn(seed, boards, boards);
        // None has to do with a lie, and all shift what its world meets.
        (settings.second_path, settings.writes_ahead) = (false, false);
        (settings.standby, settings.covered_kept) = (false, None);
        settings.faults.remove(&Fault::RegionGone);
        if matches!(mutant, Mutant::CacheTrusted | Mutant::EmptyDiskTrusted) {
            settings.restart = (Duration::from_millis(5), Duration::from_millis(200));
        }
        if mutant == Mutant::WitnessForgets {
            (settings.witness, settings.voters) = (true, None);
        }
        if mutant == Mutant::CacheTrusted {
            (settings.witness, settings.voters) = (false, Some(1));
        }
        if settings.duties.is_empty() {
            let name = Name::try_from("beat").expect("the name is short");
            settings.duties = vec![DutyConfig { name, mode: DutyMode::Exclusive, standby: true, is_local: true }];
        }
        settings.duties[0].mode = DutyMode::Exclusive;
        if matches!(mutant, Mutant::GapForgotten | Mutant::AlarmsAreBulk | Mutant::FreedBeforeDurable) {
            settings.becomes_cramped();
        }
        settings.mutant = Some(mutant);
        settings.copies = usize::from(boards.min(2));
        settings.publishers = 4;
        for fault in mutant.revealed_by() {
            settings.faults.insert(*fault, Duration::from_millis(1_500));
        }
        settings
    }
}

/// How many boards: mostly a few, sometimes a corridor, rarely as many as there can be.
fn draw_boards(dice: &mut Dice, fewest: u8, most: u8) -> u8 {
    let usual = match dice.below(64) {
        0 => 64,
        1..=6 => 16,
        _ => 7,
    };
    dice.between(u64::from(fewest), usual.clamp(u64::from(fewest), u64::from(most))) as u8
}
