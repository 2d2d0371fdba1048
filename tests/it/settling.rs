//! Settling: nodes that start without knowledge do not say that a service is empty before every provider had its turn.

use std::time::Duration;

use serde_json::json;

use crate::support::{Nats, Node, eventually};

const CLUSTER: &str = "settling";
/// Nobody vouches for anything, and the wait is short enough for a test.
const WITHOUT_KNOWLEDGE: [&str; 4] = ["--set", "cluster.expect_empty=false", "--set", "cluster.settle=6s"];
const LIST: &str = "/v1/services/user/instances";
const SOON: Duration = Duration::from_secs(30);

async fn register(node: &Node, id: &str) {
    let answer = node.put(&format!("{LIST}/{id}"), &json!({"address": "10.0.0.7", "port": 8080, "ttl": "5m"})).await;
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_killed_without_a_disk_list_nothing_as_empty_until_they_have_settled() {
    let nats = Nats::start(1).await;
    let names = ["n1", "n2", "n3"];
    let mut nodes = Vec::new();
    for name in names {
        nodes.push(Node::start(name, CLUSTER, &nats.urls(), &WITHOUT_KNOWLEDGE).await);
    }
    for node in &nodes {
        eventually("it knows all", SOON, async || {
            if node.get("/v1/services").await.json()["complete"] == true { Ok(()) } else { Err("it does not".to_owned()) }
        })
        .await;
    }
    register(&nodes[0], "a").await;
    for node in &mut nodes {
        node.start_again().await;
    }
    for node in &nodes {
        node.ready().await;
        // Ready, and not complete: what it does not know it does not call empty.
        let answer = node.get(LIST).await;
        assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("warming")), "{}", answer.text());
        assert_eq!(node.get("/v1/services").await.json()["complete"], false);
    }
    register(&nodes[1], "b").await;
    eventually("what was registered since is listed everywhere", SOON, async || {
        for node in &nodes {
            let answer = node.get(LIST).await;
            if answer.status != 200 || answer.json()["instances"][0]["id"] != "b" {
                return Err(answer.text());
            }
        }
        Ok(())
    })
    .await;
    let other = "/v1/services/other/instances";
    eventually("they settle", SOON, async || {
        for node in &nodes {
            let answer = node.get(other).await;
            if answer.status != 200 || answer.json()["complete"] != true {
                return Err(answer.text());
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_a_complete_cluster_does_not_settle() {
    let nats = Nats::start(1).await;
    let first = Node::start("n1", CLUSTER, &nats.urls(), &[]).await;
    first.ready().await;
    register(&first, "a").await;
    let long = ["--set", "cluster.expect_empty=false", "--set", "cluster.settle=1h"];
    let second = Node::start("n2", CLUSTER, &nats.urls(), &long).await;
    second.ready().await;
    let list = second.get(LIST).await;
    assert_eq!((list.status, &list.json()["complete"], list.json()["instances"].as_array().map(Vec::len)), (200, &json!(true), Some(1)));
    assert_eq!(second.get("/v1/services/other/instances").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_bus_was_never_reached_is_not_ready_and_takes_writes() {
    let node = Node::start("n1", CLUSTER, "nats://127.0.0.1:1", &[]).await;
    eventually("it has given up to wait for its bus", SOON, async || {
        if node.log().contains("the bus was never reached") { Ok(()) } else { Err(node.log()) }
    })
    .await;
    assert_eq!(node.get("/readyz").await.status, 503);
    let unknown = node.get(LIST).await;
    assert!(unknown.status == 503 && unknown.text().contains("nats://127.0.0.1:1"), "{}", unknown.text());
    register(&node, "a").await;
    let list = node.get(LIST).await;
    assert_eq!((list.status, &list.json()["complete"]), (200, &json!(false)));
    assert!(node.log().contains("not reached yet"), "the banner does not say so: {}", node.log());
}
