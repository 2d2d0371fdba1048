//! TLS: certificates and keys out of PEM, and the one cryptography that all of muster uses.
//!
//! Pure: whoever reads the files gives their content. Nothing here says a word of a key.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, InconsistentKeys, RootCertStore, SignatureScheme};

/// Why PEM is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// No block of it is a certificate.
    #[error("there is no certificate in it: it must have a PEM block that begins with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// No block of it is a key that can be read without a password.
    #[error("there is no private key in it: it must have an unencrypted PEM block like -----BEGIN PRIVATE KEY-----")]
    NoKey,
    /// A block is cut short, or not base64.
    #[error("it is not sound PEM: a block of it is cut short or not base64")]
    NotPem,
    /// The certificate and the key are not a pair.
    #[error("the key does not fit the certificate")]
    NoPair,
    /// Sound PEM around something else.
    #[error("it cannot be used: {0}")]
    Unusable(String),
}

/// What ciphers, signs and gives random numbers. Given by hand everywhere: the process-wide one is another program's to choose.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Every certificate in it, in its order; at least one.
///
/// # Errors
/// [`Unfit`].
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unfit> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|_| Unfit::NotPem)?;
    if certificates.is_empty() { Err(Unfit::NoCertificate) } else { Ok(certificates) }
}

/// The first private key in it.
///
/// # Errors
/// [`Unfit`].
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Unfit> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound => Unfit::NoKey,
        _ => Unfit::NotPem,
    })
}

/// What its holder proves itself with: a chain that begins with its own certificate, and the key to that.
///
/// # Errors
/// [`Unfit`].
pub fn identity(cert_pem: &[u8], key_pem: &[u8]) -> Result<CertifiedKey, Unfit> {
    let chain = certificates(cert_pem)?;
    CertifiedKey::from_der(chain, private_key(key_pem)?, &ring::default_provider()).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Unfit::NoPair,
        other => Unfit::Unusable(other.to_string()),
    })
}

/// The authorities in it, to trust instead of the system's.
///
/// # Errors
/// [`Unfit`].
pub fn authorities(pem: &[u8]) -> Result<RootCertStore, Unfit> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem)? {
        store.add(certificate).map_err(|error| Unfit::Unusable(error.to_string()))?;
    }
    Ok(store)
}

/// How to ask whoever is there whether it is there: no certificate is refused, so nothing that matters may be said or believed this way.
#[must_use]
pub fn of_any_certificate() -> ClientConfig {
    let provider = provider();
    ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("unreachable: ring speaks every version of TLS that is safe")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth()
}

/// Refuses no certificate.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (Vec<u8>, Vec<u8>) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem().into_bytes(), made.signing_key.serialize_pem().into_bytes())
    }

    #[test]
    fn what_belongs_together_is_an_identity_and_nothing_else() {
        let ((cert, key), (other_cert, other_key)) = (made(), made());
        assert_eq!(identity(&cert, &key).unwrap().cert.len(), 1);
        assert_eq!(identity(&cert, &other_key).unwrap_err(), Unfit::NoPair);
        assert_eq!(identity(&other_cert, &key).unwrap_err(), Unfit::NoPair);
        assert_eq!(identity(&key, &key).unwrap_err(), Unfit::NoCertificate);
        assert_eq!(identity(&cert, &cert).unwrap_err(), Unfit::NoKey);
        // One file may hold both.
        let both = [cert, key].concat();
        assert!(identity(&both, &both).is_ok());
    }

    #[test]
    fn what_is_not_whole_is_said_without_showing_it() {
        let (cert, key) = made();
        assert_eq!(certificates(b"").unwrap_err(), Unfit::NoCertificate);
        assert_eq!(certificates(&cert[..cert.len() / 2]).unwrap_err(), Unfit::NotPem);
        assert_eq!(private_key(&key[..key.len() / 2]).unwrap_err(), Unfit::NotPem);
        let hollow = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(authorities(hollow), Err(Unfit::Unusable(_))));
        assert!(matches!(identity(hollow, &key), Err(Unfit::Unusable(_))));
        assert_eq!(authorities(&[cert.clone(), cert].concat()).unwrap().len(), 2);
    }
}
