//! Export and import: what one cluster holds is what another is given, line by line.

use super::cluster::{dev, stdout};
use super::muster;

const LINES: &str = r#"{"namespace":"default","service":"pay","id":"p/1","address":"10.0.0.7","port":80,"ttl":60000,"incarnation":7}

{"service":"user","id":"u1","address":"user.example","port":8080,"ports":{"grpc":9090},"weight":7,"region":"eu","zone":"eu-a","tags":["canary"],"metadata":{"version":"1.4.2"},"status":"starting","ttl":"1m","incarnation":1763600000000,"evict_after":"2m","check":{"kind":"http","path":"/healthz","port":8081,"interval":"5s","timeout":"1s","failures":4,"successes":1}}
{"namespace":"test","service":"user","id":"u2","address":"::1","port":1,"ttl":"60s"}
"#;

/// Runs it with this on stdin; the exit code, stdout and stderr.
fn with_stdin(args: &[&str], stdin: &str) -> (Option<i32>, String, String) {
    let output = muster(args).write_stdin(stdin).output().expect("a muster that runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn what_is_exported_here_and_imported_there_is_exported_there_the_same() {
    let ((_one, one), (_other, other)) = (dev(1), dev(2));
    let (code, out, err) = with_stdin(&["import", "-s", &one[0]], LINES);
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "3 instances imported, 0 lines failed\n", ""));

    let exported = stdout(&["export", "-A", "-s", &one[0]]);
    let lines: Vec<serde_json::Value> = exported.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let expected = serde_json::json!({"namespace":"default","service":"user","id":"u1","address":"user.example","port":8080,
        "ports":{"grpc":9090},"weight":7,"region":"eu","zone":"eu-a","tags":["canary"],"metadata":{"version":"1.4.2"},"status":"starting",
        "ttl":60000,"incarnation":1_763_600_000_000_u64,"evict_after":120_000,
        "check":{"kind":"http","path":"/healthz","port":8081,"interval":5000,"timeout":1000,"failures":4,"successes":1}});
    assert_eq!((lines.len(), &lines[1]), (3, &expected), "nothing of what was said is lost");
    assert_eq!((&lines[0]["id"], &lines[2]["namespace"], &lines[2]["incarnation"]), (&"p/1".into(), &"test".into(), &1.into()));

    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("instances.ndjson");
    std::fs::write(&file, &exported).expect("a file");
    let path = file.to_str().expect("a path of text");
    let dry = stdout(&["import", path, "--dry-run", "-s", &other[0]]);
    assert!(dry.starts_with("3 instances could be imported"), "{dry}");
    assert_eq!(stdout(&["export", "-A", "-s", &other[0]]), "", "a dry run sends nothing");
    for _ in 0..2 {
        stdout(&["import", path, "-s", &other[0]]);
        assert_eq!(stdout(&["export", "-A", "-s", &other[0]]), exported);
    }

    assert_eq!(stdout(&["export", "-s", &one[0]]).lines().count(), 2);
    assert_eq!(stdout(&["export", "user", "-n", "test", "-s", &one[0]]).lines().count(), 1);
    assert_eq!(stdout(&["export", "user", "-A", "-s", &one[0]]).lines().count(), 2);
    assert_eq!(stdout(&["export", "nobody", "-s", &one[0]]), "");
}

#[test]
fn a_line_that_fails_is_named_and_leaves_the_others() {
    let (_dev, urls) = dev(1);
    let lines = [
        r#"{"service":"user","id":"u1","address":"10.0.0.7","port":80,"incarnation":7}"#,
        r#"{"service":"user","id":"u2","address":"10.0.0.7","prot":80}"#,
        "not JSON",
        r#"{"service":"user","id":"u1","address":"10.0.0.7","port":80,"incarnation":6}"#,
        r#"{"service":"user","id":"u3","address":"10.0.0.7","port":80,"ttl":"2h"}"#,
        r#"{"service":"user","id":"u4","address":"10.0.0.7","port":80}"#,
    ];
    let (code, out, err) = with_stdin(&["import", "-s", &urls[0]], &lines.join("\n"));
    assert_eq!((code, out.as_str()), (Some(1), "2 instances imported, 4 lines failed\n"), "{err}");
    for told in ["line 2: ", "`prot`", "line 3: no JSON", "line 4: superseded: ", "line 5: invalid_request: ", "`ttl` must be"] {
        assert!(err.contains(told), "`{told}` is not in: {err}");
    }
    assert_eq!(stdout(&["instances", "user", "-o", "name", "-s", &urls[0]]), "u1\nu4\n");
    let (code, _, err) = with_stdin(&["import", "/no/such/file", "-s", &urls[0]], "");
    assert!(code == Some(2) && err.contains("/no/such/file"), "{err}");
}

#[test]
fn more_than_one_batch_and_one_page_are_carried_whole() {
    let ((_one, one), (_other, other)) = (dev(1), dev(1));
    let line = |number: usize| {
        format!(
            "{{\"service\":\"s{}\",\"id\":\"i{number:04}\",\"address\":\"10.0.0.7\",\"port\":{},\"ttl\":\"5m\"}}\n",
            number % 3,
            number + 1
        )
    };
    let lines: String = (0..2345).map(line).collect();
    // Some editors begin a file so.
    let (_, out, err) = with_stdin(&["import", "-s", &one[0]], &format!("\u{feff}{lines}"));
    assert_eq!(out, "2345 instances imported, 0 lines failed\n", "{err}");
    let exported = stdout(&["export", "-s", &one[0]]);
    assert_eq!(exported.lines().count(), 2345);
    with_stdin(&["import", "-s", &other[0]], &exported);
    assert_eq!(stdout(&["export", "-s", &other[0]]), exported);
}
