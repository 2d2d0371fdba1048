//! What a node keeps on disk is its user's alone, whatever the umask, and leads nowhere else.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::support::{Node, eventually};

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn links_in_the_folder_lead_nowhere_and_what_was_open_is_closed() {
    let top = tempfile::tempdir().expect("a folder");
    let (folder, theirs) = (top.path().join("data"), top.path().join("theirs"));
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).expect("its mode");
    std::fs::write(&theirs, "precious").expect("a file");
    for name in ["events", "warm.new"] {
        symlink(&theirs, folder.join(name)).expect("a link");
    }
    let node = Node::start_alone_in("private", &folder).await;
    node.put("/v1/services/user/instances/a", &json!({"address": "10.0.0.7", "port": 80, "ttl": "1h"})).await.expect(201);
    eventually("the warm file is written", Duration::from_secs(10), async || {
        if folder.join("warm").exists() { Ok(()) } else { Err("it is not".into()) }
    })
    .await;
    assert_eq!(std::fs::read_to_string(&theirs).expect("theirs"), "precious");
    assert_eq!([mode(&folder), mode(&folder.join("warm")), mode(&folder.join("lock"))], [0o700, 0o600, 0o600]);
    assert!(node.log().contains("links in the node's folder are not followed"), "{}", node.log());
}
