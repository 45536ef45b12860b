//! The `[[duty]]` sections: other people's processes that the site runs as duties. Owns what their keys may say; how such
//! a process is run is in [`crate::supervise`], who runs it is decided by `shared::duties`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::config::text::{ConfigError, Spanned, Text};
use shared::config::{DutyConfig, DutyMode};
use shared::ids::Name;
use shared::limits::{BOARDS_MAX, DUTIES_MAX, NAME_BYTES_MAX};

/// Words of a duty's command, its program included. More are refused.
pub const COMMAND_WORDS_MAX: usize = 64;
/// Variables that a duty's environment may set. More are refused.
pub const ENVIRONMENT_MAX: usize = 64;
/// Bytes of one word of a command, or of one variable's value. Longer ones are refused.
pub const WORD_BYTES_MAX: usize = 4096;
/// Capabilities of a board, or that one duty needs. More are refused.
pub const CAPABILITIES_MAX: usize = 32;

/// How a duty's process is run on this board. Durations in the file are in the unit that ends their key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DutyProcess {
    /// The duty's name.
    pub name: Name,
    /// The mode's word, `exclusive` or `available`: handed to the process.
    pub mode: &'static str,
    /// Program and arguments: at least one.
    pub command: Vec<String>,
    /// Whether a process stands ready while another board acts. Default false: it is started when it is to act.
    pub standby: bool,
    /// Whether it says when it is ready (`READY=1`). Default false: it is ready once started.
    pub notify: bool,
    /// A process that is not ready after so long is ended. Default 30 s.
    pub ready_within: Duration,
    /// A ready process that has not said `WATCHDOG=1` for so long is ended. Default none.
    pub watchdog: Option<Duration>,
    /// A process that was asked to stop is killed after so long, or before its lease ends. Default 2 s.
    pub stop_within: Duration,
    /// Restarts within [`Self::restarts_within`] before this board gives the duty up for a while. Default 5.
    pub restarts_max: u32,
    /// Over what time restarts are counted, and for how long it is given up. Default 60 s.
    pub restarts_within: Duration,
    /// Bytes of its own data, in MiB (RLIMIT_DATA). Default no limit.
    pub memory_max_mib: Option<u32>,
    /// Files it may have open. Default 256.
    pub files_max: u32,
    /// How far it steps back for others, 0 to 19. Default 5: the node comes first.
    pub nice: u8,
    /// Its working directory. Default that of the supervisor.
    pub directory: Option<PathBuf>,
    /// Variables set for it beside the supervisor's own and `ROADSTEAD_*`.
    pub environment: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum RawMode {
    Exclusive,
    Available,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDuty {
    name: Spanned<String>,
    #[serde(default)]
    command: Option<Spanned<Vec<Spanned<String>>>>,
    mode: Spanned<RawMode>,
    active: Option<Spanned<u8>>,
    #[serde(default)]
    standby: bool,
    #[serde(default)]
    notify: bool,
    ready_within_ms: Option<Spanned<u32>>,
    watchdog_ms: Option<Spanned<u32>>,
    stop_within_ms: Option<Spanned<u32>>,
    restarts_max: Option<Spanned<u32>>,
    restarts_within_s: Option<Spanned<u32>>,
    memory_max_mib: Option<Spanned<u32>>,
    files_max: Option<Spanned<u32>>,
    nice: Option<Spanned<u8>>,
    directory: Option<PathBuf>,
    #[serde(default)]
    environment: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    needs: Vec<Spanned<String>>,
}

/// The site's duties as the node decides by them, and the processes of those that this board can perform. `capabilities`
/// is what this board has; a directory is relative to `beside`.
pub(super) fn check(
    text: &Text<'_>,
    raw: &[Spanned<RawDuty>],
    capabilities: &[Spanned<String>],
    beside: &Path,
) -> Result<(Vec<DutyConfig>, Vec<DutyProcess>), ConfigError> {
    let has = names(text, "capabilities", capabilities)?;
    let (mut duties, mut processes) = (Vec::new(), Vec::new());
    for duty in raw {
        if duties.len() == DUTIES_MAX {
            return Err(text.refuse(duty.span(), format!("more than {DUTIES_MAX} duties")));
        }
        let raw = duty.get_ref();
        let name = text.name("duty.name", &raw.name)?;
        if name.as_str() == "uplink" || duties.iter().any(|other: &DutyConfig| other.name == name) {
            let message = format!("`duty.name` is \"{name}\", which another duty has");
            return Err(text.refuse(raw.name.span(), message).suggest("give each duty its own name"));
        }
        let needs = names(text, "duty.needs", &raw.needs)?;
        let command = raw.command(text)?;
        let is_local = !command.is_empty() && needs.is_subset(&has);
        let mode = raw.mode(text)?;
        if is_local {
            processes.push(raw.process(text, name.clone(), command, beside)?);
        }
        duties.push(DutyConfig { name, mode, standby: raw.standby, is_local });
    }
    Ok((duties, processes))
}

fn names(text: &Text<'_>, key: &str, raw: &[Spanned<String>]) -> Result<BTreeSet<Name>, ConfigError> {
    if let Some(beyond) = raw.get(CAPABILITIES_MAX) {
        return Err(text.refuse(beyond.span(), format!("`{key}` has more than {CAPABILITIES_MAX} words")));
    }
    raw.iter().map(|name| text.name(key, name)).collect()
}

impl RawDuty {
    fn mode(&self, text: &Text<'_>) -> Result<DutyMode, ConfigError> {
        match (self.mode.get_ref(), &self.active) {
            (RawMode::Exclusive, None) => Ok(DutyMode::Exclusive),
            (RawMode::Exclusive, Some(active)) => Err(text
                .refuse(active.span(), "`duty.active` says how many, but an exclusive duty acts on one board")
                .suggest("take `active` out, or say mode = \"available\"")),
            (RawMode::Available, active) => {
                let active = text.within_or("duty.active", active.as_ref(), 1..=BOARDS_MAX as u8, "boards", 1)?;
                Ok(DutyMode::Available { active })
            }
        }
    }

    fn command(&self, text: &Text<'_>) -> Result<Vec<String>, ConfigError> {
        let Some(command) = &self.command else { return Ok(Vec::new()) };
        let words = command.get_ref();
        if !(1..=COMMAND_WORDS_MAX).contains(&words.len()) {
            let message = format!("`duty.command` has {} words, but it has 1 to {COMMAND_WORDS_MAX}", words.len());
            return Err(text.refuse(command.span(), message).suggest(
                "such as [\"/usr/bin/python3\", \"signal.py\"]; without it this board never performs the duty",
            ));
        }
        words
            .iter()
            .enumerate()
            .map(|(place, word)| plain(text, "duty.command", word, place > 0))
            .collect()
    }

    fn process(
        &self,
        text: &Text<'_>,
        name: Name,
        command: Vec<String>,
        beside: &Path,
    ) -> Result<DutyProcess, ConfigError> {
        let millis = |key: &str, given: &Option<Spanned<u32>>, from: u32, default: u32| {
            let checked = text.within_or(key, given.as_ref(), from..=3_600_000, "ms", default)?;
            Ok::<_, ConfigError>(Duration::from_millis(u64::from(checked)))
        };
        let watchdog = self
            .watchdog_ms
            .as_ref()
            .map(|given| text.within("duty.watchdog_ms", given, 50..=3_600_000, "ms"));
        let within = text.within_or("duty.restarts_within_s", self.restarts_within_s.as_ref(), 1..=86_400, "s", 60)?;
        let memory = self.memory_max_mib.as_ref();
        let memory = memory.map(|given| text.within("duty.memory_max_mib", given, 1..=1_048_576, "MiB"));
        Ok(DutyProcess {
            name,
            mode: match self.mode.get_ref() {
                RawMode::Exclusive => "exclusive",
                RawMode::Available => "available",
            },
            command,
            standby: self.standby,
            notify: self.notify,
            ready_within: millis("duty.ready_within_ms", &self.ready_within_ms, 10, 30_000)?,
            watchdog: watchdog.transpose()?.map(|millis| Duration::from_millis(u64::from(millis))),
            stop_within: millis("duty.stop_within_ms", &self.stop_within_ms, 1, 2000)?,
            restarts_max: text.within_or("duty.restarts_max", self.restarts_max.as_ref(), 0..=1000, "", 5)?,
            restarts_within: Duration::from_secs(u64::from(within)),
            memory_max_mib: memory.transpose()?,
            files_max: text.within_or("duty.files_max", self.files_max.as_ref(), 8..=1_048_576, "", 256)?,
            nice: text.within_or("duty.nice", self.nice.as_ref(), 0..=19, "", 5)?,
            directory: self.directory.as_ref().map(|directory| beside.join(directory)),
            environment: self.environment(text)?,
        })
    }

    fn environment(&self, text: &Text<'_>) -> Result<BTreeMap<String, String>, ConfigError> {
        let mut environment = BTreeMap::new();
        for (key, value) in &self.environment {
            let is_plain = !key.is_empty() && !key.contains(['=', '\0']) && key.len() <= WORD_BYTES_MAX;
            if !is_plain || key.starts_with("ROADSTEAD_") || environment.len() == ENVIRONMENT_MAX {
                let message = format!(
                    "`duty.environment` cannot set \"{}\"",
                    &key.chars().take(NAME_BYTES_MAX).collect::<String>()
                );
                return Err(text
                    .refuse(value.span(), message)
                    .suggest(format!("at most {ENVIRONMENT_MAX} variables, none of them ROADSTEAD_*")));
            }
            environment.insert(key.clone(), plain(text, "duty.environment", value, true)?);
        }
        Ok(environment)
    }
}

/// A word that a process can be started with.
fn plain(text: &Text<'_>, key: &str, word: &Spanned<String>, may_be_empty: bool) -> Result<String, ConfigError> {
    let given = word.get_ref();
    if given.contains('\0') || given.len() > WORD_BYTES_MAX || (given.is_empty() && !may_be_empty) {
        let message = format!(
            "`{key}` has a word that is no word: empty, longer than {WORD_BYTES_MAX} bytes, or with a zero byte"
        );
        return Err(text.refuse(word.span(), message));
    }
    Ok(given.clone())
}
