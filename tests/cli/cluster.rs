//! The verbs together, against real nodes: what the five-minute tour does, and how each of them ends.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use super::canned::nobody;
use super::{Running, eventually, muster, plain};

/// `dev` with some nodes on free ports, and where they listen.
pub(crate) fn dev(nodes: usize) -> (Running, Vec<String>) {
    let running = Running::start(&["dev", "--nodes", &nodes.to_string(), "--listen", "127.0.0.1:0"]);
    let urls = eventually("all nodes listen", || {
        let said = running.said();
        let urls: Vec<_> =
            said.split("listening on ").skip(1).filter_map(|rest| rest.split_once('\n')).map(|(url, _)| url.to_owned()).collect();
        if urls.len() == nodes { Ok(urls) } else { Err(said) }
    });
    eventually("they have converged", || {
        let output = muster(&["nodes", "-s", &urls[0]]).output().expect("a muster that runs");
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stdout).into_owned()) }
    });
    (running, urls)
}

pub(crate) fn stdout(args: &[&str]) -> String {
    String::from_utf8(muster(args).assert().code(0).get_output().stdout.clone()).expect("text")
}

#[test]
fn what_is_registered_at_one_node_is_seen_at_another_until_it_is_taken_away() {
    let (mut dev, urls) = dev(3);
    let mut watch = Running::start(&["watch", "user", "-s", &urls[2]]);
    let mut register =
        Running::start(&["register", "--service", "user", "--port", "8080", "--id", "u1", "--zone", "eu-a", "--ttl", "3s", "-s", &urls[0]]);
    register.until("registered user u1");
    watch.until("+ u1 127.0.0.1:8080 up\n");

    let list = stdout(&["instances", "user", "-s", &urls[1]]);
    let row: Vec<_> = list.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!(row, ["u1", "127.0.0.1:8080", "up", "100", "eu-a"], "{list}");
    assert_eq!(stdout(&["instances", "user", "--zone", "us", "-o", "name", "-s", &urls[1]]), "");
    assert_eq!(stdout(&["instances", "-o", "name", "-s", &urls[1]]), "u1\n");
    assert_eq!(stdout(&["services", "-o", "name", "-s", &urls[1]]), "user\n");
    let body: serde_json::Value = serde_json::from_str(&stdout(&["instances", "user", "-o", "json", "-s", &urls[2]])).expect("JSON");
    assert_eq!((&body["service"], &body["instances"][0]["id"]), (&"user".into(), &"u1".into()));

    // Longer than its ttl: heartbeats hold it.
    std::thread::sleep(std::time::Duration::from_millis(3500));
    assert!(!watch.said().contains("suspect"), "{}", watch.said());

    register.signal("INT");
    assert_eq!(register.ended().code(), Some(0));
    assert!(register.said().contains("deregistered user u1"), "{}", register.said());
    watch.until("- u1 127.0.0.1:8080 (deregistered)\n");

    dev.signal("TERM");
    assert_eq!(dev.ended().code(), Some(0), "{}", dev.said());
    watch.until("trying on");
    watch.signal("INT");
    assert_eq!(watch.ended().code(), Some(0));
}

#[test]
fn an_unknown_service_is_empty_and_an_unknown_instance_already_gone() {
    let (_dev, urls) = dev(1);
    let said = |args: &[&str]| {
        let output = muster(&[args, &["-s", &urls[0]]].concat()).assert().code(0).get_output().clone();
        (String::from_utf8(output.stdout).expect("text"), String::from_utf8(output.stderr).expect("text"))
    };
    let (out, err) = said(&["instances", "nobody", "-o", "name"]);
    assert!(out.is_empty() && err == "no instance of nobody is listed in namespace default\n", "{out}{err}");
    let (out, err) = said(&["deregister", "nobody", "x"]);
    assert!(out.is_empty() && err == "nobody x is not registered in namespace default: there was nothing to deregister\n", "{out}{err}");
    said(&["register", "--service", "user", "--id", "u1", "--port", "80", "--ttl", "none"]);
    let (_, err) = said(&["instances", "usr"]);
    assert_eq!(err, "no instance of usr is listed in namespace default; did you mean user?\n");
    assert_eq!(said(&["instances", "user", "--zone", "a"]).1, "no instance of user matches\n");
    assert_eq!(said(&["deregister", "user", "u1"]), ("deregistered user u1\n".to_owned(), String::new()));
}

#[test]
fn a_registration_may_stand_in_a_file_with_options_over_it() {
    let (_dev, urls) = dev(1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("instance.json");
    let body = r#"{"service":"pay","id":"p1","address":"10.0.0.7","port":80,"tags":["a"],"metadata":{"v":"1"}}"#;
    let body = format!("\u{feff}{body}");
    std::fs::write(&file, body).expect("a file");
    let path = file.to_str().expect("a path of text");
    let register = Running::start(&["register", "-f", path, "--port", "81", "--port", "grpc=90", "--tag", "b", "-s", &urls[0]]);
    register.until("registered pay p1");
    let list: serde_json::Value = serde_json::from_str(&stdout(&["instances", "pay", "-o", "json", "-s", &urls[0]])).expect("JSON");
    let expected = serde_json::json!({"id":"p1","address":"10.0.0.7","port":81,"ports":{"grpc":90},"status":"up","weight":100,
        "tags":["a","b"],"metadata":{"v":"1"}});
    assert_eq!(list["instances"], serde_json::json!([expected]));

    std::fs::write(&file, r#"{"service":"pay","prot":80}"#).expect("a file");
    muster(&["register", "-f", path, "--port", "81", "-s", &urls[0]]).assert().code(2);
}

#[test]
fn a_command_runs_with_the_list_whenever_it_has_changed() {
    let (_dev, urls) = dev(1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let seen = folder.path().join("seen");
    let command = format!("cat > {0}.new && mv {0}.new {0}", seen.display());
    let _watch = Running::start(&["watch", "user", "--exec", &command, "-s", &urls[0]]);
    let ids = || -> Result<Vec<String>, String> {
        let text = std::fs::read_to_string(&seen).map_err(|error| error.to_string())?;
        let list: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        Ok(list["instances"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|instance| instance["id"].as_str().unwrap_or_default().to_owned())
            .collect())
    };
    let same = |expected: &[&str]| ids().and_then(|ids| if ids == expected { Ok(()) } else { Err(format!("{ids:?}")) });
    eventually("it ran for what is there at first", || same(&[]));
    let _one = Running::start(&["register", "--service", "user", "--port", "1", "--id", "u1", "-s", &urls[0]]);
    let two = Running::start(&["register", "--service", "user", "--port", "2", "--id", "u2", "-s", &urls[0]]);
    eventually("it ran for both", || same(&["u1", "u2"]));
    two.signal("INT");
    eventually("it ran for the one that is left", || same(&["u1"]));
}

#[test]
fn a_fixed_address_is_registered_and_left() {
    let (_dev, urls) = dev(1);
    let fixed = ["register", "--service", "db", "--port", "5432", "--id", "d1", "--ttl", "none", "-s", &urls[0]];
    let mut register = Running::start(&fixed);
    register.until("it stays until `muster deregister db d1`");
    assert!(register.ended().success());
    assert_eq!(stdout(&["instances", "db", "-o", "name", "-s", &urls[0]]), "d1\n");
    stdout(&["deregister", "db", "d1", "-s", &urls[0]]);
    assert_eq!(stdout(&["instances", "db", "-o", "name", "-s", &urls[0]]), "");
}

#[test]
fn what_an_operator_overrides_at_one_node_holds_at_another_until_it_is_deleted() {
    let (_dev, urls) = dev(2);
    let register = Running::start(&["register", "--service", "user", "--port", "8080", "--id", "u1", "-s", &urls[0]]);
    register.until("registered user u1");
    let row = |url: &str| -> Vec<String> {
        let list = stdout(&["instances", "user", "-s", url]);
        list.lines().nth(1).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    let is = |url: &str, status: &str, weight: &str| {
        let row = row(url);
        if row.get(2..4).is_some_and(|told| told == [status, weight]) { Ok(()) } else { Err(format!("{row:?}")) }
    };
    eventually("the other node lists it", || is(&urls[1], "up", "100"));
    let set = ["override", "set", "deploy-42", "--service", "user", "--status", "draining", "--reason", "disk swap", "--expires-in", "2h"];
    let said = stdout(&[&set[..], &["-s", &urls[1]]].concat());
    assert_eq!(said, "override deploy-42 is set: status=draining on 1 instance now\n");
    eventually("it holds at both", || is(&urls[0], "draining", "0").and_then(|()| is(&urls[1], "draining", "0")));
    let list = stdout(&["override", "list", "-s", &urls[0]]);
    let row: Vec<_> = list.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!(row[..4], ["deploy-42", "user", "status=draining", "1"], "{list}");
    assert_eq!(stdout(&["override", "list", "-o", "name", "-A", "-s", &urls[0]]), "deploy-42\n");
    assert_eq!(stdout(&["override", "delete", "deploy-42", "-s", &urls[0]]), "override deploy-42 is deleted\n");
    eventually("it is over at both", || is(&urls[0], "up", "100").and_then(|()| is(&urls[1], "up", "100")));
    muster(&["override", "delete", "deploy-42", "-s", &urls[0]]).assert().code(3);
}

#[test]
fn a_lease_is_won_back_from_a_registry_that_lost_it() {
    for (more, again) in [(None, "held by a new connection"), (Some("--heartbeats"), "registered again")] {
        is_won_back(more, again);
    }
}

fn is_won_back(more: Option<&str>, again: &str) {
    let address = nobody().to_string();
    let url = format!("http://{address}");
    let mut first = Running::start(&["dev", "--listen", &address]);
    first.until("listening on");
    let register = ["register", "--service", "user", "--port", "8080", "--id", "u1", "--ttl", "2s", "-s", &url];
    let register = Running::start(&register.into_iter().chain(more).collect::<Vec<_>>());
    register.until("registered user u1");
    first.signal("KILL");
    first.ended();
    register.until("it could not be renewed");
    let second = Running::start(&["dev", "--listen", &address]);
    second.until("listening on");
    register.until(again);
    assert_eq!(stdout(&["instances", "user", "-o", "name", "-s", &url]), "u1\n");
}

#[test]
fn a_node_that_hangs_is_left_for_another_within_the_ttl() {
    let ((first, first_urls), (_second, second_urls)) = (dev(1), dev(1));
    let servers = format!("{},{}", first_urls[0], second_urls[0]);
    let register =
        Running::start(&["register", "--service", "user", "--port", "8080", "--id", "u1", "--ttl", "3s", "-s", &servers, "--heartbeats"]);
    register.until("registered user u1");
    first.signal("STOP");
    let begun = std::time::Instant::now();
    register.until("registered again");
    assert!(begun.elapsed() < std::time::Duration::from_secs(3), "its lease would have run out: {:?}", begun.elapsed());
    assert_eq!(stdout(&["instances", "user", "-o", "name", "-s", &servers.rsplit(',').collect::<Vec<_>>().join(",")]), "u1\n");
    first.signal("CONT");
}

#[test]
fn a_port_that_is_taken_is_told_with_what_to_do() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = holder.local_addr().expect("it is bound").to_string();
    for verb in ["serve", "dev"] {
        let output = muster(&[verb, "--listen", &address]).output().expect("a muster that runs");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{err}");
        assert!(err.contains(&address) && err.contains("--listen"), "{err}");
    }
}

#[test]
fn a_registration_whose_words_nobody_reads_is_held_and_taken_away_all_the_same() {
    let (_dev, urls) = dev(1);
    let mut child = plain(&["register", "--service", "user", "--port", "1", "--id", "u1", "-s", &urls[0]])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a muster that starts");
    drop(child.stdout.take());
    let list = || stdout(&["instances", "user", "-o", "name", "-s", &urls[0]]);
    eventually("it is registered", || if list() == "u1\n" { Ok(()) } else { Err(list()) });
    let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(child.wait().expect("it ends").success());
    assert_eq!(list(), "");
}

#[test]
fn serve_says_what_is_open_and_stops_when_asked() {
    let mut serve = Running::start(&["serve", "--name", "alone", "--listen", "127.0.0.1:0"]);
    serve.until("listening on http://127.0.0.1:");
    for told in ["node alone of cluster muster", "bus: none", "data: in memory", "not secured:"] {
        assert!(serve.said().contains(told), "`{told}` is not in: {}", serve.said());
    }
    serve.signal("TERM");
    assert_eq!(serve.ended().code(), Some(0), "{}", serve.said());
}
