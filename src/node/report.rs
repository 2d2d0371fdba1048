//! Reports: what the registry says happened, as log lines and numbers. Names of services stand in lines, never in numbers.

use super::Shared;
use crate::model::Status;
use crate::registry::{Changed, NodeState, Notice, Now, Registry, Untaken};

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

pub(super) fn became(shared: &Shared, state: NodeState, has_reached_bus: bool) {
    if state == NodeState::Ready && !has_reached_bus {
        let node = &shared.name;
        tracing::warn!(%node, "the bus was never reached: this node takes writes, serves what it knows as incomplete, and is not ready");
        return;
    }
    tracing::info!(node = %shared.name, state = state.as_str(), "node is {}", state.as_str());
}

pub(super) fn handed_over(shared: &Shared, left: usize) {
    if left == 0 {
        tracing::info!(node = %shared.name, "no lease is left at this node to hand over");
    } else {
        tracing::warn!(node = %shared.name, left, "nobody is there to take over what this node owns");
    }
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
        Notice::OverLimit { from, limit, max, count, is_alarm } => {
            if *is_alarm {
                let told = "peers' records or overrides were not taken: more than twice what this node's limit allows; the nodes differ until \
                            some go or the limit is raised here";
                tracing::error!(%node, peer = %from, limit, max, count, "{told}");
            }
            shared.metrics.quarantined.increment(*count);
            "over_limit"
        }
        Notice::OverrideChanged { key, reason: Some(reason) } => {
            tracing::info!(%node, name = %key, %reason, "an operator overrides");
            "override_set"
        }
        Notice::OverrideChanged { key, reason: None } => {
            tracing::info!(%node, name = %key, "an override has ended");
            "override_ended"
        }
        Notice::OverrideQuarantined { from, key, why } => {
            tracing::error!(%node, peer = %from, name = %key, why, "an override was not taken");
            "override_quarantined"
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
        Notice::LogCut(life) => {
            tracing::error!(%node, peer = %life, "messages said that this peer had written more than it has; that is forgotten, and compared");
            "log_cut"
        }
        Notice::ClockAhead { from, ms } => {
            tracing::warn!(%node, peer = %from, ms, "the clock of a peer is ahead, or was when it started; stamps follow it: check the time there");
            "clock_ahead"
        }
        Notice::ForgotEarly(count) => {
            tracing::warn!(%node, count, "more withdrawn records than limits.withdrawn: the oldest were forgotten before their time");
            "forgot_early"
        }
        Notice::Incomplete => {
            tracing::warn!(%node, "no peer could give a whole copy for 30 s: ready, and lists say complete: false");
            "incomplete"
        }
        Notice::Settling { ms } => {
            let until = crate::clock::shown(shared.clock.wall() + ms);
            tracing::info!(%node, until, "nothing is known of before: lists say complete: false until every provider had its turn");
            "settling"
        }
        Notice::NotCompared { peers } => {
            let (count, first) = (peers.len(), peers.first().map(crate::model::NodeName::as_str));
            tracing::warn!(%node, count, first, "peers answer no pull, or warm, for long: not waiting for what they hold; compare with `muster diff`");
            "not_compared"
        }
        Notice::Settled => {
            tracing::info!(%node, "this node knows all that can be known");
            "settled"
        }
        Notice::SteppedDown { epoch, http } => {
            tracing::error!(
                %node,
                %epoch,
                http,
                "another node answers under this node's name, and of the two this one gives way: it takes no writes, hands over what it holds, and ends"
            );
            "stepped_down"
        }
        Notice::NotHandedOver(Untaken { count, keys }) => {
            let keys = keys.join(", ");
            tracing::error!(%node, count, keys, "written here under a name that another node has, and no node has taken it over so far");
            "not_handed_over"
        }
        Notice::PeerDead(life) => {
            tracing::warn!(%node, peer = %life, "peer is dead: silent, and does not answer directly; what it owned is taken over");
            "peer_dead"
        }
        Notice::MemberLost(member) => {
            tracing::warn!(%node, %member, "the address of a silent node has refused everybody for cluster.dead_after: it counts no more");
            "member_lost"
        }
        Notice::NodeForgotten(member) => {
            tracing::warn!(%node, %member, "an operator said that a node does not come back: it counts no more");
            "node_forgotten"
        }
        Notice::Majority { members, heard, judges: false } => {
            tracing::error!(
                %node,
                members,
                heard,
                "no majority of the members is heard: this node judges nobody, so nothing expires and nothing is taken over. \
                 Where the silent ones do not come back: muster nodes forget NAME"
            );
            "majority_lost"
        }
        Notice::Majority { members, heard, judges: true } => {
            tracing::info!(%node, members, heard, "a majority of the members is heard again: who is silent is judged");
            "majority_regained"
        }
        Notice::Paused { ms } => {
            tracing::warn!(%node, ms, "this node did not run for a while: it hears first what it missed, and nothing expires before that");
            "paused"
        }
        Notice::Reborn(epoch) => {
            tracing::warn!(%node, %epoch, "this node joins again, in a new life");
            "reborn"
        }
        Notice::Preserving { service, begins: true } => {
            let service = service.as_ref().map_or("all".to_owned(), ToString::to_string);
            tracing::error!(%node, service, "so many fell silent together that none of them is taken away: is the network out?");
            "preserving"
        }
        Notice::Preserving { service, begins: false } => {
            let service = service.as_ref().map_or("all".to_owned(), ToString::to_string);
            tracing::info!(%node, service, "self-preservation is over: who is silent now leaves");
            "preserved"
        }
        Notice::Contested(key) => {
            tracing::error!(%node, instance = %key, "its registrations alternate between two contents: two processes share this id");
            "contested"
        }
        Notice::NameTaken { epoch, http, waits: true } => {
            tracing::error!(
                %node,
                %epoch,
                http,
                "another node runs under this node's name: this one does not become ready and takes no writes until that one is gone. \
                 Give each node a name of its own (--name)"
            );
            "name_taken"
        }
        Notice::NameTaken { epoch, http, waits: false } => {
            tracing::error!(%node, %epoch, http, "another node uses this node's name: give each node its own (--name)");
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
    let majority = registry.majority(now);
    metrics.members.set(majority.members as f64);
    metrics.members_heard.set(majority.heard as f64);
    metrics.judges.set(f64::from(u8::from(majority.judges)));
    metrics.node_state(registry.state_word());
    metrics.bus_state(registry.bus().as_str());
}
