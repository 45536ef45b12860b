//! Rules about files and names: how long, how they begin, what they are called, whether anything compiles them.

use crate::code;
use crate::tree::{File, Tree};

/// Lines of product code in one file. Aim at half of it.
const FILE_LINES_MAX: usize = 800;
/// Lines of one function: a screen.
const FUNCTION_LINES_MAX: usize = 70;
/// Module names that say nothing.
const EMPTY_MODULES: [&str; 9] =
    ["util", "utils", "common", "manager", "managers", "helper", "helpers", "misc", "stuff"];
/// Endings of type names that say nothing.
const EMPTY_ENDINGS: [&str; 4] = ["Manager", "Helper", "Util", "Utils"];

/// Files with more product code than one idea needs.
pub(crate) fn long_files(tree: &Tree) -> Vec<String> {
    tree.rust()
        .filter(|file| !file.path.ends_with("/tests.rs"))
        .map(|file| (file, product_lines(file)))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(file, lines)| file.complain(0, format!("{lines} lines, at most {FILE_LINES_MAX}: split by idea")))
        .collect()
}

/// Lines of a file that are not blanked with a test module.
fn product_lines(file: &File) -> usize {
    let kept = |(product, code): &(&str, &str)| !product.trim().is_empty() || code.trim().is_empty();
    file.product.lines().zip(file.code.lines()).filter(kept).count()
}

/// Functions that do not fit a screen.
pub(crate) fn long_functions(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree.rust() {
        for (name, at, lines) in code::functions(&file.product) {
            if lines > FUNCTION_LINES_MAX {
                let what = format!("`{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}: give its parts names");
                complaints.push(file.complain(at, what));
            }
        }
    }
    complaints
}

/// Rust files that do not begin with what they own.
pub(crate) fn silent_files(tree: &Tree) -> Vec<String> {
    tree.rust()
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| file.complain(0, "begin with `//!`: what the file owns and must not do"))
        .collect()
}

/// Modules and types named after nothing.
pub(crate) fn empty_names(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree.rust() {
        let stem = stem(&file.path);
        if EMPTY_MODULES.contains(&stem) {
            complaints.push(file.complain(0, format!("a file called `{stem}` says nothing: name what it owns")));
        }
        for (at, name) in declared(&file.code, &["mod", "struct", "enum", "trait", "type"]) {
            if EMPTY_MODULES.contains(&name) || EMPTY_ENDINGS.iter().any(|ending| name.ends_with(ending)) {
                complaints.push(file.complain(at, format!("`{name}` says nothing: name what it owns")));
            }
        }
    }
    complaints
}

/// Names declared by one of `keywords`, with their places.
fn declared<'a>(code: &'a str, keywords: &'a [&str]) -> impl Iterator<Item = (usize, &'a str)> {
    code::words(code)
        .zip(code::words(code).skip(1))
        .filter(|((_, keyword), _)| keywords.contains(keyword))
        .map(|(_, name)| name)
}

fn stem(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path).trim_end_matches(".rs")
}

/// Rust files that nothing compiles: declared by no `mod`, named by no manifest.
pub(crate) fn forgotten_files(tree: &Tree) -> Vec<String> {
    tree.rust()
        .filter(|file| !is_root(tree, &file.path) && !is_declared(tree, &file.path))
        .map(|file| file.complain(0, "nothing compiles this file: declare it with `mod`, or delete it"))
        .collect()
}

/// Whether cargo itself looks for a file here.
fn is_root(tree: &Tree, path: &str) -> bool {
    path.match_indices('/').enumerate().any(|(depth, (at, _))| {
        let (package, inner) = (&path[..at], &path[at + 1..]);
        // A package within another one's folder has a manifest of its own.
        (depth == 0 || tree.get(&format!("{package}/Cargo.toml")).is_some()) && is_root_of(tree, package, inner)
    })
}

fn is_root_of(tree: &Tree, package: &str, inner: &str) -> bool {
    let parts: Vec<&str> = inner.split('/').collect();
    let found_by_cargo = matches!(
        parts.as_slice(),
        ["build.rs"]
            | ["src", "lib.rs" | "main.rs"]
            | ["src", "bin", _]
            | ["src", "bin", _, "main.rs"]
            | ["tests" | "benches" | "examples", _]
            | ["tests" | "benches" | "examples", _, "main.rs"]
    );
    let named = format!("path = \"{inner}\"");
    found_by_cargo
        || tree
            .get(&format!("{package}/Cargo.toml"))
            .is_some_and(|manifest| manifest.text.contains(&named))
}

/// Whether the file that should declare this one does.
fn is_declared(tree: &Tree, path: &str) -> bool {
    let (mut folder, mut name) = path.rsplit_once('/').unwrap_or(("", path));
    if name == "mod.rs" {
        (folder, name) = folder.rsplit_once('/').unwrap_or(("", folder));
    }
    let module = name.trim_end_matches(".rs");
    let beside = format!("{folder}.rs");
    let within = format!("{folder}/");
    let may_declare = |other: &&File| {
        let below = other.path.strip_prefix(&within).is_some_and(|rest| !rest.contains('/'));
        let speaks_for_folder = stem(&other.path) == "mod" || is_root(tree, &other.path);
        let by_path = below && other.text.contains("#[path");
        other.path != path && (other.path == beside || (below && speaks_for_folder) || by_path)
    };
    let at_path = format!("#[path = \"{name}\"]");
    tree.rust().filter(may_declare).any(|other| {
        let by_name = declared(&other.code, &["mod"]).any(|(_, declared)| declared == module);
        by_name || other.text.contains(&at_path)
    })
}

#[test]
fn a_file_is_long_by_its_product_code() {
    let at = format!("//! x\n{}", "fn a() {}\n".repeat(FILE_LINES_MAX - 1));
    let tests = format!("{at}#[cfg(test)]\nmod tests {{\n{}}}\n", "    fn a() {}\n".repeat(50));
    let past = format!("{at}fn b() {{}}\n");
    let found = long_files(&Tree::sample(&[("a/at.rs", &at), ("a/tested.rs", &tests), ("a/past.rs", &past)]));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("a/past.rs:1:"), "{found:?}");
}

#[test]
fn a_function_is_long_one_line_past_a_screen() {
    let body = |lines: usize| format!("fn f() {{\n{}}}\n", "    x();\n".repeat(lines - 2));
    let at = Tree::sample(&[("a.rs", &body(FUNCTION_LINES_MAX))]);
    let past = Tree::sample(&[("a.rs", &body(FUNCTION_LINES_MAX + 1))]);
    assert_eq!((long_functions(&at).len(), long_functions(&past).len()), (0, 1));
}

#[test]
fn a_file_without_a_module_comment_is_silent() {
    let tree = Tree::sample(&[("a.rs", "//! Owns a.\n"), ("b.rs", "// b\n"), ("c.rs", "use x;\n//! late\n")]);
    assert_eq!(silent_files(&tree).len(), 2);
}

#[test]
fn empty_names_are_found_in_files_modules_and_types() {
    let tree = Tree::sample(&[
        ("a/src/utils.rs", "//! x"),
        ("a/src/lib.rs", "mod helper; struct PeerManager; // mod util\nstruct Managed; fn common() {}"),
    ]);
    assert_eq!(empty_names(&tree).len(), 3, "{:?}", empty_names(&tree));
}

#[test]
fn a_file_that_nothing_declares_is_forgotten() {
    let tree = Tree::sample(&[
        ("a/Cargo.toml", "[[test]]\nname = \"x\"\npath = \"odd/x.rs\""),
        ("a/src/lib.rs", "pub mod one;\nmod two;\n// mod lost;"),
        ("a/src/one.rs", "mod deep;\n#[path = \"one_tests.rs\"]\nmod tests;"),
        ("a/src/one_tests.rs", ""),
        ("a/src/one/deep.rs", ""),
        ("a/src/one/lost.rs", ""),
        ("a/src/two/mod.rs", "mod tests;"),
        ("a/src/two/tests.rs", ""),
        ("a/src/lost.rs", ""),
        ("a/odd/x.rs", "mod y;"),
        ("a/odd/y.rs", ""),
        ("a/odd/lost.rs", ""),
        ("a/inner/Cargo.toml", "[[bin]]\nname = \"z\"\npath = \"targets/z.rs\""),
        ("a/inner/src/lib.rs", ""),
        ("a/inner/targets/z.rs", ""),
    ]);
    let found = forgotten_files(&tree);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().all(|complaint| complaint.contains("lost.rs")), "{found:?}");
}
