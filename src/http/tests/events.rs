//! What happened, from outside: lists with the newest first, one instance's history, and the stream.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::Door;

const USER: &str = "/v1/services/user/instances/u1";

async fn register(door: &Door, path: &str, port: u16) {
    let body = json!({"address": "10.0.0.7", "port": port}).to_string();
    let request = Request::put(path).header("muster-client", "cart/1.4").body(Body::from(body)).unwrap();
    assert!(door.send(request).await.status.is_success());
}

/// Instance, cause, from and to of each.
async fn story(door: &Door, path: &str) -> Vec<Value> {
    let body = door.get(path).await.json();
    let events = body["events"].as_array().unwrap_or_else(|| panic!("{body}"));
    events.iter().map(|event| json!([event["instance"], event["cause"], event["from"], event["to"]])).collect()
}

#[tokio::test]
async fn each_visible_change_is_one_event_and_the_newest_comes_first() {
    let door = Door::open("events-list");
    register(&door, USER, 80).await;
    register(&door, USER, 80).await;
    door.post(&format!("{USER}/heartbeat"), "").await;
    register(&door, USER, 81).await;
    door.delete(USER).await;
    door.delete(USER).await;
    let told = [json!(["u1", "deregistered", "up", null]), json!(["u1", "updated", "up", "up"]), json!(["u1", "registered", null, "up"])];
    assert_eq!(story(&door, "/v1/events").await, told);
    assert_eq!(story(&door, &format!("{USER}/history")).await, told);
    let first = &door.get("/v1/events").await.json()["events"][2];
    let expected = json!(["events-list-1", "events-list", "0000000000000007", "default", "user", "cart/1.4"]);
    assert_eq!(json!([first["id"], first["node"], first["epoch"], first["namespace"], first["service"], first["actor"]]), expected);
    assert!(first["at"].as_str().unwrap().ends_with('Z') && first.get("detail").is_none(), "{first}");
}

#[tokio::test]
async fn filters_narrow_and_pages_follow_each_other() {
    let door = Door::open("events-filters");
    for path in [USER, "/v1/services/user/instances/u2", "/v1/services/cart/instances/c1", "/v1/services/user/instances/t1?namespace=test"]
    {
        register(&door, path, 80).await;
    }
    register(&door, USER, 81).await;
    let ids = async |query: &str| {
        let told = story(&door, &format!("/v1/events{query}")).await;
        told.into_iter().map(|event| event[0].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ids("").await, "u1 c1 u2 u1");
    assert_eq!(ids("?namespace=*").await, "u1 t1 c1 u2 u1");
    assert_eq!(ids("?namespace=test").await, "t1");
    assert_eq!(ids("?service=user").await, "u1 u2 u1");
    assert_eq!(ids("?instance=u2").await, "u2");
    assert_eq!(ids("?cause=updated,expired").await, "u1");
    assert_eq!(ids("?since=10m&limit=2").await, "u1 c1");
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(ids("?since=0").await, "");

    let first = door.get("/v1/events?service=user&limit=2").await.json();
    let next = first["next"].as_str().unwrap();
    let second = door.get(&format!("/v1/events?service=user&limit=2&after={next}")).await.json();
    assert_eq!(
        json!([second["events"][0]["cause"], second["events"][0]["instance"], second.get("next")]),
        json!(["registered", "u1", null])
    );
    // The name that people see does as well.
    assert_eq!(ids("?after=events-filters-2").await, "u1");
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_with_its_place() {
    let door = Door::open("events-refused");
    let fault = |place: &str, code: &str| (place.to_owned(), code.to_owned());
    let faults = door.get("/v1/events?cause=updated,eaten&since=x&limit=0&servce=user&after=x").await.faults();
    let expected = ["cause", "since", "limit", "after"].map(|key| fault(key, "invalid_value"));
    assert_eq!(faults, [&expected[..], &[fault("servce", "unknown_parameter")]].concat());
    let gone = door.get("/v1/events?after=n9-1").await.problem(400, "invalid_request");
    assert!(gone["detail"].as_str().unwrap().contains("without `after`"), "{gone}");
    let request = Request::get("/v1/events?limit=1").header(header::ACCEPT, "text/event-stream").body(Body::empty()).unwrap();
    assert_eq!(door.send(request).await.faults(), [fault("limit", "unknown_parameter")]);
}

#[tokio::test]
async fn an_instance_has_a_history_when_it_is_gone_and_one_that_never_was_has_none() {
    let door = Door::open("events-gone");
    door.get(&format!("{USER}/history")).await.problem(404, "unknown_instance");
    register(&door, USER, 80).await;
    door.delete(USER).await;
    assert_eq!(story(&door, &format!("{USER}/history?limit=1")).await, [json!(["u1", "deregistered", "up", null])]);
    assert!(story(&door, &format!("{USER}/history?cause=expired")).await.is_empty());
    door.get("/v1/services/user/instances/u2/history").await.problem(404, "unknown_instance");
}

#[tokio::test]
async fn who_deregistered_and_who_overrides_is_told() {
    let door = Door::open("events-actors");
    register(&door, USER, 80).await;
    let ops =
        r#"{"ops":[{"op":"deregister","service":"user","id":"u1"},{"op":"register","service":"user","id":"u2","address":"a","port":1}]}"#;
    let request = Request::post("/v1/batch").header("muster-client", "deploy/7").header("content-type", "application/json");
    door.send(request.body(Body::from(ops)).unwrap()).await;
    let events = door.get("/v1/events?limit=2").await.json();
    assert_eq!(json!([events["events"][0]["actor"], events["events"][1]["actor"]]), json!(["deploy/7", "deploy/7"]));
    let request = Request::put("/v1/overrides/o").header("muster-client", "ops");
    let told = door.send(request.body(Body::from(r#"{"weight":1,"reason":"x"}"#)).unwrap()).await.json();
    assert_eq!(told["author"], "ops");
}

/// A stream, read as it comes.
struct Stream(Body, String);

impl Stream {
    async fn open(door: &Door, query: &str, last: Option<&str>) -> Self {
        let request = Request::get(format!("/v1/events{query}")).header(header::ACCEPT, "text/html, text/event-stream;q=1");
        let request = if let Some(last) = last { request.header("last-event-id", last) } else { request };
        let answer = door.edge.answer(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self(answer.into_body(), String::new())
    }

    /// Reads until the text has this.
    async fn until(&mut self, words: &str) -> &str {
        while !self.1.contains(words) {
            let frame = tokio::time::timeout(Duration::from_secs(10), self.0.frame()).await;
            let frame = frame.unwrap_or_else(|_| panic!("no `{words}` in {}", self.1)).unwrap_or_else(|| panic!("ended: {}", self.1));
            self.1.push_str(&String::from_utf8_lossy(frame.unwrap().data_ref().unwrap()));
        }
        &self.1
    }
}

#[tokio::test]
async fn a_stream_tells_what_happens_from_now_on_and_resumes_where_it_ended() {
    let door = Door::open("events-stream");
    register(&door, USER, 80).await;
    let mut stream = Stream::open(&door, "?service=user", None).await;
    register(&door, "/v1/services/cart/instances/c1", 80).await;
    register(&door, USER, 81).await;
    let text = stream.until("\"updated\"").await;
    assert!(
        text.starts_with("retry: ")
            && text.split("\n\n").next().unwrap().contains("\nevent: change\nid: events-stream-3\ndata: {\"id\":\"events-stream-3\""),
        "{text}"
    );
    assert!(!text.contains("\"registered\"") && !text.contains("gap"), "{text}");

    let mut again = Stream::open(&door, "", Some("events-stream-1")).await;
    let text = again.until("\"updated\"").await;
    assert!(text.contains("\"c1\"") && !text.contains("id: events-stream-1\n") && !text.contains("gap"), "{text}");
    let mut all = Stream::open(&door, "?since=10m", None).await;
    assert_eq!(all.until("\"updated\"").await.matches("event: change").count(), 3);
}

#[tokio::test]
async fn where_events_are_missing_a_stream_says_so_first() {
    let door = Door::open("events-gap");
    for last in ["events-gap-77", "garbage"] {
        let mut stream = Stream::open(&door, "", Some(last)).await;
        assert!(stream.until("event: gap\ndata: {}\n\n").await.starts_with("retry: "));
    }
}

#[tokio::test]
async fn a_stream_that_is_slower_than_the_history_is_long_hears_how_much_it_missed() {
    let door = Door::open("events-slow");
    let mut stream = Stream::open(&door, "", None).await;
    let kept = crate::node::history::KEPT_MAX;
    let op = |number: usize| json!({"op": "register", "service": "user", "id": format!("u{}", number % 5000), "address": format!("h{}", number % 5000), "port": 1 + number / 5000});
    for round in 0..=kept / 5000 {
        let ops: Vec<_> = (0..5000).map(|step| op(round * 5000 + step)).collect();
        assert_eq!(door.post("/v1/batch", &json!({"ops": ops}).to_string()).await.status, 200);
    }
    let made = (kept / 5000 + 1) * 5000;
    let text = stream.until("event: change").await;
    assert!(text.contains(&format!("event: gap\ndata: {{\"missed\":{}}}\n\n", made - kept)), "{}", &text[..300]);
    assert_eq!(door.get("/v1/events?limit=10000").await.json()["events"].as_array().unwrap().len(), kept);
}

#[tokio::test]
async fn a_stream_says_goodbye_when_the_node_leaves() {
    let door = Door::open("events-goodbye");
    let mut stream = Stream::open(&door, "", None).await;
    stream.until("retry: ").await;
    door.app.node.leave().await;
    stream.until("event: goodbye\ndata: {\"reconnect_ms\":").await;
    let over = tokio::time::timeout(Duration::from_secs(10), stream.0.frame()).await.unwrap();
    assert!(over.is_none(), "it goes on: {over:?}");
}
