//! `roadstead init --encrypt`: a file of keys for each board's journal, and the line that names it. Keys that are there
//! already stay: records may be encrypted with them.

use std::path::{Path, PathBuf};

use firmware::config::BoardConfig;

use crate::failure::Failure;
use crate::files;
use crate::journal::key;

/// Name of the file of keys in a board's directory.
const KEY_FILE: &str = "journal.key";
/// The line of a configuration as `init` writes it for a plain journal.
const PLAIN: &str = "# key = \"journal.key\" ";
const ENCRYPTED: &str = "key = \"journal.key\"   ";

/// Gives the boards of these configurations, which [`make_site`](super::make_site) has just written, encrypted journals.
pub fn encrypt(boards: &[PathBuf]) -> Result<(), Failure> {
    for config in boards {
        let keys = config.with_file_name(KEY_FILE);
        if keys.symlink_metadata().is_err() {
            key::make(&keys)?;
        }
        name_key(config)?;
    }
    Ok(())
}

fn name_key(config: &Path) -> Result<(), Failure> {
    files::rewrite(config, |text| text.replacen(PLAIN, ENCRYPTED, 1))?;
    let bytes = files::read_config(config)?;
    let checked = BoardConfig::parse(config, &bytes).map_err(|refusal| super::unusable(config, &refusal))?;
    if checked.journal_key.is_none() {
        let what = format!("{} has no place for `key` in [journal]", config.display());
        return Err(Failure::new(what).remedy("make the site anew, without other programs that change it"));
    }
    Ok(())
}
