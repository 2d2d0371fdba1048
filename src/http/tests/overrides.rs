//! Overrides from outside: set, listed, counted, shown with what they change, and ended.

use serde_json::{Value, json};

use super::Door;

async fn with_instances(name: &str) -> Door {
    let door = Door::open(name);
    for (port, (service, id, zone)) in (80..).zip([("user", "u1", "a"), ("user", "u2", "b"), ("cart", "c1", "a")]) {
        let body = json!({"address": "10.0.0.7", "port": port, "zone": zone, "metadata": {"v": "1"}}).to_string();
        assert_eq!(door.put(&format!("/v1/services/{service}/instances/{id}"), &body).await.status, 201);
    }
    door
}

/// Status and weight of each of a service's instances, by id.
async fn listed(door: &Door, service: &str) -> Vec<Value> {
    let list = door.get(&format!("/v1/services/{service}/instances")).await.json();
    list["instances"].as_array().unwrap().iter().map(|told| json!([told["id"], told["status"], told["weight"]])).collect()
}

#[tokio::test]
async fn an_override_is_set_replaced_listed_and_ended() {
    let door = with_instances("overrides-life").await;
    let before = door.get("/v1/services/user/instances").await.json()["revision"].clone();
    let answer =
        door.put("/v1/overrides/deploy-42", r#"{"service":"user","status":"draining","reason":"disk swap","expires_in":"2h"}"#).await;
    let told = answer.json();
    assert_eq!(answer.status, 201, "{told}");
    let expected = json!(["default", "deploy-42", "user", "draining", "disk swap", 2]);
    assert_eq!(json!([told["namespace"], told["name"], told["service"], told["status"], told["reason"], told["matches"]]), expected);
    assert_eq!(told["expires_in_ms"], 7_200_000);
    assert!(told["created_at"].as_str().unwrap().ends_with('Z') && told.get("weight").is_none() && told.get("author").is_none(), "{told}");
    assert_eq!(listed(&door, "user").await, [json!(["u1", "draining", 0]), json!(["u2", "draining", 0])]);
    assert_eq!(listed(&door, "cart").await, [json!(["c1", "up", 100])]);

    let narrower = door.put("/v1/overrides/deploy-42", r#"{"service":"user","id":"u1","weight":7,"reason":"less"}"#).await;
    assert_eq!((narrower.status.as_u16(), &narrower.json()["matches"]), (200, &json!(1)));
    assert_eq!(listed(&door, "user").await, [json!(["u1", "up", 7]), json!(["u2", "up", 100])]);
    let one = door.get("/v1/overrides/deploy-42").await.json();
    assert_eq!(door.get("/v1/overrides").await.json(), json!({"overrides": [one]}));
    assert_eq!((&one["weight"], &one["id"], one.get("expires_in_ms")), (&json!(7), &json!("u1"), None));

    assert_eq!(door.delete("/v1/overrides/deploy-42").await.status, 204);
    door.delete("/v1/overrides/deploy-42").await.problem(404, "unknown_override");
    door.get("/v1/overrides/deploy-42").await.problem(404, "unknown_override");
    assert_eq!(door.get("/v1/overrides").await.json(), json!({"overrides": []}));
    assert_eq!(door.get("/v1/services/user/instances").await.json()["revision"], before);
}

#[tokio::test]
async fn a_selection_is_told_as_it_was_said_and_looks_at_what_is_without_overrides() {
    let door = with_instances("overrides-select").await;
    let body = r#"{"select":"zone=a&metadata.v=1%2C2","status":"down","metadata":{"v":"9","by":"ops"},"reason":"x"}"#;
    let told = door.put("/v1/overrides/zone-a", body).await.json();
    assert_eq!((&told["select"], &told["matches"]), (&json!("zone=a&metadata.v=1,2"), &json!(2)));
    // Their metadata is another now: that does not let them out of the selection.
    let list = door.get("/v1/services/user/instances?metadata.v=9").await.json();
    assert_eq!((&list["instances"][0]["id"], &list["instances"][0]["metadata"]), (&json!("u1"), &json!({"v": "9", "by": "ops"})));
    assert_eq!(door.get("/v1/overrides/zone-a").await.json()["matches"], 2);
    assert_eq!(listed(&door, "cart").await, [json!(["c1", "down", 100])]);
}

#[tokio::test]
async fn the_detail_shows_who_says_what_of_the_status() {
    let door = with_instances("overrides-detail").await;
    let detail = door.get("/v1/services/user/instances/u1").await.json();
    assert_eq!(detail["status"], json!({"effective": "up", "reported": "up", "seen": "up"}));
    door.put("/v1/overrides/deploy-42", r#"{"service":"user","status":"draining","reason":"x"}"#).await;
    let detail = door.get("/v1/services/user/instances/u1").await.json();
    let overridden = json!({"status": "draining", "by": "deploy-42"});
    assert_eq!(detail["status"], json!({"effective": "draining", "reported": "up", "seen": "up", "overridden": overridden}));
    assert_eq!(json!([detail["cause"], detail["instance"]["status"], detail["instance"]["weight"]]), json!(["overridden", "draining", 0]));
    let renewed = door.post("/v1/services/user/instances/u1/heartbeat", "").await.json();
    assert_eq!(renewed["status"], "draining");
    let again = door.put("/v1/services/user/instances/u1", r#"{"address":"10.0.0.8","port":80}"#).await.json();
    assert_eq!(again["instance"]["status"], "draining");
}

#[tokio::test]
async fn a_service_names_the_overrides_that_are_about_it() {
    let door = with_instances("overrides-service").await;
    let overrides = async |service: &str| door.get(&format!("/v1/services/{service}")).await.json()["overrides"].clone();
    assert_eq!(overrides("user").await, json!([]));
    door.put("/v1/overrides/own", r#"{"service":"user","weight":1,"reason":"x"}"#).await;
    // It changes nothing that is listed, and is named all the same.
    door.put("/v1/overrides/all", r#"{"preserve":true,"reason":"x"}"#).await;
    door.put("/v1/overrides/other?namespace=test", r#"{"weight":1,"reason":"x"}"#).await;
    assert_eq!((overrides("user").await, overrides("cart").await), (json!(["all", "own"]), json!(["all"])));
    door.delete("/v1/overrides/all").await;
    assert_eq!((overrides("user").await, overrides("cart").await), (json!(["own"]), json!([])));
}

#[tokio::test]
async fn namespaces_are_apart() {
    let door = with_instances("overrides-namespaces").await;
    door.put("/v1/overrides/o?namespace=test", r#"{"status":"down","reason":"x"}"#).await;
    assert_eq!(listed(&door, "user").await, [json!(["u1", "up", 100]), json!(["u2", "up", 100])]);
    door.get("/v1/overrides/o").await.problem(404, "unknown_override");
    let names = async |query: &str| {
        let list = door.get(&format!("/v1/overrides{query}")).await.json();
        list["overrides"].as_array().unwrap().iter().map(|told| told["namespace"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(names("").await.is_empty());
    assert_eq!((names("?namespace=test").await, names("?namespace=*").await), (vec!["test".to_owned()], vec!["test".to_owned()]));
}

#[tokio::test]
async fn one_that_is_over_leaves_by_itself() {
    let door = with_instances("overrides-over").await;
    let mut cell = door.app.node.follow_catalog();
    door.put("/v1/overrides/o", r#"{"service":"user","status":"down","reason":"x","expires_in":"1s"}"#).await;
    assert_eq!(listed(&door, "user").await[0], json!(["u1", "down", 100]));
    cell.borrow_and_update();
    tokio::time::timeout(std::time::Duration::from_secs(10), cell.changed()).await.unwrap().unwrap();
    assert_eq!(listed(&door, "user").await[0], json!(["u1", "up", 100]));
    assert_eq!(door.get("/v1/overrides").await.json(), json!({"overrides": []}));
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_with_its_place() {
    let door = with_instances("overrides-refused").await;
    let faults = async |path: &str, body: &str| door.put(path, body).await.faults();
    let fault = |place: &str, code: &str| (place.to_owned(), code.to_owned());
    assert_eq!(faults("/v1/overrides/o", r#"{"status":"down"}"#).await, [fault("/reason", "missing_field")]);
    assert_eq!(faults("/v1/overrides/o", "").await, [fault("/reason", "missing_field"), fault("", "invalid_value")]);
    assert_eq!(faults("/v1/overrides/o", r#"{"reason":"x"}"#).await, [fault("", "invalid_value")]);
    assert_eq!(faults("/v1/overrides/o", r#"{"id":"u1","weight":1,"reason":"x"}"#).await, [fault("/id", "invalid_value")]);
    assert_eq!(faults("/v1/overrides/o", r#"{"select":"usable=true","weight":1,"reason":"x"}"#).await, [fault("/select", "invalid_value")]);
    assert_eq!(
        faults("/v1/overrides/O?ack=all", r#"{"weight":1,"reason":"x"}"#).await,
        [fault("name", "invalid_value"), fault("ack", "unknown_parameter")]
    );
    let unknown = door.put("/v1/overrides/o", r#"{"sevice":"user","weight":1,"reason":"x"}"#).await.problem(400, "invalid_request");
    assert!(unknown["errors"][0]["detail"].as_str().unwrap().contains("did you mean `service`?"), "{unknown}");
    assert_eq!(door.get("/v1/overrides").await.json(), json!({"overrides": []}));
}

#[tokio::test]
async fn past_the_bound_the_key_to_raise_is_told() {
    let door = Door::with("overrides-bound", |config| config.limits.overrides = 1);
    let body = r#"{"weight":1,"reason":"x"}"#;
    assert_eq!(door.put("/v1/overrides/one", body).await.status, 201);
    assert_eq!(door.put("/v1/overrides/two", body).await.problem(507, "limit_reached")["key"], "limits.overrides");
    assert_eq!(door.put("/v1/overrides/one", body).await.status, 200);
}

#[tokio::test]
async fn a_watcher_of_a_selection_is_told_that_an_override_took_an_instance_out_of_it() {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;

    let door = with_instances("overrides-watch").await;
    let request = Request::get("/v1/watch?service=user&status=up").body(Body::empty()).unwrap();
    let mut stream = door.edge.answer(request).await.into_body();
    let mut text = String::new();
    for awaited in ["event: synced\n", "event: delta\n"] {
        while !text.contains(awaited) || !text.ends_with("\n\n") {
            let frame =
                tokio::time::timeout(std::time::Duration::from_secs(10), stream.frame()).await.expect("it goes on").unwrap().unwrap();
            text.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap()));
        }
        door.put("/v1/overrides/o", r#"{"service":"user","id":"u1","status":"draining","reason":"x"}"#).await;
    }
    assert!(text.contains(r#""remove":[{"id":"u1","cause":"overridden","status":"draining"}]"#), "{text}");
}
