//! Real power cuts: three emulated boards run the `roadstead` that ships under a real kernel and a real ext4, and lose power
//! all at once under load; their disks keep a random subset of what was not flushed. After each cut the boards start
//! again, a gateway comes up, and everything that was acknowledged must be in its store, once.
//!
//! The same rig without fdatasync, without the file system's barriers, and with a disk that ignores flushes must lose
//! something: otherwise it proves nothing. There a loss counts where every board has come up again and has delivered all that
//! it still has, so that what is missing was acknowledged and is gone.
//!
//! What emulation needs lies below `ROADSTEAD_EMULATOR`, where `cargo xtask powercut` puts it.

mod blocks;
mod machine;
mod wire;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::dice::Dice;

use crate::load::{Account, Load};
use crate::powercut::blocks::{Disk, Mains};
use crate::powercut::machine::{CLEAN, Care, Machine, Place, SETTLED, Tools};
use crate::powercut::wire::Switch;
use crate::site::Site;
use crate::{store, until};

/// Boards.
const BOARDS: usize = 3;
/// Bytes of a board's disk.
const DISK_BYTES: u64 = 96 * 1024 * 1024;
/// An emulated site is up after so long, on a machine that does other things too.
const UP_MAX: Duration = Duration::from_secs(180);
/// What is acknowledged reaches the store after so long.
const DRAIN_MAX: Duration = Duration::from_secs(120);
/// A careless site is given so long to bring up what it still has.
const LOSER_DRAIN_MAX: Duration = Duration::from_secs(60);
/// A board under load writes within so long.
const WRITE_MAX: Duration = Duration::from_secs(20);
/// Power goes after between so many acknowledgements of all boards together.
const ACKED_AT_CUT: (u64, u64) = (60, 900);
/// Of these, acknowledgements after the last moment at which the disks of a careless site write out their caches.
const ACKED_AT_STAKE: u64 = 100;
/// Cuts tried until a careless site has lost something.
const CARELESS_CUTS_MAX: u64 = 3;
/// Careless sites tried: one whose file system does not bear the cut shows nothing, and the next one is made.
const CARELESS_SITES_MAX: u64 = 12;

/// What a rig does wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carelessness {
    None,
    /// fdatasync is taken out of the program.
    NoSync,
    /// The file system does not ask the disk to flush.
    NoBarriers,
    /// The disk says that it has flushed, and has not.
    FlushIgnored,
}

impl Carelessness {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::NoSync => "no_fdatasync",
            Self::NoBarriers => "no_barriers",
            Self::FlushIgnored => "flush_ignored",
        }
    }

    const fn care(self) -> Care {
        Care { syncs: !matches!(self, Self::NoSync), barriers: !matches!(self, Self::NoBarriers) }
    }
}

/// Three emulated boards and their gateway.
struct Lab {
    tools: Tools,
    site: Site,
    dir: PathBuf,
    mains: Mains,
    disks: Vec<Disk>,
    machines: Vec<Machine>,
    _switch: Switch,
    carelessness: Carelessness,
    dice: Dice,
    accounts: Vec<Account>,
    cuts: u64,
    /// Starts at which the check of a board's file system had something to mend.
    mended: u64,
}

impl Lab {
    fn make(tools: Tools, carelessness: Carelessness, seed: u64) -> Self {
        let site = Site::make(u8::try_from(BOARDS).unwrap());
        let dir = site.board_dir(1).parent().unwrap().join("lab");
        fs::create_dir(&dir).unwrap();
        let blank = blank_disk(&dir);
        for board in 1..=BOARDS {
            site.edit(board, |text| emulated(text, &site, board));
            tools.write_system(&system_of(&dir, board), &site.board_dir(board));
        }
        let ignores = carelessness == Carelessness::FlushIgnored;
        let mains = Mains::default();
        let disks = (0..BOARDS).map(|_| Disk::new(blank.clone(), ignores, &mains)).collect();
        let switch = Switch::start(&dir, BOARDS);
        Self {
            tools,
            site,
            dir,
            mains,
            disks,
            machines: Vec::new(),
            _switch: switch,
            carelessness,
            dice: Dice::new(seed),
            accounts: Vec::new(),
            cuts: 0,
            mended: 0,
        }
    }

    /// Switches every board on.
    fn power_on(&mut self) {
        self.mains.restore();
        for board in 1..=BOARDS {
            let disk = self.dir.join(format!("disk-{board}"));
            self.disks[board - 1].serve(&disk);
            let system = system_of(&self.dir, board);
            let (mqtt, http) = (self.site.mqtt(board), self.site.http(board));
            let place = Place { dir: &self.dir, number: board, system: &system, disk: &disk, mqtt, http };
            self.machines
                .push(Machine::start(&self.tools, &place, self.carelessness.care()));
        }
    }

    /// Whether what the boards wrote at their start is durable, however careless they are: then what a cut takes is what they
    /// acknowledged, and not the files that they need to start.
    fn settles(&self) -> bool {
        let settled = until(UP_MAX, || (1..=BOARDS).all(|board| self.console(board).contains(SETTLED)));
        self.disks.iter().for_each(Disk::settle);
        settled
    }

    /// Whether every board is ready and hears the others within `within`.
    fn gets_ready(&self, within: Duration) -> bool {
        let all: Vec<usize> = (1..=BOARDS).collect();
        until(within, || all.iter().all(|board| self.site.is_ready(*board, &all)))
    }

    /// Publishes to every board until enough is acknowledged, and cuts the power of all.
    fn load_and_cut(&mut self) {
        self.cuts += 1;
        let loads: Vec<Load> = (1..=BOARDS)
            .map(|board| {
                let name = format!("loop-{}-{board}", self.cuts);
                let bytes = usize::try_from(self.dice.between(40, 1500)).unwrap();
                Load::start(self.site.mqtt(board), &name, bytes, u64::MAX)
            })
            .collect();
        let enough = self.dice.between(ACKED_AT_CUT.0, ACKED_AT_CUT.1);
        let takes = |least| until(UP_MAX, || loads.iter().map(Load::acked).sum::<u64>() >= least);
        assert!(takes(enough), "the boards take too few readings\n{}", self.tails());
        if self.carelessness != Carelessness::None {
            // The last moments alone are put at stake: a file system that is never flushed does not even mount, and shows nothing.
            self.disks.iter().for_each(Disk::settle);
            assert!(takes(enough + ACKED_AT_STAKE), "the boards take too few readings\n{}", self.tails());
        }
        self.cut_power();
        self.machines.iter().for_each(Machine::strike);
        self.machines.clear();
        let lost: usize = self.disks.iter().map(|disk| disk.lose(&mut self.dice)).sum();
        let mut acked = 0;
        for load in loads {
            let account = load.wait();
            acked += account.acked().count();
            self.accounts.push(account);
        }
        println!("cut {}: {acked} readings were acknowledged, {lost} sectors are lost", self.cuts);
    }

    /// At any moment, or right after a write of one of the boards, before it can be flushed: the rarer moment.
    fn cut_power(&mut self) {
        if self.dice.below(4) == 0 {
            std::thread::sleep(self.dice.span(Duration::ZERO, Duration::from_millis(300)));
        } else {
            let board = usize::try_from(self.dice.below(BOARDS as u64)).unwrap();
            self.disks[board].cut_after(self.dice.between(1, 12));
            until(WRITE_MAX, || self.mains.is_cut());
        }
        self.mains.cut();
    }

    /// After a cut: boards and gateway start; what reached the store is held against what was promised. Returns how many
    /// readings are missing.
    fn recover(&mut self) -> usize {
        self.power_on();
        assert!(self.gets_ready(UP_MAX), "the boards do not get ready after cut {}\n{}", self.cuts, self.tails());
        let is_mended = |board: &usize| !self.console(*board).contains(CLEAN);
        let mended: Vec<usize> = (1..=BOARDS).filter(is_mended).collect();
        if !mended.is_empty() {
            self.mended += mended.len() as u64;
            println!("the file systems of the boards {mended:?} were mended after cut {}", self.cuts);
        }
        self.site.start_gateway();
        if !until(DRAIN_MAX, || self.missing() == 0) {
            println!("{} are missing after cut {}\n{}", self.missing(), self.cuts, self.tails());
            return self.missing();
        }
        store::expect_all(&self.site, &self.accounts);
        self.site.kill_gateway();
        0
    }

    /// The same where something must be lost: how many readings are missing once every board is up and has nothing left that
    /// the region lacks; `None` where a board does not come up, which shows nothing.
    fn recover_with_loss(&mut self) -> Option<usize> {
        self.power_on();
        let begun = Instant::now();
        let all: Vec<usize> = (1..=BOARDS).collect();
        let is_ready = || all.iter().all(|board| self.site.is_ready(*board, &all));
        until(UP_MAX, || is_ready() || all.iter().any(|board| self.is_done_for(*board)));
        if !is_ready() {
            println!("{}: not every board comes up, which shows nothing", self.carelessness.name());
            (1..=BOARDS)
                .filter(|board| self.is_done_for(*board))
                .for_each(|board| println!("{}", self.tail(board)));
            return None;
        }
        self.site.start_gateway();
        let has_delivered = |board: &usize| self.site.status(*board).is_some_and(|status| status["backlog"] == 0);
        let delivered = until(LOSER_DRAIN_MAX, || all.iter().all(has_delivered));
        let missing = self.missing();
        let end = if delivered {
            "all that is left was delivered"
        } else {
            "not all was delivered in time"
        };
        println!("{}: {missing} are missing after {:?}: {end}", self.carelessness.name(), begun.elapsed());
        self.site.kill_gateway();
        delivered.then_some(missing)
    }

    fn missing(&self) -> usize {
        store::missing(&self.accounts, &store::rows(&self.site.data_dir())).len()
    }

    fn console(&self, board: usize) -> String {
        fs::read_to_string(self.dir.join(format!("console-{board}.txt"))).unwrap_or_default()
    }

    /// Whether a board's disk is such that it cannot start.
    fn is_done_for(&self, board: usize) -> bool {
        let console = self.console(board);
        ["NOT MOUNTED", "ENDED", "Kernel panic"]
            .iter()
            .any(|words| console.contains(words))
    }

    fn tail(&self, board: usize) -> String {
        let console = self.console(board);
        let lines: Vec<&str> = console.lines().collect();
        format!("console of board {board}:\n    {}\n", lines[lines.len().saturating_sub(25)..].join("\n    "))
    }

    fn tails(&self) -> String {
        (1..=BOARDS).map(|board| self.tail(board)).collect()
    }
}

fn system_of(dir: &Path, board: usize) -> PathBuf {
    dir.join(format!("system-{board}.cpio"))
}

/// An empty ext4, as bytes.
fn blank_disk(dir: &Path) -> Vec<u8> {
    let image = dir.join("blank.img");
    fs::File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
    let options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-E", options])
        .arg(&image)
        .output()
        .unwrap();
    assert!(made.status.success(), "mkfs.ext4: {}", String::from_utf8_lossy(&made.stderr));
    fs::read(&image).unwrap()
}

/// The configuration of a board that is a machine of its own: other addresses, other directory, a calmer clockwork.
fn emulated(text: &str, site: &Site, board: usize) -> String {
    let mut text = text.to_owned();
    for other in 1..=BOARDS {
        let mesh = site.mesh(other);
        text = text.replace(&mesh.to_string(), &format!("10.77.0.{other}:{}", mesh.port()));
    }
    let door = site.mqtt(board);
    text = text.replace(&door.to_string(), &format!("0.0.0.0:{}", door.port()));
    let gateway = site.gateway_quic();
    text = text.replace(&gateway.to_string(), &format!("10.0.2.2:{}", gateway.port()));
    text = text.replace("\ndata_dir = \"data\"", "\ndata_dir = \"/data/board\"");
    text = text.replace("\n[identity]", "\n[mqtt]\nanonymous = true\n\n[identity]");
    text = text.replace("\n[timing]", "\n[timing]\npreset = \"rough\"");
    replace_section(&text, "[journal]", "[journal]\nsegment_mib = 4\nsegments_max = 16\n")
}

/// `text` with the section that begins with the line `head`, the last one, replaced by `with`.
fn replace_section(text: &str, head: &str, with: &str) -> String {
    let at = text.rfind(head).unwrap();
    format!("{}{with}", &text[..at])
}

fn wanted(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().unwrap())
}

/// How many acknowledged readings are lost to `carelessness`, of a site that comes up again.
fn lost_by(tools: &Tools, carelessness: Carelessness, seed: u64) -> usize {
    for site in 0..CARELESS_SITES_MAX {
        let mut lab = Lab::make(tools.clone(), carelessness, seed + site);
        lab.power_on();
        assert!(lab.gets_ready(UP_MAX), "the boards do not get ready\n{}", lab.tails());
        for _ in 0..CARELESS_CUTS_MAX {
            assert!(lab.settles(), "the boards do not settle\n{}", lab.tails());
            lab.load_and_cut();
            match lab.recover_with_loss() {
                Some(0) => {}
                Some(missing) => return missing,
                None => break,
            }
        }
    }
    0
}

/// The rig itself is its own proof: the careless runs must lose what the careful one keeps.
#[test]
#[ignore = "needs an emulator: cargo xtask powercut --cuts 5"]
fn emulated_boards_that_lose_power_together_keep_what_they_acknowledged() {
    let root = std::env::var_os("ROADSTEAD_EMULATOR").expect("ROADSTEAD_EMULATOR says where the emulator is");
    let tools = Tools::at(PathBuf::from(root));
    let (cuts, seed) = (wanted("ROADSTEAD_CUTS", 5), wanted("ROADSTEAD_SEED", 1));
    let begun = Instant::now();
    let careless = [Carelessness::NoSync, Carelessness::NoBarriers, Carelessness::FlushIgnored]
        .map(|carelessness| (carelessness.name(), lost_by(&tools, carelessness, seed)));
    let must_fail: BTreeMap<_, _> = careless.into_iter().collect();
    println!("the careless runs took {:?} and lost {must_fail:?}", begun.elapsed());
    let mut lab = Lab::make(tools, Carelessness::None, seed);
    lab.power_on();
    assert!(lab.gets_ready(UP_MAX), "the boards do not get ready\n{}", lab.tails());
    let mut lost = 0;
    while lab.cuts < cuts && lost == 0 {
        lab.load_and_cut();
        lost = lab.recover();
    }
    let report = json!({
        "cuts": lab.cuts,
        "lost": lost,
        "must_fail_lost": must_fail.values().sum::<usize>(),
        "must_fail": must_fail,
        "acknowledged": lab.accounts.iter().map(|account| account.acked().count()).sum::<usize>(),
        "file_systems_mended": lab.mended,
        "flushes": lab.disks.iter().map(Disk::flushes).sum::<u64>(),
        "seed": seed,
        "seconds": begun.elapsed().as_secs(),
    });
    println!("{report}");
    if let Some(path) = std::env::var_os("ROADSTEAD_JSON") {
        fs::write(path, format!("{report:#}\n")).unwrap();
    }
    assert_eq!(lost, 0, "acknowledged readings are lost");
    for (name, lost) in must_fail {
        assert!(lost > 0, "{name} lost nothing: the rig is broken and its other figures say nothing");
    }
}
