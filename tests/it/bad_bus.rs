//! Bad input on the bus: frames that are foreign, damaged, cut, too long, forged or made to explode change nothing but a counter.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::support::{Api, Nats, Node, eventually};

const CLUSTER: &str = "victim";
const HEADER_BYTES: usize = 116;
const KIND_AT: usize = 6;
const BODY_LENGTH_AT: usize = 12;
const ORIGIN_AT: usize = 48;
const CHECKSUM_AT: usize = 112;
const KIND_CHANGE: u8 = 1;

/// The frame of a message on a subject while something is written at `node`.
///
/// A client's flush does not say that the server knows the subscription: so the instance is written anew until one write is overheard.
async fn capture_change(client: &async_nats::Client, cluster: &str, node: &Node) -> Vec<u8> {
    let mut messages = client.subscribe(format!("muster.{cluster}.change.{}", node.name)).await.expect("a subscription");
    client.flush().await.expect("a server that runs");
    for port in 8080..8100 {
        let body = json!({"address": "10.0.0.7", "port": port, "ttl": "1h"});
        let status = node.put("/v1/services/user/instances/u1", &body).await.status;
        assert!(matches!(status, 200 | 201), "{status}");
        if let Ok(message) = tokio::time::timeout(Duration::from_millis(500), messages.next()).await {
            return message.expect("a message").payload.to_vec();
        }
    }
    panic!("no change of {} was overheard", node.name);
}

/// The frame with another body, or another header, whose length and checksum are right again.
fn sealed(header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut frame = [&header[..HEADER_BYTES], body].concat();
    frame[BODY_LENGTH_AT..BODY_LENGTH_AT + 4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame[..CHECKSUM_AT]), &frame[HEADER_BYTES..]);
    frame[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    frame
}

fn with_byte(frame: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at] = byte;
    frame
}

/// Every bad frame with its name, made from a good one of node `n1` and one of another cluster.
fn bad_frames(good: &[u8], foreign: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let (header, body) = good.split_at(HEADER_BYTES);
    let last = good.len() - 1;
    let mut bomb = vec![1, 1, 0];
    bomb.push(253);
    bomb.extend([0xff; 8]);
    let other_name = [&header[..ORIGIN_AT], &[2, b'N', b'1'], &header[ORIGIN_AT + 3..]].concat();
    vec![
        ("nothing", Vec::new()),
        ("noise", b"hello, world".repeat(40)),
        ("another cluster's", foreign.to_vec()),
        ("damaged", with_byte(good, last, good[last] ^ 1)),
        ("a damaged header", with_byte(good, ORIGIN_AT + 1, b'x')),
        ("cut in the header", good[..HEADER_BYTES - 1].to_vec()),
        ("cut in the body", good[..last].to_vec()),
        ("cut and sealed again", sealed(header, &body[..body.len() / 2])),
        ("too long", sealed(header, &vec![0; 300 * 1024])),
        ("longer than it says", [good, &[0; 8]].concat()),
        ("a body that goes on", sealed(header, &[body, &[0; 8]].concat())),
        ("a bomb of records", sealed(header, &bomb)),
        ("a bomb of everything", sealed(header, &[0xfd; 64])),
        ("an unknown kind", sealed(&with_byte(header, KIND_AT, 200), body)),
        ("another kind", sealed(&with_byte(header, KIND_AT, KIND_CHANGE + 2), body)),
        ("another major version", sealed(&with_byte(header, 4, 9), body)),
        ("an invalid name as its origin", sealed(&other_name, body)),
    ]
}

/// What must not change by it.
async fn fingerprint(api: &Api) -> Vec<Value> {
    let cluster = api.cluster().await;
    let applied = cluster["applied"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(observer, origins)| (observer, origins.as_object().map(serde_json::Map::len)));
    let known: Vec<Value> = applied.map(|(observer, count)| json!([observer, count])).collect();
    vec![cluster["view_digest"].clone(), cluster["nodes"][0]["digest"].clone(), cluster["instances"].clone(), json!(known)]
}

/// The sum of the counters of refused frames.
async fn refused(api: &Api) -> f64 {
    let metrics = api.get("/metrics").await.text();
    let of_frames = metrics.lines().filter(|line| line.starts_with("muster_bus_frames_bad_total"));
    of_frames.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_frame_moves_a_counter_and_nothing_else() {
    let nats = Nats::start(1).await;
    let nodes = Node::start_cluster(2, CLUSTER, &nats.urls(), &[]).await;
    let stranger = Node::start("n1", "stranger", &nats.urls(), &[]).await;
    stranger.ready().await;
    let client = nats.client().await;
    let good = capture_change(&client, CLUSTER, &nodes[0]).await;
    let foreign = capture_change(&client, "stranger", &stranger).await;
    nodes[1].hears_peers(2).await;
    let victim = *nodes[1];
    let before = fingerprint(&victim).await;

    for (what, frame) in bad_frames(&good, &foreign) {
        for subject in ["change.n1", "beacon.n1", "pull.n2", "relay.n2", "ask.n2"] {
            let count = refused(&victim).await;
            client.publish(format!("muster.{CLUSTER}.{subject}"), frame.clone().into()).await.expect("a publish");
            client.flush().await.expect("a server that runs");
            eventually(&format!("{what} on {subject} is counted"), Duration::from_secs(5), async || {
                let now = refused(&victim).await;
                if now > count { Ok(()) } else { Err(format!("{now} as before")) }
            })
            .await;
            assert_eq!(fingerprint(&victim).await, before, "{what} on {subject} changed something");
        }
    }
    // A sound frame, but not from whom its subject says.
    let count = refused(&victim).await;
    client.publish(format!("muster.{CLUSTER}.change.n3"), good.clone().into()).await.expect("a publish");
    eventually("a forged origin is counted", Duration::from_secs(5), async || {
        if refused(&victim).await > count { Ok(()) } else { Err("no".into()) }
    })
    .await;
    // And a sound one said again, on the right subject, is old news.
    client.publish(format!("muster.{CLUSTER}.change.n1"), good.into()).await.expect("a publish");
    client.flush().await.expect("a server that runs");
    nodes[0].put("/v1/services/user/instances/u2?ack=all", &json!({"address": "10.0.0.8", "port": 8080, "ttl": "1h"})).await.expect(201);
    let list = victim.get("/v1/services/user/instances").await.expect(200);
    assert_eq!(list["instances"].as_array().map(Vec::len), Some(2), "the node that refused all that hears its peers: {list}");
    nodes[1].hears_peers(2).await;
}
