//! A node whose task does not turn, while its process, its HTTP and its bus do: its peers find it dead, and alive again once it turns.
//!
//! The nodes run in this process, for the task is held up by what only a caller of the library can do.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use muster::bus::memory::Hub;
use muster::clock::Clock;
use muster::config::{Config, NodeConfig};
use muster::http::{App, Bound};
use muster::model::{
    Address, Cluster, Epoch, InstanceId, InstanceKey, Namespace, NodeName, Port, Registration, RegistrationDraft, ServiceKey, ServiceName,
    Ttl,
};
use muster::node::{self, Asking, Guard, Handle, History, Probing, Watching};
use muster::registry::{Register, Settings};
use muster::shutdown::Shutdown;

use crate::support::eventually;

const WATCHING: Watching = Watching { timeout: Duration::from_secs(1), exit: None, end: || unreachable!("there is no exit") };
/// Fifteen seconds of silence, a question, and a machine that is busy.
const JUDGED_WITHIN: Duration = Duration::from_mins(1);

fn start(hub: &Hub, number: u64, shutdown: &Shutdown) -> Handle {
    let name = NodeName::parse(&format!("stalled-{number}")).expect("a name");
    let bound = Bound::bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let settings = Settings { http: bound.address().to_string(), bootstrap_wait_ms: 200, ..Settings::new(name.clone(), Epoch(number)) };
    let life = settings.life();
    // They listen on loopback, and so ask there.
    let guard = Guard { loopback: true, ..Guard::default() };
    let asking = Asking { probing: Probing { guard, ..Probing::default() }, ..Asking::default() };
    let (handle, port) = node::spawn_with(settings, None, Clock::start(), &asking, shutdown);
    handle.watch_over(WATCHING, shutdown).expect("a thread");
    hub.attach(port, life, shutdown);
    let config = Config { node: NodeConfig { name, ..NodeConfig::default() }, ..Config::default() };
    bound.serve(App::new(handle.clone(), Arc::new(config), shutdown.clone()));
    handle
}

fn registration(node: &Handle, id: &str) -> Register {
    let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").expect("a name") };
    let key = InstanceKey { service, id: InstanceId::parse(id).expect("an id") };
    let address = Address::parse("10.0.0.7").expect("an address");
    let draft = RegistrationDraft::new(address, Port::new(80).expect("a port"), Ttl::from_ms(3_600_000).expect("a ttl"));
    Register::new(key, Arc::new(Registration::new(draft).expect("a registration")), node.clock().mono())
}

/// Holds up whoever records an event, until the sender is dropped.
fn hold(history: History) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel();
    let (looking, looks) = mpsc::channel();
    std::thread::spawn(move || {
        history.newest(u64::MAX, 1, |_| {
            let _ = looking.send(());
            // Ends when the other end is dropped.
            let _ = released.recv();
            true
        })
    });
    looks.recv().expect("an event to look at");
    release
}

/// How this node sees the second one.
async fn sees_second(node: &Handle) -> Result<&'static str, String> {
    let view = node.cluster().await.map_err(|refused| format!("{refused:?}"))?;
    view.nodes.iter().find(|node| node.life.node.as_str() == "stalled-2").map(|node| node.state).ok_or_else(|| "it does not".to_owned())
}

async fn until(node: &Handle, state: &str) {
    eventually(&format!("the second node is {state}"), JUDGED_WITHIN, async || match sees_second(node).await? {
        seen if seen == state => Ok(()),
        seen => Err(seen.to_owned()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn peers_find_a_node_dead_whose_task_does_not_turn_though_it_answers() {
    let shutdown = Shutdown::new();
    let hub = Hub::new(Cluster::parse("muster").expect("a name"));
    let nodes: Vec<Handle> = (1..=3).map(|number| start(&hub, number, &shutdown)).collect();
    let [first, second, third] = nodes.as_slice() else { panic!("three were started") };
    for node in [first, third] {
        until(node, "ready").await;
    }
    second.register(registration(second, "a")).await.expect("it is registered");

    let held = hold(second.history().clone());
    let last = second.clone();
    let asked = tokio::spawn(async move { last.register(registration(&last, "b")).await });
    assert_eq!(asked.await.expect("an answer").unwrap_err(), node::Refused::Unanswered);
    for node in [first, third] {
        until(node, "dead").await;
    }
    drop(held);
    for node in [first, third] {
        until(node, "ready").await;
    }
    assert!(!second.condition().is_stalled);
    shutdown.begin();
}
