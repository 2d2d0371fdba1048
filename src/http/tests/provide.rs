//! Registering, renewing and taking away.

use axum::body::Body;
use axum::http::{Method, Request, header};
use proptest::prelude::*;
use serde_json::json;

use super::Door;

const USER_1: &str = "/v1/services/user/instances/user-1";

#[tokio::test]
async fn what_is_not_read_as_it_is_or_stands_twice_is_refused_and_changes_nothing() {
    let door = Door::open("provide-odd-bodies");
    let path = "/v1/services/user/instances/u1";
    let body = r#"{"address":"10.0.0.7","port":80}"#;
    let put = |encoding: &str, body: &[u8]| {
        let request = Request::put(path).header("content-encoding", encoding).body(Body::from(body.to_vec())).unwrap();
        door.send(request)
    };
    let gzip = put("gzip", body.as_bytes()).await;
    assert!(gzip.problem(415, "unsupported_media_type")["detail"].as_str().unwrap().contains("`content-encoding: gzip`"));
    for (body, places) in [
        (r#"{"address":"10.0.0.7","port":80,"metadata":{"a":"1","a":"2"}}"#, &["/metadata/a"][..]),
        (r#"{"address":"10.0.0.7","port":80,"ports":{"g":1,"g":1}}"#, &["/ports/g"]),
        (r#"{"address":"10.0.0.7","port":80,"port":81}"#, &["/port"]),
        (r#"{"address":"10.0.0.7","port":80,"check":{"kind":"tcp","kind":"none"}}"#, &["/check/kind"]),
    ] {
        let faults = door.put(path, body).await.faults();
        assert_eq!(faults.iter().map(|(place, _)| place.as_str()).collect::<Vec<_>>(), places, "{body}");
        let member = format!(r#"{{"instances":[{{"service":"user","id":"u1",{}]}}"#, &body[1..]);
        let faults = door.post("/v1/attach", &member).await.faults();
        assert_eq!(faults[0].0, format!("/instances/0{}", places[0]));
        let ops = format!(
            r#"{{"ops":[{{"op":"register","service":"user","id":"u1",{},{{"op":"heartbeat","service":"user","id":"u1"}}]}}"#,
            &body[1..]
        );
        let results = door.post("/v1/batch", &ops).await.json();
        assert_eq!((&results["results"][0]["status"], &results["results"][1]["status"]), (&400.into(), &404.into()), "{results}");
        assert!(results["results"][0].to_string().contains(places[0]), "{results}");
    }
    let faults = door.put("/v1/overrides/o", r#"{"reason":"x","metadata":{"a":"1","a":"2"}}"#).await.faults();
    assert_eq!(faults[0].0, "/metadata/a");
    assert_eq!(door.app.node.catalog().instance_count(), 0);
    let marked = put("identity", format!("\u{feff}{body}").as_bytes()).await;
    assert_eq!(marked.status, 201, "{}", marked.text());
}

/// Peers quarantine a greater one, so no node may write it.
#[tokio::test]
async fn an_incarnation_that_peers_would_refuse_is_refused_at_every_door() {
    let door = Door::open("provide-great-incarnations");
    let (greatest, refused) = (1_u64 << 52, [(1_u64 << 52) + 1, (1 << 53) - 1, u64::MAX]);
    for number in refused {
        let body = format!(r#"{{"address":"10.0.0.7","port":80,"incarnation":{number}}}"#);
        let named = format!(r#"{{"service":"user","id":"user-1","address":"10.0.0.7","port":80,"incarnation":{number}}}"#);
        let ops = ["register", "heartbeat", "deregister"].map(|op| match op {
            "register" => format!(r#"{{"op":"register",{}"#, &named[1..]),
            _ => format!(r#"{{"op":"{op}","service":"user","id":"user-1","incarnation":{number}}}"#),
        });
        let requests = [
            (Method::PUT, USER_1.to_owned(), body.as_str()),
            (Method::PUT, format!("{USER_1}?takeover=true"), &body),
            (Method::POST, "/v1/services/user/instances".to_owned(), &body),
            (Method::POST, "/v1/attach".to_owned(), &named),
            (Method::POST, format!("{USER_1}/heartbeat"), &format!(r#"{{"incarnation":{number}}}"#)),
            (Method::POST, format!("{USER_1}/drain?incarnation={number}"), ""),
            (Method::DELETE, format!("{USER_1}?incarnation={number}"), ""),
        ];
        for (method, path, body) in requests {
            let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
            let answer = door.send(request.body(Body::from(body.to_owned())).unwrap()).await;
            let faults = answer.faults();
            assert!(faults[0].0.ends_with("incarnation"), "{faults:?}");
            assert!(answer.text().contains("must be a whole number from 1 to 4503599627370496"), "{}", answer.text());
        }
        let results = door.post("/v1/batch", &format!(r#"{{"ops":[{}]}}"#, ops.join(","))).await.json();
        for result in results["results"].as_array().unwrap() {
            assert_eq!(result["status"], 400, "{result}");
        }
    }
    assert_eq!(door.app.node.catalog().instance_count(), 0);
    let body = format!(r#"{{"address":"10.0.0.7","port":80,"incarnation":{greatest}}}"#);
    assert_eq!(door.put(USER_1, &body).await.status, 201);
    let later = door.put(&format!("{USER_1}?takeover=true"), r#"{"address":"10.0.0.7","port":81}"#).await;
    assert_eq!((later.status, &later.json()["incarnation"]), (axum::http::StatusCode::OK, &json!(greatest)));
}

#[tokio::test]
async fn a_refused_name_is_shown_with_the_character_that_looks_like_another() {
    let door = Door::open("provide-odd-names");
    let answer = door.put("/v1/services/user%E2%80%901/instances/u1", r#"{"address":"10.0.0.7","port":80}"#).await;
    let detail = answer.problem(400, "invalid_request")["errors"][0]["detail"].to_string();
    assert!(detail.contains("`user\u{2010}1`") && detail.contains("U+2010"), "{detail}");
    let answer = door.post("/v1/attach", "{\"service\":\"user\u{2010}1\",\"id\":\"a\",\"address\":\"10.0.0.7\",\"port\":80}").await;
    assert!(answer.text().contains("U+2010"), "{}", answer.text());
}

#[tokio::test]
async fn a_registration_is_answered_as_the_contract_spells_it() {
    let door = Door::open("provide-spelling");
    let body = r#"{"address":"10.0.0.7","port":8080,"zone":"eu-a","incarnation":1763600000000}"#;
    let answer = door.put(USER_1, body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let mut shape = answer.json();
    for opaque in ["digest", "revision"] {
        assert_eq!(shape[opaque].as_str().unwrap().len(), 32);
        shape[opaque] = json!("");
    }
    let expected = json!({
        "namespace": "default", "service": "user", "id": "user-1", "incarnation": 1_763_600_000_000_u64, "digest": "", "owner": "provide-spelling",
        "revision": "", "lease": {"ttl_ms": 15000, "renew_every_ms": 5000, "attached": false},
        "instance": {"id": "user-1", "address": "10.0.0.7", "port": 8080, "status": "up", "weight": 100, "zone": "eu-a"},
    });
    assert_eq!(shape, expected);
    assert_eq!(answer.header("muster-node"), "provide-spelling");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(door.put(USER_1, body).await.status, 200);
}

#[tokio::test]
async fn one_endpoint_is_one_endpoint_however_it_is_spelled() {
    let door = Door::open("endpoint");
    let put = async |address: &str| door.put(USER_1, &format!(r#"{{"address":"{address}","port":80}}"#)).await;
    for (one, others) in [
        ("2001:db8::1", ["2001:DB8::1", "2001:db8:0:0:0:0:0:1"]),
        ("10.0.0.7", ["::ffff:10.0.0.7", "::FFFF:a00:7"]),
        ("db.example", ["DB.example", "db.example."]),
    ] {
        let first = put(one).await.json();
        assert_eq!(first["instance"]["address"], one);
        for other in others {
            let again = put(other).await;
            assert_eq!((again.status.as_u16(), again.json()), (200, first.clone()), "{other}");
            let found = door.get(&format!("/v1/instances?address={other}")).await.json();
            assert_eq!(found["instances"][0]["id"], "user-1", "{other}");
        }
    }
    for (bad, word) in
        [("0.0.0.0", "connect"), ("::", "connect"), ("ff02::1", "multicast"), ("255.255.255.255", "broadcast"), ("0x7f.1", "decimal")]
    {
        let problem = put(bad).await.problem(400, "invalid_request");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{bad}: {problem}");
    }
    assert_eq!(door.get("/v1/services/user/instances").await.json()["instances"][0]["address"], "db.example", "nothing was changed");
}

#[tokio::test]
async fn a_fixed_address_is_listed_as_one_and_asked_for_no_heartbeats() {
    let door = Door::open("provide-fixed");
    let body = r#"{"address":"10.0.0.7","port":5432,"ttl":"none"}"#;
    let answer = door.put(USER_1, body).await.json();
    assert_eq!(answer["lease"], json!({"ttl_ms": null, "renew_every_ms": null, "attached": false}));
    assert_eq!(answer["instance"]["fixed"], true);
    let renewed = door.post(&format!("{USER_1}/heartbeat"), "").await;
    assert_eq!(renewed.json(), json!({"renew_every_ms": null, "owner": "provide-fixed", "incarnation": 1, "status": "up"}));
    let lease = door.get(USER_1).await.json()["lease"].take();
    assert_eq!((&lease["ttl_ms"], &lease["remaining_ms"]), (&json!(null), &json!(null)), "{lease}");
    let batch = r#"{"ops":[{"op":"heartbeat","service":"user","id":"user-1"}]}"#;
    assert_eq!(door.post("/v1/batch", batch).await.json()["results"], json!([{"status": 200, "incarnation": 1}]));

    let list = || async { door.get("/v1/services/user/instances").await.json() };
    let fixed = list().await;
    assert_eq!(fixed["instances"][0]["fixed"], true);
    let checked = r#"{"address":"10.0.0.7","port":5432,"ttl":"none","check":{"kind":"tcp"}}"#;
    assert_eq!(door.put(USER_1, checked).await.json()["instance"].get("fixed"), None);
    assert_ne!(list().await["revision"], fixed["revision"]);
}

#[tokio::test]
async fn a_life_is_renewed_superseded_and_ended() {
    let door = Door::open("provide-life");
    assert_eq!(door.put(USER_1, r#"{"address":"10.0.0.7","port":80,"incarnation":7}"#).await.status, 201);
    let renewed = door.post(&format!("{USER_1}/heartbeat"), r#"{"incarnation":7}"#).await;
    assert_eq!(renewed.json(), json!({"renew_every_ms": 5000, "owner": "provide-life", "incarnation": 7, "status": "up"}));
    assert_eq!(door.post(&format!("{USER_1}/heartbeat"), "").await.status, 200);
    let superseded = door.put(USER_1, r#"{"address":"10.0.0.8","port":80,"incarnation":6}"#).await.problem(409, "superseded");
    assert_eq!(superseded["incarnation"], 7);
    assert_eq!(door.put(&format!("{USER_1}?takeover=true"), r#"{"address":"10.0.0.8","port":80}"#).await.json()["incarnation"], 8);
    door.post(&format!("{USER_1}/heartbeat"), r#"{"incarnation":7}"#).await.problem(409, "superseded");
    door.delete(&format!("{USER_1}?incarnation=7")).await.problem(409, "superseded");
    assert_eq!(door.delete(&format!("{USER_1}?incarnation=8")).await.status, 204);
    assert_eq!(door.delete(USER_1).await.status, 204);
    door.post(&format!("{USER_1}/heartbeat"), "").await.problem(404, "unknown_lease");
}

#[tokio::test]
async fn the_registry_makes_an_id_and_says_where_it_is() {
    let door = Door::open("provide-made");
    let answer = door.post("/v1/services/a:b@c/instances?namespace=test", r#"{"address":"10.0.0.7","port":80}"#).await;
    assert_eq!(answer.status, 201);
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("location"), format!("/v1/services/a:b@c/instances/{id}?namespace=test"));
    assert_eq!(door.post(&format!("/v1/services/a:b@c/instances/{id}/heartbeat?namespace=test"), "").await.status, 200);
}

#[tokio::test]
async fn an_id_with_a_slash_is_one_segment() {
    let door = Door::open("provide-slash");
    let path = "/v1/services/user/instances/host%2F10.0.0.1%3A80";
    let answer = door.put(path, r#"{"address":"10.0.0.7","port":80}"#).await;
    assert_eq!(answer.json()["id"], "host/10.0.0.1:80");
    assert_eq!(door.delete(path).await.status, 204);
    door.put("/v1/services/user/instances/host/x", "{}").await.problem(404, "unknown_route");
}

#[tokio::test]
async fn everything_wrong_with_a_request_is_told_at_once_and_nothing_is_changed() {
    let door = Door::open("provide-faults");
    let path = "/v1/services/.bad/instances/a%0Ab?namespace=UP&takover=true&ack=some&ack_timeout=9h&ack=all";
    let mut faults = door.put(path, r#"{"adress":"x","port":0}"#).await.faults();
    faults.sort();
    let expected = [
        ("/address", "missing_field"),
        ("/adress", "unknown_field"),
        ("/port", "invalid_value"),
        ("ack", "invalid_value"),
        ("ack", "repeated_parameter"),
        ("ack_timeout", "invalid_value"),
        ("id", "invalid_value"),
        ("namespace", "invalid_value"),
        ("service", "invalid_value"),
        ("takover", "unknown_parameter"),
    ];
    assert_eq!(faults, expected.map(|(place, code)| (place.to_owned(), code.to_owned())));
    assert_eq!(door.app.node.catalog().instance_count(), 0);
}

#[tokio::test]
async fn bad_names_are_refused_with_their_rule() {
    let door = Door::open("provide-names");
    let long = "a".repeat(60_000);
    for bad in ["%00", "a%00", "a%0a", "%2e%2e%2fx", "*", "%3E", "a%20b", "%E2%80%AEa", &long, "%", "%zz", ".."] {
        let answer = door.put(&format!("/v1/services/user/instances/{bad}"), r#"{"address":"a","port":1}"#).await;
        assert!(answer.status == 400 || bad == "..", "{bad}: {}", answer.text());
        assert!(answer.bytes.len() < 2000);
    }
    door.put("/v1/services/user/instances/%FF", r#"{"address":"a","port":1}"#).await.problem(400, "invalid_request");
    assert_eq!(door.app.node.catalog().instance_count(), 0);
}

#[tokio::test]
async fn put_takes_any_content_type_and_post_only_json() {
    let door = Door::open("provide-types");
    let request = |method: Method, path: &str, content_type: Option<&str>, body: &str| {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        request.body(Body::from(body.to_owned())).unwrap()
    };
    let body = r#"{"address":"a","port":1}"#;
    let heartbeat = format!("{USER_1}/heartbeat");
    for content_type in [Some("application/x-www-form-urlencoded"), Some("text/plain"), None] {
        assert!(door.send(request(Method::PUT, USER_1, content_type, body)).await.status.is_success());
        door.send(request(Method::POST, &heartbeat, content_type, "{}")).await.problem(415, "unsupported_media_type");
        assert_eq!(door.send(request(Method::POST, &heartbeat, content_type, "")).await.status, 200);
    }
    for content_type in ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"] {
        assert_eq!(door.send(request(Method::POST, &heartbeat, Some(content_type), "{}")).await.status, 200);
    }
}

#[tokio::test]
async fn too_large_a_body_is_refused_whether_or_not_it_says_its_length() {
    let door = Door::open("provide-large");
    let large = "x".repeat((1 << 20) + 1);
    let problem = door.put(USER_1, &large).await.problem(413, "body_too_large");
    assert_eq!(problem["key"], "http.body_bytes_max");
    let pieces = futures_util::stream::iter((0..20).map(|_| Ok::<_, std::io::Error>(vec![b' '; 64 << 10])));
    let request = Request::put(USER_1).body(Body::from_stream(pieces)).unwrap();
    door.send(request).await.problem(413, "body_too_large");
    assert_eq!(door.post("/v1/batch", &format!("{large}{{")).await.problem(400, "invalid_json")["code"], "invalid_json");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let door = Door::with("provide-slow", |config| config.http.body_timeout_ms = 50);
    let request = Request::put(USER_1).body(Body::from_stream(futures_util::stream::pending::<std::io::Result<Vec<u8>>>())).unwrap();
    door.send(request).await.problem(408, "request_timeout");
}

#[tokio::test]
async fn a_batch_answers_the_digest_that_heartbeats_carry() {
    let door = Door::open("provide-batch-digest");
    let op = |op: &str, more: &str| format!(r#"{{"ops":[{{"op":"{op}","service":"user","id":"user-1",{more}}}]}}"#);
    let batch = async |op: String| door.post("/v1/batch", &op).await.json()["results"][0].clone();
    let registered = batch(op("register", r#""address":"a","port":1"#)).await;
    let digest = registered["digest"].as_str().unwrap();
    assert_eq!(door.put(USER_1, r#"{"address":"a","port":1}"#).await.json()["digest"], digest);
    assert_eq!(batch(op("heartbeat", &format!(r#""digest":"{digest}""#))).await["status"], 200);
    assert_eq!(batch(op("heartbeat", r#""digest":"other""#)).await["status"], 404);
}

#[tokio::test]
async fn joiners_are_text_and_what_hides_text_is_refused_by_name() {
    let door = Door::open("provide-text");
    let put = async |value: &str| {
        door.put(USER_1, &json!({"address": "a", "port": 1, "metadata": {"k": value}, "tags": [value]}).to_string()).await
    };
    for text in ["می\u{200c}خواهم", "👩\u{200d}💻"] {
        assert!(put(text).await.status.is_success());
        assert_eq!(door.get("/v1/services/user/instances").await.json()["instances"][0]["metadata"]["k"], text);
    }
    for (text, name) in [("a\u{202e}b", "U+202E"), ("a\tb", "U+0009")] {
        let problem = put(text).await.problem(400, "invalid_request");
        for fault in problem["errors"].as_array().unwrap() {
            assert!(fault["detail"].as_str().unwrap().ends_with(&format!("it has {name}")), "{fault}");
        }
    }
}

#[tokio::test]
async fn a_batch_gives_each_its_own_result_in_order() {
    let door = Door::open("provide-batch");
    door.put("/v1/services/user/instances/u3?namespace=test", r#"{"address":"a","port":1}"#).await;
    let answer = door
        .post(
            "/v1/batch",
            r#"{"ops":[{"op":"register","service":"user","id":"u1","address":"10.0.0.7","port":8080},
                       {"op":"heartbeat","service":"user","id":"u2","incarnation":7},
                       {"op":"deregister","namespace":"test","service":"user","id":"u3"},
                       {"op":"heartbeat","service":"user","id":"u1","address":"10.0.0.7"},
                       {"op":"resign","service":"user","id":"u1"},
                       {"op":"register","service":"user","id":"u1","address":"10.0.0.7"},
                       7,
                       {"op":"heartbeat","service":"user","id":"u1"},
                       {"op":"deregister","service":"user","id":"u1"},
                       {"op":"heartbeat","service":"user","id":"u1"}]}"#,
        )
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let results = answer.json()["results"].as_array().unwrap().clone();
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 404, 204, 400, 400, 400, 400, 200, 204, 404]);
    let digest = &results[0]["digest"];
    assert_eq!(results[0], json!({"status": 201, "incarnation": 1, "digest": digest, "renew_every_ms": 5000}));
    assert_eq!(results[1]["code"], "unknown_lease");
    assert_eq!(results[2], json!({"status": 204}));
    assert_eq!(results[3]["errors"][0]["pointer"], "/address");
    assert_eq!(results[5]["errors"][0]["pointer"], "/port");
}

#[tokio::test]
async fn a_batch_takes_ten_thousand_and_not_one_more() {
    let door = Door::open("provide-many");
    let ops = |count: usize| {
        let op = |n| format!(r#"{{"op":"register","service":"s{}","id":"i{n}","address":"10.0.0.7","port":80}}"#, n % 7);
        format!(r#"{{"ops":[{}]}}"#, (0..count).map(op).collect::<Vec<_>>().join(","))
    };
    let results = door.post("/v1/batch", &ops(10_000)).await.json();
    assert!(results["results"].as_array().unwrap().iter().all(|result| result["status"] == 201));
    assert_eq!(door.app.node.catalog().instance_count(), 10_000);
    let problem = door.post("/v1/batch", &ops(10_001)).await.problem(400, "invalid_request");
    assert!(problem["detail"].as_str().unwrap().contains("10000"), "{problem}");
    for bad in ["", "{}", "[]", r#"{"ops":5}"#, r#"{"ops":[],"x":1}"#] {
        door.post("/v1/batch", bad).await.problem(400, "invalid_request");
    }
    door.post("/v1/batch", r#"{"ops":[}"#).await.problem(400, "invalid_json");
    assert_eq!(door.post("/v1/batch", r#"{"ops":[]}"#).await.json(), json!({"results": []}));
}

#[tokio::test]
async fn an_acknowledgement_that_nobody_can_give_is_said_so() {
    let door = Door::open("provide-ack");
    let body = r#"{"address":"a","port":1}"#;
    let alone = door.put(&format!("{USER_1}?ack=all"), body).await;
    assert_eq!((alone.status.as_u16(), alone.json().get("ack")), (201, None));
    let peer = door.put(&format!("{USER_1}?ack=peer&ack_timeout=100ms"), body).await;
    assert_eq!(peer.status, 202);
    assert_eq!(peer.json()["ack"], json!({"asked": "peer", "applied": [], "missing": []}));
    let gone = door.delete(&format!("{USER_1}?ack=peer&ack_timeout=100ms")).await;
    assert_eq!((gone.status.as_u16(), gone.json()["ack"]["asked"].clone()), (202, json!("peer")));
}

#[tokio::test]
async fn a_bound_is_told_with_the_key_to_raise() {
    let door = Door::with("provide-bound", |config| config.limits.instances_per_service = 1);
    assert_eq!(door.put(USER_1, r#"{"address":"a","port":1}"#).await.status, 201);
    let problem = door.put("/v1/services/user/instances/user-2", r#"{"address":"a","port":1}"#).await.problem(507, "limit_reached");
    assert_eq!(problem["key"], "limits.instances_per_service");
    assert_eq!(door.post(&format!("{USER_1}/heartbeat"), "").await.status, 200);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever stands in a path, a query or a body: an answer, and none with a server's fault.
    #[test]
    fn nothing_hurts_the_door(path in "(/v1/services/[!-~]{0,9}/instances/[!-~]{0,9}|/[!-~]{0,20})", query in "[!-~]{0,30}", body in ".{0,60}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let door = Door::open("provide-hurt");
            for method in [Method::PUT, Method::POST, Method::DELETE, Method::GET] {
                let Ok(request) = Request::builder().method(method).uri(format!("{path}?{query}")).body(Body::from(body.clone())) else { return };
                let answer = door.send(request).await;
                assert!(answer.status.as_u16() < 500, "{}", answer.text());
            }
        });
    }
}
