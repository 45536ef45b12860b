//! Objects in a real S3 server's bucket, and the archive there.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway::objects::{Digest, Found, ObjectError, ObjectPlace, Objects, Service};
use gateway::store::SqliteStore;
use gateway::store::read::{SqliteReader, StoreReader};
use gateway::upkeep::{Done, Upkeep};
use shared::record::Reading;

use crate::archive::{Archive, lines};
use crate::bucket::Bucket;
use crate::deposits::{block_of, counted, put, reading, site, stream};
use crate::leaving::{keep, later};
use crate::scratch::Scratch;

/// Names the folder of DuckDB for Python.
const DUCKDB: &str = "ROADSTEAD_DUCKDB";

#[tokio::test]
async fn an_object_is_there_whole_until_it_is_replaced_or_removed() {
    let Some(bucket) = Bucket::shared() else { return };
    let objects = bucket.objects();
    let name = "site=elm/day=2026-03-01/part-1.parquet";
    assert_eq!(objects.get(name, 9).await.unwrap(), None);
    objects.put(name, Bytes::from_static(b"first")).await.unwrap();
    assert!(!objects.put_new(name, Bytes::from_static(b"second")).await.unwrap());
    assert_eq!(objects.get(name, 5).await.unwrap().unwrap(), "first");
    assert!(matches!(objects.get(name, 4).await, Err(ObjectError::TooLong { .. })));
    objects.put(name, Bytes::from_static(b"second")).await.unwrap();
    assert_eq!(objects.digest(name, 9).await.unwrap(), Some(Digest::of(b"second")));
    assert_eq!(objects.get_range(name, 2..4).await.unwrap(), "co");
    assert_eq!(objects.bytes(name).await.unwrap(), Some(6));
    assert!(objects.put_new("site=oak/part 2+ü%", Bytes::new()).await.unwrap());
    let found = |name: &str, bytes| Found { name: name.to_owned(), bytes };
    assert_eq!(objects.list("site=elm", 9).await.unwrap(), [found(name, 6)]);
    assert_eq!(objects.list("", 9).await.unwrap().len(), 2);
    objects.delete(name).await.unwrap();
    objects.delete(name).await.unwrap();
    assert_eq!(objects.bytes(name).await.unwrap(), None);
    assert_eq!(objects.list("", 9).await.unwrap(), [found("site=oak/part 2+ü%", 0)]);
}

#[tokio::test]
async fn a_file_of_several_pieces_is_one_object() {
    let Some(bucket) = Bucket::shared() else { return };
    let objects = bucket.objects();
    let path = bucket.path().join("file");
    for bytes in [0_usize, 5, 20 * 1024 * 1024 + 3] {
        let body: Vec<u8> = (0..bytes).map(|at| (at / 7) as u8).collect();
        std::fs::write(&path, &body).unwrap();
        let put = objects.put_file("file", &path).await.unwrap();
        assert_eq!(put, Digest::of(&body));
        assert_eq!(objects.digest("file", bytes as u64).await.unwrap(), Some(put));
    }
}

#[tokio::test]
async fn who_is_not_let_in_is_told_to_look_at_the_credentials() {
    let Some(bucket) = Bucket::shared() else { return };
    let service = bucket.running().service();
    let file = bucket.path().join("others");
    std::fs::write(&file, "aws_access_key_id = AKROADSTEAD\naws_secret_access_key = wrong\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let service = Service { credentials: Some(file), ..service };
    let place = ObjectPlace::new("s3://region/other", bucket.path(), service).unwrap();
    let refused = Objects::open(&place)
        .unwrap()
        .put("a", Bytes::from_static(b"x"))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("check the credentials"), "{refused:?}");
}

/// A store with `blocks` blocks of 500 records whose payloads do not compress, and its upkeep with an archive in `archive`.
fn filled(dir: &Path, archive: &Archive, blocks: u64) -> (Upkeep, SqliteReader) {
    let (mut store, _) = SqliteStore::open(dir).unwrap();
    let mut state = 7_u64;
    let mut noise = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    for number in 0..blocks {
        let first = number * 500 + 1;
        let payloads: Vec<Vec<u8>> = (0..500).map(|_| (0..400).map(|_| noise()).collect()).collect();
        let readings: Vec<Reading<'_>> = (first..)
            .zip(&payloads)
            .map(|(seq, payload)| reading(counted(seq), payload))
            .collect();
        put(&mut store, &[block_of(stream(1, 1), first, &readings)]);
    }
    let open = || SqliteReader::open(dir).unwrap();
    let upkeep = archive.upkeep((Box::new(store), Box::new(open())), keep(None, Some(1), None));
    (upkeep, open())
}

fn expired(reader: &dyn StoreReader) -> u64 {
    reader.counts(&site()).unwrap().sum(|of| of.expired)
}

/// The server dies while the object is on its way, or while it is read back, and comes again: until it was read back as a whole
/// nothing goes, and then each row is there once.
#[test]
fn a_server_killed_while_it_is_written_to_costs_no_row_and_doubles_none() {
    let Some(bucket) = Bucket::alone().map(Arc::new) else { return };
    let scratch = Scratch::new();
    // The thread that cuts outlives the test; the server must not.
    let server = Arc::downgrade(&bucket);
    let address = bucket.running().address();
    let cutter = Cutter::start(address, move || {
        if let Some(server) = server.upgrade() {
            server.running().kill().unwrap();
        }
    });
    let endpoint = Some(format!("http://{}", cutter.address));
    let service = Service { endpoint, ..bucket.running().service() };
    let archive = Archive::at(&ObjectPlace::new("s3://region/cut", scratch.path(), service).unwrap());
    let (mut upkeep, reader) = filled(scratch.path(), &archive, 50);
    let wanted = lines(&reader);
    let begun = Instant::now();
    for (way, bytes) in [(UP, 1), (UP, 3_000_000), (UP, 9_000_000), (DOWN, 3_000_000)] {
        cutter.arm(way, bytes);
        // A server that has just come again may refuse for a while.
        while cutter.is_armed() {
            assert!(begun.elapsed() < Duration::from_secs(240), "way {way}, {bytes} bytes");
            let outcome = upkeep.round(later(9)).map_err(|error| link::logging::whole_story(&error));
            assert!(outcome.is_err(), "{outcome:?}");
            assert_eq!(expired(&reader), 0);
        }
        assert_eq!(lines(&reader).len(), wanted.len());
        bucket.running().go_on().unwrap();
    }
    while upkeep.round(later(9)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(240), "it does not recover");
    }
    assert_eq!(lines(&reader), []);
    assert_eq!(archive.lines(), wanted);
}

/// From the client to the server.
const UP: usize = 0;
/// From the server to the client.
const DOWN: usize = 1;

/// Between a client and a server: passes everything on, until so many bytes have gone one way in one connection.
struct Cutter {
    address: SocketAddr,
    /// After how many bytes each way.
    after: Arc<[AtomicU64; 2]>,
}

impl Cutter {
    /// `cut` is called when it is so far; then the connection ends.
    fn start(server: SocketAddr, cut: impl Fn() + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let after = Arc::new([AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX)]);
        let (armed, cut) = (Arc::clone(&after), Arc::new(cut));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(server) else { continue };
                let ends = [(&client, &server), (&server, &client)];
                for (way, (from, to)) in ends.into_iter().enumerate() {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let (armed, cut) = (Arc::clone(&armed), Arc::clone(&cut));
                    std::thread::spawn(move || {
                        pass(&from, &to, &armed[way], &*cut);
                        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                    });
                }
            }
        });
        Self { address, after }
    }

    fn arm(&self, way: usize, bytes: u64) {
        self.after[way].store(bytes, Ordering::SeqCst);
    }

    fn is_armed(&self) -> bool {
        self.after.iter().any(|after| after.load(Ordering::SeqCst) < u64::MAX)
    }
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, after: &AtomicU64, cut: &(dyn Fn() + Send + Sync)) {
    let mut piece = vec![0; 16 * 1024];
    let mut passed = 0;
    while let Ok(read @ 1..) = from.read(&mut piece) {
        passed += read as u64;
        if passed >= after.load(Ordering::SeqCst) {
            cut();
            after.store(u64::MAX, Ordering::SeqCst);
            return;
        }
        if to.write_all(&piece[..read]).is_err() {
            return;
        }
    }
}

/// What DuckDB, which shares no code with the writer, sees of an archive.
const LOOK: &str = r#"
import sys, duckdb
table = f"read_parquet('{sys.argv[1]}/**/*.parquet', hive_partitioning = true)"
for question in [
    f"SELECT count(*), sum(seq), sum(octet_length(payload)), min(board), max(nonce) FROM {table}",
    f"SELECT DISTINCT site, day, typeof(day), class, kind, publisher, topic FROM {table} ORDER BY ALL",
    f"SELECT typeof(min(taken)), epoch_ms(min(taken)), epoch_ms(max(received)), hex(max(key)) FROM {table}",
    f"SELECT count(*) FROM {table} WHERE site = 'elm' AND day = DATE '2023-11-14' AND seq > 100 AND seq <= 200",
]:
    print(duckdb.sql(question).fetchall())
"#;

#[test]
fn duckdb_reads_an_archive_as_it_stands() {
    let Some(bucket) = Bucket::shared() else { return };
    let Some(folder) = std::env::var_os(DUCKDB).map(PathBuf::from) else {
        eprintln!("NOT TRIED: there is no DuckDB here; `cargo xtask test --tier s3` fetches one");
        return;
    };
    let scratch = Scratch::new();
    let archive = Archive::at(&bucket.place());
    let (mut upkeep, reader) = filled(scratch.path(), &archive, 3);
    let wanted = lines(&reader);
    assert_eq!(upkeep.round(later(1)).unwrap(), Done { parts: 1, archived: 1500, expired: 0 });
    assert_eq!(archive.lines(), wanted);
    let copy = scratch.path().join("copy");
    for (name, body) in archive.bodies() {
        let path = copy.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, body).unwrap();
    }
    let look = Command::new("python3")
        .args(["-c", LOOK])
        .arg(&copy)
        .env("PYTHONPATH", folder)
        .env("TZ", "UTC")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&look.stdout);
    assert!(look.status.success(), "{said}{}", String::from_utf8_lossy(&look.stderr));
    let seen: Vec<&str> = said.lines().collect();
    assert_eq!(
        seen,
        [
            "[(1500, 1125750, 600000, 1, 18446744073709551614)]",
            "[('elm', datetime.date(2023, 11, 14), 'DATE', 'event', 'reading', 'loop-7', 'det/7')]",
            "[('TIMESTAMP WITH TIME ZONE', 5, 1700000000000, '000000000000000000000000000005DC')]",
            "[(100,)]",
        ]
    );
}
