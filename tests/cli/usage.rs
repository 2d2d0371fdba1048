//! Arguments: help that helps, mistakes that are told before anything is done, output that can be piped away.

use std::process::Stdio;

use super::{muster, plain};

fn output(command: &mut assert_cmd::Command) -> (Option<i32>, String, String) {
    let output = command.output().expect("a muster that runs");
    (output.status.code(), String::from_utf8(output.stdout).expect("text"), String::from_utf8(output.stderr).expect("text"))
}

#[test]
fn help_has_examples_and_goes_to_stdout() {
    for verb in [
        "serve",
        "dev",
        "check",
        "register",
        "deregister",
        "drain",
        "subscribers",
        "services",
        "instances",
        "watch",
        "wait",
        "nodes",
        "override",
        "diff",
        "export",
        "import",
    ] {
        let (code, out, err) = output(&mut muster(&[verb, "--help"]));
        assert_eq!((code, err.as_str()), (Some(0), ""), "{verb}");
        assert!(out.contains("Examples:") && out.contains(&format!("muster {verb}")), "{out}");
    }
    let (code, out, _) = output(&mut muster(&["--help"]));
    assert!(code == Some(0) && out.contains("muster dev --nodes 3") && out.contains("Exit codes:"), "{out}");
    assert_eq!(output(&mut muster(&["--version"])).1, concat!("muster ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn a_mistake_is_told_before_anything_is_done() {
    let mistakes: &[(&[&str], &str)] = &[
        (&[], "Usage"),
        (&["serv"], "serve"),
        (&["instances", "no such name"], "a service name must be"),
        (&["instances", "user", "--namespace", "a.b"], "a namespace must be"),
        (&["instances", "user", "--meta", "x"], "KEY=VALUE"),
        (&["deregister", "user"], "<ID>"),
        (&["drain", "user", "u1", "--deadline", "soon"], "must be"),
        (&["override", "set", "o", "--status", "down"], "--reason"),
        (&["override", "set", "o", "--status", "sideways", "--reason", "x"], "up, draining or down"),
        (&["override", "set", "o", "--id", "u1", "--weight", "1", "--reason", "x"], "--service"),
        (&["override", "delete", "O"], "a name for an override must be"),
        (&["register", "--service", "user"], "--port"),
        (&["register", "--service", "user", "--port", "0"], "1 to 65535"),
        (&["register", "--service", "user", "--port", "1", "--ttl", "soon"], "15s"),
        (&["register", "--service", "user", "--port", "1", "--check", "smtp"], "http:/healthz"),
        (&["watch", "user", "*"], "'*'"),
        (&["services", "-s", "nats://127.0.0.1:4222"], "is not a server"),
        (&["diff", "n1"], "<THERE>"),
        (&["diff", "n1", "a.b"], "a node name must be"),
        (&["dev", "--nodes", "0"], "1..=64"),
        (&["dev", "--listen", "127.0.0.1:0", "--set", "node.name=x"], "muster serve"),
    ];
    for (args, told) in mistakes {
        let (code, out, err) = output(&mut muster(args));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}: {err}");
        assert!(err.contains(told), "{args:?}: `{told}` is not in: {err}");
    }
}

#[test]
fn check_shows_values_and_sources_and_no_secret() {
    let mut command = muster(&["check", "--set", "leases.ttl=20s", "--name", "n1"]);
    let (code, out, err) = output(command.env("MUSTER_NATS", "nats://me:hunter2@127.0.0.1:4222"));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let row = |key: &str| out.lines().find(|line| line.starts_with(key)).unwrap_or_default().split_whitespace().collect::<Vec<_>>();
    assert_eq!(row("leases.ttl "), ["leases.ttl", "20s", "--set"]);
    assert_eq!(row("node.name"), ["node.name", "n1", "--name"]);
    assert_eq!(row("bus.url"), ["bus.url", "nats://me:***@127.0.0.1:4222", "MUSTER_NATS"]);
    assert_eq!(row("http.listen"), ["http.listen", "127.0.0.1:6878", "default"]);
    assert!(!out.contains("hunter2"));
}

#[test]
fn check_gives_json_too() {
    let (code, out, _) = output(&mut muster(&["check", "-o", "json"]));
    let settings: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let ttl = settings.as_array().expect("a list").iter().find(|setting| setting["key"] == "leases.ttl").expect("the key");
    assert_eq!((code, &ttl["value"], &ttl["from"]), (Some(0), &"15s".into(), &"default".into()));
}

#[test]
fn the_reference_is_taken_back() {
    let (_, reference, _) = output(&mut muster(&["check", "--reference"]));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("muster.toml");
    std::fs::write(&file, reference.replace("# ttl = ", "ttl = ")).expect("a file");
    let (code, out, err) = output(&mut muster(&["check", "-c", file.to_str().expect("a path of text")]));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.lines().any(|line| line.starts_with("leases.ttl ") && line.contains("muster.toml:")), "{out}");
}

#[test]
fn completions_are_written_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, out, _) = output(&mut muster(&["completion", shell]));
        assert!(code == Some(0) && out.contains("deregister"), "{shell}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    for args in [&["check"][..], &["check", "--reference"], &["completion", "bash"], &["--help"]] {
        let mut child = plain(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a muster that starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(!err.contains("panicked") && output.status.code().is_some_and(|code| code <= 1), "{args:?}: {err}");
    }
}
