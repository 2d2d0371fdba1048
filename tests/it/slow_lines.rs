//! Long and thin lines to the bus: a node behind one joins, is not ready before it has all, and is sent little twice.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::slow_line::SlowLine;
use crate::support::wait::same;
use crate::support::{Nats, Node, Request, eventually};

const SERVICES: usize = 20;
const BATCH: usize = 1000;
/// Not to be awaited by a busy machine: only a node that never joins is meant to run into it.
const JOIN_TIMEOUT: Duration = Duration::from_mins(4);

/// What joining took.
struct Joined {
    took: Duration,
    bytes: u64,
}

/// Two nodes, the second behind such a line; it starts when the first has `count` instances.
async fn join(cluster: &str, count: usize, delay_ms: u64, bytes_a_second: Option<u64>) -> Joined {
    let nats = Nats::start(1).await;
    let first = Node::start("n1", cluster, &nats.urls(), &[]).await;
    first.ready().await;
    let register = |number: usize| {
        let target = (format!("s{}", number % SERVICES), format!("i{number}"));
        json!({"op": "register", "service": target.0, "id": target.1, "address": format!("10.1.{}.{}", number / 250 % 250, number % 250 + 1),
               "port": 1024 + number % 60_000, "ttl": "1h"})
    };
    for from in (0..count).step_by(BATCH) {
        let ops: Vec<_> = (from..count.min(from + BATCH)).map(register).collect();
        first.post("/v1/batch", &json!({ "ops": ops })).await.expect(200);
    }
    let line = SlowLine::before(&nats.urls(), Duration::from_millis(delay_ms), bytes_a_second).await;
    let began = Instant::now();
    let second = Node::start("n2", cluster, &line.url(), &[]).await;
    eventually("the node behind the line is ready", JOIN_TIMEOUT, async || match second.try_send(&Request::new("GET", "/readyz")).await {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(answer.text()),
        Err(error) => Err(error.to_string()),
    })
    .await;
    let joined = Joined { took: began.elapsed(), bytes: line.bytes_in() };
    let mut listed = 0;
    for service in 0..SERVICES {
        let answer = second.get(&format!("/v1/services/s{service}/instances")).await.expect(200);
        same(&answer["complete"], &json!(true)).expect("a node that is ready knows all");
        listed += answer["instances"].as_array().map_or(0, Vec::len);
    }
    assert_eq!(listed, count, "instances listed by a node that has just become ready");
    println!(
        "{count} instances, {delay_ms} ms one way, {bytes_a_second:?} bytes a second: ready after {:?}, {} bytes in",
        joined.took, joined.bytes
    );
    joined
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_where_every_answer_takes_more_than_a_second() {
    join("slow-long", 3000, 600, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_over_a_thin_line_and_is_sent_little_twice() {
    let joined = join("slow-thin", 3000, 20, Some(40_000)).await;
    // A record of these takes some 130 bytes; beacons and the digests of buckets come with them.
    assert!(joined.bytes < 3 * 3000 * 130, "{} bytes came", joined.bytes);
}

/// As it was found: `SLOW_LINE="150000 150 0" tests/run it --ignored what_a_slow_line_costs` is 150,000 instances at 300 ms there and back.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, of minutes"]
async fn what_a_slow_line_costs() {
    let text = std::env::var("SLOW_LINE").unwrap_or_else(|_| "50000 20 250000".to_owned());
    let numbers: Vec<u64> = text.split(' ').map(|number| number.parse().expect("instances, ms one way, bytes a second or 0")).collect();
    join("slow-measured", numbers[0] as usize, numbers[1], Some(numbers[2]).filter(|rate| *rate > 0)).await;
}
