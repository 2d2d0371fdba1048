//! Half of a thousand instances cut off at once: their silence proves nothing, so they stay, and every answer says why.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{Api, Load, Nats, Node, Subscriber, eventually};

const INSTANCES: usize = 1000;
const TTL: Duration = Duration::from_secs(3);
/// Far more than the time after which each alone would be gone: its ttl twice and `evict_after`.
const CUT_OFF_FOR: Duration = Duration::from_secs(15);
const WITHIN: Duration = Duration::from_secs(20);

/// How many instances each node lists with this status.
async fn all_list(nodes: &[Node], status: &str, count: usize) -> Result<(), String> {
    for node in nodes {
        let list = node.get("/v1/services/user/instances").await.expect(200);
        let instances = list["instances"].as_array().expect("instances");
        let found = instances.iter().filter(|instance| instance["status"] == status).count();
        if (instances.len(), found) != (INSTANCES, count) {
            return Err(format!("{}: {found} of {} are {status}", node.name, instances.len()));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_thousand_that_are_cut_off_at_once_stay_and_come_back() {
    let nats = Nats::start(1).await;
    // Out of sight: neither heard nor reached.
    let nodes =
        Node::start_cluster(3, "cut-off", &nats.urls(), &["--set", "leases.evict_after=1s", "--set", "probes.deny=10.0.0.0/8"]).await;
    let apis: Vec<Api> = nodes.iter().map(|node| **node).collect();
    let stays = Load::of("user", 0..INSTANCES / 2, 3, TTL, &apis).await;
    let cut_off = Load::of("user", INSTANCES / 2..INSTANCES, 3, TTL, &apis).await;
    eventually("all are up everywhere", WITHIN, async || all_list(&nodes, "up", INSTANCES).await).await;
    let subscribers = join_all(apis.iter().map(|api| Subscriber::open(*api, "/v1/watch?service=user"))).await;
    for subscriber in &subscribers {
        let has_all = |held: &crate::support::Held| {
            let count = held.ports("user").len();
            if count == INSTANCES { Ok(()) } else { Err(format!("{count}")) }
        };
        subscriber.until("it has the whole list", WITHIN, has_all).await;
    }

    drop(cut_off);
    tokio::time::sleep(CUT_OFF_FOR).await;
    all_list(&nodes, "suspect", INSTANCES / 2).await.expect("the silent half is suspect, and nobody is gone");
    for node in &nodes {
        let list = node.get("/v1/services/user/instances").await.expect(200);
        assert_eq!(list["preserved"], true, "{} says that some would have gone", node.name);
        let detail = node.get(&format!("/v1/services/user/instances/i{:05}", INSTANCES - 1)).await.expect(200);
        assert_eq!((&detail["cause"], &detail["status"]["seen"]), (&json!("preserved"), &json!("suspect")), "{detail}");
    }

    let back = Load::of("user", INSTANCES / 2..INSTANCES, 3, TTL, &apis).await;
    eventually("all are up again", WITHIN, async || all_list(&nodes, "up", INSTANCES).await).await;
    for subscriber in &subscribers {
        let held = subscriber.held();
        assert_eq!((held.left, held.breaks), (Vec::<String>::new(), Vec::<String>::new()));
    }
    assert_eq!((stays.refused(), back.refused()), (Vec::new(), Vec::new()));
}
