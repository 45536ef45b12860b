//! Supervision of real processes, each a small shell script.

use std::path::PathBuf;

use super::*;

fn shell(script: String) -> impl FnMut() -> Command {
    move || {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(&script);
        command
    }
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("roadstead-supervise-{}-{name}", std::process::id()))
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("it took too long")
}

#[tokio::test]
async fn a_poisoned_node_is_started_again_and_a_clean_end_is_the_end() {
    let file = scratch("poisoned");
    let path = file.display();
    let script = format!("echo x >> {path}; test $(wc -l < {path}) -ge 3 || exit {EXIT_POISONED}");
    within(supervise(shell(script))).await.unwrap();
    let starts = std::fs::read_to_string(&file).unwrap().lines().count();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(starts, 3);
}

#[tokio::test]
async fn an_unusable_node_is_not_started_again() {
    let file = scratch("unusable");
    let script = format!("echo x >> {}; exit {EXIT_UNUSABLE}", file.display());
    let ended = within(supervise(shell(script))).await;
    let starts = std::fs::read_to_string(&file).unwrap().lines().count();
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(ended, Err(SuperviseError::Unusable)), "{ended:?}");
    assert_eq!(starts, 1);
}

#[tokio::test]
async fn a_program_that_is_not_there_is_an_error() {
    let ended = supervise(|| Command::new("/nowhere/roadstead")).await;
    assert!(matches!(ended, Err(SuperviseError::Start(_))), "{ended:?}");
}

#[tokio::test]
async fn the_node_is_told_who_supervises_it() {
    let script = format!("test \"${SUPERVISOR_VARIABLE}\" = {} -a $PPID = {}", std::process::id(), std::process::id());
    within(supervise(shell(script))).await.unwrap();
}
