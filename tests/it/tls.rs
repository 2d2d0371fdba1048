//! NATS over TLS: nodes that trust the server and that it trusts hear each other; without TLS nothing is said to it.

use std::path::Path;
use std::time::Duration;

use crate::certificates::Authority;
use crate::support::{Nats, Node, eventually};

/// A server that speaks TLS alone, with whoever shows a certificate that this authority has signed.
fn demanding(folder: &Path, authority: &Authority) -> String {
    let (cert, key) = authority.write_identity(folder, "nats");
    let ca = authority.write(folder, "nats-ca");
    let [cert, key, ca] = [cert, key, ca].map(|file| format!("\"{}\"", file.display()));
    format!(
        "listen: 127.0.0.1:-1\ncluster {{ name: it, listen: 127.0.0.1:-1 }}\ntls {{ cert_file: {cert}, key_file: {key}, ca_file: {ca}, verify: true }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_hear_each_other_over_mutual_tls() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = Authority::new();
    let nats = Nats::start_configured(&demanding(folder.path(), &authority), &[]).await;
    let urls = nats.urls().replace("nats://", "tls://");

    let ca = format!("bus.tls.ca_file={}", authority.write(folder.path(), "ca").display());
    let (cert, key) = authority.write_identity(folder.path(), "node");
    let (cert, key) = (format!("bus.tls.cert_file={}", cert.display()), format!("bus.tls.key_file={}", key.display()));
    let trusted = ["--set", &ca, "--set", &cert, "--set", &key];
    let nodes = Node::start_cluster(2, "tls", &urls, &trusted).await;
    assert!(!nodes[0].log().contains("the bus is used without TLS"), "{}", nodes[0].log());

    // One that shows nothing is not let in; one that trusts others does not go in. Both say so.
    let stranger = Authority::new();
    let strange_ca = format!("bus.tls.ca_file={}", stranger.write(folder.path(), "strange").display());
    for sets in [&["--set", &ca][..], &["--set", &strange_ca, "--set", &cert, "--set", &key]] {
        let node = Node::start("n3", "tls", &urls, sets).await;
        eventually("it says that TLS is what is wrong", Duration::from_secs(10), async || {
            let log = node.log();
            if log.contains("does not trust the other's certificate") && !log.contains("the bus is connected") { Ok(()) } else { Err(log) }
        })
        .await;
        assert_eq!(node.cluster().await["bus"], "down");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_told_nothing_where_tls_is_configured() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ca = format!("bus.tls.ca_file={}", Authority::new().write(folder.path(), "ca").display());
    let nats = Nats::start(1).await;
    let node = Node::start("n1", "tls", &nats.urls(), &["--set", &ca]).await;
    eventually("it says that TLS is what is wrong", Duration::from_secs(10), async || {
        let log = node.log();
        if log.contains("no NATS server takes a connection with TLS") { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(node.cluster().await["bus"], "down");
}
