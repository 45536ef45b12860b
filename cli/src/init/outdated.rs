//! What is left of an earlier, larger site in a directory that is made anew. Boards beyond the new plan lose what
//! `init` wrote for them, so that nobody takes them for boards of the site; their records are not touched.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use shared::ids::{BoardId, BoardSet};
use shared::limits::BOARDS_MAX;

use super::sensors::{TOKEN_FILE, USERS_FILE};
use super::{BOARD_DIR_PREFIX, BOARD_FILE};
use crate::failure::Failure;
use crate::files;

/// What `init` writes for a board, its configuration last: while that is there the rest is known to be ours.
const FILES: [&str; 7] =
    ["certificate.pem", "key.pem", "site-ca.pem", "region-ca.pem", USERS_FILE, TOKEN_FILE, BOARD_FILE];

/// Removes what `init` once wrote in `dir` for boards that are not `current`, and their directories where nothing else
/// is in them. Returns the directories that stay: a journal may hold acknowledged records that no other place has.
pub(super) fn remove(dir: &Path, current: BoardSet) -> Result<Vec<PathBuf>, Failure> {
    let mut kept = Vec::new();
    let others = (1..=BOARDS_MAX as u8)
        .filter_map(BoardId::new)
        .filter(|board| !current.contains(*board));
    for board in others {
        let dir = dir.join(format!("{BOARD_DIR_PREFIX}{}", board.get()));
        // Without a configuration, or behind a link, it is not what `init` made.
        if dir.is_symlink() || !dir.join(BOARD_FILE).is_file() {
            continue;
        }
        for name in FILES {
            files::remove(&dir.join(name))?;
        }
        match std::fs::remove_dir(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => kept.push(dir),
            Err(error) => return Err(Failure::new(format!("cannot remove {}", dir.display())).because(error)),
        }
    }
    Ok(kept)
}
