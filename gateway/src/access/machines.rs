//! What a client's certificate says: machines are known by a name in it that the configuration lists.

use std::collections::BTreeSet;

use quinn::rustls::pki_types::{CertificateDer, ServerName};
use webpki::EndEntityCert;

/// The first of the listed names that a certificate is for. TLS has verified who made it.
pub(super) fn machine(certificate: &CertificateDer<'_>, listed: &BTreeSet<String>) -> Option<String> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let is_for = |name: &&String| {
        let name = ServerName::try_from(name.as_str());
        name.is_ok_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok())
    };
    listed.iter().find(is_for).cloned()
}
