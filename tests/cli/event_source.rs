//! Streams as the libraries of other languages follow them: what they yield when they open one, when something changes, and when the node
//! they are at is gone and the next one answers under the same address.

use std::io::copy;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::cluster::{dev, stdout};
use super::tools::fetched;
use super::{Running, eventually};

/// An address behind which a node stands, and another one later: as a load balancer's.
struct Balancer {
    url: String,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    target: SocketAddr,
    open: Vec<TcpStream>,
}

impl Balancer {
    fn start(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let shared = Arc::new(Mutex::new(Shared { target: to_address(url), open: Vec::new() }));
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut shared = accepting.lock().expect("a thread that lives");
                let Ok(node) = TcpStream::connect(shared.target) else { continue };
                shared.open.push(node.try_clone().expect("a socket"));
                pass(client.try_clone().expect("a socket"), node.try_clone().expect("a socket"));
                pass(node, client);
            }
        });
        Self { url, shared }
    }

    /// Every open connection ends; further ones lead there.
    fn turn_to(&self, url: &str) {
        let mut shared = self.shared.lock().expect("a thread that lives");
        shared.target = to_address(url);
        shared.open.drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }
}

fn to_address(url: &str) -> SocketAddr {
    url.strip_prefix("http://").and_then(|address| address.parse().ok()).expect("an address")
}

/// Passes bytes on until either side is closed.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let _ = copy(&mut from, &mut to);
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
}

/// The program that follows a stream with a library.
fn follower(library: &str, url: &str) -> Running {
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sse");
    let is_python = |tools: &PathBuf| tools.join(library).is_dir();
    let is_npm = |tools: &PathBuf| tools.join("npm/node_modules").join(library).is_dir();
    let tools = fetched("sse", library, |tools| is_python(tools) || is_npm(tools));
    let mut command = if is_python(&tools) {
        let mut command = Command::new("python3");
        command.arg(format!("{scripts}/follow.py")).env("PYTHONPATH", tools.join(library)).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    } else {
        let mut command = Command::new("node");
        command.arg(format!("{scripts}/follow.mjs")).env("MUSTER_TEST_SSE", &tools);
        command
    };
    command.env("NO_PROXY", "*").args([library, url]);
    Running::spawn(command)
}

/// The events that it has yielded.
fn events(follower: &Running) -> Vec<Value> {
    follower.said().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn until_names(follower: &Running, what: &str, expected: &[&str]) -> Vec<Value> {
    eventually(what, || {
        let events = events(follower);
        let names: Vec<_> = events.iter().map(|event| event["name"].as_str().unwrap_or_default()).collect();
        if names == expected { Ok(events) } else { Err(format!("{names:?}; {}", follower.said())) }
    })
}

fn register(url: &str, id: &str) {
    stdout(&["register", "--service", "user", "--id", id, "--address", "10.0.0.7", "--port", "80", "--ttl", "none", "-s", url]);
}

/// Opens a stream, follows a change, and goes on at another node from where it was, with whatever else the library yields.
fn follows_and_resumes(library: &str) {
    let (_dev, urls) = dev(2);
    register(&urls[0], "u1");
    let balancer = Balancer::start(&urls[0]);
    let follower = follower(library, &format!("{}/v1/watch?service=user", balancer.url));
    let opened = until_names(&follower, "it opens the stream", &["snapshot", "synced"]);
    assert_eq!(opened[0]["data"].as_str().expect("text").matches("\"id\":\"u1\"").count(), 1, "{opened:?}");
    register(&urls[0], "u2");
    let changed = until_names(&follower, "it follows a change", &["snapshot", "synced", "delta"]);
    assert!(changed[2]["data"].as_str().expect("text").contains("\"id\":\"u2\"") && changed[2]["id"].is_string(), "{changed:?}");
    // Longer than the time between two comments: none of them is an event.
    std::thread::sleep(std::time::Duration::from_millis(10_500));
    balancer.turn_to(&urls[1]);
    // What it has is what the other node has: nothing is sent again.
    let resumed = ["snapshot", "synced", "delta", "unchanged", "synced"];
    until_names(&follower, "it goes on at the other node", &resumed);
    register(&urls[1], "u3");
    let events = until_names(&follower, "it follows what changes there", &[&resumed[..], &["delta"]].concat());
    assert!(events[5]["data"].as_str().expect("text").contains("\"id\":\"u3\""), "{events:?}");
}

#[test]
fn httpx_sse_follows_and_resumes() {
    follows_and_resumes("httpx-sse");
}

#[test]
fn sseclient_follows_and_resumes() {
    follows_and_resumes("sseclient");
}

#[test]
fn sseclient_py_follows_and_resumes() {
    follows_and_resumes("sseclient-py");
}

#[test]
fn eventsource_follows_and_resumes() {
    follows_and_resumes("eventsource");
}

#[test]
fn event_source_polyfill_follows_and_resumes() {
    follows_and_resumes("event-source-polyfill");
}

#[test]
fn fetch_event_source_follows_and_resumes() {
    follows_and_resumes("@microsoft/fetch-event-source");
}
