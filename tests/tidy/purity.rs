//! Rules about what may be named where: import ranks and forbidden words in `shared`, loose ends anywhere, limits
//! that limit nothing.

use std::collections::BTreeSet;

use crate::code;
use crate::tree::{File, Tree};

/// Rank of every module of `shared`. A module imports lower ranks; within ranks 0 and 1 also its own; stages
/// (rank 2) and the places where they meet (rank 3) never import each other.
const RANKS: &[(&str, u8)] = &[
    ("checksum", 0),
    ("ids", 0),
    ("limits", 0),
    ("ranges", 0),
    ("time", 0),
    ("action", 1),
    ("block", 1),
    ("config", 1),
    ("event", 1),
    ("frame", 1),
    ("identity", 1),
    ("outbox", 1),
    ("record", 1),
    ("wire", 1),
    ("admit", 2),
    ("duties", 2),
    ("election", 2),
    ("journal", 2),
    ("membership", 2),
    ("region", 2),
    ("replicate", 2),
    ("seal", 2),
    ("uplink", 2),
    ("witness", 3),
    ("hub", 3),
    ("node", 3),
];
/// From this rank on, modules of one rank do not import each other.
const APART_FROM: u8 = 2;
/// Where what decides stands.
const DECIDES: &str = "shared/src/";
/// Words that only a shell may say: clock, task, entropy, unordered map, log line, the standard library itself.
const IMPURE: [&str; 12] = [
    "std",
    "tokio",
    "async",
    "await",
    "HashMap",
    "HashSet",
    "SystemTime",
    "tracing",
    "println",
    "eprintln",
    "thread_rng",
    "getrandom",
];
/// Pairs of words that only a shell may say.
const IMPURE_PATHS: [&str; 3] = ["Instant::now", "log::", "rand::"];

fn rank(module: &str) -> Option<u8> {
    RANKS.iter().find(|(name, _)| *name == module).map(|(_, rank)| *rank)
}

fn deciding(tree: &Tree) -> impl Iterator<Item = &File> {
    tree.rust().filter(|file| file.path.starts_with(DECIDES) && !file.is_test())
}

/// Modules of `shared` that import what stands above or beside them, and modules without a rank.
pub(crate) fn imports_out_of_rank(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut met = BTreeSet::new();
    for file in deciding(tree).filter(|file| file.path != "shared/src/lib.rs") {
        let (module, depth) = place(&file.path);
        met.insert(module);
        let Some(own) = rank(module) else {
            complaints.push(file.complain(0, format!("module `{module}` has no rank: add it to `RANKS`")));
            continue;
        };
        for (at, name) in imports(&file.product, depth) {
            let Some(other) = rank(name) else { continue };
            let beside = other == own && own >= APART_FROM && name != module;
            if other > own || beside {
                let what = format!("`{module}` (rank {own}) imports `{name}` (rank {other})");
                complaints.push(file.complain(at, what));
            }
        }
    }
    let gone = RANKS.iter().filter(|(name, _)| !met.contains(name));
    complaints.extend(gone.map(|(name, _)| format!("`RANKS` lists `{name}`, which `{DECIDES}` does not have")));
    complaints
}

/// The module of `shared` that a file belongs to, and how deep below the crate it stands.
fn place(path: &str) -> (&str, usize) {
    let inner = path
        .trim_start_matches(DECIDES)
        .trim_end_matches(".rs")
        .trim_end_matches("/mod");
    (inner.split('/').next().unwrap_or(inner), inner.split('/').count())
}

/// The crate's modules that `code` names by `crate::` or `super::`, from a file `depth` modules below the crate.
fn imports(code: &str, depth: usize) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (at, word) in code::words(code) {
        let after = match word {
            "crate" => at + "crate".len(),
            "super" if depth == 1 => at + "super".len(),
            "super" => match climb(code, at, depth) {
                Some(after) => after,
                None => continue,
            },
            _ => continue,
        };
        // The last of several `super` is reached by the first one's climb.
        if word == "super" && code[..at].ends_with("super::") {
            continue;
        }
        if let Some(path) = code[after..].strip_prefix("::") {
            let start = code.len() - path.len();
            found.extend(heads(code, start));
        }
    }
    found
}

/// Where `depth` times `super`, from `at` on, end; `None` where there are fewer or more.
fn climb(code: &str, at: usize, depth: usize) -> Option<usize> {
    let chain = vec!["super"; depth].join("::");
    let end = at + chain.len();
    code[at..].starts_with(&chain).then_some(end)
}

/// First words of a path, or of each path in a braced group.
fn heads(code: &str, start: usize) -> Vec<(usize, &str)> {
    if !code[start..].starts_with('{') {
        return vec![(start, code::word_at(code, start))];
    }
    let end = code::closing(code.as_bytes(), start);
    let mut heads = Vec::new();
    let mut depth = 0;
    let mut fresh = false;
    for (at, byte) in code.as_bytes()[start..end].iter().enumerate() {
        match byte {
            b'{' => {
                depth += 1;
                fresh = depth == 1;
            }
            b'}' => depth -= 1,
            b',' => fresh = depth == 1,
            byte if fresh && byte.is_ascii_alphabetic() => {
                heads.push((start + at, code::word_at(code, start + at)));
                fresh = false;
            }
            _ => {}
        }
    }
    heads
}

/// Words in `shared` that name a clock, task, socket, file, entropy or log line.
pub(crate) fn impure_words(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in deciding(tree) {
        for (at, word) in code::words(&file.product).filter(|(_, word)| IMPURE.contains(word)) {
            complaints.push(file.complain(at, format!("`{word}` acts; what decides may not name it")));
        }
        for path in IMPURE_PATHS {
            let starts_a_word = |at: &usize| !file.product[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let places = file.product.match_indices(path).map(|(at, _)| at).filter(starts_a_word);
            complaints
                .extend(places.map(|at| file.complain(at, format!("`{path}` acts; what decides may not name it"))));
        }
    }
    complaints
}

/// `unwrap` outside tests, and macros of unfinished work anywhere.
pub(crate) fn loose_ends(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree.rust() {
        let code = if file.is_test() { &file.code } else { &file.product };
        for (at, word) in code::words(code) {
            let rest = &code[at + word.len()..];
            let unwraps = word == "unwrap" && rest.starts_with("()") && !file.is_test();
            let unfinished = matches!(word, "todo" | "unimplemented" | "dbg") && rest.starts_with('!');
            if unwraps {
                complaints.push(file.complain(at, "`unwrap`: say the invariant with `expect`, or return the error"));
            }
            if unfinished {
                complaints.push(file.complain(at, format!("`{word}!` is unfinished work")));
            }
        }
    }
    complaints
}

/// Limits that no other file names.
pub(crate) fn idle_limits(tree: &Tree) -> Vec<String> {
    let path = "shared/src/limits.rs";
    let Some(limits) = tree.get(path) else {
        return vec![format!("{path} is missing")];
    };
    let used: BTreeSet<&str> = tree
        .rust()
        .filter(|file| file.path != path)
        .flat_map(|file| code::words(&file.product))
        .map(|(_, word)| word)
        .collect();
    let names = limits.code.match_indices("pub const ").map(|(at, found)| at + found.len());
    names
        .map(|at| (at, code::word_at(&limits.code, at)))
        .filter(|(_, name)| !used.contains(name))
        .map(|(at, name)| limits.complain(at, format!("nothing is limited by `{name}`")))
        .collect()
}

/// The fuzz targets' crate: a workspace of its own, which the build of the project does not build.
const FUZZ: &str = "tests/fuzz/";

/// Crates that the fuzz targets import and their crate does not depend on: the project builds their library as a module of its
/// own tests, where other crates are at hand.
pub(crate) fn undeclared_in_fuzz(tree: &Tree) -> Vec<String> {
    let path = format!("{FUZZ}Cargo.toml");
    let Some(manifest) = tree.get(&path) else {
        return vec![format!("{path} is missing")];
    };
    let (_, dependencies) = manifest.text.split_once("[dependencies]").unwrap_or_default();
    let dependencies = dependencies.split("\n[").next().unwrap_or_default();
    let declared: BTreeSet<String> = dependencies
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0.trim().replace('-', "_")))
        .chain(["std", "core", "alloc", "crate", "super", "self", "fuzz"].map(str::to_owned))
        .collect();
    let mut complaints = Vec::new();
    for file in tree.rust().filter(|file| file.path.starts_with(FUZZ)) {
        let imports = file.code.match_indices("use ").map(|(at, found)| at + found.len());
        for at in imports.filter(|at| file.code[..at - 4].trim_end_matches(' ').ends_with(['\n', '{', ';']) || *at == 4)
        {
            let name = code::word_at(&file.code, at);
            // What a file declares itself is no crate.
            let is_own = file.code.contains(&format!("mod {name};"));
            if !is_own && !declared.contains(name) {
                complaints.push(file.complain(at, format!("`{name}` is not among the dependencies in {path}")));
            }
        }
    }
    complaints
}

/// Complaints about ranks for a sample that has nothing but `path`.
#[cfg(test)]
fn rank_complaints(path: &str, text: &str) -> Vec<String> {
    let mut found = imports_out_of_rank(&Tree::sample(&[(path, text)]));
    found.retain(|complaint| !complaint.contains("does not have"));
    found
}

#[test]
fn imports_upwards_are_found_in_every_spelling() {
    for (path, text) in [
        ("shared/src/time.rs", "use crate::record::Key;"),
        ("shared/src/ids.rs", "use crate::{limits::X, wire::{peer, uplink}};"),
        ("shared/src/ids.rs", "fn f() { crate::node::x() }"),
        ("shared/src/wire/peer.rs", "use super::super::journal::Journal;"),
        ("shared/src/event.rs", "use super::seal;"),
    ] {
        assert_eq!(rank_complaints(path, text).len(), 1, "{path}: {text}");
    }
}

#[test]
fn stages_importing_each_other_are_found() {
    assert_eq!(rank_complaints("shared/src/journal/mod.rs", "use crate::seal::Seal;").len(), 1);
    assert_eq!(rank_complaints("shared/src/journal/read.rs", "use super::super::uplink::X;").len(), 1);
    assert_eq!(rank_complaints("shared/src/hub.rs", "use crate::node::Node;").len(), 1);
}

#[test]
fn imports_in_rank_are_left_alone() {
    for (path, text) in [
        ("shared/src/ids.rs", "use crate::limits::BOARDS_MAX; // crate::node"),
        ("shared/src/event.rs", "use crate::frame::FrameRefusal;"),
        (
            "shared/src/journal/read.rs",
            "use super::format::Page; use crate::journal::format; use crate::ids::Seq;",
        ),
        ("shared/src/journal/mod.rs", "#[cfg(test)]\nmod tests { use crate::node::Node; }"),
        ("shared/src/node.rs", "use crate::{journal, seal, wire::peer::Run};"),
    ] {
        assert_eq!(rank_complaints(path, text), [""; 0], "{path}: {text}");
    }
}

#[test]
fn a_module_without_rank_and_a_rank_without_module_are_found() {
    assert_eq!(rank_complaints("shared/src/novel.rs", "").len(), 1);
    let found = imports_out_of_rank(&Tree::sample(&[("shared/src/time.rs", "")]));
    assert_eq!(found.len(), RANKS.len() - 1, "{found:?}");
}

#[test]
fn what_acts_is_found_in_what_decides_and_only_there() {
    let bad = "use std::fs; async fn f() { Instant::now(); log::info() } // std";
    let tree = Tree::sample(&[("shared/src/node.rs", bad), ("firmware/src/lib.rs", bad)]);
    assert_eq!(impure_words(&tree).len(), 4, "{:?}", impure_words(&tree));
    let good = "let catalog::X = 1; // std\n#[cfg(test)]\nmod tests { extern crate std; }";
    assert_eq!(impure_words(&Tree::sample(&[("shared/src/node.rs", good)])), [""; 0]);
}

#[test]
fn loose_ends_are_found_where_they_count() {
    let bad = "fn f() { x.unwrap(); todo!() }";
    let found = loose_ends(&Tree::sample(&[("link/src/lib.rs", bad), ("tests/src/lib.rs", bad)]));
    assert_eq!(found.len(), 3, "{found:?}");
    let good = "fn f() { x.unwrap_or(1) } // todo!()\n#[cfg(test)]\nmod tests { fn g() { x.unwrap() } }";
    assert_eq!(loose_ends(&Tree::sample(&[("link/src/lib.rs", good)])), [""; 0]);
    let declares = "#[cfg(test)]\nmod world;\nmod product;";
    let unwraps = "fn f() { x.unwrap() }";
    let files = [
        ("link/src/a/mod.rs", declares),
        ("link/src/a/world.rs", unwraps),
        ("link/src/a/product.rs", unwraps),
    ];
    assert_eq!(loose_ends(&Tree::sample(&files)).len(), 1, "a module of tests may unwrap");
}

#[test]
fn a_limit_that_nobody_names_is_idle() {
    let limits = "pub const USED: u8 = 1;\npub const IDLE: u8 = 2;\nconst _: () = assert!(IDLE > USED);";
    let other = "use crate::limits::USED; // IDLE";
    let found = idle_limits(&Tree::sample(&[("shared/src/limits.rs", limits), ("shared/src/ids.rs", other)]));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("IDLE"), "{found:?}");
}

#[test]
fn what_the_fuzz_targets_import_must_be_declared() {
    let manifest = "[package]\nserde = 1\n[dependencies]\nlibfuzzer-sys = \"0.4\"\n[workspace]\nserde = 1\n";
    let source =
        "mod board;\nuse board::X;\nuse libfuzzer_sys::fuzz_target;\nuse core::fmt;\nuse serde::Serialize; // use it\n";
    let files = [("tests/fuzz/Cargo.toml", manifest), ("tests/fuzz/src/lib.rs", source)];
    let found = undeclared_in_fuzz(&Tree::sample(&files));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("`serde`"), "{found:?}");
}
