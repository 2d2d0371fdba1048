//! Both passes over bodies: what they take, and what they say when they do not.

use proptest::prelude::*;

use super::*;

fn leases() -> LeasesConfig {
    LeasesConfig { ttl_min_ms: 1000, ..LeasesConfig::default() }
}

fn registration(body: &str) -> Result<Arc<Registration>, Vec<Fault>> {
    let mut faults = Faults::default();
    let mut said = Said::read(body.as_bytes(), Fields::REGISTER, &mut faults).map_err(|problem| problem.errors().to_vec())?;
    said.take_registration(&leases(), "", &mut faults).filter(|_| faults.is_empty()).ok_or_else(|| faults.into_iter().collect())
}

fn places(body: &str) -> Vec<(String, String)> {
    registration(body).unwrap_err().into_iter().map(|fault| (fault.pointer.unwrap(), fault.code)).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(pointer, code)| ((*pointer).to_owned(), (*code).to_owned())).collect()
}

#[test]
fn the_whole_sample_of_the_contract_is_taken() {
    let registration = registration(
        r#"{"address": "10.0.0.7", "port": 8080, "ports": {"grpc": 9090}, "weight": 100, "region": "eu", "zone": "eu-a",
            "tags": ["canary"], "metadata": {"version": "1.4.2"}, "status": "up", "ttl": "15s", "incarnation": 1763600000000,
            "check": {"kind": "http", "path": "/healthz", "port": 8080, "interval": "10s", "timeout": "2s", "failures": 3, "successes": 2}}"#,
    )
    .unwrap();
    assert_eq!(registration.ports()["grpc"].get(), 9090);
    assert_eq!(registration.metadata()["version"], "1.4.2");
    assert_eq!(registration.ttl().map(ModelTtl::ms), Some(15_000));
    assert_eq!(registration.check().unwrap().interval_ms, 10_000);
}

#[test]
fn absent_and_null_mean_the_default() {
    let short = registration(r#"{"address":"a","port":1}"#).unwrap();
    let long = registration(
        r#"{"address":"a","port":1,"zone":null,"ttl":15000,"tags":[],"metadata":{},"check":null,"weight":100,"status":"up","region":null}"#,
    )
    .unwrap();
    assert_eq!(short, long);
}

#[test]
fn a_fixed_address_has_no_ttl() {
    assert_eq!(registration(r#"{"address":"a","port":1,"ttl":"none"}"#).unwrap().ttl(), None);
    // Read again from the tree, because something else is wrong with it: nothing is said of the ttl.
    assert_eq!(places(r#"{"address":"a","port":0,"ttl":"none"}"#), pairs(&[("/port", "invalid_value")]));
    let faults = registration(r#"{"address":"a","port":1,"ttl":"None"}"#).unwrap_err();
    assert!(faults[0].detail.contains(r#"whole milliseconds, or "none""#), "{faults:?}");
}

#[test]
fn every_fault_is_told_at_once_with_its_place() {
    let body = r#"{"adress":"10.0.0.7","prot":80,"port":0,"weight":-1,"tags":["a",5],"metadata":{"a/b":7},"ttl":"never","status":"down",
                   "check":{"kind":"icmp","interval":"soon","foo":1},"zone":"EU","ports":{"x":70000}}"#;
    let mut found = places(body);
    found.sort();
    let mut expected = pairs(&[
        ("/address", "missing_field"),
        ("/adress", "unknown_field"),
        ("/check/foo", "unknown_field"),
        ("/check/interval", "invalid_value"),
        ("/check/kind", "invalid_value"),
        ("/metadata/a~1b", "invalid_value"),
        ("/port", "invalid_value"),
        ("/ports/x", "invalid_value"),
        ("/prot", "unknown_field"),
        ("/status", "invalid_value"),
        ("/tags/1", "invalid_value"),
        ("/ttl", "invalid_value"),
        ("/weight", "invalid_value"),
        ("/zone", "invalid_value"),
    ]);
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_slip_gets_a_guess() {
    let faults = registration(r#"{"address":"a","port":1,"prot":80}"#).unwrap_err();
    assert_eq!(faults[0].detail, "unknown field `prot`; did you mean `port`?");
}

#[test]
fn the_models_bounds_are_told_beside_the_types() {
    let body = format!(r#"{{"address":"a","port":1,"metadata":{{"k":"{}"}},"ttl":"2h","weigth":1}}"#, "x".repeat(2000));
    let mut found = places(&body);
    found.sort();
    assert_eq!(found, pairs(&[("/metadata/k", "invalid_value"), ("/ttl", "invalid_value"), ("/weigth", "unknown_field")]));
    let body = format!(r#"{{"address":"a","port":1,"metadata":{{"k":"{}"}},"weigth":1}}"#, "x".repeat(2000));
    assert_eq!(places(&body), pairs(&[("/weigth", "unknown_field"), ("/metadata/k", "invalid_value")]));
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let faults = registration(r#"{"address":"a","port":1,"port":2}"#).unwrap_err();
    assert!(faults[0].detail.contains("duplicate field `port`"), "{faults:?}");
}

#[test]
fn what_another_write_takes_is_unknown_here() {
    assert_eq!(places(r#"{"address":"a","port":1,"digest":"x"}"#), pairs(&[("/digest", "unknown_field")]));
    let mut faults = Faults::default();
    Said::read(br#"{"address":"a"}"#, Fields::HEARTBEAT, &mut faults).unwrap();
    assert!(faults.has("/address"));
}

#[test]
fn what_is_no_object_or_no_json_is_said_so() {
    for body in ["[]", "5", "\"x\"", "true"] {
        assert_eq!(places(body)[0], (String::new(), "invalid_value".to_owned()), "{body}");
    }
    for body in ["{", "{\"address\":}", "\u{feff}{}", "{} {}", "[".repeat(100_000).as_str()] {
        let problem = Said::read(body.as_bytes(), Fields::REGISTER, &mut Faults::default()).unwrap_err();
        assert_eq!(problem.code(), Code::InvalidJson, "{}", &body[..body.len().min(20)]);
    }
}

#[test]
fn a_megabyte_is_not_carried_back() {
    let long = "x".repeat(1 << 20);
    for body in [format!(r#"{{"{long}":1}}"#), format!(r#"{{"address":"{long}"}}"#), format!(r#"{{"metadata":{{"{long}":1}}}}"#)] {
        let told: usize =
            registration(&body).unwrap_err().iter().map(|fault| fault.detail.len() + fault.pointer.as_ref().unwrap().len()).sum();
        assert!(told < 2000, "{told}");
    }
}

#[test]
fn of_a_hundred_thousand_faults_only_some_are_looked_for() {
    let many = |entry: &str| (0..100_000).map(|n| entry.replace('#', &n.to_string())).collect::<Vec<_>>().join(",");
    for body in [
        format!("{{{}}}", many(r#""k#":1"#)),
        format!(r#"{{"metadata":{{{}}}}}"#, many(r#""k#":1"#)),
        format!(r#"{{"tags":[{}]}}"#, many("#")),
        format!(r#"{{"address":"a","port":1,"metadata":{{{}}}}}"#, many(r#""k#":"\u0000""#)),
    ] {
        assert_eq!(registration(&body).unwrap_err().len(), 64);
    }
}

#[test]
fn a_digest_of_another_kind_is_a_digest_that_differs() {
    let digest = |body: &str| Said::read(body.as_bytes(), Fields::HEARTBEAT, &mut Faults::default()).unwrap().digest.unwrap().0;
    assert_eq!(digest(r#"{"digest":"000000000000000000000000000000ff"}"#), 255);
    assert_eq!(digest(r#"{"digest":"v2:abc"}"#), 0);
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9:./]{0,12}".prop_map(Value::from),
        Just(Value::from("15s")),
        Just(Value::from("10.0.0.7")),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        let key = prop_oneof![prop::sample::select(Said::NAMES).prop_map(str::to_owned), "[a-z~/]{0,6}".prop_map(String::from)];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..8).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_can_hurt(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Said::read(&bytes, Fields::OP, &mut Faults::default());
    }

    /// The quick pass takes a tree exactly when the slow one finds nothing wrong with it.
    #[test]
    fn both_passes_agree(tree in json()) {
        for allowed in [Fields::REGISTER, Fields::HEARTBEAT, Fields::OP] {
            let body = serde_json::to_vec(&tree).unwrap();
            let is_quick = tree.is_null() || serde_json::from_slice::<Said>(&body).is_ok_and(|said| said.is_within(allowed));
            let mut faults = Faults::default();
            Said::diagnose(&serde_json::from_slice(&body).unwrap(), allowed, "", &mut faults);
            prop_assert_eq!(is_quick, faults.is_empty(), "{:?}", faults);
        }
    }
}
