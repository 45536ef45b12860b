//! Rules about what is written for people: promises name tests that exist, links and commands work, figures say how
//! they were measured, and nothing speaks of one machine or registry.

use crate::tree::{File, Tree};

/// Where promises stand, and how many there are.
const PROMISES: (&str, usize) = ("docs/promises.md", 9);
/// What a promise without a test says instead.
const NOT_BUILT: &str = "Not built yet";
/// The table of measured figures.
const FIGURES: (&str, &str) = ("README.md", "## Measured");
/// Cargo's own subcommands that papers may name.
const CARGO: [&str; 11] =
    ["build", "check", "clippy", "deny", "doc", "fmt", "fuzz", "install", "nextest", "run", "test"];

/// Promises that name no test, or one that does not exist.
pub(crate) fn unproven_promises(tree: &Tree) -> Vec<String> {
    let (path, wanted) = PROMISES;
    let Some(paper) = tree.get(path) else {
        return vec![format!("{path} is missing")];
    };
    let sections: Vec<&str> = paper.text.split("\n## ").skip(1).collect();
    let mut complaints = Vec::new();
    for number in 1..=wanted {
        let Some(section) = sections.iter().find(|section| section.starts_with(&format!("{number}. "))) else {
            complaints.push(format!("{path}: promise {number} has no section"));
            continue;
        };
        let references: Vec<&str> = spans(section).filter(|span| span.contains(".rs::")).collect();
        if references.is_empty() && !section.contains(NOT_BUILT) {
            complaints.push(format!("{path}: promise {number} names no test and does not say \"{NOT_BUILT}\""));
        }
        let missing = references.into_iter().filter(|reference| !test_exists(tree, reference));
        complaints.extend(missing.map(|reference| format!("{path}: promise {number}: no test `{reference}`")));
    }
    complaints
}

/// Whether `path::name` is a test of the project: a marked function, or a name in a macro's table of tests.
fn test_exists(tree: &Tree, reference: &str) -> bool {
    let Some((path, name)) = reference.split_once("::") else { return false };
    let name = name.rsplit("::").next().unwrap_or(name);
    let Some(file) = tree.get(path) else { return false };
    let lines: Vec<&str> = file.code.lines().collect();
    let makes_tests = lines.iter().any(|line| line.contains("fn $test("));
    if makes_tests && lines.iter().any(|line| line.trim_start().starts_with(&format!("{name} =>"))) {
        return true;
    }
    let declaration = format!("fn {name}(");
    let Some(at) = lines.iter().position(|line| line.contains(&declaration)) else {
        return false;
    };
    let above = lines[..at].iter().rev().map(|line| line.trim());
    above
        .take_while(|line| line.is_empty() || line.starts_with("#["))
        .any(|line| line.contains("test"))
}

/// The code spans of a paper's running text, one line each.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    prose(text).flat_map(|(_, line)| line.split('`').skip(1).step_by(2))
}

/// Lines outside fenced blocks, with their number from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    fenced(text)
        .filter(|(_, _, fence)| !fence)
        .map(|(number, line, _)| (number, line))
}

/// Every line with its number from 1, and whether it stands in a fenced block.
fn fenced(text: &str) -> impl Iterator<Item = (usize, &str, bool)> {
    let mut inside = false;
    text.lines().enumerate().map(move |(at, line)| {
        let mark = line.trim_start().starts_with("```");
        inside ^= mark;
        (at + 1, line, inside || mark)
    })
}

/// Relative links that lead to no file.
pub(crate) fn dead_links(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for paper in tree.papers() {
        for (number, line) in prose(&paper.text) {
            for target in links(line).filter(|target| !leads_somewhere(tree, &paper.path, target)) {
                complaints.push(format!("{}:{number}: `{target}` leads nowhere", paper.path));
            }
        }
    }
    complaints
}

fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

fn leads_somewhere(tree: &Tree, from: &str, target: &str) -> bool {
    if target.contains("://") || target.starts_with("mailto:") || target.starts_with('#') {
        return true;
    }
    let mut path: Vec<&str> = from.split('/').collect();
    path.pop();
    for part in target.split('#').next().unwrap_or(target).split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if path.pop().is_none() {
                    return false;
                }
            }
            part => path.push(part),
        }
    }
    tree.has(&path.join("/"))
}

/// Commands in papers that the programs do not have.
pub(crate) fn unknown_commands(tree: &Tree) -> Vec<String> {
    let cli = text_below(tree, "cli/src/");
    let chores = text_below(tree, "xtask/src/") + &text_below(tree, "tests/src/");
    let mut complaints = Vec::new();
    for paper in tree.papers() {
        for (number, command) in commands(paper) {
            if let Some(what) = unknown(&command, &cli, &chores) {
                complaints.push(format!("{}:{number}: `{command}`: {what}", paper.path));
            }
        }
    }
    complaints
}

fn text_below(tree: &Tree, folder: &str) -> String {
    tree.rust()
        .filter(|file| file.path.starts_with(folder))
        .map(|file| file.text.as_str())
        .collect()
}

/// What a paper tells people to type: lines of fenced blocks and whole code spans.
fn commands(paper: &File) -> Vec<(usize, String)> {
    let ours = |text: &str| text.starts_with("cargo ") || text.starts_with("roadstead ");
    let mut found = Vec::new();
    for (number, line, fence) in fenced(&paper.text) {
        let typed: Vec<&str> = if fence {
            vec![line.trim().trim_start_matches("$ ")]
        } else {
            line.split('`').skip(1).step_by(2).collect()
        };
        for text in typed.into_iter().filter(|text| ours(text)) {
            let bare = text.split(" #").next().unwrap_or(text).trim_end_matches('\\').trim();
            found.push((number, bare.to_owned()));
        }
    }
    found
}

/// What is wrong with a command, if anything.
fn unknown(command: &str, cli: &str, chores: &str) -> Option<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let ours = match words.as_slice() {
        ["roadstead", rest @ ..] => rest,
        ["cargo", "xtask", rest @ ..] => return unknown_chore(rest, chores),
        ["cargo", "run", rest @ ..] => match rest.iter().position(|word| *word == "--") {
            Some(at) => &rest[at + 1..],
            None => return None,
        },
        ["cargo", first, ..] if CARGO.contains(first) => return None,
        _ => return Some("cargo has no such subcommand".to_owned()),
    };
    let (name, rest) = ours.split_first()?;
    if name.starts_with('-') || *name == "help" {
        return None;
    }
    if !name.split('|').all(|name| has_variant(cli, name)) {
        return Some(format!("`roadstead` has no `{name}`"));
    }
    unknown_flag(rest, cli)
}

fn unknown_chore(words: &[&str], chores: &str) -> Option<String> {
    let (name, rest) = words.split_first()?;
    if !chores.contains(&format!("Some(\"{name}\"")) && *name != "help" {
        return Some(format!("xtask has no `{name}`"));
    }
    unknown_flag(rest, chores)
}

/// Whether some enum in `source` has the variant that the command line calls `name`.
fn has_variant(source: &str, name: &str) -> bool {
    let mut variant = String::new();
    for part in name.split('-') {
        let mut letters = part.chars();
        variant.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        variant.extend(letters);
    }
    let ends = ["(", " {", ",", " ("];
    source.contains("Subcommand") && ends.iter().any(|end| source.contains(&format!("    {variant}{end}")))
}

/// The first flag that `source` has neither as a field nor as text.
fn unknown_flag(words: &[&str], source: &str) -> Option<String> {
    let flags = words
        .iter()
        .map(|word| word.trim_start_matches('[').trim_end_matches([']', '.', ',']));
    flags
        .filter_map(|word| word.strip_prefix("--"))
        .map(|flag| flag.split('=').next().unwrap_or(flag))
        .find(|flag| {
            let field = format!("{}:", flag.replace('-', "_"));
            !flag.is_empty() && !source.contains(&format!("--{flag}")) && !source.contains(&field)
        })
        .map(|flag| format!("there is no `--{flag}`"))
}

/// Measured figures without the command that measures them.
pub(crate) fn figures_without_command(tree: &Tree) -> Vec<String> {
    let (path, heading) = FIGURES;
    let Some(paper) = tree.get(path) else {
        return vec![format!("{path} is missing")];
    };
    let Some((_, after)) = paper.text.split_once(heading) else {
        return vec![format!("{path} has no section \"{heading}\"")];
    };
    let table = after.split("\n## ").next().unwrap_or(after);
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with('|')).skip(2).collect();
    if rows.is_empty() {
        return vec![format!("{path}: \"{heading}\" has no row")];
    }
    rows.into_iter()
        .filter(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            cells.iter().any(|cell| cell.is_empty()) || !cells.last().is_some_and(|cell| cell.contains('`'))
        })
        .map(|row| format!("{path}: a figure without a value or a command: {row}"))
        .collect()
}

/// Hosts of registries and folders of one machine, in two halves each, so that this file names none.
const NAMED: [(&str, &str); 10] = [
    ("crates", ".io"),
    ("pypi", ".org"),
    ("python", "hosted"),
    ("npmjs", ".org"),
    ("debian", ".org"),
    ("rust-lang", ".org"),
    ("/wor", "k/"),
    ("/roo", "t/"),
    ("/hom", "e/"),
    ("/User", "s/"),
];

/// Files that name a registry's host or a folder of somebody's machine.
pub(crate) fn named_hosts(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree.files().into_iter().filter(|file| !LOCKS.contains(&file.path.as_str())) {
        for (first, second) in NAMED {
            let name = format!("{first}{second}");
            let places = file.text.match_indices(&name).map(|(at, _)| at);
            complaints.extend(places.map(|at| file.complain(at, format!("names `{name}`"))));
        }
    }
    complaints
}

/// What pins the versions of every crate: of the project, and of its fuzz targets.
const LOCKS: [&str; 2] = ["Cargo.lock", "tests/fuzz/Cargo.lock"];

/// Sources in the lock files that are not the one registry.
pub(crate) fn foreign_sources(tree: &Tree) -> Vec<String> {
    let usual = format!("source = \"registry+https://github.com/rust-lang/{}{}-index\"", NAMED[0].0, NAMED[0].1);
    let mut complaints = Vec::new();
    for path in LOCKS {
        let Some(lock) = tree.get(path) else {
            complaints.push(format!("{path} is missing"));
            continue;
        };
        let sources = lock.text.lines().enumerate().filter(|(_, line)| line.starts_with("source = "));
        let foreign = sources.filter(|(_, line)| *line != usual);
        complaints.extend(foreign.map(|(at, line)| format!("{path}:{}: {line}", at + 1)));
    }
    complaints
}

/// A complete set of promises, of which the first reads `first`.
#[cfg(test)]
fn promises(first: &str) -> String {
    let rest: String = (2..=9).map(|number| format!("\n## {number}. P\n\nNot built yet.\n")).collect();
    format!("# Promises\n\n## 1. P\n\n{first}\n{rest}")
}

#[test]
fn a_promise_names_a_test_or_says_that_there_is_none() {
    let code = "#[test]\nfn holds() {}\nfn helps() {}\n#[tokio::test]\nasync fn waits() {}";
    let table = "macro_rules! t { () => { #[test]\nfn $test() {} } }\nt! {\n    made => A,\n}";
    let complaints = |first: &str| {
        unproven_promises(&Tree::sample(&[
            ("docs/promises.md", &promises(first)),
            ("tests/a.rs", code),
            ("tests/m.rs", table),
        ]))
        .len()
    };
    assert_eq!(complaints("Tried by `tests/a.rs::holds` and `tests/a.rs::waits`."), 0);
    assert_eq!(complaints("Tried by nobody."), 1);
    assert_eq!(complaints("Tried by `tests/m.rs::made`."), 0);
    assert_eq!(complaints("Tried by `tests/m.rs::absent`."), 1);
    assert_eq!(complaints("Tried by `tests/a.rs::gone` and `tests/b.rs::holds`."), 2);
    assert_eq!(complaints("Tried by `tests/a.rs::helps`."), 1, "a plain function is no test");
    assert_eq!(unproven_promises(&Tree::sample(&[("docs/promises.md", "# P")])).len(), 9);
    assert_eq!(unproven_promises(&Tree::sample(&[])).len(), 1);
}

#[test]
fn a_link_leads_to_a_file_or_out() {
    let good =
        "[a](../README.md) [b](data-files.md#x) [c](https://example.net/x) [d](#here) [e](../docs)\n```\n[f](no)\n```";
    let bad = "[a](README.md) [b](../../README.md) and [c](gone.md#x)";
    let tree = |text| Tree::sample(&[("README.md", ""), ("docs/data-files.md", ""), ("docs/a.md", text)]);
    assert_eq!(dead_links(&tree(good)), [""; 0]);
    assert_eq!(dead_links(&tree(bad)).len(), 3);
}

#[test]
fn a_command_exists_with_its_flags() {
    let cli = "#[derive(Subcommand)]\nenum Command {\n    Demo(Demo),\n    ConfigCheck { file: String },\n}\nstruct Demo { for_seconds: u8 }";
    let chores = "match word { Some(\"test\") => {} }\n// --tier NAME";
    let complaints = |paper: &str| {
        let files = [("cli/src/main.rs", cli), ("xtask/src/main.rs", chores), ("README.md", paper)];
        unknown_commands(&Tree::sample(&files))
    };
    let good = "`cargo xtask test --tier sim`\n```sh\n$ roadstead demo --for-seconds 9\ncargo run --release -- config-check F\nls\n```";
    assert_eq!(complaints(good), [""; 0]);
    for bad in [
        "`roadstead fly`",
        "`cargo run -- fly`",
        "`cargo xtask fly`",
        "`cargo fly`",
        "`roadstead demo --wings 2`",
        "```sh\ncargo xtask test --wings\n```",
    ] {
        assert_eq!(complaints(bad).len(), 1, "{bad}");
    }
}

#[test]
fn a_figure_has_a_value_and_a_command() {
    let complaints = |rows: &str| {
        let paper =
            format!("# R\n\n## Measured\n\n| what | value | command |\n|---|---|---|\n{rows}\n## Next\n| a |\n");
        figures_without_command(&Tree::sample(&[("README.md", &paper)])).len()
    };
    assert_eq!(complaints("| takeover | 9 ms | `roadstead demo` |\n"), 0);
    assert_eq!(complaints("| takeover | 9 ms | by hand |\n"), 1);
    assert_eq!(complaints("| takeover | | `roadstead demo` |\n"), 1);
    assert_eq!(complaints(""), 1);
    assert_eq!(figures_without_command(&Tree::sample(&[("README.md", "# R")])).len(), 1);
}

#[test]
fn a_named_host_or_machine_is_found() {
    for (first, second) in NAMED {
        let text = format!("# see\nx {first}{second} y");
        assert_eq!(named_hosts(&Tree::sample(&[("a.toml", &text)])).len(), 1, "{first}");
    }
    assert_eq!(named_hosts(&Tree::sample(&[("a.toml", "the registry; the worker; target/tools")])), [""; 0]);
}

#[test]
fn a_foreign_source_is_found() {
    let usual = format!("source = \"registry+https://github.com/rust-lang/{}{}-index\"", NAMED[0].0, NAMED[0].1);
    let complaints = |text: &str| foreign_sources(&Tree::sample(&LOCKS.map(|path| (path, text)))).len() / 2;
    assert_eq!(complaints(&usual), 0);
    assert_eq!(complaints(&format!("{usual}\nsource = \"git+https://example.net/x\"")), 1);
}
