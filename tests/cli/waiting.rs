//! `wait`: it ends when there are enough, and says what is there when there are not.

use super::cluster::dev;
use super::{Running, muster};

fn wait(args: &[&str]) -> (Option<i32>, String, String) {
    let output = muster(&[&["wait"], args].concat()).output().expect("a muster that runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn it_ends_when_there_are_enough_and_says_what_is_there_when_there_are_not() {
    let (_dev, urls) = dev(1);
    let url = urls[0].as_str();
    let waits = Running::start(&["wait", "user", "--usable", "2", "-s", url]);
    let register = |id: &str, weight: &str| {
        let register = Running::start(&["register", "--service", "user", "--port", "1", "--id", id, "--weight", weight, "-s", url]);
        register.until(&format!("registered user {id}"));
        register
    };
    let _first = register("u1", "100");
    let _none = register("u2", "0");
    let (code, out, err) = wait(&["user", "--usable", "2", "--timeout", "300ms", "-s", url]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("user: 1 of 2 usable (2 up) after 300ms"), "{err}");
    let _second = register("u3", "1");
    waits.until("user: 2 usable");
    assert_eq!(wait(&["user", "-s", url]), (Some(0), "user: 2 usable\n".to_owned(), String::new()));
}

#[test]
fn it_goes_on_trying_while_no_node_is_there_and_says_so_in_the_end() {
    let (code, out, err) = wait(&["user", "--timeout", "300ms", "-s", "http://127.0.0.1:1"]);
    assert_eq!((code, out.as_str()), (Some(69), ""), "{err}");
    let (code, _, err) = wait(&["user", "--timeout", "soon"]);
    assert_eq!(code, Some(2), "{err}");
}
