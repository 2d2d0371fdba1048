//! NATS stops: every node goes on alone, says how it is, and all converge when it is back.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::agreement::all_agree;
use crate::support::node::muster;
use crate::support::{Connection, Nats, Node, Request, Subscriber, eventually};

/// What `muster nodes` answers at this node: its exit code, and what it printed.
fn ask_nodes(node: &Node) -> (Option<i32>, String) {
    let output = muster(&["nodes", "--server", &node.url()]).stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("muster");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

async fn until_nodes_exits(node: &Node, code: i32) -> String {
    eventually(&format!("`muster nodes` at {} exits {code}", node.name), Duration::from_secs(30), async || match ask_nodes(node) {
        (Some(got), said) if got == code => Ok(said),
        (got, said) => Err(format!("{got:?}: {said}")),
    })
    .await
}

/// How long `count` rounds of a read, a registration and a heartbeat take at this node, each answered as ever.
async fn time_rounds(node: &Node, prefix: &str, count: usize) -> Duration {
    let mut connection = Connection::open(node.host).await.expect("a node that listens");
    let begun = Instant::now();
    for round in 0..count {
        let target = format!("/v1/services/user/instances/{prefix}-{round}");
        let put = Request::new("PUT", &target).json(&json!({"address": "10.0.0.7", "port": round + 1, "ttl": "1h"}));
        let heartbeat = Request::new("POST", &format!("{target}/heartbeat"));
        let list = Request::new("GET", "/v1/services/user/instances?limit=10");
        for (request, status) in [(put, 201), (heartbeat, 200), (list, 200)] {
            connection.send(&request).await.expect("an answer").expect(status);
        }
    }
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_goes_on_alone_and_all_converge_when_the_bus_is_back() {
    const ROUNDS: usize = 100;
    let mut nats = Nats::start(3).await;
    let nodes = Node::start_cluster(3, "outage", &nats.urls(), &[]).await;
    let said = until_nodes_exits(&nodes[0], 0).await;
    assert!(["n1", "n2", "n3"].iter().all(|name| said.contains(name)), "{said}");
    let before = time_rounds(&nodes[0], "before", ROUNDS).await;
    let subscriber = Subscriber::open(*nodes[1], "/v1/watch?service=user").await;

    nats.stop();
    for node in &nodes {
        until_nodes_exits(node, 4).await;
        let readyz = node.get("/readyz").await;
        assert_eq!(readyz.status, 200, "{}", readyz.text());
        assert!(readyz.text().contains("degraded"), "{}", readyz.text());
    }
    for node in &nodes {
        let during = time_rounds(node, &node.name, ROUNDS).await;
        assert!(during < before * 10 + Duration::from_secs(1), "{during:?} for what took {before:?} with the bus");
        let list = node.get("/v1/services/user/instances").await.expect(200);
        assert_eq!((&list["stale"], list["instances"].as_array().map(Vec::len)), (&json!(true), Some(2 * ROUNDS)), "{}", node.name);
    }
    // A heartbeat for what another node owns is answered too.
    nodes[2].post("/v1/services/user/instances/before-0/heartbeat", &json!({})).await.expect(200);

    nats.start_again().await;
    // What is on its way is no divergence: that `muster nodes` exits 0 does not say that it has come.
    all_agree(&nodes, 4 * ROUNDS, Duration::from_secs(30)).await;
    for node in &nodes {
        until_nodes_exits(node, 0).await;
        let list = node.get("/v1/services/user/instances").await.expect(200);
        assert_eq!((&list["stale"], list["instances"].as_array().map(Vec::len)), (&json!(false), Some(4 * ROUNDS)), "{}", node.name);
    }
    let held = subscriber
        .until("the subscriber was told of all", Duration::from_secs(5), |held| {
            let count = held.ports("user").len();
            if count == 4 * ROUNDS { Ok(()) } else { Err(format!("{count}")) }
        })
        .await;
    assert_eq!(held.breaks, Vec::<String>::new());
}
