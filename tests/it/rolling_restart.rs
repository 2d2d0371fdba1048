//! Every node stops and starts again in turn, under load: nobody who renews leaves any subscriber's list.

use std::time::Duration;

use crate::support::wait::same;
use crate::support::{Api, Load, Nats, Node, Subscriber, all_agree, eventually};

const INSTANCES: usize = 2000;
const CONNECTIONS: usize = 20;
const TTL: Duration = Duration::from_secs(6);
const SUBSCRIBERS: usize = 50;
const SETTLE: Duration = Duration::from_secs(20);

/// Every subscriber comes to hold every instance as `up`.
async fn all_hold(subscribers: &[Subscriber]) {
    for subscriber in subscribers {
        subscriber
            .until("a subscriber holds all as up", SETTLE, |held| {
                let held = held.services.get("user").into_iter().flat_map(|service| service.instances.values());
                same(&held.filter(|instance| instance["status"] == "up").count(), &INSTANCES)
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_takes_nobody_from_any_list() {
    let nats = Nats::start(1).await;
    let mut nodes = Node::start_cluster(3, "rolling", &nats.urls(), &["--set", "leases.evict_after=2s"]).await;
    let apis: Vec<Api> = nodes.iter().map(|node| **node).collect();
    let load = Load::start("user", INSTANCES, CONNECTIONS, TTL, &apis).await;
    all_agree(&nodes, INSTANCES, SETTLE).await;
    let subscribers: Vec<Subscriber> = (0..SUBSCRIBERS)
        .map(|number| {
            let mut turned = apis.clone();
            turned.rotate_left(number % apis.len());
            Subscriber::steadfast(turned, "/v1/watch?service=user")
        })
        .collect();
    all_hold(&subscribers).await;

    for index in 0..nodes.len() {
        nodes[index].signal("TERM");
        let renewed = load.renewed();
        assert!(nodes[index].ended(Duration::from_secs(30)).await.success(), "a stop that was asked for is no failure");
        eventually("renewals go on while it is away", SETTLE, async || {
            let (least, now) = (renewed + INSTANCES, load.renewed());
            if now >= least { Ok(()) } else { Err(format!("{now} of {least}")) }
        })
        .await;
        nodes[index].start_again().await;
        nodes[index].ready().await;
        all_agree(&nodes, INSTANCES, SETTLE).await;
    }
    all_hold(&subscribers).await;

    for subscriber in &subscribers {
        let held = subscriber.held();
        assert_eq!((&held.left, &held.breaks), (&Vec::new(), &Vec::new()), "what left a list, and what did not follow");
    }
    assert_eq!((load.registered_again(), load.refused()), (0, Vec::new()), "heartbeats of living providers were refused");
    assert!(load.turned() > 0, "no connection was to turn to another node: nothing was tested");
}
