//! Attached leases: a provider's connection is its sign of life, and its end is told across nodes at once.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::node::muster;
use crate::support::wait::same;
use crate::support::{Chunks, Connection, Nats, Node, Request, Subscriber, eventually};

const TOLD_WITHIN: Duration = Duration::from_secs(5);
const WATCH: &str = "/v1/watch?service=user";

/// A process of its own that holds an instance by a connection, as any program can: a shell that sends one request and reads on.
struct Holder(Child);

impl Holder {
    fn start(node: &Node, id: &str) -> Self {
        // Nobody listens there.
        let body = json!({"service": "user", "id": id, "address": "127.0.0.1", "port": 1}).to_string();
        let (host, port, length) = (node.host.ip(), node.host.port(), body.len());
        let request = format!(
            "POST /v1/attach HTTP/1.1\\r\\nhost: x\\r\\ncontent-type: application/json\\r\\ncontent-length: {length}\\r\\n\\r\\n{}",
            body.replace('"', "\\\"")
        );
        let script = format!("exec 3<>/dev/tcp/{host}/{port}; printf \"{request}\" >&3; exec cat <&3");
        let child = Command::new("bash").args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("bash");
        let out = child.stdout.take().expect("its output");
        let mut lines = BufReader::new(out).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.starts_with("data:") && line.contains("\"digest\"")), "it was not registered");
        Self(child)
    }

    fn kill(mut self) {
        self.0.kill().expect("kill -9");
        self.0.wait().expect("an end");
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Attaches from here; gives the stream once it has said what it holds.
async fn attach(node: &Node, body: &Value) -> (Chunks, Value) {
    let connection = Connection::open(node.host).await.expect("a connection");
    let (head, mut chunks) = connection.into_stream(&Request::new("POST", "/v1/attach").json(body)).await.expect("an answer");
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    let registered = next(&mut chunks, "registered").await;
    (chunks, registered)
}

/// The next event, which must be of this name; pings are passed over.
async fn next(chunks: &mut Chunks, name: &str) -> Value {
    loop {
        let chunk = tokio::time::timeout(TOLD_WITHIN, chunks.next()).await.expect("something in time").expect("the stream goes on");
        let text = String::from_utf8(chunk).expect("text");
        let (head, data) = text.split_once("\ndata: ").expect("an event with data");
        if head != "event: ping" {
            assert_eq!(head, format!("event: {name}"), "{text}");
            return serde_json::from_str(data.trim_end()).expect("JSON");
        }
    }
}

fn member(id: &str) -> Value {
    json!({"service": "user", "id": id, "address": "10.0.0.7", "port": 80, "check": {"kind": "none"}})
}

async fn told(subscriber: &Subscriber, id: &str, story: &[&str]) {
    let wanted: Vec<String> = story.iter().map(|word| (*word).to_owned()).collect();
    subscriber.until(&format!("{id} is told as {story:?}"), TOLD_WITHIN, |held| same(&held.story(id), &wanted)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_killed_is_told_as_suspect_at_another_node_and_goes() {
    let nats = Nats::start(1).await;
    let nodes = Node::start_cluster(2, "attached", &nats.urls(), &["--set", "leases.detach_grace=1s", "--set", "leases.ttl=2s"]).await;
    let subscriber = Subscriber::open(*nodes[1], WATCH).await;
    // Somebody stays: of two nodes neither lets go of a service's last instance.
    let (_stays, _) = attach(&nodes[0], &member("stays")).await;
    let holder = Holder::start(&nodes[0], "a");
    told(&subscriber, "a", &["up"]).await;
    let detail = nodes[1].get("/v1/services/user/instances/a").await.expect(200);
    assert_eq!((&detail["lease"]["attached"], &detail["owner"]), (&json!(true), &json!("n1")), "asked at a node that is not the owner");
    // Longer than its ttl: nothing but the connection says that it lives.
    tokio::time::sleep(Duration::from_secs(3)).await;
    told(&subscriber, "a", &["up"]).await;
    holder.kill();
    told(&subscriber, "a", &["up", "suspect"]).await;
    let detail = nodes[1].get("/v1/services/user/instances/a").await.expect(200);
    assert_eq!((&detail["cause"], &detail["lease"]["attached"]), (&json!("detached"), &json!(false)), "{detail}");
    subscriber
        .until("it goes", Duration::from_secs(15), |held| {
            let story = held.story("a");
            if story == ["up", "suspect", "down", "gone: probe_failed"] { Ok(()) } else { Err(format!("{story:?}")) }
        })
        .await;
    told(&subscriber, "stays", &["up"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_the_command_line_holds_leaves_with_notice_and_is_never_suspect() {
    let node = Node::start_alone("held").await;
    node.ready().await;
    let subscriber = Subscriber::open(*node, WATCH).await;
    let arguments = ["register", "--service", "user", "--id", "a", "--address", "127.0.0.1", "--port", "1", "-s", &node.url()];
    let mut held = muster(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a muster that starts");
    told(&subscriber, "a", &["up"]).await;
    let stopped = Command::new("kill").args(["-INT", &held.id().to_string()]).status();
    assert!(stopped.expect("kill(1)").success());
    told(&subscriber, "a", &["up", "draining", "gone: deregistered"]).await;
    assert!(held.wait().expect("its end").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_are_held_at_one_node_and_all_or_none_on_one_connection() {
    const COUNT: usize = 1000;
    let node = Node::start_alone("thousand").await;
    node.ready().await;
    let subscriber = Subscriber::open(*node, WATCH).await;
    let ids: Vec<String> = (0..COUNT).map(|id| format!("i{id}")).collect();
    let mut streams = Vec::new();
    for id in &ids {
        streams.push(attach(&node, &member(id)).await.0);
    }
    let suspect = |held: &crate::support::Held| {
        let listed = held.services.get("user").map(|service| service.instances.values().collect::<Vec<_>>()).unwrap_or_default();
        (listed.len(), listed.iter().filter(|instance| instance["status"] == "suspect").count())
    };
    subscriber.until("all are listed", TOLD_WITHIN, |held| same(&suspect(held), &(COUNT, 0))).await;
    streams.truncate(COUNT - 100);
    subscriber.until("a hundred are suspect", TOLD_WITHIN, |held| same(&suspect(held), &(COUNT, 100))).await;

    let several = json!({"instances": [member("x1"), member("x2")]});
    let (mut stream, registered) = attach(&node, &several).await;
    told(&subscriber, "x1", &["up"]).await;
    let named: Vec<&Value> = registered["instances"].as_array().expect("instances").iter().map(|held| &held["id"]).collect();
    assert_eq!((named, &registered["owner"]), (vec![&json!("x1"), &json!("x2")], &json!("thousand")));
    assert_eq!(node.delete("/v1/services/user/instances/x2").await.status, 204);
    assert_eq!(next(&mut stream, "deregistered").await, json!({"service": "user", "id": "x2", "incarnation": 1}));
    let bad = json!({"instances": [member("y1"), {"service": "user", "id": "y2", "address": "10.0.0.7", "port": 0}]});
    assert_eq!(node.post("/v1/attach", &bad).await.status, 400);
    assert_eq!(node.get("/v1/services/user/instances/y1").await.status, 404);
    drop(stream);
    told(&subscriber, "x1", &["up", "suspect"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_says_goodbye_and_nobody_is_suspect_for_it() {
    let nats = Nats::start(1).await;
    let mut nodes = Node::start_cluster(3, "attached-goodbye", &nats.urls(), &["--set", "leases.ttl=6s"]).await;
    let subscriber = Subscriber::open(*nodes[2], WATCH).await;
    let (mut stream, _) = attach(&nodes[0], &member("a")).await;
    let (silent, _) = attach(&nodes[0], &member("silent")).await;
    for id in ["a", "silent"] {
        told(&subscriber, id, &["up"]).await;
    }
    nodes[0].signal("TERM");
    let goodbye = next(&mut stream, "goodbye").await;
    let reconnect_ms = goodbye["reconnect_ms"].as_u64().expect("a number");
    assert!(reconnect_ms <= 1500, "{goodbye}");
    tokio::time::sleep(Duration::from_millis(reconnect_ms)).await;
    let (_held, registered) = attach(&nodes[1], &member("a")).await;
    assert_eq!(registered["owner"], "n2");
    drop((stream, silent));
    assert!(nodes[0].ended(Duration::from_secs(25)).await.success());
    // Who does not come back is silent one ttl later, and by its time: its connection has not closed but was closed.
    subscriber
        .until("the one that did not come back is suspect", Duration::from_secs(20), |held| {
            same(&held.story("silent"), &["up".to_owned(), "suspect".to_owned()].to_vec())
        })
        .await;
    let detail = nodes[2].get("/v1/services/user/instances/silent").await.expect(200);
    assert_eq!(detail["cause"], "expired", "{detail}");
    told(&subscriber, "a", &["up"]).await;
    eventually("the new owner is known", TOLD_WITHIN, async || {
        same(&nodes[2].get("/v1/services/user/instances/a").await.expect(200)["owner"], &json!("n2"))
    })
    .await;
}
