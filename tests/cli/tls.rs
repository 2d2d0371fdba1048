//! Over TLS: a node with a certificate of its own, clients that trust its authority, others that do not, and a certificate that is replaced.

use std::path::Path;

use super::canned::{answering, overhearing};
use super::certificates::Authority;
use super::{Running, eventually, muster};

/// A node that speaks TLS, and its address.
fn serve(cert: &Path, key: &Path) -> (Running, String) {
    let settings = [format!("http.tls.cert_file={}", cert.display()), format!("http.tls.key_file={}", key.display())];
    let args = ["serve", "--name", "n1", "--listen", "127.0.0.1:0", "--set", &settings[0], "--set", &settings[1]];
    let running = Running::start(&[&args[..], &["--set", "cluster.bootstrap_wait=0s"]].concat());
    let url = eventually("it listens", || {
        let said = running.said();
        let url = said.split_once("listening on ").and_then(|(_, rest)| rest.split_once('\n')).map(|(url, _)| url.to_owned());
        url.ok_or(said)
    });
    (running, url)
}

/// The exit code, and everything that was said.
fn ask(args: &[&str]) -> (Option<i32>, String) {
    let output = muster(args).output().expect("a muster that runs");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

#[test]
fn who_trusts_the_authority_is_served_and_a_replaced_certificate_is_shown() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (first, second) = (Authority::new(), Authority::new());
    let (first_ca, second_ca) = (first.write(folder.path(), "first"), second.write(folder.path(), "second"));
    let (cert, key) = first.write_identity(folder.path(), "node");
    let (mut node, url) = serve(&cert, &key);
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    assert!(!node.said().contains("plain HTTP"), "{}", node.said());

    let list = |ca: &Path| ask(&["instances", "user", "-o", "name", "-s", &url, "--ca", text(ca)]);
    eventually("it is ready", || match list(&first_ca) {
        (Some(0), _) => Ok(()),
        (_, said) => Err(said),
    });
    let watch = Running::start(&["watch", "user", "-s", &url, "--ca", text(&first_ca)]);
    let mut register =
        Running::start(&["register", "--service", "user", "--port", "8080", "--id", "u1", "-s", &url, "--ca", text(&first_ca)]);
    register.until("registered user u1");
    watch.until("+ u1 127.0.0.1:8080 up\n");

    let untrusting: [&[&str]; 2] = [&[], &["--ca", text(&second_ca)]];
    for trust in untrusting {
        let (code, said) = ask(&[&["services", "-s", &url], trust].concat());
        assert_eq!(code, Some(69), "{said}");
        assert!(said.contains(&url) && said.contains("certificate is not trusted") && said.contains("try: --ca"), "{said}");
    }
    let (code, said) = ask(&["services", "-s", &url.replace("https", "http")]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("https://"), "{said}");

    // A key that does not fit is what a look between two writes finds: nothing changes until both are there.
    let (_, other_key) = second.write_identity(folder.path(), "other");
    std::fs::copy(other_key, &key).expect("a file");
    node.until("the new certificate is not used");
    assert_eq!(list(&first_ca), (Some(0), "u1\n".to_owned()));
    second.write_identity(folder.path(), "node");
    eventually("the new certificate is shown", || match list(&second_ca) {
        (Some(0), said) if said == "u1\n" => Ok(()),
        (_, said) => Err(said),
    });
    assert_eq!(list(&first_ca).0, Some(69));

    // Connections from before go on.
    register.signal("INT");
    assert_eq!(register.ended().code(), Some(0), "{}", register.said());
    watch.until("- u1 127.0.0.1:8080 (deregistered)\n");
    node.signal("TERM");
    assert_eq!(node.ended().code(), Some(0), "{}", node.said());
}

#[test]
fn who_speaks_no_tls_is_told_apart() {
    let plain = answering("200 OK", "application/json", r#"{"services":[]}"#).replace("http://", "https://");
    let (code, said) = ask(&["services", "-s", &plain]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("does not speak TLS"), "{said}");
}

#[test]
fn files_that_cannot_be_used_are_named_with_their_flag() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = Authority::new();
    let ca = authority.write(folder.path(), "ca");
    let (cert, key) = authority.write_identity(folder.path(), "mine");
    let (_, other_key) = authority.write_identity(folder.path(), "other");
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "\n").expect("a file");
    let cases: [(&[&str], &str, &str); 6] = [
        (&["--ca", text(&key)], "--ca", "no certificate"),
        (&["--ca", "/nowhere"], "--ca", "No such file"),
        (&["--cert", text(&cert), "--key", text(&ca)], "--key", "no private key"),
        (&["--cert", text(&cert), "--key", text(&other_key)], "--key", "does not fit"),
        (&["--cert", text(&cert)], "--key", "required"),
        (&["--token-file", text(&empty)], "--token-file", "empty"),
    ];
    for (flags, flag, told) in cases {
        let (code, said) = ask(&[&["services", "-s", "127.0.0.1:1"], flags].concat());
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(told) && said.contains(flag), "`{told}` is not in: {said}");
    }
}

#[test]
fn a_token_says_who_calls_and_the_file_counts_for_more() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "from-file\n").expect("a file");
    let cases: [(&[&str], &str, Option<&str>); 3] = [
        (&["--token-file", text(&file)], "from-environment", Some("authorization: Bearer from-file")),
        (&[], "from-environment", Some("authorization: Bearer from-environment")),
        (&[], "", None),
    ];
    for (flags, variable, expected) in cases {
        let (server, heard) = overhearing();
        let args = [&["services", "-s", &server], flags].concat();
        muster(&args).env("MUSTER_TOKEN", variable).assert().code(0);
        let head = heard.join().expect("it was asked");
        let sent = head.lines().find(|line| line.starts_with("authorization"));
        assert_eq!(sent, expected, "{head}");
    }
    let output = muster(&["services", "-s", "127.0.0.1:1"]).env("MUSTER_TOKEN", "line\nbreak").output().expect("a muster that runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(!said.contains("break\n") && said.contains("the token cannot be sent"), "{said}");
}
