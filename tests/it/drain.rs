//! Drains over a real bus: the answer comes after everybody was sent it, and names those who were not.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::support::node::muster;
use crate::support::{Api, Nats, Node, Request, eventually};

const SUBSCRIBERS: usize = 500;
const PATIENCE: Duration = Duration::from_secs(30);

async fn register(node: &Api, id: &str, port: u16) {
    let body = json!({"address": "10.0.0.7", "port": port, "ttl": "1h"});
    node.put(&format!("/v1/services/user/instances/{id}?ack=all&ack_timeout=10s"), &body).await.expect(201);
}

/// A stream that notes when it has read that the instance drains; it stays open, for a subscriber that has gone is none.
async fn follow(api: Api, id: String, seen: Arc<AtomicUsize>) {
    let mut stream = TcpStream::connect(api.host).await.expect("a node that listens");
    let request = "GET /v1/watch?service=user HTTP/1.1\r\nhost: x\r\nmuster-client: cart/1.4\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("a request is sent");
    let (mut line, mut buffer) = (Vec::new(), vec![0; 65_536]);
    let wanted = format!("\"id\":\"{id}\"");
    let is_it = |line: &[u8]| {
        let line = String::from_utf8_lossy(line);
        line.contains(&wanted) && line.contains("draining")
    };
    loop {
        let bytes = match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(bytes) => &buffer[..bytes],
        };
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            line.extend_from_slice(piece);
            if pieces.peek().is_some() && is_it(&std::mem::take(&mut line)) {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// Polls, and notes when it has been answered that the instance drains.
async fn poll(api: Api, id: String, seen: Arc<AtomicUsize>) {
    let mut etag = "\"none\"".to_owned();
    let mut connection = crate::support::Connection::open(api.host).await.expect("a node that listens");
    let mut is_noted = false;
    loop {
        let request =
            Request::new("GET", "/v1/services/user/instances?wait=20s").header("if-none-match", &etag).header("muster-client", "poll/1");
        let Ok(answer) = connection.send(&request).await else { return };
        answer.header("etag").expect("an etag").clone_into(&mut etag);
        let drains =
            |answer: &Value| answer["instances"].as_array().into_iter().flatten().any(|at| at["id"] == *id && at["status"] == "draining");
        if answer.status == 200 && drains(&answer.json()) && !is_noted {
            is_noted = true;
            seen.fetch_add(1, Ordering::SeqCst);
        }
    }
}

async fn subscribers_are(node: &Api, count: usize) {
    eventually("all subscribers are known", PATIENCE, async || {
        let told = node.get("/v1/services/user/subscribers").await.expect(200);
        let there = told["subscribers"].as_array().expect("a list").len();
        if there == count && told["complete"] == true { Ok(()) } else { Err(format!("{there} are, complete: {}", told["complete"])) }
    })
    .await;
}

async fn drain(node: &Api, id: &str, query: &str) -> Value {
    let request = Request::new("POST", &format!("/v1/services/user/instances/{id}/drain?wait=true&{query}"));
    node.send(&request).await.expect(200)
}

fn missing(drained: &Value) -> BTreeSet<(String, String, String)> {
    let text = |who: &Value, key: &str| who[key].as_str().unwrap_or_default().to_owned();
    let missing = drained["missing"].as_array().expect("a list");
    missing.iter().map(|who| (text(who, "node"), text(who, "subscriber"), text(who, "address"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_comes_after_the_last_of_five_hundred_was_sent_it() {
    let nats = Nats::start(1).await;
    let nodes = Node::start_cluster(3, "drain-500", &nats.urls(), &[]).await;
    register(&nodes[0], "u-1", 8081).await;
    register(&nodes[0], "u-2", 8082).await;
    let seen = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    for number in 0..SUBSCRIBERS {
        let api = *nodes[number % 3];
        if number % 10 == 0 {
            readers.spawn(poll(api, "u-1".to_owned(), Arc::clone(&seen)));
        } else {
            readers.spawn(follow(api, "u-1".to_owned(), Arc::clone(&seen)));
        }
    }
    for node in &nodes {
        subscribers_are(node, SUBSCRIBERS).await;
    }
    assert_eq!(nodes[2].get("/v1/services/user").await.expect(200)["subscribers"], SUBSCRIBERS);
    let drained = drain(&nodes[1], "u-1", "deadline=25s&deregister=true").await;
    assert_eq!(drained, json!({"delivered": true, "subscribers": SUBSCRIBERS, "missing": [], "deregistered": true}));
    // What was written to a socket is on its way to its reader, and no further behind than that.
    eventually("everybody has read it", PATIENCE, async || {
        let seen = seen.load(Ordering::SeqCst);
        if seen == SUBSCRIBERS { Ok(()) } else { Err(format!("{seen} have")) }
    })
    .await;
    nodes[0].get("/v1/services/user/instances/u-1").await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_not_sent_it_is_named_at_a_stopped_node_too() {
    let nats = Nats::start(1).await;
    let nodes = Node::start_cluster(3, "drain-named", &nats.urls(), &[]).await;
    // More than the sockets' buffers hold.
    let value = "v".repeat(500);
    let metadata: Value = (0..28).map(|key| (format!("key-{key}"), Value::from(value.clone()))).collect::<serde_json::Map<_, _>>().into();
    for number in 0..400 {
        let body = json!({"address": "10.0.0.7", "port": 8000 + number, "ttl": "1h", "metadata": metadata});
        nodes[0].put(&format!("/v1/services/user/instances/u-{number}"), &body).await.expect(201);
    }
    nodes[1].hears_peers(3).await;
    let seen = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    for node in &nodes {
        readers.spawn(follow(**node, "u-1".to_owned(), Arc::clone(&seen)));
    }
    let stalled = stall(nodes[1].host).await;
    for node in &nodes {
        subscribers_are(node, 4).await;
    }
    let told = nodes[0].get("/v1/services/user/subscribers").await.expect(200);
    let of_n3 = told["subscribers"].as_array().expect("a list").iter().find(|who| who["node"] == "n3").expect("one is there").clone();
    let drained = drain(&nodes[0], "u-1", "deadline=3s&deregister=false").await;
    let stuck = ("n2".to_owned(), "slow/1".to_owned(), stalled.local_addr().expect("it is connected").to_string());
    assert_eq!((missing(&drained), &drained["delivered"], &drained["subscribers"]), ([stuck.clone()].into(), &json!(false), &json!(4)));

    nodes[2].pause().await;
    let drained = drain(&nodes[0], "u-2", "deadline=3s").await;
    let silent = ("n3".to_owned(), "cart/1.4".to_owned(), of_n3["address"].as_str().expect("an address").to_owned());
    assert_eq!(missing(&drained), [stuck, silent].into(), "{drained}");
    assert_eq!((&drained["delivered"], &drained["subscribers"], &drained["deregistered"]), (&json!(false), &json!(4), &json!(true)));
    nodes[2].signal("CONT");
}

/// Asks for a stream, and reads nothing of it.
async fn stall(node: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut stream = socket.connect(node).await.expect("a node that listens");
    let request = "GET /v1/watch?service=user HTTP/1.1\r\nhost: x\r\nmuster-client: slow/1\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("a request is sent");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_drains_and_names() {
    let node = Node::start_alone("drain-cli").await;
    node.ready().await;
    let run = |args: &[&str]| {
        let output = muster(args).args(["-s", &node.url()]).output().expect("muster runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let run = |args: &[&str]| tokio::task::block_in_place(|| run(args));
    node.put("/v1/services/user/instances/u-1", &json!({"address": "10.0.0.7", "port": 80})).await.expect(201);
    let seen = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    readers.spawn(follow(*node, "u-1".to_owned(), Arc::clone(&seen)));
    subscribers_are(&node, 1).await;
    let (code, said) = run(&["subscribers", "user"]);
    assert!(code == Some(0) && said.contains("cart/1.4") && said.contains("drain-cli"), "{said}");
    assert_eq!(run(&["drain", "user", "u-1", "--keep"]), (Some(0), "user u-1: drained, 1 subscriber told; still listed\n".to_owned()));
    assert_eq!(run(&["drain", "user", "u-1"]), (Some(0), "user u-1: drained, 1 subscriber told; deregistered\n".to_owned()));
    assert_eq!(run(&["drain", "user", "u-1"]).0, Some(3));
}
