//! Help: what this node does not reach others are asked to try. One that reaches it is believed; none that had no turn for it counts.

use super::{HELP_GRACE_MS, Look, Looking, NOT_TRIED_AGAIN_MS, Sight};
use crate::model::{InstanceKey, NodeName};
use crate::registry::probe::{Plan, ProbeOutcome};
use crate::registry::time::Mono;

/// Others that had no turn for a silent instance are asked so often again; then what this node saw is all there is.
const UNTRIED_MAX: u32 = 5;

/// What others were asked.
#[derive(Debug, Clone)]
pub(super) struct Help {
    pub(super) question: u64,
    /// How many have not answered.
    awaited: usize,
    /// One of those that have answered tried, or may never.
    is_tried: bool,
}

impl Look {
    /// One whose lease is held can wait until others have a turn; a silent one waits some times.
    fn waits_for_help(&self) -> bool {
        !self.is_of_silent() || self.untried < UNTRIED_MAX
    }
}

impl Looking {
    /// So many others are asked.
    pub(in crate::registry) fn ask_others(&mut self, key: &InstanceKey, question: u64, count: usize, timeout_ms: u64, now: Mono) {
        if let Some(look) = self.looks.get_mut(key) {
            look.help = Some(Help { question, awaited: count, is_tried: false });
            self.questions.insert(question, key.clone());
        }
        self.reschedule(key, now + timeout_ms + HELP_GRACE_MS);
    }

    /// Another has answered; says about which instance, once that decides something.
    pub(in crate::registry) fn note_help(
        &mut self,
        node: &NodeName,
        question: u64,
        outcome: &ProbeOutcome,
        plan: Plan,
        now: Mono,
    ) -> Option<InstanceKey> {
        let key = self.questions.get(&question).cloned()?;
        let look = self.looks.get_mut(&key)?;
        let help = look.help.as_mut()?;
        help.awaited = help.awaited.saturating_sub(1);
        help.is_tried |= *outcome != ProbeOutcome::NotTried;
        let (is_last, is_tried) = (help.awaited == 0, help.is_tried);
        match outcome {
            ProbeOutcome::Passed { .. } => {
                look.pass(plan, now);
                look.helper = Some(node.clone());
                (look.sight, look.is_failing) = (Sight::Answers, false);
            }
            ProbeOutcome::Refused | ProbeOutcome::Failed { .. } => {
                look.note_tried(format!("{node}: {}", outcome.to_words()).into());
                if !is_last {
                    return None;
                }
                look.give_up();
            }
            // Nobody had a turn: that says nothing of it. Others are asked once this node has tried again.
            ProbeOutcome::NotTried if is_last && !is_tried && look.waits_for_help() => {
                look.untried += 1;
                self.end_help(&key, NOT_TRIED_AGAIN_MS, now);
                return None;
            }
            ProbeOutcome::Forbidden { .. } | ProbeOutcome::NotTried if is_last => look.give_up(),
            ProbeOutcome::Forbidden { .. } | ProbeOutcome::NotTried => return None,
        }
        self.end_help(&key, plan.interval_ms, now);
        Some(key)
    }

    /// Nobody else can be asked, or nobody has answered.
    pub(in crate::registry) fn give_up(&mut self, key: &InstanceKey, plan: Plan, now: Mono) {
        if let Some(look) = self.looks.get_mut(key) {
            look.give_up();
        }
        self.end_help(key, plan.interval_ms, now);
    }

    fn end_help(&mut self, key: &InstanceKey, again_ms: u64, now: Mono) {
        if let Some(help) = self.looks.get_mut(key).and_then(|look| look.help.take()) {
            self.questions.remove(&help.question);
        }
        self.reschedule(key, now + again_ms);
    }

    /// Which instance others were asked about.
    pub(in crate::registry) fn asked_about(&self, question: u64) -> Option<&InstanceKey> {
        self.questions.get(&question)
    }
}
