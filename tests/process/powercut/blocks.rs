//! A disk of an emulated board: a block server (NBD, fixed newstyle) whose cache of writes is lost when power goes, but for a
//! random subset of its 512-byte sectors. Owns what a flush makes durable. Everything is in this process's memory.
//!
//! The protocol is the one of the NBD project's `doc/proto.md`; what is not offered there is refused, and QEMU does
//! without.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tests::dice::Dice;

/// What a disk writes as one.
const SECTOR_BYTES: usize = 512;
/// Longest request that is served: QEMU's own limit.
const REQUEST_BYTES_MAX: usize = 32 * 1024 * 1024;

const GREETING: u64 = 0x4e42_444d_4147_4943;
const OPTION: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;

const OPT_ABORT: u32 = 2;
const OPT_INFO: u32 = 6;
const OPT_GO: u32 = 7;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_UNSUPPORTED: u32 = 0x8000_0001;
/// Has flags, takes flush, takes FUA.
const EXPORT_FLAGS: u16 = 1 | 4 | 8;
const FUA: u16 = 1;
const INVALID: u32 = 22;

/// The power of all disks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mains(Arc<AtomicBool>);

impl Mains {
    /// Power goes: no disk serves anything any more.
    pub(crate) fn cut(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it is gone.
    pub(crate) fn is_cut(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Power is back.
    pub(crate) fn restore(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// The disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    sectors: Arc<Mutex<Sectors>>,
    mains: Mains,
}

#[derive(Debug)]
struct Sectors {
    durable: Vec<u8>,
    /// Written and not flushed.
    cached: BTreeMap<usize, [u8; SECTOR_BYTES]>,
    /// A flush is answered and not done.
    ignores_flush: bool,
    /// Counts power cuts: a server from before one serves nothing more.
    life: u64,
    flushes: u64,
    /// Power goes right after so many more writes.
    cuts_after: Option<u64>,
}

impl Disk {
    /// A disk that holds `bytes`, a multiple of the sector.
    pub(crate) fn new(bytes: Vec<u8>, ignores_flush: bool, mains: &Mains) -> Self {
        assert!(bytes.len().is_multiple_of(SECTOR_BYTES));
        let sectors = Sectors {
            durable: bytes,
            cached: BTreeMap::new(),
            ignores_flush,
            life: 0,
            flushes: 0,
            cuts_after: None,
        };
        Self { sectors: Arc::new(Mutex::new(sectors)), mains: mains.clone() }
    }

    /// Lets power go for all disks right after so many more writes to this one: before anything can flush them.
    pub(crate) fn cut_after(&self, writes: u64) {
        self.lock().cuts_after = Some(writes);
    }

    fn lock(&self) -> MutexGuard<'_, Sectors> {
        self.sectors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Flushes that were asked for so far.
    pub(crate) fn flushes(&self) -> u64 {
        self.lock().flushes
    }

    /// Serves one machine at `socket`, until it hangs up or power goes.
    pub(crate) fn serve(&self, socket: &Path) {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let (disk, life) = (self.clone(), self.lock().life);
        std::thread::spawn(move || {
            if let Ok((stream, _)) = listener.accept() {
                // Its end is the machine's end.
                let _ = disk.converse(stream, life);
            }
        });
    }

    fn converse(&self, mut stream: UnixStream, life: u64) -> io::Result<()> {
        let size = self.lock().durable.len() as u64;
        if !greet(&mut stream, size)? {
            return Ok(());
        }
        loop {
            let request = Request::read(&mut stream)?;
            let Some((error, data)) = self.perform(&request, life) else { return Ok(()) };
            let mut reply = Vec::with_capacity(16 + data.len());
            reply.extend_from_slice(&REPLY.to_be_bytes());
            reply.extend_from_slice(&error.to_be_bytes());
            reply.extend_from_slice(&request.handle);
            reply.extend_from_slice(&data);
            stream.write_all(&reply)?;
        }
    }

    /// `None` where the machine hung up or power is gone.
    fn perform(&self, request: &Request, life: u64) -> Option<(u32, Vec<u8>)> {
        let mut sectors = self.lock();
        if sectors.life != life || self.mains.is_cut() {
            return None;
        }
        let fits = usize::try_from(request.offset)
            .ok()
            .and_then(|at| at.checked_add(request.length))
            .is_some_and(|end| end <= sectors.durable.len());
        let whole = request.length.is_multiple_of(SECTOR_BYTES) && request.offset.is_multiple_of(SECTOR_BYTES as u64);
        let at = usize::try_from(request.offset).unwrap_or(usize::MAX);
        match request.kind {
            0 if fits && whole => Some((0, sectors.read(at, request.length))),
            1 if fits && whole => {
                sectors.write(at, &request.data);
                if let Some(left) = &mut sectors.cuts_after {
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        self.mains.cut();
                        return None;
                    }
                }
                if request.flags & FUA != 0 {
                    sectors.flush_part(at, request.length);
                }
                Some((0, Vec::new()))
            }
            2 => None,
            3 => {
                sectors.flushes += 1;
                if !sectors.ignores_flush {
                    sectors.flush();
                }
                Some((0, Vec::new()))
            }
            _ => Some((INVALID, Vec::new())),
        }
    }

    /// Time passes in which nothing is lost: what is cached becomes durable, as a disk does by itself sooner or later.
    pub(crate) fn settle(&self) {
        self.lock().flush();
    }

    /// Power is gone: of what was cached a random subset is there. Returns how many sectors were lost.
    pub(crate) fn lose(&self, dice: &mut Dice) -> usize {
        let mut sectors = self.lock();
        sectors.life += 1;
        sectors.cuts_after = None;
        let kept_of_four = dice.between(1, 3);
        let mut lost = 0;
        for (sector, bytes) in std::mem::take(&mut sectors.cached) {
            if dice.below(4) < kept_of_four {
                let at = sector * SECTOR_BYTES;
                sectors.durable[at..at + SECTOR_BYTES].copy_from_slice(&bytes);
            } else {
                lost += 1;
            }
        }
        lost
    }
}

impl Sectors {
    fn read(&self, at: usize, length: usize) -> Vec<u8> {
        let mut data = self.durable[at..at + length].to_vec();
        let first = at / SECTOR_BYTES;
        for (sector, bytes) in self.cached.range(first..(at + length).div_ceil(SECTOR_BYTES)) {
            let from = (sector - first) * SECTOR_BYTES;
            data[from..from + SECTOR_BYTES].copy_from_slice(bytes);
        }
        data
    }

    fn write(&mut self, at: usize, data: &[u8]) {
        for (nth, bytes) in data.chunks_exact(SECTOR_BYTES).enumerate() {
            self.cached.insert(at / SECTOR_BYTES + nth, bytes.try_into().unwrap());
        }
    }

    fn flush(&mut self) {
        for (sector, bytes) in std::mem::take(&mut self.cached) {
            let at = sector * SECTOR_BYTES;
            self.durable[at..at + SECTOR_BYTES].copy_from_slice(&bytes);
        }
    }

    fn flush_part(&mut self, at: usize, length: usize) {
        if self.ignores_flush {
            return;
        }
        for sector in at / SECTOR_BYTES..(at + length) / SECTOR_BYTES {
            if let Some(bytes) = self.cached.remove(&sector) {
                self.durable[sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES].copy_from_slice(&bytes);
            }
        }
    }
}

fn word(stream: &mut UnixStream) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

fn long(stream: &mut UnixStream) -> io::Result<u64> {
    Ok(u64::from(word(stream)?) << 32 | u64::from(word(stream)?))
}

/// Agrees on the one export there is; false where the machine goes away.
fn greet(stream: &mut UnixStream, size: u64) -> io::Result<bool> {
    stream.write_all(&GREETING.to_be_bytes())?;
    stream.write_all(&OPTION.to_be_bytes())?;
    // Fixed newstyle, no padding of zeros.
    stream.write_all(&3_u16.to_be_bytes())?;
    word(stream)?;
    loop {
        if long(stream)? != OPTION {
            return Err(io::Error::other("no option"));
        }
        let (option, length) = (word(stream)?, word(stream)? as usize);
        let mut data = vec![0; length.min(REQUEST_BYTES_MAX)];
        stream.read_exact(&mut data)?;
        match option {
            OPT_GO | OPT_INFO => {
                let mut about = 0_u16.to_be_bytes().to_vec();
                about.extend_from_slice(&size.to_be_bytes());
                about.extend_from_slice(&EXPORT_FLAGS.to_be_bytes());
                answer(stream, option, REP_INFO, &about)?;
                answer(stream, option, REP_ACK, &[])?;
                if option == OPT_GO {
                    return Ok(true);
                }
            }
            OPT_ABORT => {
                answer(stream, option, REP_ACK, &[])?;
                return Ok(false);
            }
            _ => answer(stream, option, REP_UNSUPPORTED, &[])?,
        }
    }
}

fn answer(stream: &mut UnixStream, option: u32, reply: u32, data: &[u8]) -> io::Result<()> {
    let mut bytes = OPTION_REPLY.to_be_bytes().to_vec();
    bytes.extend_from_slice(&option.to_be_bytes());
    bytes.extend_from_slice(&reply.to_be_bytes());
    bytes.extend_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(data);
    stream.write_all(&bytes)
}

struct Request {
    flags: u16,
    kind: u16,
    handle: [u8; 8],
    offset: u64,
    length: usize,
    data: Vec<u8>,
}

impl Request {
    fn read(stream: &mut UnixStream) -> io::Result<Self> {
        if word(stream)? != REQUEST {
            return Err(io::Error::other("no request"));
        }
        let both = word(stream)?;
        let mut handle = [0; 8];
        stream.read_exact(&mut handle)?;
        let (offset, length) = (long(stream)?, word(stream)? as usize);
        if length > REQUEST_BYTES_MAX {
            return Err(io::Error::other("a request beyond the limit"));
        }
        let kind = (both & 0xffff) as u16;
        let mut data = vec![0; if kind == 1 { length } else { 0 }];
        stream.read_exact(&mut data)?;
        Ok(Self { flags: (both >> 16) as u16, kind, handle, offset, length, data })
    }
}

#[test]
fn what_was_flushed_survives_and_of_the_rest_a_subset() {
    let mains = Mains::default();
    let disk = Disk::new(vec![0; 64 * SECTOR_BYTES], false, &mains);
    let request = |kind, sector: u64, byte| {
        let data = if kind == 1 { vec![byte; SECTOR_BYTES] } else { Vec::new() };
        let length = if kind == 3 { 0 } else { SECTOR_BYTES };
        Request { flags: 0, kind, handle: [0; 8], offset: sector * SECTOR_BYTES as u64, length, data }
    };
    disk.perform(&request(1, 0, 1), 0).unwrap();
    disk.perform(&request(3, 0, 0), 0).unwrap();
    (0..64).for_each(|sector| {
        disk.perform(&request(1, sector, 2), 0).unwrap();
    });
    assert_eq!(
        disk.perform(&request(0, 9, 0), 0).unwrap().1,
        vec![2; SECTOR_BYTES],
        "it is read before it is flushed"
    );
    disk.cut_after(2);
    assert!(disk.perform(&request(1, 0, 2), 0).is_some());
    assert!(disk.perform(&request(1, 0, 2), 0).is_none(), "power goes with the second write");
    assert!(mains.is_cut() && disk.perform(&request(0, 9, 0), 0).is_none(), "power is gone");
    mains.restore();
    let lost = disk.lose(&mut Dice::new(1));
    assert!((1..64).contains(&lost), "{lost}");
    let first = disk.perform(&request(0, 0, 0), 1).unwrap().1;
    assert!(first == vec![1; SECTOR_BYTES] || first == vec![2; SECTOR_BYTES]);
}
