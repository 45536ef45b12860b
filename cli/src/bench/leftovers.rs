//! What must not outlive this process: namespaces and process groups that it has made, by name and number. Each is
//! noted when it is made and struck off when its owner has removed it; a panic, which in a release build runs no
//! destructor, removes what is left. Ends nothing that is not noted.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};

/// What is left.
struct Leftovers {
    groups: BTreeSet<u32>,
    namespaces: BTreeSet<String>,
}

static LEFT: Mutex<Leftovers> = Mutex::new(Leftovers { groups: BTreeSet::new(), namespaces: BTreeSet::new() });
static WATCH: Once = Once::new();

fn left() -> MutexGuard<'static, Leftovers> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on a panic of the program removes what is left. For a program whose panics end it; a suite of tests lives
/// on after the panic of one, and relies on destructors.
pub(crate) fn remove_on_panic() {
    WATCH.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            before(panic);
            remove();
        }));
    });
}

fn remove() {
    // The panicking thread may hold the lock: then there is nothing that can be done.
    let Ok(left) = LEFT.try_lock() else { return };
    for group in left
        .groups
        .iter()
        .filter_map(|group| Pid::from_raw(i32::try_from(*group).ok()?))
    {
        let _ = kill_process_group(group, Signal::KILL);
    }
    for name in &left.namespaces {
        let _ = Command::new("ip").args(["netns", "del", name]).status();
    }
}

/// A process group was made.
pub(super) fn note_group(group: u32) {
    left().groups.insert(group);
}

/// It is gone.
pub(super) fn strike_group(group: u32) {
    left().groups.remove(&group);
}

/// A namespace was made.
pub(super) fn note_namespace(name: &str) {
    left().namespaces.insert(name.to_owned());
}

/// It is gone.
pub(super) fn strike_namespace(name: &str) {
    left().namespaces.remove(name);
}
