//! Nodes and the bus fail one after the other while providers live on: nobody who lives is ever taken away, and in the end all agree.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::wait::same;
use crate::support::{Api, Nats, Node, Provider, Request, eventually};

const PROVIDERS: usize = 12;
/// Of a node that is down or paused no answer is expected.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
const ASK_EVERY: Duration = Duration::from_millis(20);
const LIST: &str = "/v1/services/user/instances";

/// Asks every node over and over what it lists, and notes whoever was missing from an answer that claimed to be complete.
struct Auditor {
    found: Arc<Mutex<Found>>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Found {
    answers: usize,
    missed: Vec<String>,
}

impl Auditor {
    fn start(apis: Vec<Api>) -> Self {
        let found = Arc::new(Mutex::new(Found::default()));
        let tasks = apis.into_iter().map(|api| audit(api, Arc::clone(&found))).collect();
        Self { found, _tasks: tasks }
    }
}

async fn audit(api: Api, found: Arc<Mutex<Found>>) {
    let list = Request::new("GET", LIST);
    loop {
        if let Ok(Ok(answer)) = tokio::time::timeout(ANSWER_TIMEOUT, api.try_send(&list)).await
            && answer.status == 200
        {
            let mut found = found.lock().expect("what was found");
            found.answers += 1;
            found.missed.extend(missing_from(&answer.json()));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Who is not in a list that claims to be complete, with the list.
fn missing_from(list: &Value) -> Option<String> {
    let ids: BTreeSet<&str> = list["instances"].as_array().into_iter().flatten().filter_map(|instance| instance["id"].as_str()).collect();
    let missing: Vec<String> = (0..PROVIDERS).map(|number| format!("p{number}")).filter(|id| !ids.contains(id.as_str())).collect();
    (!missing.is_empty() && list["complete"] == true).then(|| format!("{missing:?} not in {list}"))
}

/// All nodes list every provider as up, and agree to the last digit.
async fn assert_all_well(nodes: &[Node]) {
    for node in nodes {
        node.ready().await;
        node.hears_peers(nodes.len()).await;
        eventually(&format!("{} lists all as up", node.name), Duration::from_secs(20), async || {
            let list = node.get(LIST).await.expect(200);
            let up = list["instances"].as_array().into_iter().flatten().filter(|instance| instance["status"] == "up").count();
            same(&up, &PROVIDERS).map_err(|_| list.to_string())
        })
        .await;
    }
    eventually("all have one digest", Duration::from_secs(10), async || {
        let first = nodes[0].cluster().await;
        for node in nodes {
            let own = node.cluster().await;
            same(&own["nodes"][0]["digest"], &first["nodes"][0]["digest"])?;
            same(&own["view_digest"], &first["view_digest"])?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_lives_is_taken_away() {
    let mut nats = Nats::start(3).await;
    let mut nodes = Node::start_cluster(3, "turmoil", &nats.urls(), &["--set", "leases.evict_after=2s"]).await;
    let apis: Vec<Api> = nodes.iter().map(|node| **node).collect();
    let mut providers = Vec::new();
    for number in 0..PROVIDERS {
        let mut turned = apis.clone();
        turned.rotate_left(number % apis.len());
        providers.push(Provider::start("user", &format!("p{number}"), "6s", &turned).await);
    }
    assert_all_well(&nodes).await;
    let auditor = Auditor::start(apis);

    // Each node stops in good order and starts again.
    for node in &mut nodes {
        node.signal("TERM");
        assert!(node.ended(Duration::from_secs(25)).await.success());
        node.start_again().await;
        node.ready().await;
    }
    assert_all_well(&nodes).await;
    // One is killed and starts again under its name, while the bus goes and comes.
    nodes[0].signal("KILL");
    nats.stop();
    nodes[0].start_again().await;
    nats.start_again().await;
    assert_all_well(&nodes).await;
    // One is paused for longer than its leases last.
    nodes[1].pause().await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    nodes[1].signal("CONT");
    assert_all_well(&nodes).await;

    let found = auditor.found.lock().expect("what was found");
    assert_eq!(found.missed, Vec::<String>::new());
    assert!(found.answers > 100, "only {} answers: too few to have seen anything", found.answers);
    let refused: u32 = providers.iter().map(Provider::registered_again).sum();
    assert_eq!(json!(refused), json!(0), "heartbeats of living providers were refused");
}
