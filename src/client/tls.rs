//! TLS of a client: whom it trusts, and what it shows of itself.

use std::fmt;
use std::sync::Arc;

use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

use super::BuildError;
use crate::tls::{self, Unfit};

/// Whom a client trusts, and what it shows of itself. By default it trusts whom the system trusts, and shows nothing.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    authorities: Option<RootCertStore>,
    identity: Option<Arc<CertifiedKey>>,
}

impl Tls {
    /// Trusts the authorities in this PEM, and no others.
    ///
    /// # Errors
    /// [`Unfit`] when there is none in it.
    pub fn authorities(mut self, pem: &[u8]) -> Result<Self, Unfit> {
        self.authorities = Some(tls::authorities(pem)?);
        Ok(self)
    }

    /// Shows this certificate chain to servers that ask for one, and proves it by this key; both PEM.
    ///
    /// # Errors
    /// [`Unfit`] when they are no pair.
    pub fn identity(mut self, cert_pem: &[u8], key_pem: &[u8]) -> Result<Self, Unfit> {
        self.identity = Some(Arc::new(tls::identity(cert_pem, key_pem)?));
        Ok(self)
    }

    /// The system's authorities are read only where they are needed.
    pub(super) fn to_config(&self, has_secure_server: bool) -> Result<ClientConfig, BuildError> {
        let unusable = |error: rustls::Error| BuildError::Tls(error.to_string());
        let provider = tls::provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().map_err(unusable)?;
        let builder = match &self.authorities {
            Some(authorities) => builder.with_root_certificates(authorities.clone()),
            None if has_secure_server => {
                let verifier = rustls_platform_verifier::Verifier::new(provider).map_err(unusable)?;
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
            None => builder.with_root_certificates(RootCertStore::empty()),
        };
        Ok(match &self.identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(identity)))),
            None => builder.with_no_client_auth(),
        })
    }
}

/// A secret that says who calls. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(pub(super) String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What TLS itself says in the depth of an error, if it was TLS.
pub(super) fn complaint<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // What an IO error holds it passes off as its own words, not as its source.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}

/// What it means for who called.
pub(super) fn in_words(complaint: &rustls::Error) -> String {
    match complaint {
        rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer) => {
            "its certificate is not trusted: nobody this program trusts has signed it".to_owned()
        }
        rustls::Error::InvalidCertificate(why) => format!("its certificate is not trusted: {why}"),
        rustls::Error::InvalidMessage(_) => "it does not speak TLS: is it an http:// server?".to_owned(),
        rustls::Error::AlertReceived(alert) => format!("it ended the TLS handshake: {alert:?}"),
        other => format!("TLS: {other}"),
    }
}
