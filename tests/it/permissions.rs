//! The NATS configuration we ship: nodes with keys of their own hear each other by it, and none can speak for another.

use std::collections::BTreeMap;
use std::time::Duration;

use nkeys::KeyPair;
use serde_json::json;

use crate::support::{Nats, Node};

const SHIPPED: &str = include_str!("../../deploy/nats.conf");

/// What we ship, but on ports of this machine, and of one server.
fn on_this_machine() -> String {
    let moved =
        SHIPPED.replace("0.0.0.0:4222", "127.0.0.1:-1").replace("0.0.0.0:6222", "127.0.0.1:-1").replace("127.0.0.1:8222", "127.0.0.1:-1");
    let elsewhere = |line: &&str| !line.trim_start().starts_with("routes:");
    moved.lines().filter(elsewhere).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_hear_each_other_and_speak_only_for_themselves() {
    let keys: BTreeMap<String, KeyPair> = (1..=3).map(|number| (format!("n{number}"), KeyPair::new_user())).collect();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut env = vec![("NATS_NAME".to_owned(), "nats-1".to_owned())];
    for (name, key) in &keys {
        env.push((format!("MUSTER_{}_NKEY", name.to_uppercase()), key.public_key()));
        std::fs::write(dir.path().join(name), key.seed().expect("a new key has its seed")).expect("a file");
    }
    let nats = Nats::start_configured(&on_this_machine(), &env).await;

    let mut nodes = Vec::new();
    for name in keys.keys() {
        let seed = format!("bus.nkey_file={}", dir.path().join(name).display());
        nodes.push(Node::start(name, "prod", &nats.urls(), &["--set", &seed]).await);
    }
    for node in &nodes {
        node.hears_peers(3).await;
    }
    // Changes, relays, questions and whole copies all find their way.
    let target = "/v1/services/user/instances/u1";
    nodes[0].put(&format!("{target}?ack=all"), &json!({"address": "10.0.0.7", "port": 8080, "ttl": "1m"})).await.expect(201);
    nodes[1].post(&format!("{target}/heartbeat"), &json!({})).await.expect(200);
    let detail = nodes[2].get(target).await.expect(200);
    assert!(detail["lease"]["remaining_ms"].is_u64(), "the owner was not asked: {detail}");

    for node in &nodes {
        assert!(!node.log().to_lowercase().contains("permissions violation"), "{} may not say what it says", node.name);
    }

    // With the key of n1, nothing can be said as n2, and what others are asked cannot be heard.
    let seed = keys["n1"].seed().expect("its seed");
    let (denied, mut denials) = tokio::sync::mpsc::channel(10);
    let options = async_nats::ConnectOptions::with_nkey(seed).event_callback(move |event| {
        let denied = denied.clone();
        async move {
            let _ = denied.send(event.to_string()).await;
        }
    });
    let client = options.connect(nats.urls()).await.expect("the key is known");
    client.publish("muster.prod.change.n2", "as n2".into()).await.expect("the client takes it");
    client.publish("muster.prod.beacon.n2", "as n2".into()).await.expect("the client takes it");
    let _asked_of_n2 = client.subscribe("muster.prod.ask.n2").await.expect("the client takes it");
    client.flush().await.expect("a server that runs");
    for what in ["change.n2", "beacon.n2", "ask.n2"] {
        let denial = async {
            loop {
                let event = denials.recv().await.expect("a client that runs");
                if event.contains(what) {
                    return event;
                }
            }
        };
        let denial = tokio::time::timeout(Duration::from_secs(5), denial).await.unwrap_or_else(|_| panic!("{what} was allowed"));
        assert!(denial.to_lowercase().contains("permissions violation"), "{denial}");
    }
}
