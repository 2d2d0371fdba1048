//! Reports: what the registry says happened, as log lines and numbers. Names of services stand in lines, never in numbers.

use super::Shared;
use crate::model::Status;
use crate::registry::{Changed, NodeState, Notice, Now, Registry};

pub(super) fn changed(shared: &Shared, changed: &Changed) {
    if changed.own {
        shared.metrics.changed(changed.cause.as_str());
        // Only the new owner counts it, so that the sum over all nodes is how many moves there were.
        shared.metrics.ownership_moves.increment(u64::from(changed.moved));
    }
    let record = &changed.record;
    tracing::debug!(
        node = %shared.name,
        instance = %record.key,
        cause = changed.cause.as_str(),
        from = changed.from.map(Status::as_str),
        to = changed.to.map(Status::as_str),
        owner = %record.version.owner.node,
        detail = record.detail.as_deref(),
        "changed"
    );
}

pub(super) fn became(shared: &Shared, state: NodeState) {
    tracing::info!(node = %shared.name, state = state.as_str(), "node is {}", state.as_str());
}

pub(super) fn noticed(shared: &Shared, notice: &Notice) {
    let node = &shared.name;
    let kind = match notice {
        Notice::Deaf => {
            tracing::warn!(%node, "own beacons do not come back: the bus does not carry what this node says; connecting anew");
            "deaf"
        }
        Notice::Hearing => {
            tracing::info!(%node, "the bus carries what this node says");
            "hearing"
        }
        Notice::PeerAppeared(life) => {
            tracing::info!(%node, peer = %life, "peer appeared");
            "peer_appeared"
        }
        Notice::PeerSilent(peer) => {
            tracing::warn!(%node, %peer, "peer is silent: heartbeats for what it owns are taken here");
            "peer_silent"
        }
        Notice::PeerLeft(peer) => {
            tracing::info!(%node, %peer, "peer leaves");
            "peer_left"
        }
        Notice::Quarantined { from, key, why } => {
            tracing::error!(%node, peer = %from, instance = %key, why, "a record was not taken");
            shared.metrics.quarantined.increment(1);
            "quarantined"
        }
        Notice::Pulled { from, kind } => {
            tracing::debug!(%node, peer = %from, kind, "pulling what is lacked");
            shared.metrics.pulled(kind);
            match *kind {
                "changes" => "pulled_changes",
                "copy" => "pulled_copy",
                _ => "pulled_buckets",
            }
        }
        Notice::Repaired { from, kind, records } => {
            tracing::debug!(%node, peer = %from, kind, records, "pulled records that were lacked");
            shared.metrics.repaired(kind, *records as u64);
            "repaired"
        }
        Notice::StillDiffers(peer) => {
            tracing::warn!(%node, %peer, "three comparisons brought nothing, and the digests still differ; the next ones wait");
            "still_differs"
        }
        Notice::ForgotEarly(count) => {
            tracing::warn!(%node, count, "more withdrawn records than limits.withdrawn: the oldest were forgotten before their time");
            "forgot_early"
        }
        Notice::Incomplete => {
            tracing::warn!(%node, "no peer could give a whole copy for 30 s: ready, and lists say complete: false");
            "incomplete"
        }
        Notice::NameTaken(epoch) => {
            tracing::error!(%node, %epoch, "another node uses this node's name: give each node its own (--name)");
            "name_taken"
        }
    };
    shared.metrics.noticed(kind);
}

pub(super) fn gauges(shared: &Shared, registry: &Registry, now: Now) {
    let catalog = registry.catalog();
    let metrics = &shared.metrics;
    metrics.instances.set(catalog.instance_count() as f64);
    metrics.services.set(catalog.service_count() as f64);
    metrics.records.set(registry.record_count() as f64);
    metrics.withdrawn.set(registry.withdrawn_count() as f64);
    metrics.leases.set(registry.lease_count() as f64);
    metrics.preserved_instances.set(catalog.preserved_count() as f64);
    metrics.preserved_services.set(catalog.preserved_service_count() as f64);
    metrics.diverged_seconds.set(registry.diverged_ms(now).unwrap_or(0) as f64 / 1000.0);
    metrics.diverged_services.set(registry.diverged_services(now) as f64);
    metrics.node_state(registry.state_word());
    metrics.bus_state(registry.bus().as_str());
}
