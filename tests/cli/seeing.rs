//! Seeing how nodes are: whether they hold the same, what one holds otherwise, and one that is told to leave.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::canned::serving;
use super::cluster::{dev, stdout};
use super::{Running, eventually, muster};

fn code_and_words(args: &[&str]) -> (Option<i32>, String, String) {
    let output = muster(args).output().expect("a muster that runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Tells a node to leave; gives the status of its answer.
fn leave(url: &str) -> u16 {
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).expect("a node that listens");
    write!(stream, "POST /v1/cluster/leave HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        .expect("a socket");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.split_whitespace().nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

#[test]
fn nodes_that_hold_the_same_are_equal_whichever_is_asked() {
    let (_dev, urls) = dev(3);
    let register = Running::start(&["register", "--service", "user", "--port", "1", "--id", "u1", "-s", &urls[0]]);
    register.until("registered user u1");
    // At the first, at the second, and at a third that has to be told where the first is.
    for url in &urls {
        eventually("they agree", || match code_and_words(&["diff", "n1", "n2", "-s", url]) {
            (Some(0), out, _) if out == "n1 and n2 hold the same\n" => Ok(()),
            other => Err(format!("{other:?}")),
        });
        let body: serde_json::Value = serde_json::from_str(&stdout(&["diff", "n1", "n2", "-o", "json", "-s", url])).expect("JSON");
        let expected = serde_json::json!({"node": "n1", "with": "n2", "equal": true, "services": [], "truncated": false});
        assert_eq!(body, expected);
    }
    for (here, there) in [("n1", "n9"), ("n9", "n1"), ("n9", "n2")] {
        let (code, out, err) = code_and_words(&["diff", here, there, "-s", &urls[0]]);
        assert_eq!((code, out.as_str()), (Some(3), ""), "{err}");
        assert!(err.contains("`n9`"), "{err}");
    }
}

#[test]
fn what_differs_is_told_by_service_instance_and_field_and_the_exit_code() {
    let cluster = r#"{"cluster":"muster","node":"n2","state":"ready","bus":"up","converged":false,"diverged_ms":42000,
        "view_digest":"00000000000000000000000000000001","services":1,"instances":2,"nodes":[],"applied":{}}"#;
    let diff = r#"{"node":"n2","with":"n1","equal":false,"truncated":false,"services":[{"namespace":"default","service":"user",
        "revision":"00000000000000000000000000000001","with_revision":"00000000000000000000000000000002","only_here":["u2"],"only_there":[],
        "differ":[{"id":"u1","field":"zone","here":"eu-b","there":null,"owner":"n2"}]}]}"#;
    let bodies = Box::leak(Box::new([("/v1/cluster", cluster), ("/v1/cluster/diff?with=n1", diff)]));
    let url = serving(bodies);
    let (code, out, err) = code_and_words(&["diff", "n1", "n2", "-o", "wide", "-s", &url]);
    assert_eq!((code, err.as_str()), (Some(4), ""));
    let rows: Vec<Vec<_>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAMESPACE", "SERVICE", "INSTANCE", "FIELD", "N1", "N2", "OWNER"]);
    assert_eq!(rows[1], ["default", "user", "u2", "-", "absent", "listed", "-"]);
    assert_eq!(rows[2], ["default", "user", "u1", "zone", "-", "eu-b", "n2"]);
    assert!(out.ends_with("n1 and n2 differ in 2 instances of 1 service\n"), "{out}");
    assert_eq!(code_and_words(&["diff", "n1", "n2", "-o", "name", "-s", &url]).1, "default/user\n");
    let (code, out, _) = code_and_words(&["nodes", "-s", &url]);
    assert!(code == Some(4) && out.contains("diverged for 42s"), "{out}");
}

#[test]
fn a_node_that_is_told_to_leave_leaves_alone_and_the_last_one_ends_the_program() {
    let (mut dev, urls) = dev(2);
    assert_eq!(leave(&urls[1]), 202);
    eventually("the other one sees that it has gone", || {
        let (_, names, _) = code_and_words(&["nodes", "-o", "name", "-s", &urls[0]]);
        if names == "n1\n" { Ok(()) } else { Err(names) }
    });
    assert_eq!(code_and_words(&["nodes", "-s", &urls[1]]).0, Some(69));
    assert_eq!(leave(&urls[0]), 202);
    assert_eq!(dev.ended().code(), Some(0), "{}", dev.said());
}
