//! TLS for browsers and for those who ask with one certificate in mind: who is let in, and who is believed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use link::identity::{Identity, pinned_tls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ConnectionCommon, ServerConfig, ServerConnection};

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("roadstead-https-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// Writes `<file>.pem` and `<file>.key`, signed by itself; returns who can sign with it.
    fn certificate(&self, file: &str, is_authority: bool) -> Issuer<'static, KeyPair> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["gateway.example".to_owned()]).unwrap();
        if is_authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        std::fs::write(self.path(&format!("{file}.pem")), params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
        Issuer::new(params, key)
    }

    fn signed(&self, file: &str, issuer: &Issuer<'static, KeyPair>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["prometheus".to_owned()]).unwrap();
        std::fs::write(self.path(&format!("{file}.pem")), params.signed_by(&key, issuer).unwrap().pem()).unwrap();
        std::fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    fn identity(&self, file: &str) -> Identity {
        Identity::load_unbelieving(&self.path(&format!("{file}.pem")), &self.path(&format!("{file}.key"))).unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn carry<A, B>(from: &mut ConnectionCommon<A>, to: &mut ConnectionCommon<B>) -> Result<(), rustls::Error> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut left = bytes.as_slice();
    while !left.is_empty() {
        to.read_tls(&mut left).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}

/// Whether the two agree, and the certificate that the client showed.
fn meet(client: ClientConfig, server: ServerConfig) -> Result<bool, rustls::Error> {
    let name = ServerName::try_from("gateway.example").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() {
        carry(&mut client, &mut server)?;
        carry(&mut server, &mut client)?;
    }
    Ok(server.peer_certificates().is_some())
}

fn pinned(path: &Path) -> ClientConfig {
    pinned_tls(path).unwrap()
}

#[test]
fn a_pin_believes_one_certificate_whatever_it_is_for() {
    let dir = Dir::new("pin");
    dir.certificate("other", false);
    dir.signed("own", &dir.certificate("authority", true));
    let serve = |file: &str| dir.identity(file).https_tls(None).unwrap();
    assert_eq!(meet(pinned(&dir.path("own.pem")), serve("own")), Ok(false));
    assert!(meet(pinned(&dir.path("own.pem")), serve("other")).is_err());
}

#[test]
fn a_client_may_have_no_certificate_but_none_of_another_authority() {
    let dir = Dir::new("machines");
    dir.certificate("own", false);
    let (machines, strangers) = (dir.certificate("machines", true), dir.certificate("strangers", true));
    dir.signed("machine", &machines);
    dir.signed("stranger", &strangers);
    let serve = || dir.identity("own").https_tls(Some(&dir.path("machines.pem"))).unwrap();
    assert_eq!(meet(pinned(&dir.path("own.pem")), serve()), Ok(false));
    let with = |file: &str| {
        let (certificate, key) = (dir.path(&format!("{file}.pem")), dir.path(&format!("{file}.key")));
        Identity::load(&certificate, &key, &dir.path("own.pem"))
            .unwrap()
            .client_tls(b"http/1.1")
            .unwrap()
    };
    assert_eq!(meet(with("machine"), serve()), Ok(true));
    assert!(meet(with("stranger"), serve()).is_err());
}
