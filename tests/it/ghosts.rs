//! Ghosts: nodes that are gone for good, and names that never were one, keep nobody from judging who is silent.

use std::time::Duration;

use muster::model::{Cluster, Epoch, Life, NodeName};
use muster::registry::{AudienceAt, Beacon, MEMBERS_MAX, MemberAt, Message, NodeState};
use muster::wire::Codec;
use serde_json::{Value, json};

use crate::support::{Nats, Node, eventually};

const SILENT: &str = "/v1/services/user/instances/silent";
/// A lease of 1 s, its grace, a look, and `evict_after`; the rest is a busy machine.
const GONE_WITHIN: Duration = Duration::from_secs(40);

/// Registers an instance that sends no heartbeat, at a port where nobody listens.
async fn register_silent(node: &Node) {
    let silent = json!({"address": "10.0.0.7", "port": 9, "ttl": "1s", "evict_after": "1s", "check": {"kind": "none"}});
    node.put(SILENT, &silent).await.expect(201);
    // A service's last instance is kept while anything is unclear.
    let other = json!({"address": "10.0.0.8", "port": 9, "ttl": "1h"});
    node.put("/v1/services/user/instances/other", &other).await;
}

async fn is_gone(node: &Node) -> Result<(), String> {
    let list = node.get("/v1/services/user/instances").await.expect(200);
    let ids: Vec<&Value> = list["instances"].as_array().into_iter().flatten().map(|instance| &instance["id"]).collect();
    if ids == [&json!("other")] { Ok(()) } else { Err(list.to_string()) }
}

async fn majority(node: &Node) -> Result<Value, String> {
    Ok(node.try_cluster().await?["majority"].clone())
}

async fn counts(node: &Node, members: u64, judges: bool, within: Duration) {
    eventually(&format!("{} counts {members} members, and judges: {judges}", node.name), within, async || {
        let majority = majority(node).await?;
        if majority["members"] == members && majority["judges"] == judges { Ok(()) } else { Err(majority.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_of_seven_that_are_gone_for_good_count_no_more_and_one_that_is_silent_once_it_is_forgotten() {
    let nats = Nats::start(1).await;
    let mut nodes = Node::start_cluster(7, "ghosts", &nats.urls(), &["--set", "cluster.dead_after=10s"]).await;
    // It answers nobody and refuses nobody, as behind a partition.
    let paused = nodes.pop().expect("seven");
    paused.pause().await;
    let killed = nodes.split_off(3);
    for node in &killed {
        node.signal("KILL");
    }
    let survivors = nodes;
    for node in &survivors {
        counts(node, 7, false, Duration::from_secs(20)).await;
        let cluster = node.cluster().await;
        assert_eq!(cluster["converged"], false, "{cluster}");
        assert!(cluster["majority"]["why"].as_str().is_some_and(|why| why.contains("3 of 7") && why.contains("n4")), "{cluster}");
    }
    register_silent(&survivors[0]).await;
    // Their addresses refuse all three: asked every 15 s, and then for 10 s.
    for node in &survivors {
        counts(node, 4, true, Duration::from_secs(90)).await;
    }
    eventually("silence is judged", GONE_WITHIN, async || is_gone(&survivors[1]).await).await;
    let forget = |name: &str| format!("/v1/cluster/nodes/{name}");
    assert_eq!(survivors[0].delete(&forget("n2")).await.status, 409);
    assert_eq!(survivors[0].delete(&forget("n99")).await.status, 404);
    assert_eq!(survivors[0].delete(&forget("n7")).await.status, 204);
    for node in &survivors {
        counts(node, 3, true, Duration::from_secs(10)).await;
    }
    paused.signal("CONT");
    for node in &survivors {
        counts(node, 4, true, Duration::from_secs(20)).await;
    }
}

/// A frame that nobody of the cluster sent.
fn forged(cluster: &str, from: &str, members: &[String]) -> Vec<u8> {
    let codec = Codec::new(&Cluster::parse(cluster).expect("a name"));
    let name = |text: &str| NodeName::parse(text).expect("a name");
    let member = |text: &String| MemberAt { node: name(text), age_ms: 100, has_left: false, evidence: None };
    let beacon = Beacon {
        head: 0,
        state: NodeState::Ready,
        records: 0,
        digest: 0,
        view_digest: 0,
        http: String::new(),
        applied: Vec::new(),
        withdrawn_digest: 0,
        overrides_digest: 0,
        complete: false,
        preserving: false,
        gives_way: false,
        members: members.iter().map(member).collect(),
        audience: AudienceAt::default(),
        settling_ms: None,
    };
    codec.encode(&Life { node: name(from), epoch: Epoch(7) }, &Message::Beacon(beacon)).expect("a frame").to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beacon_that_names_a_thousand_and_thousands_of_names_that_come_once_hold_up_nobody_for_long() {
    let (nats, cluster) = (Nats::start(1).await, "one-time");
    let mut nodes = Node::start_cluster(3, cluster, &nats.urls(), &[]).await;
    let client = nats.client().await;
    let ghosts: Vec<String> = (0..MEMBERS_MAX).map(|number| format!("ghost-{number}")).collect();
    client.publish(format!("muster.{cluster}.beacon.liar"), forged(cluster, "liar", &ghosts).into()).await.expect("a publish");
    client.flush().await.expect("a server that runs");
    for node in &nodes {
        // The liar itself was heard once.
        counts(node, 4, true, Duration::from_secs(10)).await;
    }
    register_silent(&nodes[0]).await;
    eventually("silence is judged", GONE_WITHIN, async || is_gone(&nodes[1]).await).await;
    for number in 0..2000 {
        let name = format!("once-{number}");
        client.publish(format!("muster.{cluster}.beacon.{name}"), forged(cluster, &name, &[]).into()).await.expect("a publish");
    }
    client.flush().await.expect("a server that runs");
    nodes.push(Node::start("n4", cluster, &nats.urls(), &[]).await);
    for node in &nodes {
        eventually(&format!("{} lists n4", node.name), Duration::from_secs(30), async || {
            let known = node.try_cluster().await?;
            let is_ready = |node: &Value| node["name"] == "n4" && node["state"] == "ready";
            if known["nodes"].as_array().into_iter().flatten().any(is_ready) { Ok(()) } else { Err("it does not".into()) }
        })
        .await;
        counts(node, 4, true, Duration::from_secs(100)).await;
    }
}
