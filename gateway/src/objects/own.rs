//! An S3 service of one's own, for measurements and tests: SeaweedFS in a directory, on loopback alone, ended with the value.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{ObjectPlace, Service};

/// It starts within this, after a kill too.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// Who may do everything there.
const KEY: (&str, &str) = ("AKROADSTEAD", "not-a-secret");
/// Its parts, each with a port for HTTP and one for the others of its parts.
const PARTS: [&str; 4] = ["master", "volume", "filer", "s3"];

/// The service.
#[derive(Debug)]
pub struct OwnService {
    program: PathBuf,
    dir: PathBuf,
    /// Of each of [`PARTS`], two.
    ports: Vec<u16>,
    process: Option<Child>,
}

impl OwnService {
    /// Makes a service in `dir`, which must not exist yet, and starts it by `program`, SeaweedFS's `weed`. It has no bucket, and
    /// makes one when something is put there.
    pub fn start(program: &Path, dir: &Path) -> io::Result<Self> {
        fs::create_dir(dir)?;
        let mut service =
            Self { program: program.to_owned(), dir: dir.to_owned(), ports: free_ports()?, process: None };
        let (id, secret) = KEY;
        let actions = r#"["Admin", "Read", "List", "Tagging", "Write"]"#;
        let who = format!(
            r#"{{"identities": [{{"name": "roadstead", "credentials": [{{"accessKey": "{id}", "secretKey": "{secret}"}}],
               "actions": {actions}}}]}}"#
        );
        fs::write(service.dir.join("s3.json"), who)?;
        fs::write(service.credentials(), format!("aws_access_key_id = {id}\naws_secret_access_key = {secret}\n"))?;
        fs::set_permissions(service.credentials(), fs::Permissions::from_mode(0o600))?;
        service.go_on()?;
        Ok(service)
    }

    /// Starts it again, which was killed, and waits until it answers.
    pub fn go_on(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        self.process = Some(self.spawn()?);
        while !self.answers() {
            let has_ended = self.process.as_mut().map_or(Ok(None), Child::try_wait)?.is_some();
            if has_ended || begun.elapsed() > PATIENCE {
                return Err(io::Error::other(fs::read_to_string(self.dir.join("log")).unwrap_or_default()));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn spawn(&self) -> io::Result<Child> {
        let log = fs::File::options().create(true).append(true).open(self.dir.join("log"))?;
        let mut command = Command::new(&self.program);
        command.arg(format!("-logdir={}", self.dir.display())).arg("server");
        command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-filer", "-s3"]);
        command.args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=8", "-master.volumeSizeLimitMB=256"]);
        for (part, ports) in PARTS.iter().zip(self.ports.chunks(2)) {
            let [http, grpc] = ports else { continue };
            command
                .arg(format!("-{part}.port={http}"))
                .arg(format!("-{part}.port.grpc={grpc}"));
        }
        command
            .arg(format!("-dir={}", self.dir.display()))
            .arg(format!("-s3.config={}", self.dir.join("s3.json").display()))
            .arg(format!("-filer.localSocket={}", self.dir.join("filer.sock").display()))
            .arg(format!("-s3.localSocket={}", self.dir.join("s3.sock").display()))
            .env("HOME", &self.dir)
            .current_dir(&self.dir);
        // A group of its own: Ctrl-C ends this process first.
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
    }

    /// Whether it answers; what it answers somebody whom it does not know does not matter.
    fn answers(&self) -> bool {
        let ask = || -> io::Result<bool> {
            let mut stream = TcpStream::connect_timeout(&self.address(), PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
            let mut answer = [0; 8];
            stream.read_exact(&mut answer)?;
            Ok(answer.starts_with(b"HTTP/1."))
        };
        ask().unwrap_or(false)
    }

    /// Kills it with SIGKILL, as where memory runs out.
    pub fn kill(&mut self) -> io::Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        let port = self.ports.get(6).copied().unwrap_or_default();
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// The file that says who may do everything there.
    pub fn credentials(&self) -> PathBuf {
        self.dir.join("credentials")
    }

    /// How one speaks with it.
    pub fn service(&self) -> Service {
        let endpoint = Some(format!("http://{}", self.address()));
        Service { endpoint, credentials: Some(self.credentials()), ..Service::default() }
    }

    /// The objects of `bucket` whose names begin with `prefix`.
    pub fn place(&self, bucket: &str, prefix: &str) -> io::Result<ObjectPlace> {
        ObjectPlace::new(&format!("s3://{bucket}/{prefix}"), Path::new(""), self.service()).map_err(io::Error::other)
    }
}

impl Drop for OwnService {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Ports that nothing has at this moment, all different.
fn free_ports() -> io::Result<Vec<u16>> {
    let held = (0..2 * PARTS.len())
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<io::Result<Vec<_>>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
