//! Bad input over HTTP: each piece gets the documented problem, and nothing is changed or lost.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::wait::same;
use crate::support::{Api, Node, Request, Subscriber};

const INSTANCE: &str = "/v1/services/user/instances/u1";
const LIST: &str = "/v1/services/user/instances";

/// A request and the problem it must get: status, code and, where one field or parameter is to blame, which.
struct Case {
    request: Request,
    status: u16,
    code: &'static str,
    blames: Option<&'static str>,
}

fn case(request: Request, status: u16, code: &'static str) -> Case {
    Case { request, status, code, blames: None }
}

fn blaming(request: Request, blames: &'static str) -> Case {
    Case { request, status: 400, code: "invalid_request", blames: Some(blames) }
}

fn put(target: &str, body: &Value) -> Request {
    Request::new("PUT", target).json(body)
}

fn get(target: &str) -> Request {
    Request::new("GET", target)
}

/// A registration with one field set to something else.
fn with(field: &str, value: Value) -> Request {
    let mut body = json!({"address": "10.0.0.7", "port": 8080});
    body[field] = value;
    put(INSTANCE, &body)
}

fn bodies() -> Vec<Case> {
    let text = |body: &str| Request::new("PUT", INSTANCE).header("content-type", "application/json").bytes(body);
    let deep = "[".repeat(100_000);
    vec![
        case(text("{\"address\": "), 400, "invalid_json"),
        case(text("{\"address\": \"10.0.0.7\", \"port\": 8080} x"), 400, "invalid_json"),
        case(text("\u{feff}nonsense"), 400, "invalid_json"),
        case(text(&deep), 400, "invalid_json"),
        case(Request::new("PUT", INSTANCE).bytes([0xff, 0xfe, 0x00]), 400, "invalid_json"),
        case(Request::new("PUT", INSTANCE).bytes(vec![b' '; 2 << 20]), 413, "body_too_large"),
        case(
            Request::new("POST", "/v1/batch").header("content-type", "application/json").bytes(vec![b' '; 9 << 20]),
            413,
            "body_too_large",
        ),
        case(Request::new("POST", LIST).header("content-type", "text/plain").bytes("{}"), 415, "unsupported_media_type"),
        blaming(text("{}"), "/address"),
        blaming(text("{}"), "/port"),
        blaming(text(""), "/address"),
        blaming(text("{\"address\": \"10.0.0.7\", \"prot\": 8080}"), "/prot"),
        blaming(text("{\"address\": \"10.0.0.7\", \"prot\": 8080}"), "/port"),
    ]
}

fn fields() -> Vec<Case> {
    let many: serde_json::Map<String, Value> = (0..65).map(|number| (format!("k{number}"), json!("v"))).collect();
    vec![
        blaming(with("address", json!("10.0.0.7\n")), "/address"),
        blaming(with("address", json!("")), "/address"),
        blaming(with("address", json!("a b")), "/address"),
        blaming(with("address", json!(7)), "/address"),
        blaming(with("port", json!(0)), "/port"),
        blaming(with("port", json!(65_536)), "/port"),
        blaming(with("port", json!("http")), "/port"),
        blaming(with("weight", json!(65_536)), "/weight"),
        blaming(with("weight", json!(-1)), "/weight"),
        blaming(with("status", json!("down")), "/status"),
        blaming(with("ttl", json!("1ms")), "/ttl"),
        blaming(with("ttl", json!("2h")), "/ttl"),
        blaming(with("ttl", json!("soon")), "/ttl"),
        blaming(with("zone", json!("*")), "/zone"),
        blaming(with("region", json!("eu.>")), "/region"),
        blaming(with("incarnation", json!(0)), "/incarnation"),
        blaming(with("incarnation", json!(1_u64 << 53)), "/incarnation"),
        blaming(with("tags", json!(["a\u{0}b"])), "/tags"),
        blaming(with("metadata", json!({"k": "v".repeat(2000)})), "/metadata/k"),
        blaming(with("metadata", Value::Object(many)), "/metadata"),
        blaming(with("metadata", json!(["not", "a", "map"])), "/metadata"),
        blaming(with("check", json!({"kind": "shell"})), "/check/kind"),
        blaming(with("check", json!({"kind": "http", "paht": "/"})), "/check/paht"),
    ]
}

fn names() -> Vec<Case> {
    let registration = || json!({"address": "10.0.0.7", "port": 8080});
    let bad = ["a%0Ab", "a%00b", "%2A", "%3E", "a%2F..%2Fb", "%2E%2E%2Fuser", ".user", "user-", "%E2%80%AEresu", "a%20b"];
    let mut cases: Vec<Case> =
        bad.iter().map(|name| blaming(put(&format!("/v1/services/{name}/instances/u1"), &registration()), "service")).collect();
    let bad = ["%0Au1", "u%001", "%2A", "u%3E", "%2E%2E%2Fu1", "%2Fu1", "u1%0D%0Ax"];
    cases.extend(bad.iter().map(|id| blaming(put(&format!("/v1/services/user/instances/{id}"), &registration()), "id")));
    let bad = ["a.b", "%2A", "%3E", "A", "", "a%0Ab", "..%2Fdefault"];
    cases.extend(bad.iter().map(|name| blaming(put(&format!("{INSTANCE}?namespace={name}"), &registration()), "namespace")));
    cases.push(blaming(put(&format!("/v1/services/{}/instances/u1", "a".repeat(129)), &registration()), "service"));
    cases.push(blaming(put(&format!("/v1/services/user/instances/{}", "a".repeat(129)), &registration()), "id"));
    cases.push(case(put("/v1/services/%FF/instances/u1", &registration()), 400, "invalid_request"));
    cases.push(case(put("/v1/services/user/instances/u%FF1", &registration()), 400, "invalid_request"));
    cases.push(case(put("/v1/services/../instances/u1", &registration()), 400, "invalid_request"));
    let op = |service: &str| json!({"ops": [{"op": "register", "service": service, "id": "b1", "address": "10.0.0.7"}]});
    cases.push(case(Request::new("POST", "/v1/batch").json(&json!({"opps": []})), 400, "invalid_request"));
    cases.push(case(
        Request::new("POST", "/v1/batch").json(&json!({"ops": vec![op("user")["ops"][0].clone(); 10_001]})),
        400,
        "invalid_request",
    ));
    cases
}

fn queries_and_routes() -> Vec<Case> {
    vec![
        blaming(get(&format!("{LIST}?statsu=up")), "statsu"),
        blaming(get(&format!("{LIST}?status=sideways")), "status"),
        blaming(get(&format!("{LIST}?usable=perhaps")), "usable"),
        blaming(get(&format!("{LIST}?limit=0")), "limit"),
        blaming(get(&format!("{LIST}?limit=10001")), "limit"),
        blaming(get(&format!("{LIST}?wait=6m")), "wait"),
        blaming(get(&format!("{LIST}?wait=soon")), "wait"),
        blaming(get("/v1/watch?service=user&limit=3"), "limit"),
        blaming(get("/v1/watch?service=a%0Ab"), "service"),
        blaming(get("/v1/watch"), "service"),
        blaming(put(&format!("{INSTANCE}?ack=most"), &json!({"address": "10.0.0.7", "port": 8080})), "ack"),
        blaming(put(&format!("{INSTANCE}?takeover=please"), &json!({"address": "10.0.0.7", "port": 8080})), "takeover"),
        blaming(Request::new("DELETE", &format!("{INSTANCE}?incarnation=old")), "incarnation"),
        case(get("/v1/servces"), 404, "unknown_route"),
        case(get("/v1/services/"), 404, "unknown_route"),
        case(get("/v1/../v1/services"), 404, "unknown_route"),
        case(get("/v1/services/user/instances/nobody"), 404, "unknown_instance"),
        case(Request::new("POST", "/v1/services/user/instances/nobody/heartbeat"), 404, "unknown_lease"),
        case(Request::new("DELETE", LIST), 405, "method_not_allowed"),
        case(Request::new("POST", INSTANCE).json(&json!({})), 405, "method_not_allowed"),
        case(Request::new("PATCH", INSTANCE).json(&json!({})), 405, "method_not_allowed"),
        case(Request::new("PUT", "/v1/watch?service=user").json(&json!({})), 405, "method_not_allowed"),
        case(put(INSTANCE, &json!({"address": "10.6.6.6", "port": 1})).header("origin", "https://evil.example"), 403, "foreign_origin"),
        case(Request::new("DELETE", INSTANCE).header("origin", "null"), 403, "foreign_origin"),
    ]
}

/// What must not change: the service's revision, the digest of everything, the log's head, the content.
async fn fingerprint(api: &Api) -> Vec<Value> {
    let cluster = api.cluster().await;
    let list = api.get(LIST).await.expect(200);
    vec![cluster["view_digest"].clone(), cluster["nodes"][0]["seq"].clone(), cluster["instances"].clone(), list["revision"].clone(), list]
}

async fn assert_refused(api: &Api, case: &Case, before: &[Value]) {
    let answer = api.send(&case.request).await;
    let shown = format!("{:.200?} got {}: {:.600}", case.request, answer.status, answer.text());
    assert_eq!(answer.status, case.status, "{shown}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{shown}");
    assert!(answer.header("muster-node").is_some() && answer.header("x-request-id").is_some(), "{shown}");
    assert_eq!(answer.header("allow").is_some(), case.status == 405, "{shown}");
    let problem = answer.json();
    assert_eq!((&problem["code"], &problem["status"]), (&json!(case.code), &json!(case.status)), "{shown}");
    assert_eq!(problem["type"], format!("urn:muster:problem:{}", case.code), "{shown}");
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()) && problem["title"].is_string(), "{shown}");
    if let Some(blamed) = case.blames {
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        let is_blamed = |error: &Value| error["pointer"] == blamed || error["parameter"] == blamed;
        assert!(errors.iter().any(|error| is_blamed(error) && error["detail"].is_string()), "nothing blames {blamed}: {shown}");
    }
    assert_eq!(fingerprint(api).await, before, "something changed by {shown}");
}

async fn node_with_one_instance() -> Node {
    let node = Node::start_alone("alone").await;
    node.ready().await;
    node.put(INSTANCE, &json!({"address": "10.0.0.7", "port": 8080, "ttl": "1h"})).await.expect(201);
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn each_gets_its_problem_and_changes_nothing() {
    let node = node_with_one_instance().await;
    let before = fingerprint(&node).await;
    let mut wrong = Vec::new();
    for case in [bodies(), fields(), names(), queries_and_routes()].into_iter().flatten() {
        let checked = tokio::spawn({
            let (api, before) = (*node, before.clone());
            async move { assert_refused(&api, &case, &before).await }
        });
        wrong.extend(checked.await.err().map(|failed| failed.into_panic().downcast::<String>().map_or_else(|_| "?".into(), |why| *why)));
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_answers_for_each_and_keeps_the_good() {
    let node = node_with_one_instance().await;
    let ops = json!({"ops": [
        {"op": "register", "service": "user", "id": "b1", "address": "10.0.0.8", "port": 80},
        {"op": "register", "service": "us er", "id": "b2", "address": "10.0.0.8", "port": 80},
        {"op": "register", "service": "user", "id": "b3", "address": "10.0.0.8"},
        {"op": "heartbeat", "service": "user", "id": "nobody"},
        {"op": "heartbeat", "service": "user", "id": "u1"},
        {"op": "deregister", "service": "user", "id": "nobody"},
    ]});
    let answer = node.post("/v1/batch", &ops).await.expect(200);
    let results = answer["results"].as_array().expect("results");
    let statuses: Vec<u64> = results.iter().filter_map(|result| result["status"].as_u64()).collect();
    assert_eq!(statuses, [201, 400, 400, 404, 200, 204], "{answer}");
    assert_eq!(results[3]["code"], "unknown_lease");
    let list = node.get(LIST).await.expect(200);
    let ids: Vec<&Value> = list["instances"].as_array().into_iter().flatten().map(|instance| &instance["id"]).collect();
    assert_eq!(ids, ["b1", "u1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_as_the_last_event_id_gets_a_snapshot() {
    let node = node_with_one_instance().await;
    for garbage in ["garbage", "6f0c", "ffffffffffffffffffffffffffffffff", "-1", "../../etc/passwd", "\u{feff}\u{202e}"] {
        let held = crate::support::Held { last_id: Some(garbage.into()), ..Default::default() };
        let subscriber = Subscriber::resume(*node, "/v1/watch?service=user", &held).await;
        let held = subscriber.until_event("synced", Duration::from_secs(5)).await;
        assert_eq!((held.steps(), held.ports("user").len()), (vec!["snapshot"], 1), "{garbage:?}");
    }
}

/// Bytes that are no request at all; the node may answer or hang up, and must go on.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_http_is_survived() {
    let node = node_with_one_instance().await;
    let before = fingerprint(&node).await;
    let long_name = format!("PUT /v1/services/{}/instances/u1 HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", "a".repeat(1 << 20));
    let long_header = format!("GET /livez HTTP/1.1\r\nhost: x\r\nx-junk: {}\r\n\r\n", "a".repeat(4 << 20));
    let smuggled = "POST /v1/batch HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let raw_nul = "PUT /v1/services/a\0b/instances/u1 HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    let binary: String = (0..=127_u8).map(char::from).cycle().take(10_000).collect();
    for bytes in [&long_name, &long_header, smuggled, raw_nul, &binary, "\r\n\r\n\r\n", "GET", "\x16\x03\x01\x02\x00"] {
        let mut stream = TcpStream::connect(node.host).await.expect("a node that listens");
        let _ = stream.write_all(bytes.as_bytes()).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut answer)).await.expect("it answers or hangs up");
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{:.80?} was taken: {:.200}", bytes, String::from_utf8_lossy(&answer));
        same(&fingerprint(&node).await, &before).expect("nothing changed");
    }
}
