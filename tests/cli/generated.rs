//! Clients that programs make of `/v1/openapi.json`: each is made anew, and used against a node.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::cluster::dev;
use super::tools::fetched;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

/// What a program says on stdout, which must succeed.
fn said(command: &mut Command) -> String {
    let output = command.env("NO_PROXY", "*").output().expect("a program that starts");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{out}{err}");
    out
}

/// Writes the description where generators read it.
fn describe(url: &str, folder: &Path) -> PathBuf {
    let path = folder.join("openapi.json");
    let script = "import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1]).read())";
    let text = said(Command::new("python3").args(["-c", script, &format!("{url}/v1/openapi.json")]));
    std::fs::write(&path, text).expect("a file");
    path
}

fn read(line: &str) -> Value {
    serde_json::from_str(line.trim()).expect("JSON")
}

#[test]
fn a_generated_python_client_is_of_use() {
    let tools = fetched("clients", "openapi-python-client", |tools| tools.join("venv/bin/openapi-python-client").exists());
    let (_dev, urls) = dev(1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (description, package) = (describe(&urls[0], folder.path()), folder.path().join("generated"));
    let mut generate = Command::new(tools.join("venv/bin/openapi-python-client"));
    generate.args(["generate", "--meta", "none", "--fail-on-warning", "--path"]).arg(&description).arg("--output-path").arg(&package);
    // It has its formatter beside it.
    let path = std::env::join_paths([tools.join("venv/bin"), "/usr/bin".into(), "/bin".into()]).expect("a path");
    said(generate.env("PATH", path));
    let mut uses = Command::new(tools.join("venv/bin/python"));
    uses.arg(format!("{SCRIPTS}/use.py")).arg(&urls[0]).env("PYTHONPATH", folder.path());
    let expected = json!({"address": "2001:db8::1", "renewed": "up", "digests": [32, 32, 0], "statuses": [201, 201, 204], "listed": ["b0", "u1"],
        "found": ["u1"], "cause": "registered", "override": "draining", "refused": "invalid_request", "delivered": true, "gone": 204,
        "history": ["deregistered", "registered"], "services": [], "bus": "up"});
    assert_eq!(read(&said(&mut uses)), expected);
}

#[test]
fn a_generated_typescript_client_is_of_use() {
    let npm = |tools: &PathBuf, name: &str| tools.join("npm/node_modules/.bin").join(name);
    let tools = fetched("clients", "openapi-typescript", |tools| npm(tools, "openapi-typescript").exists() && npm(tools, "tsc").exists());
    let (_dev, urls) = dev(1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let in_folder = |name: &str| folder.path().join(name);
    let description = describe(&urls[0], folder.path());
    said(Command::new(npm(&tools, "openapi-typescript")).arg(&description).arg("-o").arg(in_folder("schema.d.ts")));
    std::fs::copy(format!("{SCRIPTS}/use.ts"), in_folder("use.ts")).expect("a copy");
    std::fs::write(in_folder("package.json"), r#"{"type":"module"}"#).expect("a file");
    std::os::unix::fs::symlink(tools.join("npm/node_modules"), in_folder("node_modules")).expect("a link");
    let options =
        ["--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022", "--lib", "es2023,dom,dom.iterable", "use.ts"];
    said(Command::new(npm(&tools, "tsc")).args(options).current_dir(folder.path()));
    let expected = json!({"address": "2001:db8::1", "renewed": "up", "digests": [32], "listed": ["b0", "u1"], "found": ["u1"],
        "cause": "registered", "refused": "invalid_request", "gone": 204, "registered": 2, "history": ["deregistered", "registered"],
        "bus": "up", "unused": 2});
    assert_eq!(read(&said(Command::new("node").args(["use.js", &urls[0]]).current_dir(folder.path()))), expected);
}
