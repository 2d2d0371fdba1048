//! Looking: what becomes of instances whose heartbeats stop, by whether their ports answer, and of those whose checks fail.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::{Node, Subscriber, eventually};

const COUNT: usize = 100;
const PATIENCE: Duration = Duration::from_mins(1);

fn target(number: usize) -> String {
    format!("/v1/services/user/instances/i{number}")
}

/// Takes connections on a port of its own, and says nothing.
async fn listen(tasks: &mut JoinSet<()>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("a bound port").port();
    tasks.spawn(async move { while listener.accept().await.is_ok() {} });
    port
}

fn same(detail: &Value, cause: &str, status: &str) -> Result<(), String> {
    let is_same = detail["cause"] == cause && detail["status"]["effective"] == status;
    if is_same { Ok(()) } else { Err(detail.to_string()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_whose_heartbeats_stop_and_whose_ports_answer_stay_up() {
    let node = Node::start_alone("answering").await;
    let subscriber = Subscriber::open(*node, "/v1/watch?service=user").await;
    let mut ports = JoinSet::new();
    for number in 0..COUNT {
        let port = listen(&mut ports).await;
        node.put(&target(number), &json!({"address": "127.0.0.1", "port": port, "ttl": "1s", "evict_after": "0s"})).await.expect(201);
    }
    for number in 0..COUNT {
        eventually("it is up, because it answers", PATIENCE, async || {
            same(&node.get(&target(number)).await.expect(200), "probe_succeeded", "up")
        })
        .await;
    }
    let detail = node.get(&target(0)).await.expect(200);
    assert_eq!((&detail["check"]["kind"], &detail["check"]["last"]["ok"]), (&json!("tcp"), &json!(true)), "{detail}");
    assert!(detail["note"].as_str().is_some_and(|note| note.starts_with("no heartbeat for ")), "{detail}");
    for number in 0..COUNT {
        let story = subscriber.held().story(&format!("i{number}"));
        assert!(!story.iter().any(|step| step.starts_with("gone") || step == "down"), "{story:?}");
    }
    // A heartbeat is worth more than any look.
    node.post(&format!("{}/heartbeat", target(0)), &json!({})).await.expect(200);
    assert_eq!(node.get(&target(0)).await.expect(200)["cause"], "recovered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_whose_ports_are_closed_leave_step_by_step() {
    let node = Node::start_alone("closed").await;
    let subscriber = Subscriber::open(*node, "/v1/watch?service=user").await;
    for number in 0..COUNT {
        // Nobody listens there: a machine's services are on other addresses and ports.
        let address = format!("127.77.0.{}", number + 1);
        let evict_after = if number == 0 { "24h" } else { "1s" };
        node.put(&target(number), &json!({"address": address, "port": 1, "ttl": "1s", "evict_after": evict_after})).await.expect(201);
    }
    let told = ["up", "suspect", "down", "gone: probe_failed"];
    subscriber
        .until("all but one have left", PATIENCE, |held| {
            let stays =
                (1..COUNT).map(|number| held.story(&format!("i{number}"))).find(|story| story.last().map(String::as_str) != Some(told[3]));
            stays.map_or(Ok(()), |story| Err(format!("{story:?}")))
        })
        .await;
    for number in 1..COUNT {
        assert_eq!(subscriber.held().story(&format!("i{number}")), told);
    }
    let detail = node.get(&target(0)).await.expect(200);
    assert_eq!(same(&detail, "probe_failed", "down"), Ok(()));
    assert!(detail["note"].as_str().is_some_and(|note| note.contains("connection refused")), "{detail}");
    assert_eq!(detail["check"]["last"]["ok"], false, "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_that_nobody_answers_do_not_keep_the_dead_listed() {
    let node = Node::start_alone_as("starved", &["--set", "probes.in_flight=4"]).await;
    // The system takes connections for it, at every address, and nobody ever reads what comes.
    let silent = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.expect("a free port");
    let port = silent.local_addr().expect("a bound port").port();
    let check = json!({"kind": "http", "path": "/", "interval": "100ms", "timeout": "2s"});
    for number in 1..5 * COUNT {
        let address = format!("127.78.{}.{}", number / COUNT, number % COUNT + 1);
        node.put(&target(number), &json!({"address": address, "port": port, "ttl": "1h", "check": check})).await.expect(201);
    }
    let subscriber = Subscriber::open(*node, "/v1/watch?service=user").await;
    node.put(&target(0), &json!({"address": "127.77.0.1", "port": 1, "ttl": "1s", "evict_after": "0s"})).await.expect(201);
    subscriber
        .until("it has left", PATIENCE, |held| {
            let story = held.story("i0");
            if story.last().is_some_and(|step| step == "gone: probe_failed") { Ok(()) } else { Err(format!("{story:?}")) }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_check_fails_is_down_whatever_its_lease_says_and_comes_back() {
    let is_well = Arc::new(AtomicBool::new(true));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("a bound port").port();
    let well = Arc::clone(&is_well);
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let status = if well.load(Ordering::SeqCst) { "200 OK" } else { "503 Busy" };
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
        }
    });
    let node = Node::start_alone("checked").await;
    let check = json!({"kind": "http", "path": "/healthz", "interval": "200ms", "failures": 2, "successes": 1});
    node.put(&target(0), &json!({"address": "127.0.0.1", "port": port, "ttl": "1h", "check": check})).await.expect(201);
    let has_seen = async |code: u16, status: &str| {
        eventually("its check is seen, and counts", PATIENCE, async || {
            let detail = node.get(&target(0)).await.expect(200);
            let is_so = detail["check"]["last"]["code"] == code && detail["status"]["effective"] == status;
            if is_so { Ok(()) } else { Err(detail.to_string()) }
        })
        .await;
    };
    has_seen(200, "up").await;
    is_well.store(false, Ordering::SeqCst);
    has_seen(503, "down").await;
    let detail = node.get(&target(0)).await.expect(200);
    assert_eq!(same(&detail, "probe_failed", "down"), Ok(()));
    let renewed = node.post(&format!("{}/heartbeat", target(0)), &json!({})).await.expect(200);
    assert_eq!(renewed["status"], "down", "{renewed}");
    is_well.store(true, Ordering::SeqCst);
    has_seen(200, "up").await;
    assert_eq!(node.get(&target(0)).await.expect(200)["cause"], "probe_succeeded");
    server.abort();
}
