//! Namesakes: of two processes with one name exactly one goes on. One that starts later is not ready, refuses writes and says why, until the
//! name is free again; nothing that either took is lost.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Nats, Node, all_agree, eventually};

const CLUSTER: &str = "namesake";
/// For its first 10 s a node takes what it hears for its own former life; then it has to hear it for some seconds.
const STEPS_DOWN_WITHIN: Duration = Duration::from_secs(30);
/// Another that is silent for 5 s is gone; then the node joins again.
const BACK_WITHIN: Duration = Duration::from_secs(25);
const SETTLE: Duration = Duration::from_secs(40);

/// Registers a fixed address; gives how that was answered.
async fn register(node: &Node, id: &str) -> (u16, Value) {
    let target = format!("/v1/services/user/instances/{id}");
    let answer = node.put(&target, &json!({"address": "10.0.0.7", "port": 8080, "ttl": "none"})).await;
    (answer.status, answer.json())
}

async fn takes_writes(node: &Node, id: &str) -> Result<(), String> {
    match register(node, id).await {
        (200 | 201, _) => Ok(()),
        (_, problem) => Err(problem.to_string()),
    }
}

/// Which of the two refuses; with what it says.
async fn who_refuses(both: &[Node; 2]) -> Result<(usize, Value), String> {
    let answers = [register(&both[0], "probe").await, register(&both[1], "probe").await];
    match answers {
        [(503, problem), (200 | 201, _)] => Ok((0, problem)),
        [(200 | 201, _), (503, problem)] => Ok((1, problem)),
        answers => Err(format!("{answers:?}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_with_one_name_one_refuses_writes_until_it_is_alone() {
    let nats = Nats::start(1).await;
    let first = Node::start("twin", CLUSTER, &nats.urls(), &[]).await;
    let other = Node::start("other", CLUSTER, &nats.urls(), &[]).await;
    first.ready().await;
    other.hears_peers(2).await;
    register(&first, "before").await;
    let both = [first, Node::start("twin", CLUSTER, &nats.urls(), &[]).await];

    let (refusing, problem) = eventually("one of the two refuses writes", STEPS_DOWN_WITHIN, async || who_refuses(&both).await).await;
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("name")), "it does not say why: {problem}");
    assert_eq!(problem["code"], "leaving", "{problem}");
    // It stays so: the one that goes on does not give way as well.
    let [first, second] = both;
    let (going_on, mut refusing) = if refusing == 0 { (second, first) } else { (first, second) };
    for number in 0..50 {
        takes_writes(&going_on, &format!("meanwhile-{number}")).await.expect("the one that goes on takes writes");
        assert_eq!(register(&refusing, "refused").await.0, 503);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    going_on.signal("KILL");
    drop(going_on);
    eventually("the other one takes writes again", BACK_WITHIN, async || takes_writes(&refusing, "after").await).await;
    refusing.ready().await;
    // Those from before, those that the two took, and the last: nothing that was taken is lost.
    let nodes = [refusing, other];
    all_agree(&nodes, 53, SETTLE).await;
    refusing = nodes.into_iter().next().expect("there are two");
    assert_eq!(register(&refusing, "last").await.0, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_starts_under_a_taken_name_is_not_ready_and_loses_nothing_that_it_took() {
    let nats = Nats::start(1).await;
    let first = Node::start("twin", CLUSTER, &nats.urls(), &[]).await;
    let other = Node::start("other", CLUSTER, &nats.urls(), &[]).await;
    first.ready().await;
    other.hears_peers(2).await;
    let second = Node::start("twin", CLUSTER, &nats.urls(), &[]).await;
    let mut taken = 0;
    for number in 0..60 {
        for (node, side) in [(&first, "first"), (&second, "second")] {
            taken += usize::from(register(node, &format!("{side}-{number}")).await.0 == 201);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(taken >= 60, "the first one takes all: {taken}");
    let readyz = second.get("/readyz").await;
    assert!(readyz.status == 503 && readyz.text().contains("another node runs under the name `twin`"), "{}", readyz.text());
    assert_eq!(first.get("/readyz").await.status, 200);
    eventually("whatever was taken is listed", SETTLE, async || {
        let list = other.get("/v1/services/user/instances").await.json();
        let count = list["instances"].as_array().map_or(0, Vec::len);
        if count == taken { Ok(()) } else { Err(format!("{count} of {taken}")) }
    })
    .await;
}
