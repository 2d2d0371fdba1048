//! Many services followed at once: a node that starts again is resumed at, names that fill no address are followed, and a refusal that
//! lasts is an error.

use std::io::Write;
use std::process::Stdio;

use super::canned::answering;
use super::cluster::stdout;
use super::{Running, eventually, muster, plain};

/// Registers a fixed address of each service at once.
fn register_all(url: &str, services: &[String]) {
    let line = |service: &String| format!(r#"{{"service":"{service}","id":"a","address":"10.0.0.7","port":80,"ttl":"none"}}"#);
    let mut command = plain(&["import", "-s", url]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a muster that starts");
    let text: String = services.iter().map(|service| line(service) + "\n").collect();
    child.stdin.take().expect("it was piped").write_all(text.as_bytes()).expect("it reads");
    assert!(child.wait().expect("it ends").success());
}

/// One node with its files in a folder, and where it listens.
fn node(listen: &str, folder: &std::path::Path) -> (Running, String) {
    let folder = folder.to_str().expect("a path");
    let node = Running::start(&["dev", "--listen", listen, "--data-dir", folder]);
    let url = eventually("it listens", || {
        let said = node.said();
        let (_, rest) = said.split_once("listening on ").ok_or_else(|| said.clone())?;
        rest.split_once('\n').map(|(url, _)| url.to_owned()).ok_or_else(|| said.clone())
    });
    eventually("it is ready", || {
        let output = muster(&["nodes", "-s", &url]).output().expect("a muster that runs");
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stdout).into_owned()) }
    });
    (node, url)
}

#[test]
fn twelve_hundred_services_are_followed_over_a_restart_of_their_node() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut first, url) = node("127.0.0.1:0", folder.path());
    let services: Vec<String> = (0..1200).map(|number| format!("a-service-with-a-name-{number}")).collect();
    register_all(&url, &services);
    let watch = Running::start(&["watch", "*", "-s", &url]);
    let lines = |sign: char| watch.said().lines().filter(|line| line.starts_with(sign)).count();
    let all_are_there = || if lines('+') == services.len() { Ok(()) } else { Err(lines('+').to_string()) };
    eventually("all are there", all_are_there);
    first.signal("TERM");
    first.ended();
    let (_second, url) = node(url.strip_prefix("http://").expect("an address"), folder.path());
    watch.until("following again at");
    stdout(&["register", "--service", "one-more", "--id", "b", "--address", "10.0.0.7", "--port", "80", "--ttl", "none", "-s", &url]);
    watch.until("one-more");
    assert_eq!((lines('+'), lines('-')), (services.len() + 1, 0), "nothing twice");
}

#[test]
fn a_thousand_of_the_longest_names_are_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_node, url) = node("127.0.0.1:0", folder.path());
    let services: Vec<String> = (0..1000).map(|number| format!("{number:x>128}")).collect();
    register_all(&url, &services[990..]);
    let mut arguments = vec!["watch", "-s", &url];
    arguments.extend(services.iter().map(String::as_str));
    let watch = Running::start(&arguments);
    let added = || watch.said().lines().filter(|line| line.starts_with('+')).count();
    eventually("those that are there are shown", || {
        if added() == 10 { Ok(()) } else { Err(watch.said()[..200.min(watch.said().len())].to_owned()) }
    });
}

#[test]
fn a_refusal_that_lasts_is_an_error() {
    let url = answering("431 Request Header Fields Too Large", "text/html", "");
    let mut watch = Running::start(&["watch", "user", "-s", &url]);
    assert_eq!(watch.ended().code(), Some(1), "{}", watch.said());
    assert!(watch.said().contains("431"), "{}", watch.said());
}
