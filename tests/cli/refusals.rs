//! What a cluster may say no to, and what happens when there is none: words and exit codes.

use super::canned::{answering, nobody};
use super::muster;

/// The exit code and what was said on stderr.
fn failing(args: &[&str]) -> (Option<i32>, String) {
    let output = muster(args).output().expect("a muster that runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "a failure says nothing on stdout");
    (output.status.code(), String::from_utf8(output.stderr).expect("text"))
}

fn problem(status: u16, code: &str) -> &'static str {
    let body = format!(
        r#"{{"type":"urn:muster:problem:{code}","title":"t","status":{status},"code":"{code}","detail":"the detail","instance":"req-1"}}"#
    );
    body.leak()
}

const PROBLEM: &str = "application/problem+json";

#[test]
fn no_node_is_69_and_says_who_was_asked() {
    let (one, other) = (nobody().to_string(), nobody().to_string());
    let (code, err) = failing(&["services", "-s", &format!("{one},{other}")]);
    assert_eq!(code, Some(69));
    assert!(err.contains(&one) && err.contains(&other) && err.contains("refused") && err.contains("muster dev"), "{err}");
    let code = muster(&["nodes"]).env("MUSTER_SERVER", &one).output().expect("a muster that runs").status.code();
    assert_eq!(code, Some(69), "MUSTER_SERVER names it too");
}

#[test]
fn each_no_has_its_code() {
    for (status, problem_code, exit) in [
        ("403 Forbidden", problem(403, "forbidden"), 77),
        ("401 Unauthorized", problem(401, "unauthenticated"), 77),
        ("404 Not Found", problem(404, "unknown_route"), 3),
        ("400 Bad Request", problem(400, "invalid_request"), 1),
        ("503 Service Unavailable", problem(503, "warming"), 69),
    ] {
        let server = answering(status, PROBLEM, problem_code);
        let (code, err) = failing(&["services", "-s", &server]);
        assert_eq!(code, Some(exit), "{status}: {err}");
        assert!(err.contains("the detail") && err.contains(&server), "{err}");
    }
}

#[test]
fn what_is_no_node_is_told_apart() {
    for (status, body) in [("200 OK", "<html>"), ("502 Bad Gateway", "<html>"), ("200 OK", r#"{"services":7}"#)] {
        let server = answering(status, "text/html", body);
        let (code, err) = failing(&["services", "-s", &server]);
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("does not answer like a muster node"), "{err}");
    }
}

#[test]
fn a_proxy_that_refuses_is_named() {
    let (proxy, nobody) = (answering("403 Forbidden", "text/plain", "blocked"), nobody().to_string());
    let said = |server: &str, name: &str, proxy: &str| {
        let output = muster(&["services", "-s", server]).env_remove("no_proxy").env(name, proxy).output().expect("a muster that runs");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    let (code, err) = said("http://node.example:6878", "http_proxy", &proxy);
    assert!(code == Some(1) && err.contains("403 Forbidden") && err.contains(proxy.trim_start_matches("http://")), "{err}");
    assert!(err.contains("http_proxy or all_proxy (no_proxy=node.example goes past it)"), "{err}");
    for (server, name) in [("http://node.example:6878", "http_proxy"), ("https://node.example:6878", "HTTPS_PROXY")] {
        let (code, err) = said(server, name, &format!("http://user:hunter2@{nobody}"));
        assert!(code == Some(69) && err.contains(&format!("refused (os error 111), through the proxy {nobody} of ")), "{err}");
        assert!(err.contains("is a proxy needed") && !err.contains("hunter2"), "{err}");
    }
}

#[test]
fn a_server_that_is_gone_is_no_matter_while_another_answers() {
    let server = answering("200 OK", "application/json", r#"{"services":[]}"#);
    let gone = nobody().to_string();
    muster(&["services", "-s", &gone, "-s", &server]).assert().code(0);
}

#[test]
fn nodes_that_differ_are_4_whatever_the_format() {
    let node = |name: &str, state: &str, digest: char| {
        format!(
            r#"{{"name":"{name}","state":"{state}","epoch":"0000000000000001","http":"h:1","heard_ms":5,"seq":1,"lag":0,"digest":"{0}","view_digest":"{0}","instances":1}}"#,
            digest.to_string().repeat(32)
        )
    };
    let cluster = |converged: bool, nodes: &[String]| -> &'static str {
        let (nodes, digest) = (nodes.join(","), "a".repeat(32));
        format!(
            r#"{{"cluster":"c","node":"n1","state":"ready","bus":"up","converged":{converged},"view_digest":"{digest}","services":1,"instances":1,"nodes":[{nodes}],"applied":{{}}}}"#
        )
        .leak()
    };
    let well = [node("n1", "ready", 'a'), node("n2", "ready", 'a')];
    let diverged = [node("n1", "ready", 'a'), node("n2", "ready", 'b')];
    let silent = [node("n1", "ready", 'a'), node("n2", "dead", 'a')];
    for (body, exit, told) in [
        (cluster(true, &well), 0, "converged"),
        (cluster(true, &diverged), 0, "converged, with changes on their way between n1 and n2"),
        (cluster(false, &diverged), 4, "n2 holds other records"),
        (cluster(true, &silent), 4, "n2 is dead"),
        (cluster(false, &well), 4, "not converged yet"),
    ] {
        let server = answering("200 OK", "application/json", body);
        let output = muster(&["nodes", "-s", &server]).output().expect("a muster that runs");
        let out = String::from_utf8(output.stdout).expect("text");
        assert_eq!(output.status.code(), Some(exit), "{out}");
        assert!(out.contains(told), "`{told}` is not in: {out}");
        let json = muster(&["nodes", "-s", &server, "-o", "json"]).output().expect("a muster that runs");
        assert_eq!(json.status.code(), Some(exit));
        assert_eq!(String::from_utf8(json.stdout).expect("text").trim_end(), body, "JSON is the API's body");
    }
}
