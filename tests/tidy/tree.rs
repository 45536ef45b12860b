//! The files of a project, held in memory: of the real one, or of a sample made for a rule's own test.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::code;

/// Larger files are data, not text that somebody wrote.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// Folders that hold nothing of ours.
const SKIPPED: [&str; 5] = ["target", ".git", "node_modules", "__pycache__", "corpus"];

/// One text file.
pub(crate) struct File {
    /// Its path from the project's folder, with `/`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
    /// For Rust: the text with comments and strings blanked out, same length and lines.
    pub(crate) code: String,
    /// The same with modules that only tests have blanked out too.
    pub(crate) product: String,
    /// Whether another file declares this one for tests alone.
    for_tests: bool,
}

/// Every file of a project.
pub(crate) struct Tree {
    files: BTreeMap<String, File>,
    /// Paths that are no text, and folders.
    others: Vec<String>,
}

impl Tree {
    /// The project this test belongs to.
    pub(crate) fn of_project() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the crate stands in the project's folder");
        let mut tree = Self { files: BTreeMap::new(), others: Vec::new() };
        tree.read(root, "");
        tree.mark_tests();
        tree
    }

    /// A made-up project.
    pub(crate) fn sample(files: &[(&str, &str)]) -> Self {
        let mut tree = Self { files: BTreeMap::new(), others: Vec::new() };
        for (path, text) in files {
            tree.add((*path).to_owned(), (*text).to_owned());
        }
        tree.mark_tests();
        tree
    }

    fn read(&mut self, folder: &Path, prefix: &str) {
        let entries = fs::read_dir(folder).expect("a folder of the project can be read");
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() {
                if !SKIPPED.contains(&name.as_str()) {
                    self.read(&entry.path(), &format!("{path}/"));
                    self.others.push(path);
                }
            } else if let Some(text) = text_of(&entry.path(), about.len()) {
                self.add(path, text);
            } else {
                self.others.push(path);
            }
        }
    }

    fn add(&mut self, path: String, text: String) {
        let is_rust = path.ends_with(".rs");
        let code = if is_rust { code::blank(&text) } else { String::new() };
        let product = if is_rust { code::without_tests(&code) } else { String::new() };
        self.files
            .insert(path.clone(), File { path, text, code, product, for_tests: false });
    }

    /// Marks files that others declare behind `#[cfg(test)]`.
    fn mark_tests(&mut self) {
        let marked: Vec<String> = self.rust().flat_map(test_modules).collect();
        for path in marked {
            // A folder's files are its module's.
            let folder = format!("{}/", path.trim_end_matches(".rs"));
            for file in self.files.values_mut() {
                file.for_tests |= file.path == path || file.path.starts_with(&folder);
            }
        }
    }

    /// Every text file, by path.
    pub(crate) fn files(&self) -> Vec<&File> {
        self.files.values().collect()
    }

    /// Every Rust file, by path.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.values().filter(|file| file.path.ends_with(".rs"))
    }

    /// Every paper, by path.
    pub(crate) fn papers(&self) -> impl Iterator<Item = &File> {
        self.files.values().filter(|file| file.path.ends_with(".md"))
    }

    /// The file at `path`.
    pub(crate) fn get(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    /// Whether a file or folder stands at `path`.
    pub(crate) fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        path.is_empty()
            || self.files.contains_key(path)
            || self.others.iter().any(|other| other == path)
            || self.files.keys().any(|file| file.starts_with(&folder))
    }
}

/// Where the files stand that `file` declares as `#[cfg(test)] mod name;`.
fn test_modules(file: &File) -> impl Iterator<Item = String> {
    let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
    let below = match name {
        "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
        name => format!("{folder}/{}", name.trim_end_matches(".rs")),
    };
    let declared = file.code.split("#[cfg(test)]").skip(1);
    let modules = declared.filter_map(|rest| rest.trim_start().strip_prefix("mod ")?.split_once(';'));
    modules.map(move |(module, _)| format!("{below}/{module}.rs"))
}

fn text_of(path: &Path, bytes: u64) -> Option<String> {
    if bytes > TEXT_BYTES_MAX {
        return None;
    }
    fs::read_to_string(path).ok()
}

impl File {
    /// Whether only tests use this file.
    pub(crate) fn is_test(&self) -> bool {
        let stem = self.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        let is_named_so = stem == "tests" || stem.ends_with("_tests");
        let stands_so = self.path.split('/').rev().skip(1).any(|part| part == "tests");
        self.for_tests || is_named_so || stands_so
    }

    /// The line, from 1, on which the byte `at` stands.
    pub(crate) fn line_of(&self, at: usize) -> usize {
        self.text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// A complaint about the byte `at`.
    pub(crate) fn complain(&self, at: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{}: {what}", self.path, self.line_of(at))
    }
}
