//! Attaching, from outside: what the stream says, what is refused, and that every way for a connection to end is seen at once.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Door;
use super::watch::Stream;
use crate::http::Bound;
use crate::model::{Namespace, ServiceKey, ServiceName};

const PATIENCE: Duration = Duration::from_secs(5);
const ONE: &str = r#"{"service":"x","id":"a1","address":"10.0.0.7","port":80}"#;

async fn attach(door: &Door, body: &str) -> Stream {
    let request = Request::post("/v1/attach").header(header::CONTENT_TYPE, "application/json");
    let answer = door.edge.answer(request.body(Body::from(body.to_owned())).unwrap()).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["content-type"]), (200, &"text/event-stream".parse().unwrap()));
    Stream::of(answer.into_body())
}

/// Waits until the instance is listed as this, or not at all.
async fn until(door: &Door, service: &str, status: Option<&str>) {
    let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse(service).unwrap() };
    let mut cell = door.app.node.follow(&service);
    let is_so = |view: &std::sync::Arc<crate::registry::View>| {
        view.instances().values().map(|listed| listed.status.as_str()).collect::<Vec<_>>() == status.into_iter().collect::<Vec<_>>()
    };
    tokio::time::timeout(PATIENCE, cell.wait_for(is_so)).await.expect("it is told in time").unwrap();
}

#[tokio::test]
async fn the_stream_says_what_it_holds_and_its_end_makes_it_suspect() {
    let door = Door::open("attach-one");
    let mut stream = attach(&door, ONE).await;
    let registered = stream.expect("registered").await.data;
    let digest = registered["instances"][0]["digest"].clone();
    assert_eq!(digest.as_str().unwrap().len(), 32);
    let held = json!({"service": "x", "id": "a1", "incarnation": 1, "digest": digest});
    assert_eq!(registered, json!({"instances": [held], "owner": "attach-one"}));
    let detail = door.get("/v1/services/x/instances/a1").await.json();
    assert_eq!((&detail["lease"]["attached"], &detail["lease"]["remaining_ms"]), (&json!(true), &Value::Null));
    let again = door.put("/v1/services/x/instances/a1", r#"{"address":"10.0.0.7","port":80}"#).await.json();
    assert_eq!((&again["lease"]["attached"], &again["digest"]), (&json!(true), &digest));
    drop(stream);
    until(&door, "x", Some("suspect")).await;
    let detail = door.get("/v1/services/x/instances/a1").await.json();
    assert_eq!((&detail["cause"], &detail["lease"]["attached"]), (&json!("detached"), &json!(false)));
}

#[tokio::test]
async fn several_are_told_in_the_order_in_which_they_were_said_and_each_end_is_told_once() {
    let door = Door::open("attach-several");
    let body = r#"{"instances":[{"service":"y","id":"b","address":"10.0.0.7","port":80},
                                {"namespace":"test","service":"x","id":"a","address":"10.0.0.7","port":81}]}"#;
    let mut stream = attach(&door, body).await;
    let registered = stream.expect("registered").await.data;
    let names = |at: usize| [registered["instances"][at]["namespace"].clone(), registered["instances"][at]["id"].clone()];
    assert_eq!((names(0), names(1)), ([Value::Null, json!("b")], [json!("test"), json!("a")]));
    assert_eq!(door.delete("/v1/services/x/instances/a?namespace=test").await.status, 204);
    let over = stream.expect("deregistered").await.data;
    assert_eq!(over, json!({"namespace": "test", "service": "x", "id": "a", "incarnation": 1}));
    assert_eq!(door.delete("/v1/services/y/instances/b").await.status, 204);
    assert_eq!(stream.expect("deregistered").await.data, json!({"service": "y", "id": "b", "incarnation": 1}));
    stream.ends().await;
}

#[tokio::test]
async fn what_is_wrong_with_any_is_told_with_its_place_and_nothing_is_changed() {
    let door = Door::open("attach-wrong");
    let place = |place: &str, code: &str| (place.to_owned(), code.to_owned());
    let member = r#"{"service":"x","id":"a","address":"10.0.0.7","port":80}"#;
    for (body, faults) in [
        (
            "{}".to_owned(),
            vec![
                place("/service", "missing_field"),
                place("/id", "missing_field"),
                place("/address", "missing_field"),
                place("/port", "missing_field"),
            ],
        ),
        (r#"{"instances":[]}"#.to_owned(), vec![place("/instances", "invalid_value")]),
        (r#"{"instances":7}"#.to_owned(), vec![place("/instances", "invalid_value")]),
        (format!(r#"{{"instances":[{member}],"ttl":"1s"}}"#), vec![place("/ttl", "unknown_field")]),
        (
            format!(r#"{{"instances":[{member},{{"service":"x","id":"b","address":"10.0.0.7","port":0}}]}}"#),
            vec![place("/instances/1/port", "invalid_value")],
        ),
        (format!(r#"{{"instances":[{member},{member}]}}"#), vec![place("/instances/1", "invalid_value")]),
        (r#"{"service":"x","id":"a","address":"10.0.0.7","port":80,"ttl":"none"}"#.to_owned(), vec![place("/ttl", "invalid_value")]),
        (r#"{"op":"register","service":"x","id":"a","address":"10.0.0.7","port":80}"#.to_owned(), vec![place("/op", "unknown_field")]),
    ] {
        assert_eq!(door.post("/v1/attach", &body).await.faults(), faults, "{body}");
    }
    door.post("/v1/attach", "{").await.problem(400, "invalid_json");
    assert_eq!(door.post("/v1/attach?ack=all", ONE).await.faults(), [place("ack", "unknown_parameter")]);
    let many: Vec<String> = (0..10_001).map(|id| member.replace("\"a\"", &format!("\"{id}\""))).collect();
    let many = format!(r#"{{"instances":[{}]}}"#, many.join(","));
    assert_eq!(door.post("/v1/attach", &many).await.faults(), [place("/instances", "invalid_value")]);

    door.put("/v1/services/x/instances/z", r#"{"address":"10.0.0.7","port":80,"incarnation":5}"#).await;
    let superseded = format!(r#"{{"instances":[{member},{{"service":"x","id":"z","address":"10.0.0.7","port":80,"incarnation":4}}]}}"#);
    let problem = door.post("/v1/attach", &superseded).await.problem(409, "superseded");
    assert!(problem["detail"].as_str().unwrap().contains("`z`"), "{problem}");
    door.get("/v1/services/x/instances/a").await.problem(404, "unknown_instance");
}

#[tokio::test]
async fn past_the_bound_one_more_is_told_so_and_a_place_is_free_again_when_one_ends() {
    let door = Door::with("attach-full", |config| config.leases.attachments_max = 1);
    let mut stream = attach(&door, ONE).await;
    stream.expect("registered").await;
    let refused = door.post("/v1/attach", &ONE.replace("a1", "a2")).await;
    assert_eq!(refused.problem(503, "overloaded")["key"], "leases.attachments_max");
    drop(stream);
    attach(&door, ONE).await.expect("registered").await;
    until(&door, "x", Some("up")).await;
}

#[tokio::test]
async fn a_node_that_leaves_says_goodbye_in_time_and_nothing_is_suspect_for_it() {
    let door = Door::open("attach-goodbye");
    let mut stream = attach(&door, &ONE.replace('}', r#","ttl":"3s"}"#)).await;
    stream.expect("registered").await;
    door.app.node.leave().await;
    let goodbye = stream.expect("goodbye").await.data;
    assert!((50..=1000).contains(&goodbye["reconnect_ms"].as_u64().unwrap()), "{goodbye}");
    stream.ends().await;
    drop(stream);
    // What comes after it in the node's queue has been seen by the time that this is answered.
    door.post("/v1/attach", ONE).await.problem(503, "leaving");
    until(&door, "x", Some("up")).await;
}

/// A connection that holds an instance, as bytes: what a process has that may be killed.
async fn hold(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("POST /v1/attach HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", ONE.len());
    stream.write_all(&[head.as_bytes(), ONE.as_bytes()].concat()).await.unwrap();
    let mut seen = String::new();
    while !seen.contains("\"owner\"") {
        let mut some = [0; 1024];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut some)).await.expect("it is answered in time").unwrap();
        assert_ne!(read, 0, "{seen}");
        seen.push_str(str::from_utf8(&some[..read]).unwrap());
    }
    stream
}

#[tokio::test]
async fn every_way_for_a_connection_to_end_is_seen_at_once() {
    let door = Door::open("attach-ends");
    let bound = Bound::bind(door.app.config.http.listen).unwrap();
    let address = bound.address();
    bound.serve(door.app.clone());
    for way in ["closed", "reset", "closed in one direction"] {
        let mut stream = hold(address).await;
        until(&door, "x", Some("up")).await;
        match way {
            "closed" => drop(stream),
            "reset" => {
                stream.set_zero_linger().unwrap();
                drop(stream);
            }
            _ => {
                stream.shutdown().await.unwrap();
                until(&door, "x", Some("suspect")).await;
                continue;
            }
        }
        until(&door, "x", Some("suspect")).await;
    }
}

#[tokio::test]
async fn so_is_the_end_of_a_stream_on_a_connection_that_stays() {
    let door = Door::open("attach-http2");
    let bound = Bound::bind(door.app.config.http.listen).unwrap();
    let address = bound.address();
    bound.serve(door.app.clone());
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    for ends in ["the stream", "the connection"] {
        let request = client.post(format!("http://{address}/v1/attach")).header("content-type", "application/json").body(ONE);
        let mut answer = request.send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
        answer.chunk().await.unwrap().unwrap();
        until(&door, "x", Some("up")).await;
        if ends == "the stream" {
            drop(answer);
        } else {
            drop((answer, client));
            until(&door, "x", Some("suspect")).await;
            return;
        }
        until(&door, "x", Some("suspect")).await;
    }
}
