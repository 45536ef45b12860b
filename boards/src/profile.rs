//! One board as its profile describes it. What is not known is absent, never guessed: every reader must cope.

use std::fmt;

use serde::Deserialize;

/// A board.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Name of the profile and of its file: lower-case letters, digits and hyphens.
    pub name: String,
    /// Name of the product, for people.
    pub title: String,
    /// Rust's name of what to compile for.
    pub target: String,
    /// Processor cores of all kinds; at least 1.
    pub cores: Option<u16>,
    /// Bytes of main memory of the smallest variant sold; at least 64 MiB.
    pub memory_bytes: Option<u64>,
    /// Where the journal usually lies.
    pub storage: Option<Storage>,
    /// What restarts a hung board.
    pub watchdog: Option<Watchdog>,
    /// What the runtime should keep to on this board.
    pub limits: Limits,
}

/// The medium that a board's journal is written to. Cards and modules differ: sizes and endurance belong to the part that was
/// bought, and are absent in profiles of boards that come without one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// What sort of medium.
    pub kind: StorageKind,
    /// Its size.
    pub bytes: Option<u64>,
    /// What it erases at once; a power of two.
    pub erase_block_bytes: Option<u32>,
    /// Terabytes (10^12 bytes) that may be written in its life, by its maker's word.
    pub endurance_tbw: Option<u32>,
    /// How often each of its cells may be written, where its maker says that instead; at least 1.
    pub endurance_cycles: Option<u32>,
    /// Bytes that it writes inside for each byte it is given, rounded up; at least 1. It goes with `endurance_cycles`.
    pub write_amplification: Option<u32>,
}

impl Storage {
    /// Bytes that may be written to it in its life: what its maker says, else its size times its cells' cycles over what it
    /// writes inside for each byte. `None` where a part of that is not known.
    pub fn endurance(&self) -> Option<u64> {
        if let Some(terabytes) = self.endurance_tbw {
            return Some(u64::from(terabytes) * 1_000_000_000_000);
        }
        let inside = self.bytes?.saturating_mul(self.endurance_cycles?.into());
        inside.checked_div(self.write_amplification?.into())
    }
}

/// A sort of storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StorageKind {
    /// An SD or microSD card.
    SdCard,
    /// Soldered or plugged eMMC.
    Emmc,
    /// An NVMe drive.
    Nvme,
    /// Whatever the machine has.
    Disk,
}

/// A hardware watchdog as Linux offers it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watchdog {
    /// Its device file.
    pub device: String,
    /// Longest time between two signs of life, in seconds; at least 1.
    pub timeout_s_max: Option<u16>,
}

/// What the runtime should keep to. These are the project's choices, no facts of the hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes that the journal may take; 32 MiB or more, at most the storage's size.
    pub journal_bytes_max: u64,
}

/// Why a profile is refused. The author's fault; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfileRefusal {
    /// Not TOML, or a key or type that profiles do not have; with line and column.
    Text(String),
    /// A value that no board has.
    Value(&'static str),
}

impl fmt::Display for ProfileRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(why) => f.write_str(why),
            Self::Value(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ProfileRefusal {}

/// Below this the runtime has no room to work.
const MEMORY_BYTES_MIN: u64 = 64 << 20;
/// Four segments of 8 MiB: the smallest journal there is.
const JOURNAL_BYTES_MIN: u64 = 32 << 20;

impl Profile {
    /// The board that `text` describes.
    ///
    /// # Errors
    /// [`ProfileRefusal`] for what is no profile, or describes no board.
    pub fn parse(text: &str) -> Result<Self, ProfileRefusal> {
        let profile: Self = toml::from_str(text).map_err(|error| ProfileRefusal::Text(error.to_string()))?;
        match profile.fault() {
            Some(fault) => Err(ProfileRefusal::Value(fault)),
            None => Ok(profile),
        }
    }

    /// What cannot be right, if anything.
    fn fault(&self) -> Option<&'static str> {
        let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let storage = self.storage.as_ref();
        let erase_block = storage.and_then(|storage| storage.erase_block_bytes);
        let storage_bytes = storage.and_then(|storage| storage.bytes).unwrap_or(u64::MAX);
        let watchdog = self.watchdog.as_ref();
        let faults = [
            (
                self.name.is_empty() || !self.name.chars().all(named),
                "`name` is lower-case letters, digits and hyphens",
            ),
            (self.title.is_empty(), "`title` is empty"),
            (self.target.split('-').count() < 3, "`target` is no target triple"),
            (self.cores == Some(0), "`cores` is at least 1"),
            (self.memory_bytes.is_some_and(|bytes| bytes < MEMORY_BYTES_MIN), "`memory_bytes` is at least 64 MiB"),
            (erase_block.is_some_and(|bytes| !bytes.is_power_of_two()), "`erase_block_bytes` is a power of two"),
            (storage.is_some_and(|storage| storage.endurance_tbw == Some(0)), "`endurance_tbw` is at least 1"),
            (
                storage.is_some_and(|storage| storage.endurance_cycles == Some(0)),
                "`endurance_cycles` is at least 1",
            ),
            (
                storage.is_some_and(|storage| storage.write_amplification == Some(0)),
                "`write_amplification` is at least 1",
            ),
            (watchdog.is_some_and(|dog| !dog.device.starts_with("/dev/")), "`device` is a file below /dev"),
            (watchdog.is_some_and(|dog| dog.timeout_s_max == Some(0)), "`timeout_s_max` is at least 1"),
            (self.limits.journal_bytes_max < JOURNAL_BYTES_MIN, "`journal_bytes_max` is at least 32 MiB"),
            (self.limits.journal_bytes_max > storage_bytes, "`journal_bytes_max` is at most the storage's size"),
        ];
        faults.into_iter().find(|(holds, _)| *holds).map(|(_, fault)| fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
name = "a-1"
title = "A"
target = "aarch64-unknown-linux-gnu"
cores = 1
memory_bytes = 67_108_864
[storage]
kind = "emmc"
bytes = 33_554_432
erase_block_bytes = 4096
endurance_tbw = 10
endurance_cycles = 1
write_amplification = 1
[watchdog]
device = "/dev/watchdog"
timeout_s_max = 1
[limits]
journal_bytes_max = 33_554_432
"#;

    #[test]
    fn values_at_their_limits_are_taken() {
        let profile = Profile::parse(WHOLE).unwrap();
        assert_eq!(profile.storage.map(|storage| storage.kind), Some(StorageKind::Emmc));
        assert_eq!(profile.watchdog.and_then(|dog| dog.timeout_s_max), Some(1));
    }

    #[test]
    fn what_is_not_known_may_be_absent() {
        let text = "name = 'b'\ntitle = 'B'\ntarget = 'a-b-c'\n[limits]\njournal_bytes_max = 33554432\n";
        let profile = Profile::parse(text).unwrap();
        assert_eq!((profile.cores, profile.memory_bytes, profile.storage, profile.watchdog), (None, None, None, None));
    }

    #[test]
    fn endurance_is_the_makers_word_or_reckoned_from_all_its_parts() {
        let storage = |text: &str| Profile::parse(text).unwrap().storage.unwrap();
        assert_eq!(storage(WHOLE).endurance(), Some(10_000_000_000_000));
        // A 32 GB part of 3,000 cycles that writes 4 bytes for one: 24 TB.
        let reckoned = WHOLE
            .replace("endurance_tbw = 10\n", "")
            .replace("bytes = 33_554_432\n", "bytes = 32_000_000_000\n")
            .replace("endurance_cycles = 1", "endurance_cycles = 3000")
            .replace("write_amplification = 1", "write_amplification = 4");
        assert_eq!(storage(&reckoned).endurance(), Some(24_000_000_000_000));
        assert_eq!(storage(&reckoned.replace("write_amplification = 4\n", "")).endurance(), None);
    }

    #[test]
    fn values_past_their_limits_are_refused() {
        for (good, bad) in [
            ("\"a-1\"", "\"A 1\""),
            ("\"A\"", "\"\""),
            ("aarch64-unknown-linux-gnu", "arm"),
            ("cores = 1", "cores = 0"),
            ("67_108_864", "67_108_863"),
            ("= 4096", "= 4095"),
            ("endurance_tbw = 10", "endurance_tbw = 0"),
            ("endurance_cycles = 1", "endurance_cycles = 0"),
            ("write_amplification = 1", "write_amplification = 0"),
            ("/dev/watchdog", "watchdog"),
            ("timeout_s_max = 1", "timeout_s_max = 0"),
            ("journal_bytes_max = 33_554_432", "journal_bytes_max = 33_554_431"),
            ("journal_bytes_max = 33_554_432", "journal_bytes_max = 33_554_433"),
        ] {
            let text = WHOLE.replace(good, bad);
            assert_ne!(text, WHOLE, "{good}");
            assert!(matches!(Profile::parse(&text), Err(ProfileRefusal::Value(_))), "{bad}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let text = WHOLE.replace("cores = 1", "cors = 1");
        let Err(ProfileRefusal::Text(why)) = Profile::parse(&text) else {
            panic!("an unknown key was taken");
        };
        assert!(why.contains("line 5") && why.contains("cors"), "{why}");
    }
}
