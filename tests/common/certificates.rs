//! Certificates made for a test: an authority, and what it signs for this machine.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// Signs certificates; whoever trusts it trusts them.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate") }
    }

    /// Writes its certificate into this folder; says where.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> PathBuf {
        write(folder, name, &self.issuer.pem())
    }

    /// Writes a certificate for this machine, and its key, into this folder; says where. What was there is replaced.
    pub(crate) fn write_identity(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        (write(folder, &format!("{name}.pem"), &cert.pem()), write(folder, &format!("{name}.key"), &key.serialize_pem()))
    }
}

fn write(folder: &Path, name: &str, pem: &str) -> PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, pem).expect("a file");
    file
}
