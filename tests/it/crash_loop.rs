//! A node alone that is killed again and again, each time before any lease that it took over could end: the dead go all the same.

use std::time::Duration;

use serde_json::json;

use crate::support::Node;

const INSTANCES: &str = "/v1/services/user/instances";
/// Shorter than a ttl and its grace.
const LIFE: Duration = Duration::from_secs(3);
const LIVES_MAX: usize = 20;

async fn register(node: &Node, id: &str, port: u16) {
    let body = json!({"address": "127.0.0.1", "port": port, "ttl": "4s", "evict_after": "1s", "check": {"kind": "none"}});
    node.put(&format!("{INSTANCES}/{id}"), &body).await.expect(201);
}

async fn listed(node: &Node) -> Vec<(String, String)> {
    let list = node.get(INSTANCES).await.expect(200);
    let field = |instance: &serde_json::Value, name: &str| instance[name].as_str().unwrap_or_default().to_owned();
    list["instances"].as_array().into_iter().flatten().map(|instance| (field(instance, "id"), field(instance, "status"))).collect()
}

/// Lives for a while, in which one of two sends heartbeats.
async fn live(node: &Node) {
    for _ in 0..LIFE.as_millis() / 250 {
        node.post(&format!("{INSTANCES}/live/heartbeat"), &json!({})).await.expect(200);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_node_that_is_killed_every_few_seconds_does_not_list_the_dead_for_ever() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut node = Node::start_alone_in("n1", folder.path()).await;
    register(&node, "live", 1).await;
    register(&node, "dead", 2).await;
    live(&node).await;
    let mut story = vec![];
    for _ in 0..LIVES_MAX {
        node.signal("KILL");
        node.start_again().await;
        live(&node).await;
        let listed = listed(&node).await;
        assert!(listed.contains(&("live".to_owned(), "up".to_owned())), "{listed:?}");
        let dead = listed.into_iter().find(|(id, _)| id == "dead").map(|(_, status)| status);
        let is_gone = dead.is_none();
        story.push(dead);
        if is_gone {
            return;
        }
    }
    panic!("it was listed for ever: {story:?}");
}
