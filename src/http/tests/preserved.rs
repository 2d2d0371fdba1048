//! Self-preservation, as consumers are told of it: lists, etags, polls and streams say that some instances would have expired.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::{Value, json};

use super::watch::Stream;
use super::{Answer, Door};
use crate::model::{
    Address, Cause, Epoch, Incarnation, InstanceId, InstanceKey, Life, Namespace, NodeName, Port, Registration, RegistrationDraft,
    ServiceKey, ServiceName, Ttl, Version,
};
use crate::node::{BusPort, FromBus};
use crate::registry::{Body as RecordBody, Change, Envelope, Message, NodeState, Record, Seen};

/// A door to a node with one peer, which writes what the test wants.
struct Pair {
    door: Door,
    peer: Life,
    to_node: tokio::sync::mpsc::Sender<Record>,
}

impl Pair {
    async fn open(name: &str) -> Self {
        let (door, port) = Door::on_a_bus(name);
        let peer = Life { node: NodeName::parse("peer").unwrap(), epoch: Epoch(1) };
        let own = Life { node: door.app.node.name().clone(), epoch: Epoch(7) };
        let (to_node, records) = tokio::sync::mpsc::channel(16);
        door.app.shutdown.spawn("bus", carry(port, own, peer.clone(), records));
        let mut conditions = door.app.node.follow_condition();
        tokio::time::timeout(
            Duration::from_secs(10),
            conditions.wait_for(|condition| condition.state == NodeState::Ready && condition.complete),
        )
        .await
        .expect("it knows all in time")
        .unwrap();
        Self { door, peer, to_node }
    }

    /// The peer writes of an instance of the service `user`.
    async fn write(&self, seq: u64, id: &str, seen: Seen, cause: Cause) {
        let draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(15_000).unwrap());
        let registration = Arc::new(Registration::new(draft).unwrap());
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
        let (incarnation, owner) = (Incarnation::FIRST, self.peer.clone());
        let record = Record {
            key: InstanceKey { service, id: InstanceId::parse(id).unwrap() },
            version: Version { incarnation, edition: 0, deregistered: false, generation: 0, live: true, owner, seq },
            body: RecordBody::Live { registration, seen, draining: false },
            cause,
            changed_at: 0,
            actor: None,
            detail: None,
            last_heartbeat_ms: None,
            first_content: None,
        };
        self.to_node.send(record).await.unwrap();
    }

    async fn list(&self) -> Answer {
        self.door.get("/v1/services/user/instances").await
    }

    /// The list, once it says so.
    async fn list_when(&self, preserved: bool) -> Answer {
        for _ in 0..1000 {
            let answer = self.list().await;
            if answer.json()["preserved"] == preserved && answer.json()["instances"].as_array().unwrap().len() == 2 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("not in time: preserved: {preserved}")
    }
}

/// Gives the node its own beacons back, and what the peer writes.
async fn carry(mut port: BusPort, own: Life, peer: Life, mut records: tokio::sync::mpsc::Receiver<Record>) {
    port.to_node.send(FromBus::Connected).await;
    loop {
        let envelope = tokio::select! {
            changed = port.beacons.changed() => {
                let Ok(()) = changed else { return };
                let Some(beacon) = port.beacons.borrow_and_update().clone() else { continue };
                Envelope { from: own.clone(), message: Message::Beacon(beacon.what.clone()) }
            }
            Some(record) = records.recv() => {
                let (first, last) = (record.version.seq, record.version.seq);
                let change = Change { first, last, wants_ack: false, records: vec![Arc::new(record)] };
                Envelope { from: peer.clone(), message: Message::Change(change) }
            }
        };
        if !port.to_node.send(FromBus::Received(envelope)).await {
            return;
        }
    }
}

#[tokio::test]
async fn lists_and_their_etags_say_that_a_service_is_preserved() {
    let pair = Pair::open("preserved-lists").await;
    pair.write(1, "a", Seen::Suspect, Cause::Expired).await;
    pair.write(2, "b", Seen::Well, Cause::Registered).await;
    let before = pair.list_when(false).await;
    pair.write(3, "a", Seen::Suspect, Cause::Preserved).await;
    let during = pair.list_when(true).await;
    assert_eq!(before.json()["revision"], during.json()["revision"], "it is no part of what is listed");
    assert_eq!(during.header("etag"), format!("{}-p\"", before.header("etag").trim_end_matches('"')));
    assert_eq!(pair.door.get("/v1/services/user").await.json()["preserved"], true);
    assert_eq!(pair.door.get("/v1/instances").await.json()["preserved"], true);
    assert_eq!(pair.door.get("/v1/instances?status=up").await.json()["preserved"], false, "of what was found nothing would have expired");
    assert_eq!(pair.door.get("/v1/services/other/instances").await.json()["preserved"], false);

    pair.write(4, "a", Seen::Well, Cause::Recovered).await;
    let after = pair.list_when(false).await;
    assert_ne!(after.header("etag"), before.header("etag"));
}

#[tokio::test]
async fn a_poll_ends_when_a_service_becomes_preserved() {
    let pair = Pair::open("preserved-polls").await;
    pair.write(1, "a", Seen::Suspect, Cause::Expired).await;
    pair.write(2, "b", Seen::Well, Cause::Registered).await;
    let etag = pair.list_when(false).await.header("etag").to_owned();
    let request = Request::get("/v1/services/user/instances?wait=30s").header(header::IF_NONE_MATCH, etag);
    let begun = std::time::Instant::now();
    let (answer, ()) = tokio::join!(pair.door.send(request.body(Body::empty()).unwrap()), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        pair.write(3, "a", Seen::Suspect, Cause::Preserved).await;
    });
    assert_eq!((answer.status.as_u16(), &answer.json()["preserved"]), (200, &json!(true)));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

fn notice(preserved: bool) -> Value {
    let mut notice = json!({"namespace": "default", "service": "user", "preserved": preserved});
    if preserved {
        notice["cause"] = "preserved".into();
    }
    notice
}

#[tokio::test]
async fn streams_are_told_when_it_begins_and_when_it_ends_under_any_selection() {
    let pair = Pair::open("preserved-streams").await;
    pair.write(1, "a", Seen::Suspect, Cause::Expired).await;
    pair.write(2, "b", Seen::Well, Cause::Registered).await;
    let revision = pair.list_when(false).await.json()["revision"].as_str().unwrap().to_owned();
    let mut streams = Vec::new();
    for query in ["service=user", "service=user&status=up", "service=*", "service=user&service=other"] {
        let mut stream = Stream::open(&pair.door, query, None).await;
        while stream.next().await.name != "synced" {}
        streams.push(stream);
    }
    pair.write(3, "a", Seen::Suspect, Cause::Preserved).await;
    for stream in &mut streams {
        assert_eq!(stream.expect("notice").await.data, notice(true));
        assert!(stream.is_silent().await, "it is said once");
    }

    let mut late = Stream::open(&pair.door, "service=user", None).await;
    assert_eq!(late.expect("snapshot").await.data["preserved"], true);
    late.expect("synced").await;
    assert!(late.is_silent().await, "the snapshot said so");
    let mut resumed = Stream::open(&pair.door, &format!("service=user@{revision}"), None).await;
    resumed.expect("unchanged").await;
    resumed.expect("synced").await;
    assert_eq!(resumed.expect("notice").await.data, notice(true));

    pair.write(4, "a", Seen::Well, Cause::Recovered).await;
    for (number, stream) in streams.iter_mut().chain([&mut late, &mut resumed]).enumerate() {
        assert_eq!(stream.expect("notice").await.data, notice(false), "stream {number}");
        stream.expect("delta").await;
    }
}

#[tokio::test]
async fn the_numbers_tell_what_is_preserved_moved_and_not_taken() {
    let pair = Pair::open("preserved-numbers").await;
    pair.write(1, "a", Seen::Suspect, Cause::Preserved).await;
    pair.write(2, "b", Seen::Well, Cause::Registered).await;
    pair.list_when(true).await;
    // One that says something else moves here; the other one is as its provider says already.
    assert_eq!(pair.door.put("/v1/services/user/instances/b", r#"{"address":"10.0.0.8","port":80}"#).await.status, 200);
    let line = |name: &str, value: u64| format!("{name}{{node=\"preserved-numbers\"}} {value}\n");
    let expected = [
        line("muster_preserved_instances", 1),
        line("muster_preserved_services", 1),
        line("muster_ownership_moves_total", 1),
        line("muster_quarantined_records_total", 0),
        line("muster_diverged_services", 0),
        "muster_node_state{node=\"preserved-numbers\",state=\"preserving\"} 0\n".to_owned(),
    ];
    let mut text = String::new();
    for _ in 0..500 {
        text = pair.door.get("/metrics").await.text();
        if expected.iter().all(|line| text.contains(line)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{expected:?} are not all in\n{text}");
}
