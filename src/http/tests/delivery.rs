//! Delivery from the socket: what was written to it counts as sent, and what it had no room for does not.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use super::Door;
use super::http1::listening;

const PATIENCE: Duration = Duration::from_secs(20);

/// A service whose snapshot no socket's buffers hold.
async fn register_large(door: &Door, service: &str) {
    let value = "v".repeat(500);
    let metadata: Vec<String> = (0..30).map(|key| format!("\"key-{key}\":\"{value}\"")).collect();
    let body = format!("{{\"address\":\"10.0.0.7\",\"port\":80,\"metadata\":{{{}}}}}", metadata.join(","));
    for number in 0..400 {
        let answer = door.put(&format!("/v1/services/{service}/instances/i-{number}"), &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
}

/// A reader of the stream over HTTP/1 that reads the head, and all that comes after it only if it is one that reads.
async fn watch_http1(address: SocketAddr, service: &str, reads: bool) -> (SocketAddr, JoinHandle<()>) {
    let socket = TcpSocket::new_v4().unwrap();
    if !reads {
        socket.set_recv_buffer_size(4096).unwrap();
    }
    let mut stream = socket.connect(address).await.unwrap();
    let own = stream.local_addr().unwrap();
    let request = format!("GET /v1/watch?service={service} HTTP/1.1\r\nhost: x\r\nmuster-client: one/1.1\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    (own, tokio::spawn(read_on(stream, reads)))
}

async fn read_on(mut stream: TcpStream, reads: bool) {
    if !reads {
        return std::future::pending().await;
    }
    let mut buffer = vec![0; 65_536];
    while stream.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {}
}

fn client(version: u8) -> reqwest::Client {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().no_proxy();
    if version == 2 { builder.http2_prior_knowledge() } else { builder.http1_only() }.build().unwrap()
}

/// The same over HTTP/2: one that does not read leaves its window full.
async fn watch_http2(address: SocketAddr, service: &str, reads: bool) -> JoinHandle<()> {
    let client = client(2);
    let request = client.get(format!("http://{address}/v1/watch?service={service}")).header("muster-client", "two/2.2");
    let mut answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    tokio::spawn(async move {
        if !reads {
            return std::future::pending().await;
        }
        while answer.chunk().await.is_ok_and(|chunk| chunk.is_some()) {}
    })
}

async fn drain(door: &Door, service: &str, id: &str, query: &str) -> Value {
    let answer = tokio::time::timeout(PATIENCE, door.post(&format!("/v1/services/{service}/instances/{id}/drain?wait&{query}"), "")).await;
    let answer = answer.expect("a drain ends");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_names_those_whose_sockets_take_no_more_bytes() {
    let door = Door::open("delivery-stalled");
    let address = listening(&door);
    register_large(&door, "user").await;
    let (_, _reader) = watch_http1(address, "user", true).await;
    let _other_reader = watch_http2(address, "user", true).await;
    let drained = drain(&door, "user", "i-1", "deadline=20s&deregister=false").await;
    assert_eq!(drained, serde_json::json!({"delivered": true, "subscribers": 2, "missing": [], "deregistered": false}));

    let (stalled, _holder) = watch_http1(address, "user", false).await;
    let _other_holder = watch_http2(address, "user", false).await;
    let drained = drain(&door, "user", "i-2", "deadline=1s").await;
    assert_eq!((&drained["delivered"], &drained["subscribers"], &drained["deregistered"]), (&false.into(), &4.into(), &true.into()));
    let missing = drained["missing"].as_array().unwrap();
    let named: BTreeSet<(&str, &str)> =
        missing.iter().map(|who| (who["node"].as_str().unwrap(), who["subscriber"].as_str().unwrap())).collect();
    assert_eq!(named, BTreeSet::from([("delivery-stalled", "one/1.1"), ("delivery-stalled", "two/2.2")]), "{drained}");
    assert!(missing.iter().any(|who| who["address"] == stalled.to_string()), "{drained}");
    assert_eq!(missing.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_is_over_as_soon_as_all_have_been_sent_it_over_either_protocol() {
    let door = Door::open("delivery-quick");
    let address = listening(&door);
    for id in ["a", "b", "c", "d"] {
        door.put(&format!("/v1/services/user/instances/{id}"), r#"{"address":"10.0.0.7","port":80}"#).await;
    }
    let (_, _reader) = watch_http1(address, "user", true).await;
    let _other_reader = watch_http2(address, "user", true).await;
    for id in ["a", "b", "c"] {
        let drained = drain(&door, "user", id, "deadline=5m").await;
        assert_eq!(drained, serde_json::json!({"delivered": true, "subscribers": 2, "missing": [], "deregistered": true}));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_poll_counts_and_so_does_one_that_was_answered_just_so() {
    let door = Door::open("delivery-polls");
    let address = listening(&door);
    for id in ["a", "b"] {
        door.put(&format!("/v1/services/user/instances/{id}"), r#"{"address":"10.0.0.7","port":80}"#).await;
    }
    for version in [1, 2] {
        let client = client(version);
        let etag = door.get("/v1/services/user/instances").await.header("etag").to_owned();
        let url = format!("http://{address}/v1/services/user/instances?wait=2m");
        let poller = tokio::spawn(async move {
            let mut etag = etag;
            loop {
                let answer = client.get(&url).header("if-none-match", &etag).header("muster-client", "poll/1").send().await.unwrap();
                etag = answer.headers()["etag"].to_str().unwrap().to_owned();
                let body = answer.bytes().await.unwrap();
                serde_json::from_slice::<Value>(&body).unwrap();
            }
        });
        let here = async {
            while door.get("/v1/services/user/subscribers").await.json()["subscribers"].as_array().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, here).await.expect("the poll is held");
        let id = if version == 1 { "a" } else { "b" };
        let drained = drain(&door, "user", id, "deadline=5m").await;
        assert_eq!(drained, serde_json::json!({"delivered": true, "subscribers": 1, "missing": [], "deregistered": true}), "{version}");
        poller.abort();
        let gone = async {
            while !door.get("/v1/services/user/subscribers").await.json()["subscribers"].as_array().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("its entry goes with its connection");
    }
}

#[tokio::test]
async fn subscribers_are_named_with_their_addresses() {
    let door = Door::open("delivery-named");
    let address = listening(&door);
    door.put("/v1/services/user/instances/a", r#"{"address":"10.0.0.7","port":80}"#).await;
    let (own, _reader) = watch_http1(address, "user", true).await;
    let (_, _other) = watch_http1(address, "cart", true).await;
    let told = door.get("/v1/services/user/subscribers").await.json();
    let since = told["subscribers"][0]["since"].clone();
    assert!(since.as_str().unwrap().ends_with('Z'));
    let subscriber = serde_json::json!({"node": "delivery-named", "subscriber": "one/1.1", "address": own.to_string(), "since": since});
    let expected = serde_json::json!({"namespace": "default", "service": "user", "subscribers": [subscriber], "complete": true});
    assert_eq!(told, expected);
    assert_eq!(door.get("/v1/services/user").await.json()["subscribers"], 1);
    assert_eq!(door.get("/v1/services/nobody/subscribers").await.json()["subscribers"], serde_json::json!([]));
}

#[tokio::test]
async fn who_does_not_see_the_instance_is_not_asked() {
    let door = Door::open("delivery-selected");
    let address = listening(&door);
    for (id, zone) in [("a", "a"), ("b", "b")] {
        let body = format!(r#"{{"address":"10.0.0.7","port":80,"zone":"{zone}"}}"#);
        door.put(&format!("/v1/services/user/instances/{id}"), &body).await;
    }
    let mut readers = Vec::new();
    for selection in ["user&zone=b", "user&usable=true", "user&status=up", "*", "cart", "user&status=draining"] {
        readers.push(watch_http1(address, selection, true).await);
    }
    let drained = drain(&door, "user", "a", "deadline=5m").await;
    assert_eq!(drained, serde_json::json!({"delivered": true, "subscribers": 4, "missing": [], "deregistered": true}));
}

#[tokio::test]
async fn a_drain_says_what_it_does_not_know_or_cannot_read() {
    let door = Door::open("delivery-refused");
    door.post("/v1/services/user/instances/a/drain", "").await.problem(404, "unknown_instance");
    let faults = door.post("/v1/services/user/instances/a/drain?deadline=6m&wait=maybe&colour=red", "").await.faults();
    assert_eq!(faults.iter().map(|(place, _)| place.as_str()).collect::<Vec<_>>(), ["deadline", "wait", "colour"]);
    door.put("/v1/services/user/instances/a", r#"{"address":"10.0.0.7","port":80,"incarnation":5}"#).await;
    door.post("/v1/services/user/instances/a/drain?incarnation=4", "").await.problem(409, "superseded");
    door.post("/v1/services/user/instances/a/drain?incarnation=6", "").await.problem(404, "unknown_instance");
}

#[tokio::test]
async fn a_drain_holds_until_its_provider_says_up() {
    let door = Door::open("delivery-up");
    let path = "/v1/services/user/instances/a";
    let body = r#"{"address":"10.0.0.7","port":80}"#;
    door.put(path, body).await;
    let answer = door.post(&format!("{path}/drain?deregister=false"), "").await;
    assert_eq!((answer.status.as_u16(), answer.bytes.len()), (202, 0));
    let status = async || {
        let detail = door.get(path).await.json();
        (
            detail["status"]["effective"].as_str().unwrap().to_owned(),
            detail["instance"]["weight"].clone(),
            detail["cause"].as_str().unwrap().to_owned(),
        )
    };
    let draining = ("draining".to_owned(), Value::from(0), "drained".to_owned());
    assert_eq!(status().await, draining);
    assert_eq!(door.put(path, body).await.json()["instance"]["status"], "draining");
    assert_eq!(status().await, draining);
    assert_eq!(door.post(&format!("{path}/heartbeat"), "").await.json()["status"], "draining");
    assert_eq!(door.put(path, r#"{"address":"10.0.0.7","port":80,"status":"up"}"#).await.json()["instance"]["status"], "up");
    let up = ("up".to_owned(), Value::from(100), "updated".to_owned());
    assert_eq!(status().await, up);
    door.post(&format!("{path}/drain?deregister=false"), "").await;
    assert_eq!(door.post(&format!("{path}/heartbeat"), r#"{"status":"up"}"#).await.json()["status"], "up");
    assert_eq!(status().await, up);
    // Said anew within its life it drains on; as another life it does not.
    door.post(&format!("{path}/drain?deregister=false"), "").await;
    assert_eq!(door.put(path, r#"{"address":"10.0.0.7","port":81}"#).await.json()["instance"]["status"], "draining");
    assert_eq!(door.put(path, r#"{"address":"10.0.0.7","port":81,"incarnation":9}"#).await.json()["instance"]["status"], "up");
}
