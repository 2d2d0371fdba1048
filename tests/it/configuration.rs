//! Wrong configuration: every violation at once, with where it came from, exit code 78, and nothing started.

use std::process::Output;
use std::time::Duration;

use crate::support::node::muster;

fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = muster(args);
    command.envs(env.iter().copied()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("a muster that starts");
    let begun = std::time::Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if begun.elapsed() > Duration::from_secs(10) {
            let _ = child.kill();
            panic!("{args:?} still runs: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().expect("its output")
}

const WRONG: &[&str] =
    &["--name", "Not.A.Name", "--listen", "nowhere", "--set", "leases.ttl=soon", "--set", "leases.evict_aftr=1s", "--set", "watch.burst=0"];

#[test]
fn every_violation_is_told_at_once_and_nothing_starts() {
    let output = run(&[&["serve"], WRONG].concat(), &[("MUSTER_CLUSTER", "no dots.here")]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(78), "{out}{err}");
    for told in [
        "--name",
        "Not.A.Name",
        "--listen",
        "nowhere",
        "leases.ttl",
        "soon",
        "leases.evict_aftr",
        "leases.evict_after",
        "watch.burst",
        "MUSTER_CLUSTER",
    ] {
        assert!(err.contains(told), "`{told}` is not in: {err}");
    }
    assert!(!out.contains("listening") && !err.contains("listening"), "something was started: {out}{err}");
}

#[test]
fn check_finds_what_serve_would() {
    let wrong = run(&[&["check"], WRONG].concat(), &[]);
    assert_eq!(wrong.status.code(), Some(78));
    let right = run(&["check", "--name", "n1", "--set", "leases.ttl=20s"], &[("MUSTER_CLUSTER", "prod")]);
    let out = String::from_utf8_lossy(&right.stdout);
    assert_eq!(right.status.code(), Some(0), "{out}{}", String::from_utf8_lossy(&right.stderr));
    for told in ["20s", "MUSTER_CLUSTER", "prod"] {
        assert!(out.contains(told), "`{told}` is not in: {out}");
    }
}

#[test]
fn a_file_that_is_wrong_is_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("muster.toml");
    std::fs::write(&file, "[leases]\nttl = \"15s\"\ntll = \"15s\"\n[nonsense]\nx = 1\n").expect("a file");
    let output = run(&["serve", "-c", file.to_str().expect("a path of text")], &[]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{err}");
    for told in ["muster.toml", "leases.tll", "leases.ttl", "nonsense"] {
        assert!(err.contains(told), "`{told}` is not in: {err}");
    }
}

#[test]
fn the_file_we_ship_is_right() {
    let output = run(&["check", "-c", concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/muster.toml"), "--name", "n1"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
