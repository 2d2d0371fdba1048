//! Agreement of real nodes: one digest of records and one of views, said by each node of itself, and by each of all others.

use std::time::Duration;

use serde_json::Value;

use super::wait::same;
use super::{Node, eventually};

/// What a node says of all it holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Said {
    digest: Value,
    view_digest: Value,
    instances: Value,
}

impl Said {
    /// From an answer of `/v1/cluster`.
    pub(crate) fn of(cluster: &Value) -> Self {
        let own = &cluster["nodes"][0];
        Self { digest: own["digest"].clone(), view_digest: cluster["view_digest"].clone(), instances: own["instances"].clone() }
    }
}

/// All nodes come to hold `instances` records, with equal digests, and say that they agree.
pub(crate) async fn all_agree(nodes: &[Node], instances: usize, limit: Duration) {
    eventually("all nodes agree", limit, async || {
        let mut first = None;
        for node in nodes {
            let cluster = node.try_cluster().await?;
            let said = Said::of(&cluster);
            same(&said.instances, &Value::from(instances)).map_err(|why| format!("{}: {why} instances", node.name))?;
            same(&said, first.get_or_insert_with(|| said.clone())).map_err(|why| format!("{}: {why}", node.name))?;
            same(&cluster["converged"], &Value::from(true)).map_err(|_| format!("{} sees them not: {cluster}", node.name))?;
        }
        Ok(())
    })
    .await;
}
