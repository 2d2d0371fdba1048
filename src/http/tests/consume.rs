//! Lists, polls, searches and details.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, Request, header};
use serde_json::{Value, json};

use super::{Answer, Door};

const USERS: &str = "/v1/services/user/instances";

async fn known(door: &Door, path: &str, etags: &str) -> Answer {
    door.send(Request::get(path).header(header::IF_NONE_MATCH, etags).body(Body::empty()).unwrap()).await
}

async fn register(door: &Door, service: &str, id: &str, body: &str) {
    let answer = door.put(&format!("/v1/services/{service}/instances/{id}"), body).await;
    assert!(answer.status.is_success(), "{}", answer.text());
}

fn ids(list: &Value) -> Vec<&str> {
    list["instances"].as_array().unwrap().iter().map(|instance| instance["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_list_is_answered_as_the_contract_spells_it() {
    let door = Door::open("consume-list");
    let body = r#"{"address":"10.0.0.7","port":8080,"ports":{"grpc":9090},"weight":7,"region":"eu","zone":"eu-a","tags":["canary"],"metadata":{"version":"1.4.2"}}"#;
    register(&door, "user", "user-2", r#"{"address":"10.0.0.8","port":1}"#).await;
    register(&door, "user", "user-1", body).await;
    let answer = door.get(USERS).await;
    let list = answer.json();
    let revision = list["revision"].as_str().unwrap();
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("etag"), format!("\"{revision}\""));
    let expected = json!({
        "namespace": "default", "service": "user", "revision": revision, "complete": true, "stale": false, "preserved": false,
        "instances": [
            {"id": "user-1", "address": "10.0.0.7", "port": 8080, "ports": {"grpc": 9090}, "status": "up", "weight": 7,
             "region": "eu", "zone": "eu-a", "tags": ["canary"], "metadata": {"version": "1.4.2"}},
            {"id": "user-2", "address": "10.0.0.8", "port": 1, "status": "up", "weight": 100},
        ],
    });
    assert_eq!(list, expected);

    let head = door.ask(Method::HEAD, USERS, "").await;
    assert_eq!((head.status.as_u16(), head.header("etag"), head.bytes.len()), (200, answer.header("etag"), 0));
    assert_eq!(head.header("content-length"), answer.bytes.len().to_string());
}

#[tokio::test]
async fn what_nobody_registered_is_empty_and_complete() {
    let door = Door::open("consume-unknown");
    let list = door.get("/v1/services/nobody/instances").await.json();
    assert_eq!((ids(&list).len(), &list["complete"], &list["revision"]), (0, &json!(true), &json!("0".repeat(32))));
    let service = door.get("/v1/services/nobody").await;
    assert_eq!((service.status.as_u16(), &service.json()["counts"]["up"]), (200, &json!(0)));
    door.get("/v1/services/nobody/instances/a").await.problem(404, "unknown_instance");
}

#[tokio::test]
async fn an_etag_is_of_what_was_selected() {
    let door = Door::open("consume-etag");
    register(&door, "user", "a", r#"{"address":"h","port":1,"zone":"x"}"#).await;
    let etag = door.get(USERS).await.header("etag").to_owned();
    let in_zone = format!("{USERS}?zone=x");
    for etags in [etag.as_str(), "*", &format!("\"other\", W/{etag}")] {
        let answer = known(&door, USERS, etags).await;
        assert_eq!((answer.status.as_u16(), answer.header("etag"), answer.bytes.len()), (304, etag.as_str(), 0), "{etags}");
    }
    register(&door, "user", "b", r#"{"address":"h","port":1,"zone":"y"}"#).await;
    assert_eq!(known(&door, USERS, &etag).await.status, 200);
    assert_eq!(known(&door, &in_zone, &etag).await.status, 304, "outside the selection nothing has changed");
    assert_ne!(door.get(&in_zone).await.json()["revision"], etag.trim_matches('"'), "the revision is always the service's");
}

#[tokio::test]
async fn a_poll_is_held_until_the_selection_differs() {
    let door = Door::open("consume-poll");
    register(&door, "user", "a", r#"{"address":"h","port":1,"zone":"x"}"#).await;
    let path = format!("{USERS}?zone=x&wait=30s");
    let etag = door.get(&path).await.header("etag").to_owned();
    let begun = Instant::now();
    let (answer, ()) = tokio::join!(known(&door, &path, &etag), async {
        register(&door, "user", "b", r#"{"address":"h","port":1,"zone":"y"}"#).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        register(&door, "user", "c", r#"{"address":"h","port":1,"zone":"x"}"#).await;
    });
    assert_eq!(ids(&answer.json()), ["a", "c"]);
    assert!((100..5000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_poll_ends_when_its_time_is_over_or_the_node_stops() {
    let door = Door::open("consume-poll-ends");
    let etag = door.get(USERS).await.header("etag").to_owned();
    let begun = Instant::now();
    let answer = known(&door, &format!("{USERS}?wait=300ms"), "*").await;
    assert_eq!((answer.status.as_u16(), answer.header("etag")), (304, etag.as_str()));
    assert!((270..5000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());

    let path = format!("{USERS}?wait=5m");
    let (answer, ()) = tokio::join!(known(&door, &path, &etag), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        door.app.shutdown.begin();
    });
    assert_eq!(answer.status, 304);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn pages_of_every_list_join_to_the_whole() {
    let door = Door::open("consume-pages");
    for service in ["a", "b", "c"] {
        for id in ["1", "2/x", "3"] {
            register(&door, service, &id.replace('/', "%2F"), r#"{"address":"h","port":1}"#).await;
        }
    }
    door.put("/v1/services/a/instances/1?namespace=test", r#"{"address":"h","port":1}"#).await;
    for (path, list, count) in [
        ("/v1/services/a/instances?", "instances", 3),
        ("/v1/instances?", "instances", 9),
        ("/v1/instances?namespace=*&", "instances", 10),
        ("/v1/services?", "services", 3),
        ("/v1/services?namespace=*&", "services", 4),
        ("/v1/namespaces?", "namespaces", 2),
    ] {
        let whole = door.get(path.trim_end_matches(['?', '&'])).await.json();
        assert!(whole.get("next").is_none(), "{path}");
        let (mut joined, mut after) = (Vec::new(), String::new());
        loop {
            let page = door.get(&format!("{path}limit=2{after}")).await.json();
            joined.extend(page[list].as_array().unwrap().iter().cloned());
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={}", next.replace('/', "%2F"));
        }
        assert_eq!((joined.len(), &Value::Array(joined)), (count, &whole[list]), "{path}");
    }
}

#[tokio::test]
async fn services_are_counted_by_status_and_found_by_prefix() {
    let door = Door::open("consume-services");
    register(&door, "user", "a", r#"{"address":"h","port":1,"status":"starting"}"#).await;
    register(&door, "user", "b", r#"{"address":"h","port":1}"#).await;
    register(&door, "cart", "c", r#"{"address":"h","port":1}"#).await;
    let services = door.get("/v1/services?q=us").await.json();
    let expected = json!({"starting": 1, "up": 1, "suspect": 0, "down": 0, "draining": 0});
    assert_eq!(services["services"].as_array().unwrap().len(), 1);
    assert_eq!((&services["services"][0]["service"], &services["services"][0]["counts"]), (&json!("user"), &expected));
    door.delete("/v1/services/cart/instances/c").await;
    assert_eq!(door.get("/v1/services").await.json()["services"].as_array().unwrap().len(), 1, "what has emptied is not listed");
    let namespaces = door.get("/v1/namespaces").await.json();
    assert_eq!(namespaces["namespaces"][0], json!({"namespace": "default", "services": 1, "instances": 2, "counts": expected}));
}

#[tokio::test]
async fn a_search_selects_over_all_services() {
    let door = Door::open("consume-search");
    register(&door, "user", "a", r#"{"address":"10.0.0.1","port":1,"tags":["t"]}"#).await;
    register(&door, "cart", "b", r#"{"address":"10.0.0.1","port":1}"#).await;
    register(&door, "cart", "c", r#"{"address":"10.0.0.2","port":1,"tags":["t"]}"#).await;
    assert_eq!(ids(&door.get("/v1/instances?address=10.0.0.1").await.json()), ["b", "a"]);
    assert_eq!(ids(&door.get("/v1/instances?address=10.0.0.1,10.0.0.2&tag=t").await.json()), ["c", "a"]);
    assert_eq!(ids(&door.get("/v1/instances?status=down").await.json()), [""; 0]);
    let found = &door.get("/v1/instances?tag=t&limit=1").await.json()["instances"][0];
    assert_eq!((&found["namespace"], &found["service"], &found["id"]), (&json!("default"), &json!("cart"), &json!("c")));
}

#[tokio::test]
async fn a_search_tells_registrations_where_they_are_asked_for() {
    let door = Door::open("consume-registrations");
    register(&door, "user", "a", r#"{"address":"h","port":1,"ttl":"30s","incarnation":7,"check":{"kind":"tcp"}}"#).await;
    register(&door, "cart", "b", r#"{"address":"h","port":2}"#).await;
    let found = door.get("/v1/instances?service=user&detail=registration").await.json();
    let registration = json!({"address": "h", "port": 1, "ttl": 30000, "incarnation": 7,
        "check": {"kind": "tcp", "interval": 10000, "timeout": 2000, "failures": 3, "successes": 2}});
    assert_eq!((ids(&found), &found["instances"][0]["registration"]), (vec!["a"], &registration));
    door.put("/v1/services/user/instances/a", &registration.to_string()).await;
    assert_eq!(door.get("/v1/services/user/instances/a").await.json()["edition"], 0, "what is told is what was said");
    assert!(door.get("/v1/instances").await.json()["instances"][0].get("registration").is_none());
    assert_eq!(door.get("/v1/instances?detail=all&service=*").await.faults().len(), 2);
}

#[tokio::test]
async fn a_detail_tells_everything_known() {
    let door = Door::open("consume-detail");
    let body = r#"{"address":"h","port":1,"ttl":"30s","incarnation":7,"check":{"kind":"http","path":"/healthz","interval":"10s"}}"#;
    register(&door, "user", "host%2Fa", body).await;
    let mut detail = door.get("/v1/services/user/instances/host%2Fa").await.json();
    let age = detail["lease"]["last_heartbeat_ms"].take().as_u64().unwrap();
    let remaining = detail["lease"]["remaining_ms"].take().as_u64().unwrap();
    assert!(age < 5000 && (25_000..=30_000).contains(&remaining));
    let changed_at = detail["changed_at"].take();
    assert_eq!(changed_at.as_str().unwrap().len(), "2026-11-20T09:14:03.120Z".len(), "{changed_at}");
    let expected = json!({
        "namespace": "default", "service": "user",
        "instance": {"id": "host/a", "address": "h", "port": 1, "status": "up", "weight": 100},
        "status": {"effective": "up", "reported": "up", "seen": "up"},
        "lease": {"ttl_ms": 30000, "remaining_ms": null, "last_heartbeat_ms": null, "attached": false, "preserved": false},
        "check": {"kind": "http", "path": "/healthz", "interval_ms": 10000, "timeout_ms": 2000, "successes": 0, "failures": 0},
        "owner": "consume-detail", "incarnation": 7, "edition": 0, "generation": 0, "cause": "registered", "changed_at": null,
    });
    assert_eq!(detail, expected);
}

#[tokio::test]
async fn every_wrong_parameter_is_named() {
    let door = Door::open("consume-wrong");
    let faults = |answer: Answer| answer.faults().into_iter().map(|(place, _)| place).collect::<Vec<_>>();
    assert_eq!(faults(door.get("/v1/services/..%2Fx/instances?zone=EU&limit=0&wait=1h&after=%00&stats=up").await).len(), 6);
    assert_eq!(faults(door.get("/v1/services?limit=10001&after=%2F").await), ["limit", "after"]);
    assert_eq!(faults(door.get("/v1/instances?after=user&usable=maybe").await), ["usable", "after"]);
    assert_eq!(faults(door.get("/v1/namespaces?namespace=a").await), ["namespace"]);
}

/// A node that started without knowledge, and settles for so long.
fn settling(name: &str, ms: u64) -> Door {
    Door::with(name, |config| config.cluster.settle_ms = Some(ms))
}

#[tokio::test]
async fn what_a_node_that_settles_does_not_know_is_not_empty() {
    let door = settling("consume-settles", 60_000);
    for path in [USERS, "/v1/services/user", "/v1/services/user/instances/a"] {
        let answer = door.get(path).await;
        let problem = answer.problem(503, "warming");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("`user`") && detail.contains("it waits until 20") && detail.contains("s more)"), "{detail}");
        assert_eq!(answer.header("retry-after"), "1");
    }
    for path in ["/v1/services", "/v1/namespaces", "/v1/instances"] {
        let answer = door.get(path).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["complete"]), (200, &json!(false)), "{path}");
    }
    assert_eq!(door.get("/readyz").await.status, 200);
    door.post("/v1/services/user/instances/a/heartbeat", "").await.problem(404, "unknown_lease");
    register(&door, "user", "a", r#"{"address":"h","port":1}"#).await;
    let list = door.get(USERS).await.json();
    assert_eq!((ids(&list), &list["complete"]), (vec!["a"], &json!(false)));
    door.get("/v1/services/user/instances/b").await.problem(503, "warming");
    door.post("/v1/services/user/instances/b/drain", "").await.problem(503, "warming");
    let nodes = door.get("/v1/cluster").await.json();
    assert!(nodes["nodes"][0]["settling_ms"].as_u64().is_some_and(|ms| ms > 0), "{nodes}");
}

#[tokio::test]
async fn what_nobody_registered_is_empty_once_the_node_has_settled() {
    let door = settling("consume-settled", 300);
    let mut conditions = door.app.node.follow_condition();
    conditions.wait_for(|condition| condition.complete).await.unwrap();
    let list = door.get(USERS).await.json();
    assert_eq!((ids(&list).len(), &list["complete"]), (0, &json!(true)));
}

#[tokio::test]
async fn a_poll_of_what_is_not_known_waits_until_it_is() {
    let door = settling("consume-settles-poll", 60_000);
    let path = format!("{USERS}?wait=30s");
    let (answer, ()) = tokio::join!(known(&door, &path, "\"other\""), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        register(&door, "user", "a", r#"{"address":"h","port":1}"#).await;
    });
    assert_eq!(ids(&answer.json()), ["a"]);
    let other = "/v1/services/other/instances?wait=100ms";
    known(&door, other, "*").await.problem(503, "warming");
}

#[tokio::test]
async fn a_node_that_never_reached_its_bus_is_not_ready_and_says_which() {
    let (door, _port) = Door::on_a_bus("consume-unreached");
    let mut conditions = door.app.node.follow_condition();
    conditions.wait_for(|condition| condition.knowledge == crate::registry::Knowledge::Unreached).await.unwrap();
    let ready = door.get("/readyz").await.problem(503, "warming");
    assert!(ready["detail"].as_str().unwrap().contains("never reached"), "{ready}");
    door.get(USERS).await.problem(503, "warming");
    door.get("/v1/watch?service=user").await.problem(503, "warming");
    register(&door, "user", "a", r#"{"address":"h","port":1}"#).await;
    let list = door.get(USERS).await.json();
    assert_eq!((ids(&list), &list["complete"]), (vec!["a"], &json!(false)));
    assert_eq!(door.get("/v1/cluster").await.json()["state"], "warming");
}
