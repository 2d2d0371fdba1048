//! Every node is killed at once and started again: what comes back is whole, or says that it is not.

use std::time::Duration;

use futures_util::future::join_all;
use tempfile::TempDir;

use crate::support::wait::same;
use crate::support::warm_file::ids_in;
use crate::support::{Api, Auditor, Load, Nats, Node, all_agree, eventually};

const INSTANCES: usize = 500;
const CONNECTIONS: usize = 5;
const CLUSTER: &str = "all-killed";
/// Nodes that start from disk are not sure that they know all for as long, so that each provider has had its say.
const TTL: Duration = Duration::from_secs(30);
/// A file is written at most a second after a change, but by a disk that is slow seldom: writing may take a twentieth of the time.
const WRITTEN_WITHIN: Duration = Duration::from_mins(1);
const SETTLE: Duration = Duration::from_secs(30);

/// Waits until everybody is on the node's disk. A file that is being written does not count: it may be lost.
async fn until_saved(node: &Node, dir: &TempDir) {
    eventually(&format!("{} has saved all", node.name), WRITTEN_WITHIN, async || {
        let file = std::fs::read(dir.path().join("warm")).map_err(|error| error.to_string())?;
        same(&ids_in(&file).len(), &INSTANCES)
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

    let apis: Vec<Api> = nodes.iter().map(|node| **node).collect();
    let load = Load::start("user", INSTANCES, CONNECTIONS, TTL, &apis).await;
    all_agree(&nodes, INSTANCES, SETTLE).await;
    join_all(nodes.iter().zip(&dirs).map(|(node, dir)| until_saved(node, dir))).await;

    for node in &nodes {
        node.signal("KILL");
    }
    let auditor = Auditor::start("user", &load.ids, &apis);
    join_all(nodes.iter_mut().map(Node::start_again)).await;
    join_all(nodes.iter().map(Node::ready)).await;
    all_agree(&nodes, INSTANCES, SETTLE).await;
    eventually("each node is sure again", TTL + SETTLE, async || {
        for node in &nodes {
            let list = node.get("/v1/services/user/instances").await.expect(200);
            if list["complete"] != true || list["stale"] != false {
                return Err(format!("{}: complete: {}, stale: {}", node.name, list["complete"], list["stale"]));
            }
        }
        Ok(())
    })
    .await;

    let found = auditor.found();
    assert_eq!(found.wrong, Vec::<String>::new(), "lists that claimed to be complete");
    assert!(found.stale > 0, "nothing was served, and flagged as stale, before the nodes were ready");
    assert_eq!((load.registered_again(), load.refused()), (0, Vec::new()), "heartbeats of living providers were refused");
}
