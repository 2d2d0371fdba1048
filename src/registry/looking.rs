//! Looking: which instances this node looks at, when each is tried next, and what the tries have brought so far. What follows from it is
//! `sight`'s.
//!
//! A late instance is tried three times, 200 ms apart, then after 1, 2 and 4 s; one that answers, or does not, again at its check's
//! interval. Where every try fails other nodes are asked to try: they may reach it when this one cannot.

mod flapping;
mod help;
mod tried;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::io::Ticket;
use super::probe::{Plan, ProbeOutcome};
use super::probe_budget::{Budget, Kind};
use super::rng::Rng;
use super::settings::ProbeLimits;
use super::time::Mono;
use super::turns::Turns;
use crate::model::{InstanceKey, NodeName};

/// After the first, second, … failure in a row the next try comes so much later; after the last of them others are asked.
const BURST_MS: [u64; 5] = [200, 200, 1000, 2000, 4000];
/// After so many failures in a row one that answered is not believed any more.
const DOUBT: u32 = 3;
/// So many refusals in a row are evidence that the process is gone.
pub(super) const REFUSALS: u32 = 3;
/// What could not be tried is tried again after this long, and up to as much more.
const NOT_TRIED_AGAIN_MS: u64 = 500;
/// An answer that the shell owes for longer than its timeout and this is not waited for any more.
const ANSWER_GRACE_MS: u64 = 5000;
/// How long others may take longer than a try.
const HELP_GRACE_MS: u64 = 1000;
/// The first look at one that has just been registered comes within its interval, and within this.
const FIRST_LOOK_MS: u64 = 10_000;
/// How many probes may be on their way for other nodes; one more is answered that it was not tried.
pub(super) const ERRANDS_MAX: usize = 1024;

/// The instances that are looked at: at most as many as there are leases.
pub(super) struct Looking {
    looks: BTreeMap<InstanceKey, Look>,
    due: BTreeSet<(Mono, InstanceKey)>,
    /// Those that were due, and wait for their turns, by [`Kind`].
    turns: [Turns; 2],
    last_place: u64,
    budget: Budget,
    /// Probes on their way.
    errands: BTreeMap<Ticket, (Errand, Kind)>,
    /// How many of them are other nodes'.
    for_others: usize,
    /// Which instances others were asked about.
    questions: BTreeMap<u64, InstanceKey>,
    last_ticket: Ticket,
}

/// What a probe is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Errand {
    /// This node's own look.
    Own(InstanceKey),
    /// Another node asked.
    Peer {
        /// Which.
        node: NodeName,
        /// Its question.
        question: u64,
    },
    /// Nobody wants to know any more: what is on its way counts until it has come.
    Over,
}

/// What is to be done about an instance that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Try it.
    Try,
    /// The others have not answered in time.
    NoHelp,
}

/// Why an instance is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// Its check says so; its lease is held.
    Watch,
    /// Its provider is silent: quickly.
    Burst,
    /// It is silent, and known to answer or not to.
    Rest,
}

/// What is believed of an instance that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// Not known yet.
    Open,
    /// It answers.
    Answers,
    /// It does not, and nobody else reaches it either.
    Fails,
    /// It cannot be looked at: silence is the only evidence.
    Blind,
}

/// What a try changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing yet.
    Waits,
    /// Another node may see more.
    NeedsHelp,
    /// Something is to be decided.
    Seen,
}

/// How one instance is looked at.
#[derive(Debug, Clone)]
pub(super) struct Look {
    mood: Mood,
    pub(super) sight: Sight,
    /// When it is tried next, or what is awaited is given up.
    due: Mono,
    /// Its place among those that wait for their turns.
    waits: Option<(u64, Kind)>,
    /// The probe that is on its way.
    asked: Option<Ticket>,
    /// Others were asked.
    help: Option<help::Help>,
    /// So often in a row none of those asked had a turn for it.
    untried: u32,
    /// Who reached it when this node could not.
    pub(super) helper: Option<NodeName>,
    /// Its check failed while its lease was held: heartbeats do not make it well.
    pub(super) is_failing: bool,
    pub(super) failures: u32,
    pub(super) successes: u32,
    refusals: u32,
    /// What the failures in a row were, each with how often.
    tried: Vec<(Arc<str>, u32)>,
    pub(super) last: Option<(Mono, ProbeOutcome)>,
    penalty: u64,
    penalty_at: Mono,
}

impl Look {
    fn new(mood: Mood, due: Mono) -> Self {
        Self {
            mood,
            sight: Sight::Open,
            due,
            waits: None,
            asked: None,
            help: None,
            untried: 0,
            helper: None,
            is_failing: false,
            failures: 0,
            successes: 0,
            refusals: 0,
            tried: Vec::new(),
            last: None,
            penalty: 0,
            penalty_at: due,
        }
    }

    fn kind(&self) -> Kind {
        if self.is_of_silent() && self.sight != Sight::Fails { Kind::Pressing } else { Kind::Watched }
    }

    pub(super) fn is_of_silent(&self) -> bool {
        self.mood != Mood::Watch
    }

    /// Again and again its machine said that nobody listens there.
    pub(super) fn is_refused(&self) -> bool {
        self.sight == Sight::Fails && self.refusals >= REFUSALS
    }

    /// Takes what a try brought, and says when the next comes.
    fn take(&mut self, outcome: &ProbeOutcome, plan: Plan, now: Mono, rng: &mut Rng) -> (Turn, u64) {
        let later = plan.interval_ms;
        if *outcome != ProbeOutcome::NotTried {
            self.last = Some((now, outcome.clone()));
        }
        match outcome {
            ProbeOutcome::NotTried => (Turn::Waits, NOT_TRIED_AGAIN_MS + rng.below(NOT_TRIED_AGAIN_MS)),
            ProbeOutcome::Forbidden { .. } if !self.is_of_silent() || self.sight == Sight::Blind => (Turn::Waits, later),
            ProbeOutcome::Forbidden { .. } => {
                (self.mood, self.sight) = (Mood::Rest, Sight::Blind);
                (Turn::Seen, later)
            }
            ProbeOutcome::Passed { .. } => (self.pass(plan, now), later),
            ProbeOutcome::Refused | ProbeOutcome::Failed { .. } => self.fail(outcome, plan),
        }
    }

    fn pass(&mut self, plan: Plan, now: Mono) -> Turn {
        self.successes += 1;
        (self.failures, self.refusals, self.untried, self.helper) = (0, 0, 0, None);
        self.tried.clear();
        let is_enough = match self.mood {
            Mood::Watch => self.sight != Sight::Fails || (self.successes >= plan.successes && self.is_calm(now)),
            Mood::Burst | Mood::Rest => {
                self.mood = Mood::Rest;
                true
            }
        };
        if !is_enough {
            return Turn::Waits;
        }
        // One that has flapped is looked at anew each time: it may be calm by now.
        let is_news = self.sight != Sight::Answers || self.is_flapping();
        (self.sight, self.is_failing) = (Sight::Answers, false);
        if is_news { Turn::Seen } else { Turn::Waits }
    }

    fn fail(&mut self, outcome: &ProbeOutcome, plan: Plan) -> (Turn, u64) {
        self.failures += 1;
        self.successes = 0;
        self.refusals = if *outcome == ProbeOutcome::Refused { self.refusals + 1 } else { 0 };
        self.note_tried(outcome.to_words());
        let burst = |failures: u32| BURST_MS.get(failures as usize - 1).copied();
        match self.mood {
            Mood::Watch | Mood::Rest if self.helper.is_some() => (Turn::NeedsHelp, 0),
            Mood::Watch if self.sight != Sight::Fails && self.failures >= plan.failures => (Turn::NeedsHelp, 0),
            Mood::Watch => (Turn::Waits, plan.interval_ms),
            Mood::Rest if self.sight == Sight::Answers => {
                self.mood = Mood::Burst;
                self.failures = 1;
                (Turn::Waits, BURST_MS[0])
            }
            Mood::Rest => {
                let is_evidence = self.refusals == REFUSALS;
                (if is_evidence { Turn::Seen } else { Turn::Waits }, plan.interval_ms)
            }
            Mood::Burst => match burst(self.failures) {
                Some(ms) if self.failures == DOUBT && self.sight == Sight::Answers => {
                    self.sight = Sight::Open;
                    (Turn::Seen, ms)
                }
                Some(ms) => (Turn::Waits, ms),
                None => (Turn::NeedsHelp, 0),
            },
        }
    }

    /// Nobody reaches it.
    fn give_up(&mut self) {
        self.untried = 0;
        self.sight = Sight::Fails;
        self.helper = None;
        if self.is_of_silent() {
            self.mood = Mood::Rest;
        } else {
            self.is_failing = true;
        }
    }
}

impl Looking {
    pub(super) fn new(limits: ProbeLimits) -> Self {
        Self {
            looks: BTreeMap::new(),
            due: BTreeSet::new(),
            turns: Default::default(),
            last_place: 0,
            budget: Budget::new(limits),
            errands: BTreeMap::new(),
            for_others: 0,
            questions: BTreeMap::new(),
            last_ticket: 0,
        }
    }

    pub(super) fn get(&self, key: &InstanceKey) -> Option<&Look> {
        self.looks.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &InstanceKey) -> Option<&mut Look> {
        self.looks.get_mut(key)
    }

    pub(super) fn next_due(&self) -> Option<Mono> {
        let turn =
            Kind::ALL.into_iter().filter(|kind| !self.turns[*kind as usize].is_empty()).filter_map(|kind| self.budget.next_begin(kind));
        self.due.first().map(|(due, _)| *due).into_iter().chain(turn).min()
    }

    /// Its lease is held from `at` on: it is looked at if its check says so, now and then.
    pub(super) fn watch(&mut self, key: &InstanceKey, plan: Option<Plan>, at: Mono, rng: &mut Rng) {
        let former = self.end(key);
        let Some(plan) = plan.filter(|plan| plan.is_declared) else { return };
        let mut look = Look::new(Mood::Watch, at + rng.below(plan.interval_ms.min(FIRST_LOOK_MS)));
        if let Some(former) = former {
            // What was seen of it holds on: heartbeats say nothing of its check.
            if former.is_failing {
                (look.is_failing, look.sight, look.tried) = (true, Sight::Fails, former.tried);
            }
            (look.penalty, look.penalty_at, look.last) = (former.penalty, former.penalty_at, former.last);
        }
        self.begin(key, look);
    }

    /// Its provider is silent: it is looked at from `at` on. What is known of it already stays so.
    pub(super) fn begin_silent(&mut self, key: &InstanceKey, plan: Option<Plan>, known: Sight, at: Mono, rng: &mut Rng) {
        let former = self.end(key);
        if plan.is_none() {
            return;
        }
        let mood = if known == Sight::Open { Mood::Burst } else { Mood::Rest };
        let mut look = Look { sight: known, ..Look::new(mood, at + rng.below(BURST_MS[0])) };
        if let Some(former) = former {
            (look.is_failing, look.last) = (former.is_failing, former.last);
            (look.penalty, look.penalty_at) = (former.penalty, former.penalty_at);
            if look.is_failing {
                (look.mood, look.sight, look.tried, look.refusals) = (Mood::Rest, Sight::Fails, former.tried, former.refusals);
            }
        }
        self.begin(key, look);
    }

    fn begin(&mut self, key: &InstanceKey, look: Look) {
        self.due.insert((look.due, key.clone()));
        self.looks.insert(key.clone(), look);
    }

    /// It is not looked at any more. What is on its way comes to nobody.
    pub(super) fn end(&mut self, key: &InstanceKey) -> Option<Look> {
        let look = self.looks.remove(key)?;
        self.due.remove(&(look.due, key.clone()));
        if let Some((place, kind)) = look.waits {
            self.turns[kind as usize].remove(place, key);
        }
        if let Some((errand, _)) = look.asked.and_then(|ticket| self.errands.get_mut(&ticket)) {
            *errand = Errand::Over;
        }
        if let Some(help) = &look.help {
            self.questions.remove(&help.question);
        }
        Some(look)
    }

    pub(super) fn reschedule(&mut self, key: &InstanceKey, due: Mono) {
        let Some(look) = self.looks.get_mut(key) else { return };
        self.due.remove(&(std::mem::replace(&mut look.due, due), key.clone()));
        if let Some((place, kind)) = look.waits.take() {
            self.turns[kind as usize].remove(place, key);
        }
        self.due.insert((due, key.clone()));
    }

    /// The next instance that is due.
    pub(super) fn take_due(&mut self, now: Mono) -> Option<(InstanceKey, Due)> {
        let (_, key) = self.due.first().filter(|(due, _)| *due <= now).cloned()?;
        let look = self.looks.get_mut(&key)?;
        let due = if look.help.is_some() { Due::NoHelp } else { Due::Try };
        // The shell has not answered: as if it had not tried.
        if let Some(ticket) = look.asked.take() {
            self.take_errand(ticket);
        }
        Some((key, due))
    }

    /// An instance that is due waits for its turn.
    pub(super) fn wait(&mut self, key: &InstanceKey) {
        let Some(look) = self.looks.get_mut(key) else { return };
        let kind = look.kind();
        self.last_place += 1;
        self.due.remove(&(look.due, key.clone()));
        look.waits = Some((self.last_place, kind));
        self.turns[kind as usize].insert(self.last_place, key.clone());
    }

    /// Whoever's turn it is, while there may be one more probe: the silent ones first.
    pub(super) fn take_turn(&mut self, now: Mono) -> Option<InstanceKey> {
        let kind = Kind::ALL.into_iter().find(|kind| !self.turns[*kind as usize].is_empty() && self.budget.may_begin(*kind, now))?;
        self.turns[kind as usize].next()
    }

    /// A probe goes out for this node's own look.
    pub(super) fn try_now(&mut self, key: &InstanceKey, timeout_ms: u64, now: Mono) -> Ticket {
        let ticket = self.next_ticket();
        if let Some(look) = self.looks.get_mut(key) {
            let kind = look.waits.take().map_or(Kind::Watched, |(_, kind)| kind);
            look.asked = Some(ticket);
            self.begin_errand(ticket, Errand::Own(key.clone()), kind, now);
        }
        self.reschedule(key, now + timeout_ms + ANSWER_GRACE_MS);
        ticket
    }

    /// A probe goes out for another node; `None`: there are too many.
    pub(super) fn try_for(&mut self, node: NodeName, question: u64, now: Mono) -> Option<Ticket> {
        if self.for_others >= ERRANDS_MAX || !self.budget.may_begin(Kind::Watched, now) {
            return None;
        }
        let ticket = self.next_ticket();
        self.for_others += 1;
        self.begin_errand(ticket, Errand::Peer { node, question }, Kind::Watched, now);
        Some(ticket)
    }

    fn begin_errand(&mut self, ticket: Ticket, errand: Errand, kind: Kind, now: Mono) {
        self.budget.begin(kind, now);
        self.errands.insert(ticket, (errand, kind));
    }

    fn next_ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// What a probe was for, once.
    pub(super) fn take_errand(&mut self, ticket: Ticket) -> Option<Errand> {
        let (errand, kind) = self.errands.remove(&ticket)?;
        self.budget.end(kind);
        self.for_others -= usize::from(matches!(errand, Errand::Peer { .. }));
        Some(errand)
    }

    /// Takes what a try brought.
    pub(super) fn note(&mut self, key: &InstanceKey, outcome: &ProbeOutcome, plan: Plan, now: Mono, rng: &mut Rng) -> Turn {
        let Some(look) = self.looks.get_mut(key) else { return Turn::Waits };
        look.asked = None;
        let (turn, after_ms) = look.take(outcome, plan, now, rng);
        self.reschedule(key, now + if after_ms == 0 { 0 } else { rng.around(after_ms) });
        turn
    }
}
