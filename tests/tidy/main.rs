//! The project's own rules, checked over its files as text: sizes, module comments, import ranks, names, forgotten
//! files, promises without a test, dead links. Each rule is a plain function from files to complaints, and is tried
//! beside its definition on small bad samples, because a rule that cannot fail guards nothing.

mod code;
mod papers;
mod purity;
mod shape;
mod tree;

use crate::tree::Tree;

/// Holds the project to one rule.
fn hold(rule: fn(&Tree) -> Vec<String>) {
    let tree = Tree::of_project();
    assert!(tree.files().len() > 20, "the project's files were not found");
    let complaints = rule(&tree);
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn files_are_short() {
    hold(shape::long_files);
}

#[test]
fn functions_fit_a_screen() {
    hold(shape::long_functions);
}

#[test]
fn files_say_what_they_own() {
    hold(shape::silent_files);
}

#[test]
fn names_are_domain_nouns() {
    hold(shape::empty_names);
}

#[test]
fn no_file_is_forgotten() {
    hold(shape::forgotten_files);
}

#[test]
fn modules_import_lower_ranks_only() {
    hold(purity::imports_out_of_rank);
}

#[test]
fn what_decides_names_nothing_that_acts() {
    hold(purity::impure_words);
}

#[test]
fn nothing_unfinished_and_no_unwrap_outside_tests() {
    hold(purity::loose_ends);
}

#[test]
fn limits_are_used() {
    hold(purity::idle_limits);
}

#[test]
fn the_fuzz_targets_declare_what_they_import() {
    hold(purity::undeclared_in_fuzz);
}

#[test]
fn promises_name_tests_that_exist() {
    hold(papers::unproven_promises);
}

#[test]
fn links_lead_somewhere() {
    hold(papers::dead_links);
}

#[test]
fn commands_in_papers_exist() {
    hold(papers::unknown_commands);
}

#[test]
fn figures_have_a_command() {
    hold(papers::figures_without_command);
}

#[test]
fn no_host_and_no_machine_is_named() {
    hold(papers::named_hosts);
}

#[test]
fn the_lock_file_names_one_registry() {
    hold(papers::foreign_sources);
}
