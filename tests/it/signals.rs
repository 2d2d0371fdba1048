//! SIGHUP: a node reads again what it can, and goes on; a verb that holds something lets go of it, as at SIGTERM.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use crate::support::node::muster;
use crate::support::{Node, eventually};

const SOON: Duration = Duration::from_secs(10);

async fn until_said(node: &Node, words: &str) {
    eventually(&format!("it says: {words}"), SOON, async || if node.log().contains(words) { Ok(()) } else { Err(node.log()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_reads_its_log_filter_again_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("muster.toml");
    let write = |text: &str| std::fs::write(&file, text).expect("a file");
    write("[log]\nfilter = \"warn\"\n");
    let node = Node::start_alone_as("reloads", &["-c", file.to_str().expect("a path")]).await;
    node.put("/v1/services/user/instances/a", &json!({"address": "10.0.0.7", "port": 80, "ttl": "1h"})).await.expect(201);

    write("[log]\nfilter = \"debug\"\n[leases]\nttl = \"30s\"\n");
    node.signal("HUP");
    until_said(&node, "log.filter is reloaded: debug").await;
    until_said(&node, "hold from the next start on: leases.ttl").await;
    assert_eq!(node.get("/livez").await.status, 200);
    until_said(&node, "route=\"/livez\"").await;

    write("[log]\nfilter = \"debgu\"\n");
    node.signal("HUP");
    until_said(&node, "nothing is reloaded").await;
    until_said(&node, "did you mean `debug`?").await;
    let list = node.get("/v1/services/user/instances").await.expect(200);
    assert_eq!(list["instances"].as_array().map(Vec::len), Some(1), "it is the same life");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verb_that_holds_an_instance_lets_go_of_it() {
    let node = Node::start_alone("hangup").await;
    node.ready().await;
    let url = node.url();
    let held = async || node.get("/v1/services/user/instances").await.expect(200)["instances"].as_array().map_or(0, Vec::len);
    for is_nohup in [false, true] {
        let mut command = muster(&["register", "--service", "user", "--port", "8080", "-s", &url]);
        if is_nohup {
            let plain = command;
            command = std::process::Command::new("nohup");
            command.arg(plain.get_program()).args(plain.get_args());
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn().expect("a muster that starts");
        eventually("it is registered", SOON, async || if held().await == 1 { Ok(()) } else { Err("it is not".into()) }).await;
        let signal = |name: &str| {
            let status = std::process::Command::new("kill").args([name, &child.id().to_string()]).status();
            assert!(status.expect("kill(1)").success());
        };
        signal("-HUP");
        if is_nohup {
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert_eq!(held().await, 1, "it was to outlive its terminal");
            signal("-TERM");
        }
        let ended =
            eventually("it ends", SOON, async || child.try_wait().map_err(|error| error.to_string())?.ok_or_else(|| "it runs".into()));
        assert!(ended.await.success());
        assert_eq!(held().await, 0, "it was deregistered");
    }
}
