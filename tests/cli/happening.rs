//! What happened and why: listed, followed, and told as a story.

use super::cluster::{dev, stdout};
use super::{Running, eventually, muster};

#[test]
fn what_happened_at_one_node_is_told_by_another() {
    let (_dev, urls) = dev(2);
    let mut follow = Running::start(&["events", "--follow", "--service", "user", "-s", &urls[1]]);
    follow.until("following events at");
    let mut register = Running::start(&["register", "--service", "user", "--port", "8080", "--id", "u1", "-s", &urls[0]]);
    register.until("registered user u1");
    follow.until("user u1 -> up registered at n1: by muster-cli/");
    let told = stdout(&["why", "user", "u1", "-s", &urls[1]]);
    assert!(told.starts_with("user u1 is up: its provider registered it.\n  listens on 127.0.0.1:8080, weight 100\n"), "{told}");
    assert!(
        told.contains("\n  owned by n1, life ") && told.contains("\n  held by an open connection at n1: no heartbeats are expected\n"),
        "{told}"
    );
    stdout(&["override", "set", "swap", "--service", "user", "--status", "draining", "--reason", "disk swap", "-s", &urls[1]]);
    let told = stdout(&["why", "user", "u1", "-s", &urls[1]]);
    assert!(told.starts_with("user u1 is draining: an operator's override says so.\n"), "{told}");
    assert!(told.contains("  the override `swap` says draining: disk swap (since ") && told.contains("set by muster-cli/"), "{told}");
    register.signal("INT");
    assert_eq!(register.ended().code(), Some(0));
    follow.until("u1 draining -> deregistered at n1");

    let rows = eventually("the other node has heard of it", || {
        let text = stdout(&["events", "--limit", "1", "-s", &urls[1]]);
        if text.contains("deregistered") { Ok(text) } else { Err(text) }
    });
    let row: Vec<_> = rows.lines().nth(1).unwrap_or_default().split_whitespace().skip(1).take(6).collect();
    assert_eq!(row, ["user", "u1", "draining", "-", "deregistered", "n1"], "{rows}");
    let told = stdout(&["why", "user", "u1", "-s", &urls[1]]);
    assert!(told.starts_with("user u1 is not listed.\n\nWhat happened, the newest first:\n"), "{told}");
    assert!(told.contains("    at n1: it was taken away by request (by muster-cli/"), "{told}");
    let body: serde_json::Value = serde_json::from_str(&stdout(&["why", "user", "u1", "-o", "json", "-s", &urls[0]])).expect("JSON");
    assert_eq!((&body["instance"], &body["events"][0]["cause"]), (&serde_json::Value::Null, &"deregistered".into()));
    let causes: Vec<_> =
        stdout(&["events", "-o", "ndjson", "--cause", "registered", "-A", "-s", &urls[0]]).lines().map(str::to_owned).collect();
    assert!(causes.len() == 1 && causes[0].contains("\"u1\""), "{causes:?}");
    follow.signal("INT");
    assert_eq!(follow.ended().code(), Some(0));
}

#[test]
fn an_instance_that_nobody_knows_has_no_story() {
    let (_dev, urls) = dev(1);
    let output = muster(&["why", "user", "nobody", "-s", &urls[0]]).assert().code(3).get_output().clone();
    assert!(output.stdout.is_empty() && String::from_utf8_lossy(&output.stderr).contains("nobody"), "{output:?}");
    assert_eq!(stdout(&["events", "-o", "name", "-s", &urls[0]]), "");
    muster(&["events", "--cause", "eaten", "-s", &urls[0]]).assert().code(1);
}
