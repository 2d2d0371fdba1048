//! Waiting for a condition with a deadline, instead of guessing how long something takes.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until `look` answers, and gives its answer; past `limit` the test fails with what was awaited and why it is not so.
pub(crate) async fn eventually<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(answer) => return answer,
            Err(why) if begun.elapsed() > limit => panic!("not within {limit:?}: {what}: {why}"),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// `Ok` when the two are equal, else how they differ.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(left: &T, right: &T) -> Result<(), String> {
    if left == right { Ok(()) } else { Err(format!("{left:?} is not {right:?}")) }
}
