//! An emulated board: QEMU with a Debian kernel and a small system in memory that mounts the data disk and runs the very
//! `roadstead` that ships. Owns the system's image and the process; nothing outside its directory is touched.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::group::program;
use crate::powercut::wire;

/// Kernel modules that a machine needs for its disk and its cards, each after those that it needs.
const MODULES: [&str; 9] = [
    "drivers/virtio/virtio_ring",
    // Needs the ring since 6.1.0-56.
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci",
    "drivers/block/virtio_blk",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
];
/// Memory of a machine.
const MEMORY_MIB: &str = "224";
/// What a machine says once all that its board wrote at its start has left the machine's memory for the disk.
pub(crate) const SETTLED: &str = "SETTLED";
/// What a machine says where the check of its file system found nothing to mend.
pub(crate) const CLEAN: &str = "CHECKED 0";
/// The library that takes fdatasync out of a program.
const EAT_MY_DATA: &str = "usr/lib/x86_64-linux-gnu/libeatmydata.so";

/// What emulation needs: kernel, emulator, shell, unpacked below one directory by `cargo xtask powercut`.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    root: PathBuf,
}

impl Tools {
    /// Those below `root`.
    pub(crate) fn at(root: PathBuf) -> Self {
        assert!(root.join("usr/bin/qemu-system-x86_64").is_file(), "no emulator below {}", root.display());
        Self { root }
    }

    fn kernel_version(&self) -> String {
        let modules = fs::read_dir(self.root.join("lib/modules")).unwrap();
        modules.flatten().next().unwrap().file_name().into_string().unwrap()
    }

    /// Writes the system that a machine starts into memory.
    pub(crate) fn write_system(&self, to: &Path, board_dir: &Path) {
        let mut archive = Archive::default();
        for folder in [
            "bin",
            "dev",
            "proc",
            "sys",
            "data",
            "lib",
            "lib64",
            "lib/x86_64-linux-gnu",
            "usr",
            "usr/lib",
            "usr/lib/x86_64-linux-gnu",
            "etc",
            "etc/board",
            "m",
        ] {
            archive.put(folder, 0o40_755, &[]);
        }
        archive.put("bin/busybox", 0o100_755, &fs::read(self.root.join("bin/busybox")).unwrap());
        let modules = self.root.join("lib/modules").join(self.kernel_version()).join("kernel");
        for module in MODULES {
            let name = module.rsplit('/').next().unwrap();
            archive.put(&format!("m/{name}.ko"), 0o100_644, &fs::read(modules.join(format!("{module}.ko"))).unwrap());
        }
        archive.put("bin/roadstead", 0o100_755, &fs::read(program()).unwrap());
        let check = file_system_check();
        archive.put("bin/e2fsck", 0o100_755, &fs::read(&check).unwrap());
        let mut needed = libraries(&program());
        needed.extend(libraries(&check));
        for library in needed {
            let name = library.to_str().unwrap().trim_start_matches('/');
            archive.put(name, 0o100_755, &fs::read(&library).unwrap());
        }
        archive.put("lib/libeatmydata.so", 0o100_755, &fs::read(self.root.join(EAT_MY_DATA)).unwrap());
        for entry in fs::read_dir(board_dir)
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().is_file())
        {
            let name = format!("etc/board/{}", entry.file_name().to_str().unwrap());
            archive.put(&name, 0o100_600, &fs::read(entry.path()).unwrap());
        }
        archive.put("init", 0o100_755, init().as_bytes());
        fs::write(to, archive.finish()).unwrap();
    }
}

/// A board's page is on its loopback, where nobody is asked; this port above it leads there from outside.
const PAGE_BEHIND: u16 = 10_000;

/// The first process: checks and mounts the disk, brings up the cards, and becomes the board.
///
/// The check is the one of a Linux that starts unattended (`systemd-fsck`, with `fsck.repair=yes`). Without it a kernel before 6.10
/// refuses a disk on which the very block that commits a transaction of ext4's journal was torn: it takes that for rot, though
/// nobody was told that the transaction is durable. The check ends the journal before it.
fn init() -> String {
    let modules: Vec<&str> = MODULES.iter().filter_map(|module| module.rsplit('/').next()).collect();
    format!(
        "#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sys /sys; $b mount -t devtmpfs dev /dev
for m in {}; do $b insmod /m/$m.ko; done
for word in $($b cat /proc/cmdline); do case $word in rs.*) eval \"${{word#rs.}}\";; esac; done
$b ip link set lo up
$b ip addr add 10.0.2.15/24 dev eth0; $b ip link set eth0 up
$b ip addr add 10.77.0.$board/24 dev eth1; $b ip link set eth1 up
/bin/e2fsck -y /dev/vda; echo CHECKED $?
if $b mount -t ext4 -o $mount /dev/vda /data; then echo MOUNTED; else echo NOT MOUNTED; $b sleep 100000; fi
cd /etc/board
$b nc -ll -p $((http + {PAGE_BEHIND})) -e $b nc 127.0.0.1 $http &
( until $b wget -q -O /dev/null http://127.0.0.1:$http/readyz; do $b sleep 1; done; $b sync; echo {SETTLED} ) &
if [ \"$sync\" = no ]; then export LD_PRELOAD=/lib/libeatmydata.so; fi
/bin/roadstead node --config board.toml
echo ENDED; $b sleep 100000
",
        modules.join(" ")
    )
}

/// The program that checks an ext4 before it is mounted: it comes with the one that makes one.
fn file_system_check() -> PathBuf {
    let places = ["/usr/sbin/e2fsck", "/sbin/e2fsck"].map(PathBuf::from);
    places
        .into_iter()
        .find(|place| place.is_file())
        .expect("e2fsck: apt-get install -y e2fsprogs")
}

/// Shared libraries of `program`, the loader among them.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let said = Command::new("ldd").arg(program).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let paths = said
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    paths.map(PathBuf::from).collect()
}

/// An archive that the kernel unpacks into memory: cpio, `newc`.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn put(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.entries += 1;
        let length = u32::try_from(data.len()).unwrap();
        let name_length = u32::try_from(name.len() + 1).unwrap();
        let fields = [self.entries, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name_length, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.put("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

/// How a machine treats its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Care {
    /// fdatasync does what it says.
    pub(crate) syncs: bool,
    /// The file system asks the disk to flush.
    pub(crate) barriers: bool,
}

/// Where a machine's things are, and which host ports lead into it.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) number: usize,
    pub(crate) system: &'a Path,
    pub(crate) disk: &'a Path,
    pub(crate) mqtt: SocketAddr,
    pub(crate) http: SocketAddr,
}

/// A running machine. Its power goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Machine {
    child: Child,
    id: Pid,
}

impl Machine {
    /// Switches a machine on.
    pub(crate) fn start(tools: &Tools, place: &Place<'_>, care: Care) -> Self {
        let root = &tools.root;
        let version = tools.kernel_version();
        let (card, port) = wire::sockets(place.dir, place.number);
        let _ = fs::remove_file(&card);
        let log = File::create(place.dir.join(format!("console-{}.txt", place.number))).unwrap();
        let (mqtt, http) = (place.mqtt.port(), place.http.port());
        let forwards = [(mqtt, mqtt), (http, http + PAGE_BEHIND)]
            .map(|(port, inside)| format!("hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:{inside}"));
        let words = format!(
            // A machine that is emulated slowly finds its timer late, and must not take it for a broken one.
            "console=ttyS0 quiet panic=-1 no_timer_check random.trust_cpu=on rs.board={} rs.http={} rs.sync={} rs.mount={}",
            place.number,
            place.http.port(),
            if care.syncs { "yes" } else { "no" },
            if care.barriers { "barrier" } else { "nobarrier" },
        );
        let child = Command::new(root.join("usr/bin/qemu-system-x86_64"))
            .env("LD_LIBRARY_PATH", library_path(root))
            .arg("-L")
            .arg(root.join("usr/share/qemu"))
            .arg("-L")
            .arg(root.join("usr/share/seabios"))
            .args(["-M", "pc", "-cpu", "max", "-accel", "tcg", "-m", MEMORY_MIB, "-display", "none", "-nodefaults"])
            .args(["-serial", "stdio", "-no-reboot", "-kernel"])
            .arg(root.join(format!("boot/vmlinuz-{version}")))
            .arg("-initrd")
            .arg(place.system)
            .arg("-drive")
            .arg(format!(
                "driver=nbd,server.type=unix,server.path={},if=none,id=d0,cache.direct=on",
                place.disk.display()
            ))
            .args(["-device", "virtio-blk-pci,drive=d0", "-netdev"])
            .arg(format!("user,id=n0,{}", forwards.join(",")))
            .args(["-device", "virtio-net-pci,netdev=n0,romfile=", "-netdev"])
            .arg(format!(
                "dgram,id=n1,local.type=unix,local.path={},remote.type=unix,remote.path={}",
                card.display(),
                port.display()
            ))
            .args(["-device", &format!("virtio-net-pci,netdev=n1,romfile=,mac=52:54:00:12:34:{:02x}", place.number)])
            .args(["-append", &words])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        let id = Pid::from_child(&child);
        Self { child, id }
    }

    /// Takes its power, without waiting for its end.
    pub(crate) fn strike(&self) {
        // An error means that it is gone already.
        let _ = kill_process_group(self.id, Signal::KILL);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.strike();
        let _ = self.child.wait();
    }
}

fn library_path(root: &Path) -> std::ffi::OsString {
    let folders = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|folder| root.join(folder));
    std::env::join_paths(folders).unwrap()
}
