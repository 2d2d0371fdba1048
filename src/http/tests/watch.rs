//! Streams: what a subscriber is sent, from its first byte to the goodbye.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::Door;
use crate::node::Condition;

const PATIENCE: Duration = Duration::from_secs(5);

/// An event as a browser sees it.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) name: String,
    id: Option<String>,
    pub(super) data: Value,
}

pub(super) struct Stream {
    body: Body,
    unread: String,
}

impl Stream {
    pub(super) fn of(body: Body) -> Self {
        Self { body, unread: String::new() }
    }

    pub(super) async fn open(door: &Door, query: &str, last_event_id: Option<&str>) -> Self {
        let mut request = Request::get(format!("/v1/watch?{query}"));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let answer = door.edge.answer(request.body(Body::empty()).unwrap()).await;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        assert_eq!(answer.status(), 200);
        assert_eq!(["content-type", "cache-control", "x-accel-buffering"].map(header), ["text/event-stream", "no-store", "no"]);
        let mut stream = Self::of(answer.into_body());
        let retry = stream.until("\n").await.unwrap();
        let ms: u64 = retry.strip_prefix("retry: ").unwrap().parse().unwrap();
        assert!((1000..=5000).contains(&ms));
        stream
    }

    /// What stands before the next blank line; `None`: the stream is over.
    async fn block(&mut self) -> Option<String> {
        self.until("\n\n").await
    }

    async fn until(&mut self, end: &str) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.unread.split_once(end) {
                let block = block.to_owned();
                self.unread = rest.to_owned();
                return Some(block);
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("something is sent in time")?;
            self.unread.push_str(str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
        }
    }

    pub(super) async fn next(&mut self) -> Event {
        let block = self.block().await.expect("the stream goes on");
        let field = |name: &str| {
            let values: Vec<_> = block.lines().filter_map(|line| line.strip_prefix(name)).collect();
            assert!(values.len() <= 1, "{block}");
            values.first().map(|value| (*value).to_owned())
        };
        Event { name: field("event: ").unwrap(), id: field("id: "), data: serde_json::from_str(&field("data: ").unwrap()).unwrap() }
    }

    /// The next event, which must be of this name.
    pub(super) async fn expect(&mut self, name: &str) -> Event {
        let event = self.next().await;
        assert_eq!(event.name, name, "{event:?}");
        event
    }

    /// Nothing comes any more.
    pub(super) async fn ends(&mut self) {
        assert_eq!(self.block().await, None);
    }

    /// Nothing comes for a while.
    pub(super) async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(150), self.block()).await.is_err()
    }
}

async fn register(door: &Door, service: &str, id: &str, zone: &str) {
    let body = format!(r#"{{"address":"10.0.0.7","port":80,"zone":"{zone}"}}"#);
    assert!(door.put(&format!("/v1/services/{service}/instances/{id}"), &body).await.status.is_success());
}

async fn revision(door: &Door, service: &str) -> String {
    door.get(&format!("/v1/services/{service}")).await.json()["revision"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_stream_has_no_block_without_data() {
    let door = Door::open("watch-blocks");
    register(&door, "user", "user-1", "a").await;
    for query in ["service=user", "service=user&service=cart", "service=*", "detail=counts"] {
        let request = Request::get(format!("/v1/watch?{query}")).body(Body::empty()).unwrap();
        let mut stream = Stream::of(door.edge.answer(request).await.into_body());
        let first = stream.block().await.unwrap();
        assert!(first.starts_with("retry: ") && first.contains("\ndata: {"), "{query}: {first:?}");
    }
    assert_eq!(crate::http::watch::rhythm::comment(), ":\n");
}

#[tokio::test]
async fn a_stream_resumes_by_the_query_as_by_the_header() {
    let door = Door::open("watch-query-id");
    register(&door, "user", "user-1", "a").await;
    let first = revision(&door, "user").await;
    let mut stream = Stream::open(&door, &format!("service=user&lastEventId={first}"), None).await;
    assert_eq!(stream.expect("unchanged").await.id.as_deref(), Some(&*first));
}

#[tokio::test]
async fn a_stream_of_one_service_is_spelled_as_the_contract_says() {
    let door = Door::open("watch-one");
    register(&door, "user", "user-1", "a").await;
    let first = revision(&door, "user").await;
    let mut stream = Stream::open(&door, "service=user", None).await;
    let snapshot = stream.expect("snapshot").await;
    let instance = |id: &str| json!({"id": id, "address": "10.0.0.7", "port": 80, "status": "up", "weight": 100, "zone": "a"});
    let expected = json!({"namespace": "default", "service": "user", "revision": first, "complete": true, "stale": false,
        "preserved": false, "instances": [instance("user-1")]});
    assert_eq!((snapshot.id.as_deref(), snapshot.data), (Some(&*first), expected));
    assert_eq!(stream.expect("synced").await.data, json!({"services": 1}));

    register(&door, "user", "user-2", "a").await;
    let second = revision(&door, "user").await;
    let delta = stream.expect("delta").await;
    let expected = json!({"namespace": "default", "service": "user", "from": first, "revision": second,
        "upsert": [instance("user-2")], "remove": []});
    assert_eq!((delta.id.as_deref(), delta.data), (Some(&*second), expected));

    door.delete("/v1/services/user/instances/user-1").await;
    let delta = stream.expect("delta").await;
    assert_eq!((&delta.data["from"], &delta.data["upsert"]), (&json!(second), &json!([])));
    assert_eq!(delta.data["remove"], json!([{"id": "user-1", "cause": "deregistered"}]));
}

#[tokio::test]
async fn whoever_comes_back_is_told_only_what_it_missed() {
    let door = Door::open("watch-resume");
    register(&door, "user", "a", "x").await;
    let first = revision(&door, "user").await;
    let at = format!("service=user@{first}");
    for (query, id) in [("service=user", Some(&*first)), (&*at, None)] {
        let mut stream = Stream::open(&door, query, id).await;
        let unchanged = stream.expect("unchanged").await;
        assert_eq!(unchanged.data, json!({"namespace": "default", "service": "user", "revision": first}));
        assert_eq!(unchanged.id.as_deref(), Some(&*first));
        stream.expect("synced").await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    register(&door, "user", "b", "x").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut stream = Stream::open(&door, &at, None).await;
    let delta = stream.expect("delta").await;
    assert_eq!((&delta.data["from"], &delta.data["upsert"][0]["id"]), (&json!(first), &json!("b")));
    stream.expect("synced").await;

    let newest = revision(&door, "user").await;
    let mut stream = Stream::open(&door, &at, Some(&newest)).await;
    stream.expect("unchanged").await;
    for garbage in ["garbage", &"f".repeat(32), &"0".repeat(32), &"9".repeat(10_000)] {
        Stream::open(&door, "service=user", Some(garbage)).await.expect("snapshot").await;
    }
}

#[tokio::test]
async fn a_stream_of_several_says_one_id_for_all() {
    let door = Door::open("watch-several");
    register(&door, "user", "a", "x").await;
    let query = "service=user&service=cart&service=nobody";
    let mut stream = Stream::open(&door, query, None).await;
    for service in ["cart", "nobody", "user"] {
        let snapshot = stream.expect("snapshot").await;
        assert_eq!((snapshot.data["service"].as_str(), snapshot.id), (Some(service), None), "no id before all are sent");
    }
    let synced = stream.expect("synced").await;
    assert_eq!(synced.data, json!({"services": 3}));
    register(&door, "cart", "c", "x").await;
    let delta = stream.expect("delta").await;
    assert_eq!(delta.data["service"], "cart");
    assert!(delta.id.is_some() && delta.id != synced.id);

    let mut again = Stream::open(&door, query, delta.id.as_deref()).await;
    let unchanged = again.expect("unchanged").await;
    assert_eq!((&unchanged.data.get("service"), &unchanged.data["revision"]), (&None, &json!(delta.id)));
    assert_eq!(again.expect("synced").await.id, delta.id, "the id does not depend on how one got there");

    register(&door, "cart", "d", "x").await;
    let mut again = Stream::open(&door, query, delta.id.as_deref()).await;
    for _ in 0..3 {
        again.expect("snapshot").await;
    }
    assert_eq!(again.expect("synced").await.id, stream.expect("delta").await.id);
}

#[tokio::test]
async fn a_family_of_services_grows_and_shrinks() {
    let door = Door::open("watch-family");
    register(&door, "user-a", "1", "x").await;
    register(&door, "cart", "1", "x").await;
    let mut stream = Stream::open(&door, "prefix=user-", None).await;
    assert_eq!(stream.expect("snapshot").await.data["service"], "user-a");
    assert_eq!(stream.expect("synced").await.data, json!({"services": 1}));
    register(&door, "cart", "2", "x").await;
    for _ in 0..3 {
        register(&door, "user-b", "1", "x").await;
        let snapshot = stream.expect("snapshot").await;
        assert_eq!((&snapshot.data["service"], &snapshot.data["instances"][0]["id"]), (&json!("user-b"), &json!("1")));
        door.delete("/v1/services/user-b/instances/1").await;
        let delta = stream.expect("delta").await;
        assert_eq!((&delta.data["service"], &delta.data["remove"][0]["id"]), (&json!("user-b"), &json!("1")));
        assert_eq!(delta.data["revision"], json!("0".repeat(32)));
    }
    assert!(stream.is_silent().await);

    let held = revision(&door, "user-a").await;
    let mut resumed = Stream::open(&door, &format!("service=*&at=user-a@{held}"), None).await;
    assert_eq!(resumed.expect("snapshot").await.data["service"], "cart");
    assert_eq!(resumed.expect("unchanged").await.data["service"], "user-a");
    assert_eq!(resumed.expect("synced").await.data, json!({"services": 2}));
}

#[tokio::test]
async fn a_selection_hides_what_is_outside_and_tells_what_leaves() {
    let door = Door::open("watch-selection");
    register(&door, "user", "a", "x").await;
    let mut stream = Stream::open(&door, "service=user&zone=x", None).await;
    let snapshot = stream.expect("snapshot").await;
    stream.expect("synced").await;
    register(&door, "user", "b", "y").await;
    assert!(stream.is_silent().await);
    register(&door, "user", "a", "y").await;
    let delta = stream.expect("delta").await;
    assert_eq!(delta.data["from"], snapshot.data["revision"]);
    assert_eq!(delta.data["remove"], json!([{"id": "a", "cause": "updated", "status": "up"}]));
    assert_eq!(delta.data["revision"], revision(&door, "user").await);
}

#[tokio::test]
async fn every_stream_is_told_once_that_the_bus_is_silent_and_once_that_it_is_heard() {
    let door = Door::open("watch-notice");
    let mut stream = Stream::open(&door, "service=user&service=cart", None).await;
    while stream.next().await.name != "synced" {}
    let heard = door.app.node.condition();
    for (stale_since, stale) in [(Some(1), true), (Some(2), true), (None, false)] {
        door.app.feeds.mood().take(Condition { stale_since, ..heard });
        if stale_since == Some(2) {
            assert!(stream.is_silent().await, "it was said");
        } else {
            assert_eq!(stream.expect("notice").await.data, json!({"stale": stale}));
        }
    }
    door.app.feeds.mood().take(Condition { stale_since: Some(3), ..heard });
    stream.expect("notice").await;
    let mut late = Stream::open(&door, "service=user", None).await;
    late.expect("snapshot").await;
    late.expect("synced").await;
    assert_eq!(late.expect("notice").await.data, json!({"stale": true}));
}

#[tokio::test]
async fn what_was_sent_in_doubt_is_sent_again_when_all_is_known() {
    let door = Door::open("watch-complete");
    register(&door, "user", "a", "x").await;
    let known = door.app.node.condition();
    door.app.feeds.mood().take(Condition { complete: false, ..known });
    let mut stream = Stream::open(&door, "service=user", None).await;
    stream.expect("snapshot").await;
    stream.expect("synced").await;
    door.app.feeds.mood().take(known);
    assert_eq!(stream.expect("snapshot").await.data["complete"], true);
    register(&door, "user", "b", "x").await;
    stream.expect("delta").await;
}

#[tokio::test]
async fn a_stop_says_goodbye_to_everybody_and_takes_nobody_in() {
    let door = Door::open("watch-goodbye");
    let mut streams = Vec::new();
    for query in ["service=user", "service=*", "service=a&service=b"] {
        let mut stream = Stream::open(&door, query, None).await;
        while stream.next().await.name != "synced" {}
        streams.push(stream);
    }
    door.app.shutdown.begin();
    for mut stream in streams {
        let ms = stream.expect("goodbye").await.data["reconnect_ms"].as_u64().unwrap();
        assert!((1000..=5000).contains(&ms));
        assert!(stream.block().await.is_none());
    }
    door.get("/v1/watch?service=user").await.problem(503, "leaving");
    assert!(door.app.shutdown.ended(PATIENCE).await, "no task outlives the streams");
}

#[tokio::test]
async fn one_stream_too_many_is_told_so_until_another_ends() {
    let door = Door::with("watch-full", |config| config.watch.streams_max = 1);
    let stream = Stream::open(&door, "service=user", None).await;
    let refused = door.get("/v1/watch?service=user").await;
    assert_eq!(refused.problem(503, "overloaded")["key"], "watch.streams_max");
    assert_eq!(refused.header("retry-after"), "1");
    drop(stream);
    Stream::open(&door, "service=user", None).await.expect("snapshot").await;
}

#[tokio::test]
async fn what_nobody_follows_any_more_is_let_go_of() {
    let door = Door::open("watch-let-go");
    let mut stream = Stream::open(&door, "service=user", None).await;
    stream.expect("snapshot").await;
    assert_eq!(door.app.feeds.count(), 1);
    drop(stream);
    tokio::time::timeout(PATIENCE, async {
        while door.app.feeds.count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the feed ends with its last follower");
}

#[tokio::test]
async fn a_burst_is_told_in_few_steps_and_a_lone_change_at_once() {
    let door = Door::with("watch-burst", |config| (config.watch.burst, config.watch.coalesce_ms) = (2, 400));
    let mut stream = Stream::open(&door, "service=user", None).await;
    stream.expect("snapshot").await;
    stream.expect("synced").await;
    let begun = std::time::Instant::now();
    for id in ["a", "b"] {
        register(&door, "user", id, "x").await;
        stream.expect("delta").await;
    }
    assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed());
    for id in ["c", "d", "e"] {
        register(&door, "user", id, "x").await;
    }
    let delta = stream.expect("delta").await;
    assert_eq!(delta.data["upsert"].as_array().unwrap().len(), 3, "what has gathered leaves together");
}

#[tokio::test]
async fn consoles_are_told_counts_of_all_namespaces_and_no_instance() {
    let door = Door::open("watch-counts");
    register(&door, "user", "a", "x").await;
    assert!(door.put("/v1/services/cart/instances/a?namespace=test", r#"{"address":"10.0.0.7","port":80}"#).await.status.is_success());
    let mut stream = Stream::open(&door, "namespace=*&detail=counts", None).await;
    let counts = |namespace: &str, service: &str, revision: &str, up: usize| {
        let counts = json!({"starting": 0, "up": up, "suspect": 0, "down": 0, "draining": 0});
        json!({"namespace": namespace, "service": service, "revision": revision, "instances": up, "counts": counts})
    };
    assert_eq!(stream.expect("counts").await.data, counts("default", "user", &revision(&door, "user").await, 1));
    assert_eq!(stream.expect("counts").await.data["namespace"], json!("test"));
    assert_eq!(stream.expect("synced").await.data, json!({"services": 2}));

    register(&door, "user", "b", "x").await;
    assert_eq!(stream.expect("counts").await.data, counts("default", "user", &revision(&door, "user").await, 2));
    for id in ["a", "b"] {
        door.delete(&format!("/v1/services/user/instances/{id}")).await;
    }
    let empty = counts("default", "user", &"0".repeat(32), 0);
    while stream.expect("counts").await.data != empty {}
    assert!(stream.is_silent().await);
    door.app.shutdown.begin();
    stream.expect("goodbye").await;

    let refused = door.get("/v1/watch?namespace=*&detail=counts&service=user").await;
    assert_eq!((refused.status.as_u16(), &refused.json()["errors"][0]["parameter"]), (400, &json!("service")));
}

#[tokio::test]
async fn a_stream_says_nothing_of_what_the_node_cannot_know_yet_and_synced_waits() {
    let door = Door::with("watch-settles", |config| config.cluster.settle_ms = Some(3000));
    let mut one = Stream::open(&door, "service=user", None).await;
    let mut several = Stream::open(&door, "service=user&service=cart", None).await;
    let mut all = Stream::open(&door, "service=*", None).await;
    register(&door, "user", "a", "x").await;
    let first = one.expect("snapshot").await;
    assert_eq!((first.data["instances"].as_array().unwrap().len(), &first.data["complete"]), (1, &json!(false)));
    one.expect("synced").await;
    for stream in [&mut several, &mut all] {
        assert_eq!(stream.expect("snapshot").await.data["service"], "user");
    }
    // What is known is sent again: now it is all there is.
    let sent = [several.expect("snapshot").await.data, several.expect("snapshot").await.data];
    assert!(sent.iter().any(|data| data["service"] == "cart" && data["instances"] == json!([]) && data["complete"] == true), "{sent:?}");
    assert_eq!(several.expect("synced").await.data, json!({"services": 2}));
    assert_eq!(all.expect("snapshot").await.data["complete"], true);
    assert_eq!(all.expect("synced").await.data, json!({"services": 1}));
}
