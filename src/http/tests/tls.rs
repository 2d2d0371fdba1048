//! The listener over TLS: what is agreed on, and who does not get so far.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Door;
use crate::config::{HttpConfig, IdentityFiles};
use crate::http::{Bound, Tls};
use crate::tls;

const PATIENCE: Duration = Duration::from_secs(5);

/// A door that speaks TLS, and the certificate it shows.
struct Secured {
    door: Door,
    address: SocketAddr,
    cert: String,
}

fn secured(name: &str, change: impl FnOnce(&mut HttpConfig)) -> Secured {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = IdentityFiles { cert_file: Some(folder.path().join("cert")), key_file: Some(folder.path().join("key")) };
    let (cert, key) = files.pair().unwrap();
    std::fs::write(cert, made.cert.pem()).unwrap();
    std::fs::write(key, made.signing_key.serialize_pem()).unwrap();
    let door = Door::with(name, |config| change(&mut config.http));
    let bound = Bound::bind(door.app.config.http.listen).unwrap().secured(Tls::load(&files).unwrap());
    let address = bound.address();
    bound.serve(door.app.clone());
    Secured { door, address, cert: made.cert.pem() }
}

impl Secured {
    /// A handshake that offers these protocols.
    async fn greet(&self, protocols: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
        self.greet_with(protocols, b"").await
    }

    /// The same, whose last message goes out in one write with these bytes.
    async fn greet_with(&self, protocols: &[&[u8]], first: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
        let builder = ClientConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions().unwrap();
        let authorities = tls::authorities(self.cert.as_bytes()).unwrap();
        let mut config = builder.with_root_certificates(authorities).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect_with(name, stream, |tls| tls.writer().write_all(first).unwrap()).await
    }

    /// Waits until this was counted so often: the other side hears of its end before it is counted.
    async fn counted(&self, name: &str, count: u64) {
        let line = format!("{name}{{node=\"{}\"}} {count}\n", self.door.app.config.node.name);
        let counted = async {
            while !self.door.app.metrics.render().contains(&line) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, counted).await.unwrap_or_else(|_| panic!("never: {line}"));
    }
}

async fn read_all(mut stream: impl AsyncReadExt + Unpin) -> String {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection is closed in time");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn the_best_protocol_that_both_speak_is_spoken() {
    let door = secured("tls-protocols", |_| {});
    for (offered, agreed) in [(&[&b"http/1.1"[..], b"h2"][..], Some(&b"h2"[..])), (&[b"http/1.1"], Some(b"http/1.1")), (&[], None)] {
        let mut stream = door.greet(offered).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed);
        if agreed == Some(b"h2") {
            drop(stream);
        } else {
            stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
            let answer = read_all(stream).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok\n"), "{answer}");
        }
    }
    assert!(door.greet(&[b"gopher"]).await.is_err());
}

#[tokio::test]
async fn a_request_that_comes_with_the_handshakes_end_is_answered() {
    let door = secured("tls-together", |_| {});
    let stream = door.greet_with(&[b"http/1.1"], b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let answer = read_all(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok\n"), "{answer}");

    // Its preface, and settings without any: the other side's settings are its answer.
    let mut stream = door.greet_with(&[b"h2"], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut frame = [0; 9];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut frame)).await.expect("an answer in time").unwrap();
    assert_eq!(frame[3], 4);
}

#[tokio::test]
async fn who_fails_is_counted_and_who_waits_is_not_waited_for() {
    let door = secured("tls-failures", |http| http.header_timeout_ms = 1000);
    let mut plain = TcpStream::connect(door.address).await.unwrap();
    plain.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(!read_all(plain).await.contains("HTTP/1.1"));
    door.counted("muster_http_handshakes_failed_total", 1).await;

    // Neither before its handshake nor after it.
    let silent = TcpStream::connect(door.address).await.unwrap();
    assert_eq!(read_all(silent).await, "");
    assert_eq!(read_all(door.greet(&[]).await.unwrap()).await, "");
    door.counted("muster_http_connections_timed_out_total", 2).await;

    let handshaking = TcpStream::connect(door.address).await.unwrap();
    door.door.app.shutdown.begin();
    assert_eq!(read_all(handshaking).await, "");
    assert!(door.door.app.shutdown.ended(PATIENCE).await);
}

#[tokio::test]
async fn a_handshake_takes_a_place_among_the_connections() {
    let door = secured("tls-full", |http| http.connections_max = 1);
    let silent = TcpStream::connect(door.address).await.unwrap();
    assert!(door.greet(&[]).await.is_err());
    door.counted("muster_http_connections_refused_total", 1).await;
    drop(silent);
}
