//! Mixed versions: a node of the first version, played by the frames it would say, lives in one cluster with this one, and so does a later one.

use std::time::Duration;

use futures_util::StreamExt;
use muster::model::{Cluster, NodeName};
use muster::registry::Message;
use muster::wire::Codec;
use serde_json::{Value, json};

use crate::support::wait::same;
use crate::support::{Api, Nats, Node, eventually};

/// Frames of the first version, whose cluster and whose node these are: see `tests/wire`.
const ELDER_CHANGE: &[u8] = include_bytes!("../wire/golden/change.bin");
const ELDER_BEACON: &[u8] = include_bytes!("../wire/golden/beacon.bin");
const CLUSTER: &str = "test";
const ELDER: &str = "n1";
const OURS: &str = "n9";

/// Where these stand in a frame's header.
const MINOR_AT: usize = 5;
const KIND_AT: usize = 6;
const ORIGIN_AT: usize = 48;
const CHECKSUM_AT: usize = 112;
const HEADER_BYTES: usize = 116;
/// Higher than any that was.
const LATER_MINOR: u8 = 9;
const UNKNOWN_KIND: u8 = 200;

const SEEN_WITHIN: Duration = Duration::from_secs(10);
/// How long what should change nothing is given for it.
const NOTHING_FOR: Duration = Duration::from_secs(3);

/// A plain client that speaks as nodes which are not there.
struct Player {
    client: async_nats::Client,
}

impl Player {
    async fn say(&self, topic: &str, node: &str, frame: &[u8]) {
        self.client.publish(format!("muster.{CLUSTER}.{topic}.{node}"), frame.to_vec().into()).await.expect("a publish");
        self.client.flush().await.expect("a server that runs");
    }

    /// What our node says on a topic, from now on.
    async fn overhear(&self, topic: &str) -> async_nats::Subscriber {
        let heard = self.client.subscribe(format!("muster.{CLUSTER}.{topic}.{OURS}")).await.expect("a subscription");
        // That a subscription has left does not say that the server has it: what comes back on a later one does.
        let inbox = self.client.new_inbox();
        let mut echo = self.client.subscribe(inbox.clone()).await.expect("a subscription");
        self.client.publish(inbox, "".into()).await.expect("a publish");
        tokio::time::timeout(SEEN_WITHIN, echo.next()).await.expect("a server that runs").expect("a message");
        heard
    }
}

/// A frame with one byte of its header changed, and its checksum right again.
fn with_byte(frame: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at] = byte;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame[..CHECKSUM_AT]), &frame[HEADER_BYTES..]);
    frame[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    frame
}

/// The same, as said by a node whose name differs in its second letter: `n1` becomes `n7`.
fn said_by(frame: &[u8], number: u8) -> Vec<u8> {
    with_byte(frame, ORIGIN_AT + 2, number)
}

/// What must not change by a frame that is not understood.
async fn fingerprint(api: &Api) -> Vec<Value> {
    let cluster = api.cluster().await;
    let names = cluster["nodes"].as_array().into_iter().flatten().map(|node| node["name"].clone()).collect::<Vec<_>>();
    vec![cluster["view_digest"].clone(), cluster["nodes"][0]["digest"].clone(), cluster["instances"].clone(), json!(names)]
}

/// How often frames were received on a topic, or refused for a reason.
async fn counted(api: &Api, metric: &str, label: &str) -> u64 {
    let metrics = api.get("/metrics").await.text();
    let lines = metrics.lines().filter(|line| line.starts_with(metric) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

async fn start() -> (Nats, Node, Player) {
    let nats = Nats::start(1).await;
    let node = Node::start(OURS, CLUSTER, &nats.urls(), &[]).await;
    node.ready().await;
    let player = Player { client: nats.client().await };
    (nats, node, player)
}

/// The elder's state in `/v1/cluster`.
async fn elder_state(node: &Node) -> Result<Value, String> {
    let cluster = node.cluster().await;
    let elder = cluster["nodes"].as_array().into_iter().flatten().find(|known| known["name"] == ELDER);
    elder.map(|elder| elder["state"].clone()).ok_or_else(|| cluster.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_elder_node_says_is_taken() {
    let (_nats, node, player) = start().await;
    player.say("beacon", ELDER, ELDER_BEACON).await;
    player.say("change", ELDER, ELDER_CHANGE).await;
    let listed = eventually("the elder's instance is listed", SEEN_WITHIN, async || {
        let list = node.get("/v1/services/web/instances").await.expect(200);
        list["instances"].get(0).cloned().ok_or_else(|| list.to_string())
    })
    .await;
    assert_eq!(
        (&listed["id"], &listed["address"], &listed["port"], &listed["weight"]),
        (&json!("w-1"), &json!("10.0.0.7"), &json!(8080), &json!(250))
    );
    same(&elder_state(&node).await.expect("the elder is known"), &json!("ready")).expect("it is alive");
    let detail = node.get("/v1/services/web/instances/w-1").await.expect(200);
    assert_eq!((&detail["owner"], &detail["cause"]), (&json!(ELDER), &json!("expired")), "{detail}");
    // Those it withdrew are not listed, and what is said again is old news.
    player.say("change", ELDER, ELDER_CHANGE).await;
    let before = fingerprint(&node).await;
    tokio::time::sleep(NOTHING_FOR).await;
    assert_eq!(fingerprint(&node).await, before);
    assert_eq!(node.get("/v1/services/db/instances").await.expect(200)["instances"], json!([]));
    assert_eq!(counted(&node, "muster_bus_frames_bad_total", "").await, 0, "a frame of the first version was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_elder_node_hears_has_the_layout_it_knows() {
    let (_nats, node, player) = start().await;
    let mut changes = player.overhear("change").await;
    let mut beacons = player.overhear("beacon").await;
    let ours = NodeName::parse(OURS).expect("a name");
    let codec = Codec::new(&Cluster::parse(CLUSTER).expect("a name"));

    let target = "/v1/services/user/instances/u1";
    node.put(target, &json!({"address": "10.0.0.7", "port": 8080, "ttl": "1h"})).await.expect(201);
    let frame = tokio::time::timeout(SEEN_WITHIN, changes.next()).await.expect("a change is heard").expect("a message").payload;
    let heard = codec.decode_from(&frame, &ours).expect("a sound frame");
    let Message::Change(change) = &heard.message else { panic!("{heard:?}") };
    assert_eq!((change.records.len(), change.records[0].key.id.as_str()), (1, "u1"));
    // It ends with an actor, which the first version knew, no detail, and nothing that came after it.
    let by_us = b"\x01\x09127.0.0.1\0";
    assert!(frame.ends_with(&[&by_us[..], &[0]].concat()), "it ends otherwise than the first version's: {:?}", &frame[frame.len() - 8..]);
    assert_eq!(codec.encode(&heard.from, &heard.message).expect("it was a frame"), frame, "it can be said in another way");
    // As to elder nodes, what came later stands at the end, where they skip it: of a fixed address a mark without content, and the digest of
    // the content that its life began with.
    node.put(target, &json!({"address": "10.0.0.7", "port": 8080, "ttl": "none"})).await.expect(200);
    let frame = tokio::time::timeout(SEEN_WITHIN, changes.next()).await.expect("a change is heard").expect("a message").payload;
    let (frame_to_digest, _digest) = frame.split_at(frame.len() - 16);
    let last = &frame_to_digest[frame_to_digest.len() - 8..];
    assert!(frame_to_digest.ends_with(&[&by_us[..], &[2, 2, 0, 6, 16]].concat()), "{last:?}");

    let beacon = tokio::time::timeout(SEEN_WITHIN, beacons.next()).await.expect("a beacon is heard").expect("a message").payload;
    let heard = codec.decode_from(&beacon, &ours).expect("a sound frame");
    assert!(matches!(heard.message, Message::Beacon(_)), "{heard:?}");
    for frame in [&frame, &beacon] {
        assert_eq!(
            (frame[..MINOR_AT].to_vec(), frame[MINOR_AT]),
            (ELDER_BEACON[..MINOR_AT].to_vec(), ELDER_BEACON[MINOR_AT]),
            "the version"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_node_says_is_taken_as_far_as_it_is_understood() {
    let (_nats, node, player) = start().await;
    let before = fingerprint(&node).await;
    for (topic, owner) in [("change", ELDER), ("beacon", ELDER), ("ask", OURS), ("pull", OURS), ("relay", OURS)] {
        let refused = counted(&node, "muster_bus_frames_bad_total", "kind").await;
        player.say(topic, owner, &with_byte(ELDER_CHANGE, KIND_AT, UNKNOWN_KIND)).await;
        eventually(&format!("an unknown kind on {topic} is counted"), SEEN_WITHIN, async || {
            if counted(&node, "muster_bus_frames_bad_total", "kind").await > refused { Ok(()) } else { Err("it is not".into()) }
        })
        .await;
        assert_eq!(fingerprint(&node).await, before, "an unknown kind on {topic} changed something");
    }

    // A newer minor version adds only what may be skipped: the rest of it counts.
    let received = counted(&node, "muster_bus_frames_received_total", "change").await;
    player.say("beacon", "n7", &with_byte(&said_by(ELDER_BEACON, b'7'), MINOR_AT, LATER_MINOR)).await;
    player.say("change", ELDER, &with_byte(ELDER_CHANGE, MINOR_AT, LATER_MINOR)).await;
    eventually("a later node's instance is listed", SEEN_WITHIN, async || {
        let list = node.get("/v1/services/web/instances").await.expect(200);
        same(&list["instances"][0]["id"], &json!("w-1"))
    })
    .await;
    let cluster = node.cluster().await;
    assert!(cluster["nodes"].as_array().into_iter().flatten().any(|known| known["name"] == "n7"), "{cluster}");
    assert!(counted(&node, "muster_bus_frames_received_total", "change").await > received, "it was not counted");
}
