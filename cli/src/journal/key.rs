//! `roadstead journal key`: files of keys. A key is destroyed only where nothing needs it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use firmware::inspect::walk::Piece;
use firmware::keys::{KeyError, KeyRing};
use link::logging::whole_story;

use super::arguments::KeyCommand;
use super::{counted, open, unreadable};
use crate::failure::Failure;
use crate::files::{self, Readers};
use crate::status::plain;

pub(super) fn run(asked: &KeyCommand) -> Result<ExitCode, Failure> {
    match asked {
        KeyCommand::New { file } => new(file),
        KeyCommand::List { file, dir } => crate::say(&list(file, dir.as_deref())?),
        KeyCommand::Rotate { file } => rotate(file),
        KeyCommand::Destroy { file, generation, dir, force } => destroy(file, *generation, dir, *force),
    }
}

/// Makes a file with one new key at `path`, which must not exist.
pub(crate) fn make(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok() {
        return Err(Failure::new(format!("{} exists already", path.display()))
            .remedy("add a key to it with `roadstead journal key rotate`, or take another name"));
    }
    write(path, &KeyRing::new().map_err(unusable)?)
}

fn new(path: &Path) -> Result<ExitCode, Failure> {
    make(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    crate::say(&format!(
        "{} made; say `key = \"{name}\"` in [journal] of this board's board.toml\n",
        path.display()
    ))
}

fn list(path: &Path, dir: Option<&Path>) -> Result<String, Failure> {
    let ring = read(path)?;
    let needed = dir.map(needed).transpose()?;
    let mut table = plain(&["generation", "key", "state", "segments that need it"]);
    let newest = ring.newest().map(|newest| newest.number);
    for generation in ring.generations() {
        let state = match generation.is_destroyed() {
            true => "destroyed",
            false if newest == Some(generation.number) => "seals new segments",
            false => "reads older segments",
        };
        let needed = needed
            .as_ref()
            .map(|needed| needed.get(&generation.id).copied().unwrap_or(0).to_string());
        let needed = needed.unwrap_or_else(|| "-".to_owned());
        table.add_row(vec![generation.number.to_string(), generation.name(), state.to_owned(), needed]);
    }
    Ok(format!("{}\n", table.trim_fmt()))
}

fn rotate(path: &Path) -> Result<ExitCode, Failure> {
    let mut ring = read(path)?;
    let number = ring.rotate().map_err(|error| match error {
        KeyError::Text { fault, .. } => Failure::new(format!("{} is full: {fault}", path.display()))
            .remedy("destroy its oldest generations with `roadstead journal key destroy`"),
        other => unusable(other),
    })?;
    write(path, &ring)?;
    crate::say(&format!("generation {number} seals new segments from now on\n"))
}

fn destroy(path: &Path, number: u32, dir: &Path, force: bool) -> Result<ExitCode, Failure> {
    let mut ring = read(path)?;
    let shown = path.display();
    let Some(generation) = ring.generations().iter().find(|generation| generation.number == number) else {
        return Err(Failure::new(format!("{shown} has no generation {number}"))
            .remedy("`roadstead journal key list` shows which there are"));
    };
    if generation.is_destroyed() {
        return crate::say(&format!("generation {number} is destroyed already\n"));
    }
    if ring.newest().is_some_and(|newest| newest.number == number) {
        return Err(Failure::new(format!("generation {number} is the newest, which seals what is written"))
            .remedy("add another first: `roadstead journal key rotate`"));
    }
    let needed = needed(dir)?.get(&generation.id).copied().unwrap_or(0);
    if needed > 0 && !force {
        let segments = counted(needed, "segment");
        return Err(Failure::new(format!("{segments} in {} need generation {number}", dir.display())).remedy(
            "wait until the region has their records and they are gone; with --force those records are lost on this board",
        ));
    }
    ring.destroy(number);
    let old = OpenOptions::new().write(true).open(path);
    write(path, &ring)?;
    // The old file has no name any more; its bytes go as far as a file system lets them.
    old.and_then(|old| wipe(&old))
        .map_err(|error| Failure::new(format!("the old bytes of {shown} could not be overwritten")).because(error))?;
    crate::say(&format!("generation {number} is destroyed: what it encrypted can be read no more\n"))
}

fn wipe(mut old: &File) -> io::Result<()> {
    let length = usize::try_from(old.metadata()?.len()).unwrap_or(0);
    old.write_all(&vec![0; length])?;
    old.sync_all()
}

/// How many segments hold blocks under each key, by the number that blocks call it, less its cipher.
fn needed(dir: &Path) -> Result<BTreeMap<u32, u64>, Failure> {
    let dir = open(dir)?;
    let mut needed = BTreeMap::new();
    for segment in dir.segments().map_err(unreadable)? {
        let mut met = Vec::new();
        dir.walk(segment, |piece| {
            if let Piece::Block(block) = piece
                && block.header.is_sealed()
                && !met.contains(&(block.header.key & !1))
            {
                met.push(block.header.key & !1);
            }
            ControlFlow::Continue(())
        })
        .map_err(unreadable)?;
        for id in met {
            *needed.entry(id).or_default() += 1;
        }
    }
    Ok(needed)
}

fn read(path: &Path) -> Result<KeyRing, Failure> {
    KeyRing::read(path).map_err(unusable)
}

/// Whole or not at all, and durable: a board may seal with it at once.
fn write(path: &Path, ring: &KeyRing) -> Result<(), Failure> {
    files::write(path, ring.to_text().as_bytes(), Readers::Owner)?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let synced = File::open(parent).and_then(|directory| directory.sync_all());
    synced.map_err(|error| Failure::new(format!("cannot sync {}", parent.display())).because(error))
}

fn unusable(error: KeyError) -> Failure {
    Failure::new(whole_story(&error))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_file_of_keys_is_made_rotated_and_listed() {
        let scratch = Scratch::new("keys");
        let path = scratch.path().join("journal.key");
        make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(make(&path).unwrap_err().to_string().contains("exists already"));
        rotate(&path).unwrap();
        let shown = list(&path, None).unwrap();
        let rows: Vec<&str> = shown.lines().collect();
        assert!(rows[1].contains("reads older segments") && rows[2].contains("seals new segments"), "{shown}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(list(&path, None).unwrap_err().to_string().contains("chmod 600"));
    }
}
