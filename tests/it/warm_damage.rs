//! A warm file that is cut, or has a wrong byte: a node starts from what is left of it, and what it lists is what was registered.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Node, eventually};

const INSTANCES: usize = 2000;
/// A block holds about 60 KiB of records.
const BLOCK_BYTES_MAX: usize = 64 * 1024;
/// How many places are damaged, spread over the file.
const PLACES: usize = 12;
const WRITTEN_WITHIN: Duration = Duration::from_secs(15);

async fn listed(node: &Node) -> BTreeMap<String, Value> {
    let list = node.get("/v1/services/user/instances").await.expect(200);
    let instances = list["instances"].as_array().cloned().unwrap_or_default();
    instances.into_iter().map(|instance| (instance["id"].as_str().expect("an id").to_owned(), instance)).collect()
}

/// What a node that starts from this file lists.
async fn started_from(file: &[u8]) -> BTreeMap<String, Value> {
    let folder = TempDir::new().expect("a temporary folder");
    std::fs::write(folder.path().join("warm"), file).expect("room for a file");
    let node = Node::start_alone_in("n1", folder.path()).await;
    listed(&node).await
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_loses_a_block_at_the_most_and_changes_nothing() {
    let folder = TempDir::new().expect("a temporary folder");
    let mut node = Node::start_alone_in("n1", folder.path()).await;
    let note = "x".repeat(100);
    let register = |number| json!({"op": "register", "service": "user", "id": format!("i{number}"), "address": "10.0.0.7", "port": 8080, "metadata": {"note": note}, "ttl": "1h"});
    node.post("/v1/batch", &json!({"ops": (0..INSTANCES).map(register).collect::<Vec<_>>()})).await.expect(200);
    let whole = listed(&node).await;
    assert_eq!(whole.len(), INSTANCES);
    node.signal("TERM");
    node.ended(WRITTEN_WITHIN).await;
    let file = std::fs::read(folder.path().join("warm")).expect("a file that was written");
    assert!(file.len() > 3 * BLOCK_BYTES_MAX, "{} bytes are too few blocks to tell", file.len());
    let most_in_a_block = BLOCK_BYTES_MAX * INSTANCES / file.len() + 1;
    eventually("the whole file is read", WRITTEN_WITHIN, async || {
        let read = started_from(&file).await;
        if read == whole { Ok(()) } else { Err(format!("{} instances", read.len())) }
    })
    .await;

    for place in 0..PLACES {
        let at = 48 + (file.len() - 49) * place / (PLACES - 1);
        let mut flipped = file.clone();
        flipped[at] ^= 0x20;
        let left = started_from(&flipped).await;
        assert!(left.iter().all(|(id, instance)| whole.get(id) == Some(instance)), "a wrong byte at {at} changed an instance");
        assert!(left.len() + most_in_a_block >= INSTANCES, "a wrong byte at {at} left {}", left.len());

        let left = started_from(&file[..at]).await;
        assert!(left.iter().all(|(id, instance)| whole.get(id) == Some(instance)), "a cut at {at} changed an instance");
        let before = at * INSTANCES / file.len();
        assert!(left.len() + most_in_a_block >= before, "a cut at {at} left {} of about {before}", left.len());
    }
}
