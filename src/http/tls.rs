//! TLS at the door: shows the certificate that the files hold. They are looked at again and again; broken new ones change nothing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;

use crate::config::{IdentityFiles, IdentityPem};
use crate::shutdown::Shutdown;
use crate::tls::{self, Unfit};

/// How often the files are looked at: often enough for whoever replaces them by hand, and two small files cost nothing. Their content is
/// compared and not their times, for what is mounted into a container changes in ways of its own.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What may be spoken inside, the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why TLS cannot be spoken with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One cannot be read.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    /// They hold no certificate with its key.
    #[error("http.tls.cert_file and http.tls.key_file: {0}")]
    Unfit(#[from] Unfit),
    /// The library refuses.
    #[error("TLS cannot be set up: {0}")]
    Library(#[from] rustls::Error),
}

/// A certificate with its key, and the files to find the next one in.
pub struct Tls {
    files: IdentityFiles,
    /// What is shown.
    shown: Arc<Shown>,
    /// What the files held when they were last looked at.
    seen: IdentityPem,
    config: Arc<ServerConfig>,
    /// Somebody asks that the files are looked at now.
    reload: Arc<Notify>,
}

impl Tls {
    /// Reads the files; `None` where none are given.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(files: &IdentityFiles) -> Result<Option<Self>, TlsError> {
        let Some(seen) = files.read()? else { return Ok(None) };
        let shown = Arc::new(Shown(ArcSwap::from_pointee(tls::identity(&seen.cert, &seen.key)?)));
        let config = Arc::new(to_config(Arc::clone(&shown))?);
        Ok(Some(Self { files: files.clone(), shown, seen, config, reload: Arc::default() }))
    }

    /// Has the files looked at now; what came of it is logged.
    #[must_use]
    pub fn reload(&self) -> Arc<Notify> {
        Arc::clone(&self.reload)
    }

    /// Takes connections by it from now on, and looks after the files until the shutdown begins.
    pub(super) fn start(self, shutdown: &Shutdown) -> TlsAcceptor {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.config));
        let begun = shutdown.token();
        shutdown.spawn("certificates", async move {
            begun.run_until_cancelled(self.look_after()).await;
        });
        acceptor
    }

    async fn look_after(mut self) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut complaint = String::new();
        loop {
            let is_asked = tokio::select! {
                () = self.reload.notified() => true,
                _ = looks.tick() => false,
            };
            if is_asked {
                complaint.clear();
            }
            match self.look().await {
                Ok(false) if is_asked => tracing::info!(target: "muster::reload", "the certificate is as it was"),
                Ok(false) => {}
                Ok(true) => {
                    complaint.clear();
                    tracing::info!(target: "muster::reload", "the certificate was replaced");
                }
                Err(error) => complain(&mut complaint, &error),
            }
        }
    }

    /// Says whether there was a new certificate. Files that change while they are read make no pair, and are looked at again.
    async fn look(&mut self) -> Result<bool, TlsError> {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || files.read()).await.map_err(io::Error::other)?;
        let Some(found) = read?.filter(|found| *found != self.seen) else { return Ok(false) };
        self.shown.0.store(Arc::new(tls::identity(&found.cert, &found.key)?));
        self.seen = found;
        Ok(true)
    }
}

/// Once for each trouble, not once for each look.
fn complain(complaint: &mut String, error: &TlsError) {
    let text = error.to_string();
    if *complaint != text {
        tracing::warn!("the new certificate is not used, the one before still is: {text}");
        *complaint = text;
    }
}

fn to_config(shown: Arc<Shown>) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(shown);
    config.alpn_protocols = PROTOCOLS.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// The certificate for the next handshake, whatever name it asks for.
#[derive(Debug)]
struct Shown(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(files: &IdentityFiles) -> Vec<u8> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (cert, key) = files.pair().unwrap();
        std::fs::write(cert, made.cert.pem()).unwrap();
        std::fs::write(key, made.signing_key.serialize_pem()).unwrap();
        made.cert.der().to_vec()
    }

    #[tokio::test]
    async fn a_new_certificate_is_shown_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let files = IdentityFiles { cert_file: Some(folder.path().join("cert")), key_file: Some(folder.path().join("key")) };
        assert!(matches!(Tls::load(&files), Err(TlsError::Unreadable(_))));
        let first = write(&files);
        let mut tls = Tls::load(&files).unwrap().unwrap();
        let shown = |tls: &Tls| tls.shown.0.load().cert[0].to_vec();
        assert!(!tls.look().await.unwrap());
        assert_eq!(shown(&tls), first);

        std::fs::write(files.cert_file.as_ref().unwrap(), "half a").unwrap();
        assert!(matches!(tls.look().await, Err(TlsError::Unfit(Unfit::NoCertificate))));
        assert_eq!(shown(&tls), first);
        std::fs::remove_file(files.key_file.as_ref().unwrap()).unwrap();
        assert!(matches!(tls.look().await, Err(TlsError::Unreadable(_))));

        let second = write(&files);
        assert!(tls.look().await.unwrap());
        assert!(shown(&tls) == second && first != second);
    }

    #[test]
    fn without_files_there_is_no_tls() {
        assert!(Tls::load(&IdentityFiles::default()).unwrap().is_none());
    }
}
