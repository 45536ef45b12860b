//! The switch between emulated boards: frames go from each to all others, over datagrams of this machine's own sockets.
//! A frame for which a machine has no room is lost, as on a wire.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Longest frame: an Ethernet frame and what QEMU may put around it.
const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Between two looks at whether the switch is off.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A switch. Off when dropped.
#[derive(Debug)]
pub(crate) struct Switch {
    off: Arc<AtomicBool>,
}

/// Socket of a machine's card, and the socket of the switch that it sends to.
pub(crate) fn sockets(dir: &Path, machine: usize) -> (PathBuf, PathBuf) {
    (dir.join(format!("card-{machine}")), dir.join(format!("port-{machine}")))
}

impl Switch {
    /// A switch with a port for each of the machines 1 to `machines`, in `dir`.
    pub(crate) fn start(dir: &Path, machines: usize) -> Self {
        let off = Arc::<AtomicBool>::default();
        for machine in 1..=machines {
            let (_, port) = sockets(dir, machine);
            let _ = std::fs::remove_file(&port);
            let port = UnixDatagram::bind(port).unwrap();
            port.set_read_timeout(Some(LOOK_EVERY)).unwrap();
            let others: Vec<PathBuf> = (1..=machines)
                .filter(|other| *other != machine)
                .map(|other| sockets(dir, other).0)
                .collect();
            let off = Arc::clone(&off);
            std::thread::spawn(move || pass_on(&port, &others, &off));
        }
        Self { off }
    }
}

fn pass_on(port: &UnixDatagram, others: &[PathBuf], off: &AtomicBool) {
    let out = UnixDatagram::unbound().unwrap();
    out.set_nonblocking(true).unwrap();
    let mut frame = vec![0; FRAME_BYTES_MAX];
    while !off.load(Ordering::Relaxed) {
        let Ok(length) = port.recv(&mut frame) else { continue };
        for other in others {
            // No room, or no machine: lost.
            let _ = out.send_to(&frame[..length], other);
        }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.off.store(true, Ordering::Relaxed);
    }
}
