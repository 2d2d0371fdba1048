//! Every node is killed at once and started again: what comes back is whole, or says that it is not.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Api, Auditor, Nats, Node, all_agree, eventually};

const INSTANCES: usize = 500;
const CLUSTER: &str = "all-killed";
/// A file is written at most a second after a change; the rest is a busy machine.
const WRITTEN_WITHIN: Duration = Duration::from_secs(15);
const SETTLE: Duration = Duration::from_secs(30);
/// Nodes that start from their disks are sure of themselves once each provider had the time to be heard: its ttl, and 30 s at least.
const SURE_WITHIN: Duration = Duration::from_secs(90);

/// Waits until the node has put on disk what it held at `since`.
async fn until_written(node: &Node, dir: &TempDir, since: SystemTime) {
    eventually(&format!("{} writes its warm file", node.name), WRITTEN_WITHIN, async || {
        let files = std::fs::read_dir(dir.path()).map_err(|error| error.to_string())?.flatten();
        let written = files.filter_map(|file| file.metadata().ok()).filter(|file| file.is_file() && file.len() > INSTANCES as u64 * 30);
        written.filter_map(|file| file.modified().ok()).max().filter(|at| *at > since).map(|_| ()).ok_or_else(|| "not since".into())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_was_killed_whole_comes_back_whole() {
    let nats = Nats::start(1).await;
    let dirs: Vec<TempDir> = (0..3).map(|_| TempDir::new().expect("a temporary folder")).collect();
    let started = ["n1", "n2", "n3"].into_iter().zip(&dirs).map(async |(name, dir)| {
        let dir = dir.path().to_str().expect("a path of plain letters");
        Node::start(name, CLUSTER, &nats.urls(), &["--data-dir", dir]).await
    });
    let mut nodes = join_all(started).await;
    join_all(nodes.iter().map(Node::ready)).await;
    join_all(nodes.iter().map(|node| node.hears_peers(3))).await;

    let ids: Vec<String> = (0..INSTANCES).map(|number| format!("i{number:05}")).collect();
    for (number, part) in ids.chunks(INSTANCES / 5).enumerate() {
        let register = |id| json!({"op": "register", "service": "user", "id": id, "address": "10.0.0.7", "port": 8080, "ttl": "30s"});
        let ops: Vec<_> = part.iter().map(register).collect();
        nodes[number % nodes.len()].post("/v1/batch", &json!({"ops": ops})).await.expect(200);
    }
    all_agree(&nodes, INSTANCES, SETTLE).await;
    let agreed_at = SystemTime::now();
    // One more change, so that each node has a reason to write after all of them agreed.
    nodes[0].put("/v1/services/other/instances/last?ack=all", &json!({"address": "h", "port": 1, "ttl": "30s"})).await.expect(201);
    for (node, dir) in nodes.iter().zip(&dirs) {
        until_written(node, dir, agreed_at).await;
    }

    let apis: Vec<Api> = nodes.iter().map(|node| **node).collect();
    for node in &nodes {
        node.signal("KILL");
    }
    let auditor = Auditor::start("user", &ids, &apis);
    join_all(nodes.iter_mut().map(Node::start_again)).await;
    join_all(nodes.iter().map(Node::ready)).await;
    all_agree(&nodes, INSTANCES + 1, SETTLE).await;
    eventually("a complete list is seen", SURE_WITHIN, async || if auditor.found().complete > 0 { Ok(()) } else { Err("none".into()) })
        .await;

    let found = auditor.found();
    assert_eq!(found.wrong, Vec::<String>::new(), "lists that claimed to be complete");
    assert!(found.stale > 0, "nothing was served, and flagged as stale, before the nodes were ready");
}
