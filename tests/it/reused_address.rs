//! An address that is used again: whoever is listed there before, and is not heard any more, is suspect for that, at every node.

use std::time::Duration;

use serde_json::json;

use crate::support::{Nats, Node, Subscriber, eventually};

const WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_starts_anew_under_another_id_takes_its_former_self_s_place() {
    let nats = Nats::start(1).await;
    let nodes = Node::start_cluster(2, "reused", &nats.urls(), &[]).await;
    let subscriber = Subscriber::open(*nodes[1], "/v1/watch?service=user").await;
    let registration = json!({"address": "10.0.0.7", "port": 8080, "ttl": "1m"});
    let elsewhere = json!({"address": "10.0.0.7", "port": 8081, "ttl": "1m"});
    nodes[0].put("/v1/services/user/instances/former?ack=all", &registration).await.expect(201);
    nodes[0].put("/v1/services/user/instances/other?ack=all", &elsewhere).await.expect(201);
    nodes[0].put("/v1/services/user/instances/apart?ack=all&namespace=test", &registration).await.expect(201);
    // At another node than the one that owns the former.
    nodes[1].put("/v1/services/user/instances/present?ack=all", &registration).await.expect(201);

    eventually("the former is suspect at both nodes, and says why", WITHIN, async || {
        for node in &nodes {
            let detail = node.get("/v1/services/user/instances/former").await.expect(200);
            if detail["status"]["effective"] != "suspect" || detail["cause"] != "address_reused" {
                return Err(detail.to_string());
            }
            let note = detail["note"].as_str().unwrap_or_default();
            assert!(note.contains("present"), "it names the other: {detail}");
        }
        Ok(())
    })
    .await;
    let held = subscriber.until("it is told", WITHIN, |held| match held.story("former").last().map(String::as_str) {
        Some("suspect") => Ok(()),
        last => Err(format!("{last:?}")),
    });
    let held = held.await;
    assert_eq!((held.story("present"), held.story("other")), (vec!["up".to_owned()], vec!["up".to_owned()]));
    let apart = nodes[0].get("/v1/services/user/instances/apart?namespace=test").await.expect(200);
    assert_eq!(apart["status"]["effective"], "up", "{apart}");

    // It lives after all: both are there.
    nodes[0].post("/v1/services/user/instances/former/heartbeat", &json!({})).await.expect(200);
    eventually("a heartbeat brings it back", WITHIN, async || {
        let detail = nodes[1].get("/v1/services/user/instances/former").await.expect(200);
        if detail["status"]["effective"] == "up" && detail["cause"] == "recovered" { Ok(()) } else { Err(detail.to_string()) }
    })
    .await;
}
