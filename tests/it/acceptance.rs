//! What muster exists for: registered at any node, seen at every node, pushed to every subscriber, while things die, move and join.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::wait::same;
use crate::support::{Api, Held, Nats, Node, Provider, Subscriber, eventually, provider};

const SERVICES: [&str; 3] = ["cart", "search", "user"];
const PROVIDERS: usize = 30;
const TTL: &str = "2s";
/// A silent instance is late after 2 s, down 2 s later, gone 1 s after that; the rest is a busy machine.
const SETTLE: Duration = Duration::from_secs(20);

/// Starts provider `index` at the node its index says; it turns to the others when that one is gone.
async fn start_provider(index: usize, apis: &[Api]) -> Provider {
    let mut nodes = apis.to_vec();
    nodes.rotate_left(index % apis.len());
    Provider::start(SERVICES[index % SERVICES.len()], &format!("p{index}"), TTL, &nodes).await
}

/// Which port each instance of each service really has.
fn truth(providers: &[Provider]) -> BTreeMap<&str, BTreeMap<String, u16>> {
    let mut truth: BTreeMap<&str, BTreeMap<String, u16>> = SERVICES.map(|service| (service, BTreeMap::new())).into();
    for provider in providers {
        truth.entry(&provider.service).or_default().insert(provider.id.clone(), provider.port);
    }
    truth
}

/// What the subscriber holds is `truth`, all of it up, reached by exact steps only.
fn holds(held: &Held, truth: &BTreeMap<&str, BTreeMap<String, u16>>) -> Result<(), String> {
    for (service, ports) in truth {
        same(&held.ports(service), ports)?;
        let late = held.services[*service].instances.values().find(|instance| instance["status"] != "up");
        late.map_or(Ok(()), |late| Err(format!("{late} is not up")))?;
    }
    Ok(())
}

/// Every subscriber comes to hold what is, and what it holds answers on its port with its own id.
async fn assert_all_hold(subscribers: &[Subscriber], providers: &[Provider]) {
    let truth = truth(providers);
    for subscriber in subscribers {
        let held = subscriber.until("a subscriber holds what is", SETTLE, |held| holds(held, &truth)).await;
        assert_eq!(held.breaks, Vec::<String>::new());
        for (id, port) in SERVICES.iter().flat_map(|service| held.ports(service)) {
            assert_eq!(provider::who_answers(port).await.as_deref(), Some(id.as_str()), "on port {port}");
        }
    }
}

/// No subscriber was ever told that one of these went.
fn assert_never_lost(subscribers: &[Subscriber], providers: &[Provider]) {
    for (subscriber, provider) in subscribers.iter().flat_map(|subscriber| providers.iter().map(move |provider| (subscriber, provider))) {
        let story = subscriber.held().story(&provider.id);
        assert!(story.iter().all(|word| word == "up"), "{}, alive all the time, was told as {story:?}", provider.id);
    }
}

async fn subscribe_to_all(nodes: &[Node]) -> Vec<Subscriber> {
    let target = format!("/v1/watch?service={}", SERVICES.join("&service="));
    let mut subscribers = Vec::new();
    for node in nodes {
        let subscriber = Subscriber::open(**node, &target).await;
        let held = subscriber.until_event("synced", Duration::from_secs(5)).await;
        let synced: Vec<_> = held.events.iter().filter(|event| event.name == "synced").map(|event| event.data.clone()).collect();
        assert_eq!(synced, [json!({"services": SERVICES.len()})]);
        subscribers.push(subscriber);
    }
    subscribers
}

#[tokio::test(flavor = "multi_thread")]
async fn every_subscriber_holds_what_answers_on_the_ports() {
    let nats = Nats::start(3).await;
    let nodes = Node::start_cluster(3, "acceptance", &nats.urls(), &["--set", "leases.evict_after=1s"]).await;
    let apis: Vec<Api> = nodes.iter().map(|node| **node).collect();
    let subscribers = subscribe_to_all(&nodes).await;

    let mut providers = Vec::new();
    for index in 0..PROVIDERS {
        providers.push(start_provider(index, &apis).await);
    }
    assert_all_hold(&subscribers, &providers).await;

    // Three die without a word, three deregister at another node than they registered at, six come back elsewhere on new ports.
    let dead: Vec<String> = providers.drain(..3).map(|provider| provider.id.clone()).collect();
    for (index, provider) in providers.drain(..3).enumerate() {
        let target = format!("/v1/services/{}/instances/{}", provider.service, provider.id);
        drop(provider);
        apis[(index + 1) % 3].delete(&target).await.expect(204);
    }
    for provider in providers.drain(..6).collect::<Vec<_>>() {
        let index: usize = provider.id[1..].parse().expect("p and a number");
        drop(provider);
        let mut elsewhere = apis.clone();
        elsewhere.rotate_left(1);
        providers.push(start_provider(index, &elsewhere).await);
    }
    assert_all_hold(&subscribers, &providers).await;
    assert_never_lost(&subscribers, &providers);
    for (subscriber, id) in subscribers.iter().flat_map(|subscriber| dead.iter().map(move |id| (subscriber, id))) {
        assert_eq!(subscriber.held().story(id), ["up", "suspect", "down", "gone: probe_failed"], "{id}");
    }
    assert!(providers.iter().all(|provider| provider.registered_again() == 0), "a heartbeat of a live provider was refused");
}

/// Registers instance after instance at the nodes in turn until told to stop; gives back how many were taken.
async fn register_on(apis: Vec<Api>, mut stop: tokio::sync::oneshot::Receiver<()>) -> usize {
    let mut count = 0;
    while stop.try_recv().is_err() {
        let target = format!("/v1/services/churn/instances/c{count}");
        let answer = apis[count % apis.len()].put(&target, &json!({"address": "10.0.0.1", "port": 80, "ttl": "1h"})).await;
        answer.expect(201);
        count += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    count
}

/// What a node says of all it holds, without what is its own.
async fn digests(api: &Api) -> (Value, Value, Value) {
    let cluster = api.cluster().await;
    (cluster["nodes"][0]["digest"].clone(), cluster["view_digest"].clone(), cluster["instances"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_while_registrations_go_on_ends_with_equal_digests() {
    let nats = Nats::start(3).await;
    let more = ["--set", "leases.evict_after=1s"];
    let mut nodes = Node::start_cluster(3, "joining", &nats.urls(), &more).await;
    let apis: Vec<Api> = nodes.iter().map(|node| **node).collect();
    let mut providers = Vec::new();
    for index in 0..9 {
        providers.push(start_provider(index, &apis).await);
    }
    let subscribers = subscribe_to_all(&nodes[..2]).await;
    assert_all_hold(&subscribers, &providers).await;

    let killed = nodes.pop().expect("three were started");
    killed.signal("KILL");
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let churn = tokio::spawn(register_on(apis[..2].to_vec(), stopped));
    let joining = Node::start("n4", "joining", &nats.urls(), &more).await;
    joining.ready().await;
    let first_answer = joining.get("/v1/services/user/instances").await.expect(200);
    assert_eq!(first_answer["instances"].as_array().map(Vec::len), Some(3), "ready, and did not know all: {first_answer}");
    stop.send(()).expect("registrations go on");
    let count = churn.await.expect("every registration was taken");
    assert!(count > 3, "only {count} registrations while the node joined");

    nodes.push(joining);
    eventually("all nodes hold the same", SETTLE, async || {
        let expected = digests(&nodes[0]).await;
        same(&expected.2, &json!(count + providers.len()))?;
        for node in &nodes[1..] {
            same(&digests(node).await, &expected)?;
        }
        Ok(())
    })
    .await;
    // Those that registered at the killed node were taken over by heartbeats elsewhere; nobody was lost on the way.
    let seen_by_new = Subscriber::open(*nodes[2], "/v1/watch?service=user&service=cart&service=search").await;
    assert_all_hold(&[seen_by_new], &providers).await;
    assert_never_lost(&subscribers, &providers);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_together_become_ready_together() {
    let nats = Nats::start(3).await;
    let begun = Instant::now();
    let urls = nats.urls();
    let nodes = futures_util::future::join_all(["n1", "n2", "n3"].map(|name| Node::start(name, "together", &urls, &[]))).await;
    let moments = futures_util::future::join_all(nodes.iter().map(async |node| {
        node.ready().await;
        begun.elapsed()
    }))
    .await;
    let (first, last) = (moments.iter().min().expect("three"), moments.iter().max().expect("three"));
    assert!(last.abs_diff(*first) < Duration::from_secs(2), "ready after {moments:?}");
    assert!(*last < Duration::from_secs(10), "ready after {moments:?}");
    for node in &nodes {
        node.hears_peers(3).await;
    }
}
