//! `ack=`: an answer that claims other nodes have a write is true when it is given, and one that cannot claim it says who lacks it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Nats, Node, eventually};

fn registration() -> Value {
    json!({"address": "10.0.0.7", "port": 8080, "ttl": "1h"})
}

/// At which of the nodes an instance is listed right now.
async fn listed_at(nodes: &[Node], id: &str) -> Vec<String> {
    let mut at = Vec::new();
    for node in nodes {
        if node.get(&format!("/v1/services/user/instances/{id}")).await.status == 200 {
            at.push(node.name.clone());
        }
    }
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_write_is_where_the_answer_says() {
    let nats = Nats::start(3).await;
    let nodes = Node::start_cluster(3, "ack", &nats.urls(), &[]).await;
    for round in 0..20 {
        let (all, peer) = (format!("all-{round}"), format!("peer-{round}"));
        let writer = &nodes[round % nodes.len()];
        let answer = writer.put(&format!("/v1/services/user/instances/{all}?ack=all"), &registration()).await;
        assert_eq!(listed_at(&nodes, &all).await.len(), 3, "{}", answer.text());
        assert_eq!(answer.expect(201).get("ack"), None);
        let answer = writer.put(&format!("/v1/services/user/instances/{peer}?ack=peer"), &registration()).await;
        assert!(listed_at(&nodes, &peer).await.len() >= 2, "{}", answer.text());
        answer.expect(201);
    }
    nodes[1].delete("/v1/services/user/instances/all-0?ack=all").await.expect(204);
    assert_eq!(listed_at(&nodes, "all-0").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_answer_is_named() {
    let nats = Nats::start(1).await;
    let nodes = Node::start_cluster(3, "ack-missed", &nats.urls(), &[]).await;
    nodes[2].pause().await;
    let target = "/v1/services/user/instances/u1?ack=all&ack_timeout=1s";
    let answer = nodes[0].put(target, &registration()).await.expect(202);
    assert_eq!(answer["ack"], json!({"asked": "all", "applied": ["n2"], "missing": ["n3"]}));
    assert_eq!(answer["id"], "u1", "the ordinary body comes with it: {answer}");
    nodes[2].signal("CONT");
    eventually("the stopped node catches up", Duration::from_secs(15), async || {
        let at = listed_at(&nodes, "u1").await;
        if at.len() == 3 { Ok(()) } else { Err(format!("only at {at:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_acknowledges_for_all_there_are() {
    let node = Node::start_alone("alone").await;
    node.ready().await;
    node.put("/v1/services/user/instances/u1?ack=all", &registration()).await.expect(201);
    let answer = node.put("/v1/services/user/instances/u2?ack=peer", &registration()).await.expect(202);
    assert_eq!(answer["ack"], json!({"asked": "peer", "applied": [], "missing": []}));
}
