//! Health, numbers, the cluster, the index, and the rules that hold for every call.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Method, Request, header};
use futures_util::FutureExt;
use serde_json::{Value, json};

use super::Door;

#[tokio::test]
async fn a_lone_node_is_alive_and_ready() {
    let door = Door::open("operate-lone");
    for path in ["/livez", "/readyz", "/healthz"] {
        let answer = door.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "ok\n"), "{path}");
        let verbose = door.get(&format!("{path}?verbose")).await.text();
        assert!(verbose.contains("node: ready") && verbose.contains("bus: none"), "{verbose}");
    }
}

#[tokio::test]
async fn a_node_that_stops_is_alive_and_not_ready() {
    let door = Door::open("operate-stops");
    door.app.shutdown.begin();
    door.get("/readyz").await.problem(503, "leaving");
    assert_eq!(door.get("/readyz").await.header("retry-after"), "1");
    assert_eq!(door.get("/livez").await.status, 200);
    assert_eq!(door.get("/healthz").await.text(), "leaving\n");
}

#[tokio::test]
async fn the_cluster_is_told_as_the_contract_spells_it() {
    let door = Door::open("operate-cluster");
    door.put("/v1/services/user/instances/u1", r#"{"address":"a","port":1}"#).await;
    let cluster = door.get("/v1/cluster").await.json();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let expected = [
        "cluster",
        "node",
        "state",
        "bus",
        "converged",
        "complete",
        "majority",
        "view_digest",
        "services",
        "instances",
        "nodes",
        "applied",
    ];
    assert_eq!(keys(&cluster), expected.map(str::to_owned).into());
    let expected = ["name", "state", "epoch", "http", "heard_ms", "seq", "lag", "digest", "view_digest", "instances"];
    assert_eq!(keys(&cluster["nodes"][0]), expected.map(str::to_owned).into());
    let told = json!([cluster["cluster"], cluster["node"], cluster["state"], cluster["bus"], cluster["converged"], cluster["instances"]]);
    assert_eq!(told, json!(["muster", "operate-cluster", "ready", "none", true, 1]));
    assert_eq!(cluster["nodes"][0]["name"], "operate-cluster");
    assert_eq!(cluster["majority"], json!({"members": 1, "heard": 1, "judges": true}));
    assert_eq!(cluster["view_digest"], cluster["nodes"][0]["view_digest"]);
}

#[tokio::test]
async fn a_node_is_compared_with_itself_and_with_nobody_it_does_not_know() {
    let door = Door::open("operate-diff");
    door.put("/v1/services/user/instances/u1", r#"{"address":"a","port":1}"#).await;
    let equal = door.get("/v1/cluster/diff?with=operate-diff").await.json();
    assert_eq!(equal, json!({"node": "operate-diff", "with": "operate-diff", "equal": true, "services": [], "truncated": false}));
    let unknown = door.get("/v1/cluster/diff?with=n9").await.problem(404, "unknown_node");
    assert!(unknown["detail"].as_str().unwrap().contains("`n9`"), "{unknown}");
    for (query, code) in [("", "invalid_value"), ("?with=N/9", "invalid_value"), ("?with=a&with=b", "repeated_parameter")] {
        let faults = door.get(&format!("/v1/cluster/diff{query}")).await.faults();
        assert_eq!(faults[0], ("with".to_owned(), code.to_owned()), "{query}");
    }
}

#[tokio::test]
async fn a_node_that_is_heard_or_unknown_cannot_be_forgotten() {
    let door = Door::open("operate-forget");
    door.ask(Method::DELETE, "/v1/cluster/nodes/n9", "").await.problem(404, "unknown_node");
    let own = door.ask(Method::DELETE, "/v1/cluster/nodes/operate-forget", "").await.problem(409, "node_alive");
    assert!(own["detail"].as_str().unwrap().contains("nothing was changed"), "{own}");
    door.ask(Method::GET, "/v1/cluster/nodes/n9", "").await.problem(405, "method_not_allowed");
    let faults = door.ask(Method::DELETE, "/v1/cluster/nodes/N.9", "").await.faults();
    assert_eq!(faults[0], ("name".to_owned(), "invalid_value".to_owned()));
}

#[tokio::test]
async fn a_node_that_is_told_to_leave_says_so_and_is_stopped_by_whoever_runs_it() {
    let door = Door::open("operate-leave");
    let asked = |door: &Door| door.app.shutdown.asked().now_or_never().is_some();
    let foreign = Request::post("/v1/cluster/leave").header("host", "127.0.0.1:6878").header("origin", "https://evil.example");
    door.send(foreign.body(Body::empty()).unwrap()).await.problem(403, "foreign_origin");
    door.ask(Method::GET, "/v1/cluster/leave", "").await.problem(405, "method_not_allowed");
    assert!(!asked(&door));
    for _ in 0..2 {
        let answer = door.post("/v1/cluster/leave", "").await;
        assert_eq!(answer.status, 202);
        assert_eq!(answer.json(), json!({"node": "operate-leave", "state": "leaving", "deadline_ms": 1000}));
        assert!(asked(&door) && !door.app.shutdown.has_begun(), "the one who runs it says goodbye first");
    }
}

#[tokio::test]
async fn requests_are_counted_by_template_never_by_name() {
    let door = Door::open("operate-metrics");
    door.put("/v1/services/secret-name/instances/u1", r#"{"address":"a","port":1}"#).await;
    door.get("/no/such/path").await;
    door.ask(Method::from_bytes(b"BREW").unwrap(), "/livez", "").await;
    let answer = door.get("/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text();
    for line in [
        r#"route="/v1/services/{service}/instances/{id}",method="PUT",status="201"} 1"#,
        r#"route="other",method="GET",status="404"} 1"#,
        r#"route="/livez",method="other",status="405"} 1"#,
        r#"muster_changes_total{node="operate-metrics",cause="registered"} 1"#,
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert!(!text.contains("secret-name") && !text.contains("BREW"));
}

#[tokio::test]
async fn every_refusal_of_a_route_is_a_problem() {
    let door = Door::open("operate-routes");
    for path in ["/nope", "/livez/", "/v1/services/user/instances/u1/", "//", "/v1/cluster/"] {
        door.get(path).await.problem(404, "unknown_route");
    }
    let wrong = door.ask(Method::PATCH, "/v1/services/user/instances/u1", "{}").await;
    wrong.problem(405, "method_not_allowed");
    for method in ["PUT", "DELETE"] {
        assert!(wrong.header("allow").contains(method), "{}", wrong.header("allow"));
    }
    assert!(door.ask(Method::POST, "/livez", "").await.header("allow").contains("GET"));
    let unknown = door.get("/livez?verbos").await;
    assert_eq!(unknown.faults(), [("verbos".to_owned(), "unknown_parameter".to_owned())]);
    assert!(unknown.json()["errors"][0]["detail"].as_str().unwrap().contains("did you mean `verbose`?"));
}

#[tokio::test]
async fn head_is_taken_wherever_get_is_and_has_no_body() {
    let door = Door::open("operate-head");
    for (path, status) in [("/livez", 200), ("/v1/cluster", 200), ("/v1/openapi.json", 200), ("/", 200), ("/nope", 404)] {
        let answer = door.ask(Method::HEAD, path, "").await;
        assert_eq!((answer.status.as_u16(), answer.bytes.len()), (status, 0), "{path}");
        assert!(answer.headers.contains_key(header::CONTENT_LENGTH), "{path}");
    }
}

#[tokio::test]
async fn every_answer_names_its_request_and_node() {
    let door = Door::open("operate-names");
    for path in ["/livez", "/nope", "/livez?x"] {
        let request = Request::get(path).header("x-request-id", "abc-7").body(Body::empty()).unwrap();
        let answer = door.send(request).await;
        assert_eq!((answer.header("x-request-id"), answer.header("muster-node")), ("abc-7", "operate-names"));
        assert!(door.get(path).await.header("x-request-id").starts_with("req-"));
    }
}

#[tokio::test]
async fn a_foreign_page_may_not_write_and_a_configured_one_may() {
    let door = Door::with("operate-origin", |config| config.http.cors_origins = vec!["https://console.example".to_owned()]);
    let from = |method: Method, origin: &str| {
        let request = Request::builder().method(method).uri("/v1/services/user/instances/u1").header("host", "127.0.0.1:6878");
        let request = request.header("origin", origin).header("access-control-request-method", "PUT");
        request.body(Body::from(r#"{"address":"a","port":1}"#)).unwrap()
    };
    door.send(from(Method::PUT, "https://evil.example")).await.problem(403, "foreign_origin");
    door.send(from(Method::DELETE, "null")).await.problem(403, "foreign_origin");
    assert_eq!(door.app.node.catalog().instance_count(), 0);
    assert_eq!(door.send(from(Method::PUT, "http://127.0.0.1:6878")).await.status, 201);
    let allowed = door.send(from(Method::PUT, "https://console.example")).await;
    assert_eq!((allowed.status.as_u16(), allowed.header("access-control-allow-origin")), (200, "https://console.example"));
    let preflight = door.send(from(Method::OPTIONS, "https://console.example")).await;
    assert_eq!((preflight.status.as_u16(), preflight.header("access-control-allow-origin")), (204, "https://console.example"));
    assert!(preflight.header("access-control-allow-methods").contains("PUT"));
}

#[tokio::test]
async fn the_index_leads_to_what_there_is() {
    let door = Door::open("operate-index");
    let index = door.get("/").await.json();
    assert_eq!((index["name"].as_str(), index["node"].as_str()), (Some("muster"), Some("operate-index")));
    let version = door.get("/v1/version").await.json();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert!(version["commit"].is_string() && version["features"].is_array());
}

/// Every path and method that is described is answered, every answer's shape that is referred to is there, and every operation has a name.
#[tokio::test]
async fn the_description_holds_against_the_routes() {
    let door = Door::open("operate-openapi");
    let document = door.get("/v1/openapi.json").await.json();
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let concrete = path.replace("{service}", "user").replace("{id}", "no-such").replace("{name}", "no-such");
        for (method, operation) in item.as_object().unwrap() {
            assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{path} {method}");
            assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{path} {method} says nothing");
            let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap();
            let answer = door.edge.answer(Request::builder().method(method.clone()).uri(&concrete).body(Body::empty()).unwrap()).await;
            assert!(answer.status() != 405, "{method} {path}");
        }
        let undescribed = door.ask(Method::PATCH, &concrete, "").await;
        let allow: BTreeSet<_> = undescribed.header("allow").split(',').map(|method| method.trim().to_ascii_lowercase()).collect();
        let described: BTreeSet<_> = item.as_object().unwrap().keys().cloned().collect();
        let allowed: BTreeSet<_> = allow.into_iter().filter(|method| method != "head").collect();
        assert_eq!(allowed, described, "{path}");
    }
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"].get(name).is_some(), "{name} is referred to and not there");
    }
}
