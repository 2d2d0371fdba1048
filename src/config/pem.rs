//! Files of TLS: which they are, and what is in them.

use std::io;
use std::path::{Path, PathBuf};

use crate::tls::{self, Unfit};

/// A certificate and its key, in files of their own; in a [`Config`](super::Config), both or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The chain, its holder's own certificate first.
    pub cert_file: Option<PathBuf>,
    /// The key to the first certificate.
    pub key_file: Option<PathBuf>,
}

/// What the files of an identity hold. Cannot be shown: one half is secret.
#[derive(Clone, PartialEq, Eq)]
pub struct IdentityPem {
    /// The chain.
    pub cert: Vec<u8>,
    /// The key.
    pub key: Vec<u8>,
}

impl IdentityFiles {
    /// Both files, where they are given.
    #[must_use]
    pub fn pair(&self) -> Option<(&Path, &Path)> {
        self.cert_file.as_deref().zip(self.key_file.as_deref())
    }

    /// What the files hold now; `None` where there are none.
    ///
    /// # Errors
    /// What the system says, and of which file.
    pub fn read(&self) -> io::Result<Option<IdentityPem>> {
        let Some((cert, key)) = self.pair() else { return Ok(None) };
        Ok(Some(IdentityPem { cert: read(cert)?, key: read(key)? }))
    }

    /// What is wrong with the two together; each for itself was found right.
    pub(super) fn broken(&self) -> Option<String> {
        if self.cert_file.is_some() != self.key_file.is_some() {
            return Some("a certificate needs its key and a key its certificate: give both files, or none".to_owned());
        }
        match self.read() {
            Ok(pem) => pem.and_then(|pem| tls::identity(&pem.cert, &pem.key).err()).map(|unfit| unfit.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }
}

/// The path, where the file is there and holds what `look` looks for: better found out before the start than after.
pub(super) fn holding<T>(path: PathBuf, look: fn(&[u8]) -> Result<T, Unfit>) -> Result<PathBuf, String> {
    let pem = std::fs::read(&path).map_err(|error| format!("the file cannot be read: {error}"))?;
    look(&pem).map(|_| path).map_err(|unfit| unfit.to_string())
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(file).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use crate::config::{Inputs, Loaded};

    struct Folder(tempfile::TempDir);

    impl Folder {
        /// A certificate and its key are in `cert` and `key`, another key in `other`, and what is neither in `text`.
        fn made() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
            let files =
                [("cert", made.cert.pem()), ("key", made.signing_key.serialize_pem()), ("other", other), ("text", "no PEM".to_owned())];
            for (name, pem) in files {
                std::fs::write(folder.path().join(name), pem).unwrap();
            }
            Self(folder)
        }

        /// With `key=file` for each.
        fn load(&self, sets: &[&str]) -> Result<Loaded, String> {
            let whole = |set: &&str| {
                let (key, file) = set.split_once('=').unwrap();
                if key == "bus.url" { (*set).to_owned() } else { format!("{key}={}", self.0.path().join(file).display()) }
            };
            let inputs = Inputs { sets: sets.iter().map(whole).collect(), ..Inputs::default() };
            let shown = self.0.path().display().to_string() + "/";
            Loaded::from_inputs(&inputs).map_err(|faults| faults.to_string().replace(&shown, ""))
        }
    }

    #[test]
    fn files_that_fit_are_taken() {
        let folder = Folder::made();
        let http = ["http.tls.cert_file=cert", "http.tls.key_file=key"];
        let bus = ["bus.url=tls://a", "bus.tls.ca_file=cert", "bus.tls.cert_file=cert", "bus.tls.key_file=key"];
        let config = folder.load(&[&http[..], &bus].concat()).unwrap().config;
        assert!(config.http.tls.pair().is_some() && config.http.tls.read().unwrap().is_some());
        assert!(config.bus.tls.is_given() && config.bus.tls.identity == config.http.tls);
        assert!(!folder.load(&[]).unwrap().config.bus.tls.is_given());
    }

    #[test]
    fn every_fault_of_every_file_is_told_at_once() {
        let folder = Folder::made();
        let sets = [
            "http.tls.cert_file=key",
            "http.tls.key_file=cert",
            "bus.tls.ca_file=text",
            "bus.tls.cert_file=absent",
            "bus.tls.key_file=text",
            "bus.url=tls://a",
        ];
        insta::assert_snapshot!(folder.load(&sets).unwrap_err(), @r#"
        the configuration has 5 faults; nothing was started
          bus.tls.ca_file = "text" (--set): there is no certificate in it: it must have a PEM block that begins with -----BEGIN CERTIFICATE-----
          bus.tls.cert_file = "absent" (--set): the file cannot be read: No such file or directory (os error 2)
          bus.tls.key_file = "text" (--set): there is no private key in it: it must have an unencrypted PEM block like -----BEGIN PRIVATE KEY-----
          http.tls.cert_file = "key" (--set): there is no certificate in it: it must have a PEM block that begins with -----BEGIN CERTIFICATE-----
          http.tls.key_file = "cert" (--set): there is no private key in it: it must have an unencrypted PEM block like -----BEGIN PRIVATE KEY-----
        "#);
    }

    #[test]
    fn two_files_must_be_a_pair_and_one_is_none() {
        let folder = Folder::made();
        insta::assert_snapshot!(folder.load(&["http.tls.cert_file=cert", "http.tls.key_file=other", "bus.tls.key_file=key"]).unwrap_err(), @r#"
        the configuration has 2 faults; nothing was started
          http.tls.cert_file = "cert" (--set), http.tls.key_file = "other" (--set): the key does not fit the certificate
          bus.tls.key_file = "key" (--set): a certificate needs its key and a key its certificate: give both files, or none
        "#);
        insta::assert_snapshot!(folder.load(&["bus.tls.ca_file=cert"]).unwrap_err(), @r#"
        the configuration has 1 fault; nothing was started
          bus.tls.ca_file = "cert" (--set): TLS needs servers: set bus.url (--nats) too
        "#);
    }
}
