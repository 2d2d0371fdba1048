//! Starting from disk: what a killed node had is there at once and flagged, a disk that is full stops nobody, and a folder has one user.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::node::muster;
use crate::support::{Nats, Node, eventually};

const INSTANCES: &str = "/v1/services/user/instances";

async fn register(node: &Node, id: &str) {
    let answer = node.put(&format!("{INSTANCES}/{id}"), &json!({"address": "10.0.0.7", "port": 8080, "ttl": "1h"})).await;
    assert!([200, 201].contains(&answer.status), "{}", answer.text());
}

async fn list(node: &Node) -> Value {
    node.get(INSTANCES).await.expect(200)
}

fn ids(list: &Value) -> Vec<&str> {
    list["instances"].as_array().into_iter().flatten().filter_map(|instance| instance["id"].as_str()).collect()
}

/// What the node says of its disk.
async fn number(node: &Node, metric: &str) -> f64 {
    let text = node.get("/metrics").await.text();
    let line = text.lines().find(|line| line.starts_with(metric));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
}

async fn until_saved(node: &Node) {
    let before = number(node, "muster_warm_writes_total{").await;
    eventually("the warm file is written", Duration::from_secs(10), async || {
        let now = number(node, "muster_warm_writes_total{").await;
        if now > before { Ok(()) } else { Err(format!("{now} times")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_node_that_is_killed_lists_at_once_what_it_had_and_says_that_it_is_old() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut node = Node::start_alone_in("n1", folder.path()).await;
    register(&node, "a").await;
    register(&node, "b").await;
    until_saved(&node).await;
    let before = list(&node).await;
    assert_eq!((&before["complete"], &before["stale"]), (&json!(true), &json!(false)));

    node.signal("KILL");
    node.start_again().await;
    let after = list(&node).await;
    assert_eq!(ids(&after), ["a", "b"]);
    assert_eq!((&after["complete"], &after["stale"]), (&json!(false), &json!(true)), "{after}");
    assert!(after["stale_ms"].as_u64().is_some_and(|ms| ms < 60_000), "{after}");
    assert_eq!(after["revision"], before["revision"]);
    node.post(&format!("{INSTANCES}/a/heartbeat"), &json!({})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warming_node_answers_from_its_disk_and_one_without_says_that_it_is_warming() {
    let folder = tempfile::tempdir().expect("a folder");
    let nats = Nats::start(1).await;
    let more = ["--data-dir", folder.path().to_str().expect("a path"), "--set", "cluster.bootstrap_wait=25s"];
    {
        let node = Node::start("n1", "warm", &nats.urls(), &more[..2]).await;
        node.ready().await;
        register(&node, "a").await;
        until_saved(&node).await;
    }
    let node = Node::start("n1", "warm", &nats.urls(), &more).await;
    assert_eq!(node.get("/readyz").await.status, 503);
    let warm = list(&node).await;
    assert_eq!((ids(&warm), &warm["complete"], &warm["stale"]), (vec!["a"], &json!(false), &json!(true)), "{warm}");
    assert_eq!(node.get("/v1/services/user/instances/a").await.status, 200);
    assert_eq!(node.post("/v1/services/user/instances/x/heartbeat", &json!({})).await.expect(503)["code"], "warming");

    // What cannot say how old it is, and what a disk does not know, is not answered.
    for target in ["/v1/services", "/v1/namespaces", "/v1/services/user/instances/x"] {
        assert_eq!(node.get(target).await.expect(503)["code"], "warming", "{target}");
    }

    let bare = Node::start("n2", "warm", &nats.urls(), &more[2..]).await;
    assert_eq!(bare.get(INSTANCES).await.expect(503)["code"], "warming");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_a_process_uses_is_refused_to_the_next() {
    let folder = tempfile::tempdir().expect("a folder");
    let _first = Node::start_alone_in("n1", folder.path()).await;
    let path = folder.path().to_str().expect("a path");
    let mut second = muster(&["serve", "--name", "n2", "--listen", "127.0.0.1:0", "--data-dir", path]);
    let output = second.stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("muster");
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("in use by another process") && said.contains(path), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_has_saved_what_it_had() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut node = Node::start_alone_in("n1", folder.path()).await;
    register(&node, "a").await;
    node.signal("TERM");
    assert!(node.ended(Duration::from_secs(20)).await.success());
    node.start_again().await;
    assert_eq!(ids(&list(&node).await), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_in_the_place_of_a_file_holds_up_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    // Whoever opens a pipe that nobody reads, or reads one that nobody writes, waits for ever.
    for name in ["warm", "warm.new", "events"] {
        let made = Command::new("mkfifo").arg(folder.path().join(name)).status();
        assert!(made.is_ok_and(|status| status.success()), "mkfifo is there");
    }
    let mut node = Node::start_alone_in("n1", folder.path()).await;
    register(&node, "a").await;
    node.signal("TERM");
    assert!(node.ended(Duration::from_secs(15)).await.success(), "{}", node.log());
    node.start_again().await;
    assert_eq!(ids(&list(&node).await), ["a"]);
}

/// A small file system of its own; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`: this machine does not let the test mount anything.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(folder.path()).stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_nobody_and_keeps_what_was_saved() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("NOT TESTED: a full disk; this machine does not let the test mount a tmpfs (root can)");
        return;
    };
    let mut node = Node::start_alone_in("n1", disk.path()).await;
    register(&node, "a").await;
    until_saved(&node).await;
    std::fs::write(disk.path().join("filler"), vec![0; 64 * 1024]).expect_err("the disk is small");
    for number in 0..200 {
        register(&node, &format!("b{number}")).await;
    }
    eventually("the node says that it cannot save", Duration::from_secs(20), async || {
        if number(&node, "muster_warm_writes_total{node=\"n1\",result=\"failed\"}").await > 0.0 {
            Ok(())
        } else {
            Err("it does not".into())
        }
    })
    .await;
    assert!(node.log().contains("the warm file cannot be written"), "{}", node.log());
    assert_eq!(ids(&list(&node).await).len(), 201);
    node.signal("KILL");
    node.start_again().await;
    assert!(ids(&list(&node).await).contains(&"a"));

    // With room again it saves again.
    std::fs::remove_file(disk.path().join("filler")).expect("the filler");
    register(&node, "c").await;
    eventually("it saves again", Duration::from_secs(20), async || {
        if number(&node, "muster_warm_last_success_seconds").await > 0.0 { Ok(()) } else { Err("it does not".into()) }
    })
    .await;
}
