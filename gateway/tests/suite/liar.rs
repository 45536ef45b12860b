//! Something that speaks as much of S3 as one object needs, and does not always keep what it was given.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use gateway::objects::Service;

#[derive(Default)]
struct Kept {
    bodies: BTreeMap<String, Vec<u8>>,
    lie: Option<usize>,
}

pub(crate) struct Liar {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
}

impl Liar {
    pub(crate) fn start(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let kept = Arc::new(Mutex::new(Kept::default()));
        let theirs = Arc::clone(&kept);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // Whoever hangs up is none of its business.
                let _ = answer(client, &theirs);
            }
        });
        Self { address, kept }
    }

    pub(crate) fn service(&self) -> Service {
        Service { endpoint: Some(format!("http://{}", self.address)), ..Service::default() }
    }

    pub(crate) fn credentials(&self, dir: &Path) -> PathBuf {
        let path = dir.join("credentials");
        std::fs::write(&path, "aws_access_key_id = A\naws_secret_access_key = S\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// From now on: 0, a byte is another one; 1, the last byte is missing; nothing, the truth.
    pub(crate) fn lie(&self, lie: Option<usize>) {
        self.kept.lock().unwrap().lie = lie;
    }
}

fn answer(client: TcpStream, kept: &Mutex<Kept>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    let mut length = 0;
    while !head.ends_with("\r\n\r\n") {
        let begun = head.len();
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
        let line = head[begun..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut kept = kept.lock().unwrap();
    let found = if method == "PUT" {
        kept.bodies.insert(path.to_owned(), body);
        Vec::new()
    } else {
        let mut found = kept.bodies[path].clone();
        match kept.lie {
            Some(0) => found[9] ^= 1,
            Some(_) => drop(found.pop()),
            None => {}
        }
        found
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: \"1\"\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n\
         Connection: close\r\n\r\n",
        found.len()
    );
    (&client).write_all(head.as_bytes())?;
    (&client).write_all(&found)
}
