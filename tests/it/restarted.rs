//! A provider behind a balancer that is restarted again and again with the same id, while what its former lives said arrives late.

use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::{Value, json};

use crate::support::{Api, Nats, Node, Request, Subscriber, eventually};

const RESTARTS: usize = 20;
const INSTANCE: &str = "/v1/services/user/instances/u1";
/// After the last registration: long enough for everything that was said to have arrived everywhere.
const WATCHED_FOR: Duration = Duration::from_secs(3);
const WITHIN: Duration = Duration::from_secs(10);

fn register(life: usize) -> Request {
    let registration = json!({"address": "10.0.0.7", "port": 8000 + life, "ttl": "15s", "incarnation": life});
    Request::new("PUT", INSTANCE).json(&registration)
}

fn deregister(life: usize) -> Request {
    Request::new("DELETE", &format!("{INSTANCE}?incarnation={life}"))
}

/// 204 where the later life is not known yet, 409 where it is; nothing else is in order.
async fn say_late(api: Api, life: usize) {
    let answer = api.send(&deregister(life)).await;
    assert!(matches!(answer.status, 204 | 409), "{}: {}", answer.status, answer.text());
}

async fn listed(node: &Node) -> Vec<Value> {
    let list = node.get("/v1/services/user/instances").await.expect(200);
    list["instances"].as_array().expect("instances").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_restarted_twenty_times_is_never_missing_after_its_last_registration() {
    let nats = Nats::start(1).await;
    let nodes = Node::start_cluster(3, "restarted", &nats.urls(), &[]).await;
    let apis: Vec<Api> = nodes.iter().map(|node| **node).collect();
    // The balancer's turn goes on with every request.
    let mut turn = 0;
    let mut next = || {
        turn += 1;
        apis[turn % apis.len()]
    };
    next().send(&register(1)).await.expect(201);
    for life in 2..=RESTARTS {
        let (new, old) = (next(), next());
        // The goodbye of the former life is on its way while the next one registers, and is repeated once it has.
        let (registered, ()) = join(new.send(&register(life)), say_late(old, life - 1)).await;
        assert!(matches!(registered.status, 200 | 201), "{}: {}", registered.status, registered.text());
        say_late(next(), life - 1).await;
    }
    eventually("the last life is listed at every node", WITHIN, async || {
        for node in &nodes {
            let listed = listed(node).await;
            if listed.len() != 1 || listed[0]["port"] != 8000 + RESTARTS || listed[0]["status"] != "up" {
                return Err(format!("{}: {listed:?}", node.name));
            }
        }
        Ok(())
    })
    .await;
    let subscribers = join_all(apis.iter().map(|api| Subscriber::open(*api, "/v1/watch?service=user"))).await;
    for subscriber in &subscribers {
        subscriber
            .until("it has the list", WITHIN, |held| if held.ports("user").len() == 1 { Ok(()) } else { Err("it has not".into()) })
            .await;
    }
    // What the former lives said comes once more, at every node.
    for life in 1..RESTARTS {
        for api in &apis {
            api.send(&deregister(life)).await.expect(409);
        }
    }
    let until = std::time::Instant::now() + WATCHED_FOR;
    while std::time::Instant::now() < until {
        for node in &nodes {
            assert_eq!(listed(node).await.len(), 1, "missing at {}", node.name);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for subscriber in &subscribers {
        let held = subscriber.held();
        assert_eq!((held.left, held.breaks), (Vec::<String>::new(), Vec::<String>::new()));
    }
}
