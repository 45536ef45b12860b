//! Files beside the store, for their owner alone. What root makes at the command line belongs to whom the directory belongs, so that the
//! gateway's user can go on with it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown, fchown};
use std::path::Path;

/// Opens a file for writing, made where `is_new` or where it is not there.
pub(super) fn open(path: &Path, is_new: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    if is_new {
        options.create_new(true);
    } else {
        options.create(true).truncate(false);
    }
    let file = options.open(path)?;
    let (own, above) = (file.metadata()?, fs::metadata(path.parent().unwrap_or(Path::new("/")))?);
    if is_of_root(own.uid(), above.uid()) {
        fchown(&file, Some(above.uid()), Some(above.gid()))?;
    }
    Ok(file)
}

/// Makes a directory, and those above it, where they are not there.
pub(super) fn make_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        make_dir(above)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        Err(error) => return Err(error),
    }
    let above = path
        .parent()
        .filter(|above| !above.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let (own, above) = (fs::metadata(path)?, fs::metadata(above)?);
    if is_of_root(own.uid(), above.uid()) {
        chown(path, Some(above.uid()), Some(above.gid()))?;
    }
    Ok(())
}

/// Whether root made something where another user is at home.
const fn is_of_root(own: u32, above: u32) -> bool {
    own == 0 && above != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::scratch::Scratch;

    #[test]
    fn what_root_makes_belongs_to_the_directorys_owner() {
        let scratch = Scratch::new();
        let home = scratch.path().join("home");
        make_dir(&home.join("audit")).unwrap();
        let file = home.join("audit/head");
        drop(open(&file, true).unwrap());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&home).unwrap().mode() & 0o777, 0o700);
        assert!(open(&file, true).is_err() && open(&file, false).is_ok());
        // Only root can give a directory away, and only then is there something to try.
        if chown(&home, Some(12_345), Some(12_345)).is_ok() {
            make_dir(&home.join("other")).unwrap();
            drop(open(&home.join("other/head"), false).unwrap());
            for path in ["other", "other/head"] {
                let made = fs::metadata(home.join(path)).unwrap();
                assert_eq!((made.uid(), made.gid()), (12_345, 12_345), "{path}");
            }
        }
        assert!(is_of_root(0, 1) && !is_of_root(0, 0) && !is_of_root(1, 0) && !is_of_root(1, 2));
    }
}
