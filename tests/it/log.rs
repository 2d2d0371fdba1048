//! A log that nobody reads, and one whose reader has gone: the node works on, and stops in order when it is asked to.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::node::muster;
use crate::support::{Api, eventually};

/// More lines than any pipe holds.
const REGISTRATIONS: usize = 400;

/// A node whose stderr nobody reads, and where it listens.
fn start(name: &str) -> (Child, Api) {
    let args = ["serve", "--name", name, "--listen", "127.0.0.1:0", "--set", "log.filter=debug"];
    let mut child = muster(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a muster that starts");
    let mut banner = BufReader::new(child.stdout.take().expect("it was piped")).lines().map_while(Result::ok);
    let host = banner.find_map(|line| line.trim().strip_prefix("listening on http://")?.parse().ok()).expect("where it listens");
    (child, Api { host })
}

/// Works it, and then stops it.
async fn works_and_stops(mut child: Child, api: Api, lost_min: u64) {
    for number in 0..REGISTRATIONS {
        let target = format!("/v1/services/user/instances/i{number}");
        let registration = json!({"address": "10.0.0.7", "port": 1000 + number, "ttl": "1h"});
        tokio::time::timeout(Duration::from_secs(10), api.put(&target, &registration)).await.expect("an answer").expect(201);
    }
    let metrics = api.get("/metrics").await.text();
    let lost =
        metrics.lines().find_map(|line| line.strip_prefix("muster_log_lines_lost_total")?.split(' ').next_back()?.parse::<u64>().ok());
    assert!(lost.is_some_and(|lost| lost >= lost_min), "{lost:?} lines are said to be lost, not {lost_min} at least");
    let id = child.id().to_string();
    let begun = Instant::now();
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().expect("kill(1)").success());
    let status = eventually("the node ends", Duration::from_secs(15), async || {
        child.try_wait().map_err(|error| error.to_string())?.ok_or_else(|| "it runs".into())
    });
    let status = status.await;
    assert!(status.success(), "{status} after {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_holds_up_nothing() {
    let (child, api) = start("unread");
    // What the pipe does not hold waits for its reader.
    works_and_stops(child, api, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_reader_has_gone_ends_nothing() {
    let (mut child, api) = start("gone");
    drop(child.stderr.take());
    works_and_stops(child, api, REGISTRATIONS as u64).await;
}
