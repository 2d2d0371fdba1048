//! A node is paused for a minute, ten times as long as its leases last: nobody expires wrongly, on either side.

use std::time::Duration;

use crate::support::{Api, Auditor, Load, Nats, Node, all_agree};

const INSTANCES: usize = 300;
const CONNECTIONS: usize = 6;
const TTL: Duration = Duration::from_secs(6);
const PAUSE: Duration = Duration::from_mins(1);
/// From CONT on.
const CONVERGENCE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_paused_for_a_minute_takes_nobody_away() {
    let nats = Nats::start(3).await;
    let nodes = Node::start_cluster(3, "paused", &nats.urls(), &["--set", "leases.evict_after=2s"]).await;
    let apis: Vec<Api> = nodes.iter().map(|node| **node).collect();
    let load = Load::start("user", INSTANCES, CONNECTIONS, TTL, &apis).await;
    all_agree(&nodes, INSTANCES, CONVERGENCE).await;
    let auditor = Auditor::start("user", &load.ids, &apis);

    nodes[1].pause().await;
    tokio::time::sleep(PAUSE).await;
    let renewed = load.renewed();
    nodes[1].signal("CONT");
    all_agree(&nodes, INSTANCES, CONVERGENCE).await;
    // For as long as a wrong verdict would take to show: late, down, gone.
    tokio::time::sleep(TTL * 2 + Duration::from_secs(3)).await;
    all_agree(&nodes, INSTANCES, CONVERGENCE).await;

    assert!(renewed > INSTANCES * 10, "only {renewed} heartbeats were answered by the time it went on");
    assert!(load.turned() > 0, "no connection noticed that the node stood still");
    let found = auditor.found();
    assert_eq!((&found.wrong, &found.late), (&Vec::new(), &Vec::new()), "who was missing, and who was late");
    assert!(found.complete > 500, "only {} complete lists were seen", found.complete);
    assert_eq!((load.registered_again(), load.refused()), (0, Vec::new()), "heartbeats of living providers were refused");
}
