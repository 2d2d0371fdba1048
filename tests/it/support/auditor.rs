//! An auditor: asks every node over and over what it lists, and notes whoever is missing from an answer that claims to be complete.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;

use super::{Api, Request};

/// Of a node that is down or paused no answer is expected.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const ASK_EVERY: Duration = Duration::from_millis(50);
/// Of those that were missed, when a test fails.
const MISSED_SHOWN: usize = 5;

/// Asks until it is dropped.
pub(crate) struct Auditor {
    found: Arc<Mutex<Found>>,
    _tasks: JoinSet<()>,
}

/// What was answered so far.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Lists that claimed to be complete.
    pub(crate) complete: usize,
    /// Lists that said they were stale.
    pub(crate) stale: usize,
    /// Lists that claimed to be complete and were not: what was wrong.
    pub(crate) wrong: Vec<String>,
    /// Whoever was listed as anything but `up`.
    pub(crate) late: Vec<Value>,
}

impl Auditor {
    /// Asks these nodes for `service`, whose instances must be these.
    pub(crate) fn start(service: &str, ids: &[String], apis: &[Api]) -> Self {
        let found = Arc::new(Mutex::new(Found::default()));
        let ids: Arc<BTreeSet<String>> = Arc::new(ids.iter().cloned().collect());
        let list = Request::new("GET", &format!("/v1/services/{service}/instances"));
        let tasks = apis.iter().map(|api| audit(*api, list.clone(), Arc::clone(&ids), Arc::clone(&found))).collect();
        Self { found, _tasks: tasks }
    }

    pub(crate) fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().expect("what was found")
    }
}

async fn audit(api: Api, list: Request, ids: Arc<BTreeSet<String>>, found: Arc<Mutex<Found>>) {
    loop {
        if let Ok(Ok(answer)) = tokio::time::timeout(ANSWER_TIMEOUT, api.try_send(&list)).await
            && answer.status == 200
        {
            let list = answer.json();
            let mut found = found.lock().expect("what was found");
            let listed = list["instances"].as_array().into_iter().flatten();
            found.late.extend(listed.filter(|instance| instance["status"] != "up").cloned());
            found.stale += usize::from(list["stale"] == true);
            if list["complete"] == true {
                found.complete += 1;
                found.wrong.extend(missing_from(&list, &ids).map(|missing| format!("{}: {missing}", api.host)));
            }
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Who is not in a list, in words.
fn missing_from(list: &Value, ids: &BTreeSet<String>) -> Option<String> {
    let listed: BTreeSet<&str> =
        list["instances"].as_array().into_iter().flatten().filter_map(|instance| instance["id"].as_str()).collect();
    let missing: Vec<&String> = ids.iter().filter(|id| !listed.contains(id.as_str())).collect();
    let first: Vec<&&String> = missing.iter().take(MISSED_SHOWN).collect();
    (!missing.is_empty()).then(|| format!("{} of {} are missing, {first:?} first; stale: {}", missing.len(), ids.len(), list["stale"]))
}
