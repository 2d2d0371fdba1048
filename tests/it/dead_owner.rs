//! An owner that dies for good: the others see it, take over what it owned, and let go in the configured times what nobody speaks for.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::wait::same;
use crate::support::{Nats, Node, Subscriber, all_agree, eventually};

const SILENT: &str = "/v1/services/user/instances/silent";
const FIXED: &str = "/v1/services/user/instances/fixed";
const TTL: Duration = Duration::from_secs(6);
const GRACE: Duration = Duration::from_secs(2);
const EVICT_AFTER: Duration = Duration::from_secs(3);
/// Silent for 15 s, then asked directly; the rest is a busy machine, which doubts itself before it blames others.
const DEAD_WITHIN: Duration = Duration::from_secs(40);
/// The life must look over for 5 s, and the second in a record's ranking waits 5 s more.
const ADOPTED_WITHIN: Duration = Duration::from_secs(20);
/// Between what a node does and what is seen of it from here.
const SEEN_WITHIN: Duration = Duration::from_secs(1);
const SETTLE: Duration = Duration::from_secs(15);

/// How a node says that its peer is.
async fn state_of(node: &Node, peer: &str) -> Result<Value, String> {
    let cluster = node.try_cluster().await?;
    let known = cluster["nodes"].as_array().into_iter().flatten().find(|known| known["name"] == peer);
    known.map(|known| known["state"].clone()).ok_or_else(|| cluster.to_string())
}

/// Waits until a node shows the record as another's than `former`'s, because that one is gone; gives its detail.
async fn adopted(node: &Node, target: &str, former: &str) -> Value {
    eventually(&format!("{} shows {target} as taken over", node.name), ADOPTED_WITHIN, async || {
        let detail = node.get(target).await.expect(200);
        if detail["owner"] == former { Err(detail.to_string()) } else { Ok(detail) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_node_owned_is_taken_over_and_goes_by_silence() {
    let nats = Nats::start(1).await;
    let evict_after = format!("leases.evict_after={}s", EVICT_AFTER.as_secs());
    let mut nodes = Node::start_cluster(3, "dead-owner", &nats.urls(), &["--set", &evict_after]).await;
    let registration = |ttl: &str| json!({"address": "10.0.0.7", "port": 8080, "ttl": ttl, "check": {"kind": "none"}});
    nodes[0].put(&format!("{FIXED}?ack=all"), &registration("none")).await.expect(201);
    nodes[0].put(&format!("{SILENT}?ack=all"), &registration("6s")).await.expect(201);
    let subscribers =
        [Subscriber::open(*nodes[1], "/v1/watch?service=user").await, Subscriber::open(*nodes[2], "/v1/watch?service=user").await];
    // Heartbeats end with the owner: what follows is what silence does, and when.
    let (died, n1) = (Instant::now(), nodes.remove(0));
    n1.signal("KILL");

    for node in &nodes {
        eventually(&format!("{} shows n1 as dead", node.name), DEAD_WITHIN, async || same(&state_of(node, "n1").await?, &json!("dead")))
            .await;
    }
    assert!(died.elapsed() > Duration::from_secs(14), "held for dead after {:?}", died.elapsed());
    let detail = adopted(&nodes[0], SILENT, "n1").await;
    let adopted_at = Instant::now();
    assert_eq!((&detail["cause"], &detail["generation"]), (&json!("owner_lost"), &json!(1)), "{detail}");
    assert_eq!(detail["status"]["effective"], "up", "nobody was silent but the owner: {detail}");
    assert_eq!(adopted(&nodes[1], SILENT, "n1").await["owner"], detail["owner"], "two nodes name two owners");
    for node in &nodes {
        let detail = adopted(node, FIXED, "n1").await;
        assert_eq!((&detail["cause"], &detail["status"]["effective"]), (&json!("owner_lost"), &json!("up")), "{detail}");
    }

    let told = ["up", "suspect", "down", "gone: expired"];
    for subscriber in &subscribers {
        let held = subscriber
            .until("the silent one is gone", TTL * 2 + GRACE + EVICT_AFTER + SETTLE, |held| {
                let story = held.story("silent");
                if story.last().map(String::as_str) == told.last().copied() { Ok(()) } else { Err(format!("{story:?}")) }
            })
            .await;
        let (took, least) = (adopted_at.elapsed(), TTL * 2 + GRACE + EVICT_AFTER);
        assert!(took + SEEN_WITHIN > least, "gone {took:?} after it was taken over, not after {least:?}");
        assert_eq!((held.story("silent"), held.story("fixed")), (told.map(str::to_owned).to_vec(), vec!["up".to_owned()]));
        assert_eq!(held.breaks, Vec::<String>::new());
    }
    for node in &nodes {
        assert_eq!(node.get(SILENT).await.status, 404, "{}", node.name);
        assert_eq!(node.get(FIXED).await.expect(200)["status"]["effective"], "up", "{}", node.name);
    }
    all_agree(&nodes, 1, SETTLE).await;
}
