//! Where the project stands and what the machine is like: paths and facts that tiers and tools ask for.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// The place of work.
pub(crate) struct Workshop {
    /// The repository's folder.
    pub(crate) root: PathBuf,
    /// Where cargo builds; also holds what the tests need beside cargo.
    pub(crate) target: PathBuf,
    /// Plain lines only: no colour, no progress bar.
    pub(crate) plain: bool,
}

impl Workshop {
    /// Looks at the environment that cargo has set up.
    pub(crate) fn find() -> Self {
        let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let mut root = PathBuf::from(manifest);
        root.pop();
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        let plain = env::var("CI").is_ok_and(|value| value == "true");
        Self { root, target, plain }
    }

    /// Path of a program of the release build.
    pub(crate) fn release(&self, name: &str) -> PathBuf {
        self.target.join("release").join(name)
    }

    /// Folder of programs that the tests need and that are no part of the machine.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// Folder of the Python environment that has what the tests import.
    pub(crate) fn python(&self) -> PathBuf {
        self.tools().join("venv")
    }

    /// Folders in which programs are looked for: our own first, then the machine's.
    pub(crate) fn search_path(&self) -> Vec<PathBuf> {
        let path = env::var_os("PATH").unwrap_or_default();
        let own = [self.tools().join("bin"), self.python().join("bin")];
        own.into_iter().chain(env::split_paths(&path)).collect()
    }

    /// Where `program` stands.
    pub(crate) fn which(&self, program: &str) -> Option<PathBuf> {
        self.search_path()
            .into_iter()
            .map(|folder| folder.join(program))
            .find(|candidate| candidate.is_file())
    }
}

/// Whether this process may install packages.
pub(crate) fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
