//! A node whose task does not turn: no answer says that all is well, and all is well again once it turns.

use std::sync::mpsc;
use std::time::Duration;

use super::Door;
use super::watch::Stream;
use crate::node::{History, Watching};

const WATCHING: Watching = Watching { timeout: Duration::from_millis(300), exit: None, end: || unreachable!("there is no exit") };

/// Holds up the node's task: it cannot record an event while another is being looked at. It goes on when this is dropped.
struct Held {
    _release: mpsc::Sender<()>,
}

impl Held {
    fn up(history: History) -> Self {
        let (release, released) = mpsc::channel();
        let (looking, looks) = mpsc::channel();
        std::thread::spawn(move || {
            history.newest(u64::MAX, 1, |_| {
                let _ = looking.send(());
                // Ends when the other end is dropped.
                let _ = released.recv();
                true
            })
        });
        looks.recv().unwrap();
        Self { _release: release }
    }
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_whose_task_does_not_turn_says_so_everywhere_until_it_does() {
    let door = Door::open("stalled-all");
    door.app.node.watch_over(WATCHING, &door.app.shutdown).unwrap();
    let body = r#"{"address":"127.0.0.1","port":9}"#;
    let put = async |id: &str| door.put(&format!("/v1/services/user/instances/{id}"), body).await;
    assert_eq!(put("a").await.status, 201);
    let mut stream = Stream::open(&door, "service=user", None).await;
    for name in ["snapshot", "synced"] {
        stream.expect(name).await;
    }

    let held = Held::up(door.app.node.history().clone());
    put("b").await.problem(503, "stalled");
    door.get("/livez").await.problem(503, "stalled");
    door.get("/readyz").await.problem(503, "stalled");
    assert_eq!(door.get("/healthz").await.text(), "stalled\n");
    let refused = put("c").await.problem(503, "stalled");
    assert!(refused["detail"].as_str().unwrap().contains("nothing was changed"), "{refused}");
    door.post("/v1/services/user/instances/a/heartbeat", "").await.problem(503, "stalled");
    door.get("/v1/cluster").await.problem(503, "stalled");
    let list = door.get("/v1/services/user/instances").await.json();
    assert_eq!((&list["stale"], list["instances"].as_array().unwrap().len()), (&true.into(), 1));
    assert_eq!(stream.expect("notice").await.data["stale"], true);
    assert!(door.get("/metrics").await.text().contains("muster_node_stalled{node=\"stalled-all\"} 1"));

    drop(held);
    until("it lives again", async || door.get("/livez").await.status == 200).await;
    let mut events = [stream.next().await, stream.next().await];
    events.sort_by(|one, other| one.name.cmp(&other.name));
    assert_eq!([events[0].name.as_str(), events[1].name.as_str()], ["delta", "notice"]);
    assert_eq!(events[1].data["stale"], false);
    let list = door.get("/v1/services/user/instances").await.json();
    assert_eq!((&list["stale"], list["instances"].as_array().unwrap().len()), (&false.into(), 2), "what was asked last is done after all");
    assert_eq!(door.post("/v1/services/user/instances/a/heartbeat", "").await.status, 200);
    until("the number is as it was", async || door.get("/metrics").await.text().contains("muster_node_stalled{node=\"stalled-all\"} 0"))
        .await;
}
