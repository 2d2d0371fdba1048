//! Mixed wire versions: what a node of the first version once said, byte for byte, is taken by a node that runs now.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Nats, Node, eventually};

/// The golden frames are this cluster's, said by its node n1.
const CLUSTER: &str = "test";
const MINOR_AT: usize = 5;
const KIND_AT: usize = 6;
const CHECKSUM_AT: usize = 112;
const HEADER_BYTES: usize = 116;

fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/wire/golden").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The frame with another byte in its header, its checksum right again.
fn changed(frame: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at] = byte;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame[..CHECKSUM_AT]), &frame[HEADER_BYTES..]);
    frame[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    frame
}

async fn instances(node: &Node, service: &str) -> Vec<Value> {
    let list = node.get(&format!("/v1/services/{service}/instances")).await.expect(200);
    list["instances"].as_array().cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_version_said_is_taken() {
    let nats = Nats::start(1).await;
    let node = Node::start("n2", CLUSTER, &nats.urls(), &[]).await;
    node.ready().await;
    let client = nats.client().await;
    let publish = async |topic: &str, frame: Vec<u8>| {
        client.publish(format!("muster.{CLUSTER}.{topic}.n1"), frame.into()).await.expect("a server that runs");
        client.flush().await.expect("a server that runs");
    };
    assert!(instances(&node, "web").await.is_empty());

    publish("beacon", golden("beacon.bin")).await;
    publish("change", golden("change.bin")).await;
    eventually("the elder's record is listed", Duration::from_secs(10), async || {
        let listed = instances(&node, "web").await;
        let is_it = listed.first().is_some_and(|instance| instance["id"] == "w-1" && instance["metadata"]["version"] == "1.4.2");
        if is_it { Ok(()) } else { Err(format!("{listed:?}")) }
    })
    .await;
    let cluster = node.cluster().await;
    let elder = cluster["nodes"].as_array().into_iter().flatten().find(|peer| peer["name"] == "n1");
    assert_eq!(elder.map(|elder| &elder["http"]), Some(&Value::from("127.0.0.1:6878")), "{cluster}");

    // One of a newer minor version is read; one of a kind that nobody knows yet is skipped, and counted.
    publish("beacon", changed(&golden("later_beacon.bin"), MINOR_AT, 9)).await;
    publish("beacon", changed(&golden("beacon.bin"), KIND_AT, 200)).await;
    eventually("the unknown kind is counted", Duration::from_secs(10), async || {
        let metrics = node.get("/metrics").await.text();
        let is_counted = |line: &str| line.starts_with("muster_bus_frames_bad_total") && line.contains("\"kind\"") && !line.ends_with(" 0");
        if metrics.lines().any(is_counted) { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    assert_eq!(instances(&node, "web").await.len(), 1);
}
