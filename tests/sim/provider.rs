//! Providers: what keeps an instance registered, each with its own habits and its own ways to fail.

use std::sync::Arc;

use muster::model::{Address, Incarnation, InstanceKey, Port, Registration, RegistrationDraft, Reported, Ttl};
use muster::registry::{Ack, Answer, Deregister, Heartbeat, Refusal, Register, key_hash};

use crate::counts::Injected;
use crate::eyes::{Looks, address_of};
use crate::invariant::Invariant;
use crate::world::{Ask, Asker, Event, Reply, World};

/// How long a provider waits for an answer.
pub(crate) const TIMEOUT_MS: u64 = 1000;
/// Where the ports of second processes begin: what they say is never what the first says.
const TWIN_PORT: u16 = 30_000;
/// So long what one node heard may take to its owner: relays are gathered for 200 ms.
const RELAYED_MS: u64 = 500;
/// By so much a node's clock may come to the end of the longest ttl sooner than ours.
const STRAYS_MS: u64 = 20;
/// Of every provider here: so that runs end.
const EVICT_AFTER_MS: u32 = 2000;

/// Which node it turns to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// One, while it answers.
    Sticky,
    /// A balancer in front of all nodes.
    RoundRobin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    /// The process does not run.
    Nothing,
    Registering,
    Renewing,
    /// A connection holds its lease.
    Attached,
}

/// What a provider does always.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    pub(crate) route: Route,
    pub(crate) ttl_ms: u64,
    /// Says its incarnation in every call.
    pub(crate) is_named: bool,
    pub(crate) sends_digest: bool,
    /// Says its status with each heartbeat.
    pub(crate) reports: bool,
    pub(crate) looks: Looks,
    /// Listens where others do too, of its service or another; what it says differs by something else than its port.
    pub(crate) shares_place: bool,
}

pub(crate) struct Provider {
    pub(crate) key: InstanceKey,
    pub(crate) habits: Habits,
    pub(crate) doing: Doing,
    pub(crate) home: usize,
    /// Counts its processes; what was asked by a former one is not answered to the present one.
    pub(crate) process: u32,
    pub(crate) incarnation: u64,
    pub(crate) port: u16,
    pub(crate) reported: Reported,
    /// It is a second process under another one's key, and runs until then.
    pub(crate) twin_until: Option<u64>,
    /// It reaches no node until then, and none reaches it.
    pub(crate) cut_off_until: u64,
    /// None of its heartbeats reaches a node until then; it can be reached.
    pub(crate) hushed_until: u64,
    /// Nodes that do not reach it, each until then.
    pub(crate) hidden_from: Vec<(usize, u64)>,
    /// Since then everybody who looked at it was answered.
    pub(crate) answers_since: u64,
    /// Until then something else than the nodes keeps it from saying that it lives.
    pub(crate) disturbed_until: u64,
    /// It holds its lease by a connection.
    pub(crate) attaches: bool,
    /// The question that opened the one that is open.
    pub(crate) connection: Option<muster::registry::Ticket>,
    /// Its last question that was no deregistration.
    pub(crate) asked_last: Option<u64>,
    /// The digest of the content that this brought; it may say something else by now.
    said: Option<u128>,
    digest: Option<u128>,
    asked: u64,
    tick: u64,
    /// When the last answer came that renewed or registered it.
    pub(crate) succeeded_at: u64,
    /// The one before.
    succeeded_before: u64,
    /// Which node gave the last.
    pub(crate) succeeded_at_node: usize,
    /// When a node was killed that had just answered it, and may not have told the owner.
    unheard_at: u64,
    /// Since then no two such answers were further apart than its ttl.
    pub(crate) steady_since: u64,
    /// When it ceased to run.
    pub(crate) stopped_at: u64,
    pub(crate) registered: u64,
    pub(crate) renewed: u64,
}

impl Provider {
    pub(crate) fn new(key: InstanceKey, habits: Habits, home: usize) -> Self {
        Self {
            key,
            habits,
            doing: Doing::Nothing,
            home,
            process: 0,
            incarnation: 1,
            port: 1000,
            reported: Reported::Up,
            twin_until: None,
            cut_off_until: 0,
            hushed_until: 0,
            hidden_from: Vec::new(),
            answers_since: 0,
            disturbed_until: 0,
            attaches: false,
            connection: None,
            asked_last: None,
            said: None,
            digest: None,
            asked: 0,
            tick: 0,
            succeeded_at: 0,
            succeeded_before: 0,
            succeeded_at_node: home,
            unheard_at: 0,
            steady_since: 0,
            stopped_at: 0,
            registered: 0,
            renewed: 0,
        }
    }

    /// A question that was asked then was answered: it is registered, or renewed.
    fn succeeds(&mut self, at: u64) {
        if at > self.succeeded_at + self.habits.ttl_ms {
            self.steady_since = at;
        }
        self.succeeded_before = self.succeeded_at;
        self.succeeded_at = at;
        self.succeeded_at_node = self.home;
    }

    /// A node is killed: what it heard last, and gathered for others, nobody hears.
    pub(crate) fn note_killed(&mut self, node: usize, now: u64) {
        if self.succeeded_at_node == node && now < self.succeeded_at + RELAYED_MS {
            self.unheard_at = now;
        }
    }

    /// It was answered within its ttl, and long enough ago for its owner to know by now, wherever that was.
    pub(crate) fn is_known_to_live(&self, now: u64) -> bool {
        let was_told = |at: u64| self.unheard_at < at || at + RELAYED_MS <= self.unheard_at;
        let is_known = |at: u64| was_told(at) && now >= at + RELAYED_MS && now + STRAYS_MS < at + self.habits.ttl_ms;
        is_known(self.succeeded_at) || is_known(self.succeeded_before)
    }

    /// This is its last question.
    pub(crate) fn is_asking(&self, process: u32, asked: u64) -> bool {
        self.process == process && self.asked == asked
    }

    pub(crate) fn runs(&self) -> bool {
        self.doing != Doing::Nothing
    }

    pub(crate) fn is_twin(&self) -> bool {
        self.twin_until.is_some()
    }

    /// What it says of itself now.
    pub(crate) fn content(&self) -> Registration {
        let mut draft = draft(&self.key, self.port, self.habits.ttl_ms);
        draft.reported = self.reported;
        draft.check = self.habits.looks.to_check();
        if self.habits.looks != Looks::Never {
            draft.address = Address::parse(&address_of(&self.key)).expect("unreachable: it is an address");
        }
        if self.habits.shares_place {
            draft.address = Address::parse("10.0.0.1").expect("unreachable: it is an address");
            draft.port = Port::new(80).expect("unreachable: it is not 0");
            draft.metadata.insert("process".to_owned(), self.port.to_string());
        }
        Registration::new(draft).expect("unreachable: it is within the bounds")
    }

    pub(crate) fn named(&self) -> Option<Incarnation> {
        self.habits.is_named.then(|| Incarnation::new(self.incarnation).expect("unreachable: simulated time is small"))
    }

    pub(crate) fn to_register(&self, ack: Ack) -> Register {
        Register {
            incarnation: self.named(),
            says_up: self.habits.reports && self.reported == Reported::Up,
            attaches: false,
            ack,
            ..Register::new(self.key.clone(), Arc::new(self.content()), 0)
        }
    }

    pub(crate) fn to_heartbeat(&self) -> Heartbeat {
        Heartbeat {
            key: self.key.clone(),
            incarnation: self.named(),
            digest: self.digest.filter(|_| self.habits.sends_digest),
            reported: self.habits.reports.then_some(self.reported),
            at: 0,
        }
    }

    pub(crate) fn to_deregister(&self) -> Deregister {
        Deregister { key: self.key.clone(), incarnation: self.named(), actor: None, ack: Ack::Local }
    }
}

/// A registration of an instance that has an address of its own; what is said of it differs by its port.
pub(crate) fn draft(key: &InstanceKey, port: u16, ttl_ms: u64) -> RegistrationDraft {
    let [a, b, c, ..] = key_hash(key).to_le_bytes();
    let address = Address::parse(&format!("10.{a}.{b}.{c}")).expect("unreachable: it is an address");
    let ttl = Ttl::from_ms(ttl_ms).expect("unreachable: it is a ttl");
    let mut draft = RegistrationDraft::new(address, Port::new(port).expect("unreachable: it is not 0"), ttl);
    draft.evict_after_ms = Some(EVICT_AFTER_MS);
    draft.check = Looks::Never.to_check();
    draft
}

impl World {
    /// A new process of a provider starts, on another port.
    pub(crate) fn start_provider(&mut self, index: usize) {
        let now = self.now;
        self.close_all_of(index);
        let provider = &mut self.providers[index];
        provider.process += 1;
        provider.answers_since = now;
        provider.incarnation = now + 1;
        provider.port = provider.port % 60_000 + 1;
        provider.reported = Reported::Up;
        provider.digest = None;
        provider.doing = Doing::Registering;
        self.tick_provider(index, 1);
    }

    /// A second process runs under this provider's key for a while, and says something else.
    pub(crate) fn contest(&mut self, index: usize, for_ms: u64) {
        let until = self.now + for_ms;
        let (key, habits) = (self.providers[index].key.clone(), self.providers[index].habits);
        let ended = self.providers.iter().position(|provider| provider.is_twin() && provider.key == key && !provider.runs());
        let twin = ended.unwrap_or_else(|| {
            let home = self.chance.index(self.slots.len());
            self.providers.push(Provider { port: TWIN_PORT, ..Provider::new(key, habits, home) });
            self.providers.len() - 1
        });
        self.providers[twin].twin_until = Some(until);
        self.start_provider(twin);
    }

    /// Two processes have run under this key: either may have been told of the other's life.
    pub(crate) fn is_contested(&self, key: &InstanceKey) -> bool {
        self.providers.iter().any(|provider| provider.is_twin() && provider.key == *key)
    }

    pub(crate) fn stop_provider(&mut self, index: usize) {
        let now = self.now;
        self.close_all_of(index);
        let provider = &mut self.providers[index];
        provider.process += 1;
        provider.doing = Doing::Nothing;
        provider.stopped_at = now;
    }

    /// The provider says something else of itself within its life.
    pub(crate) fn update_provider(&mut self, index: usize) {
        let now = self.now;
        let provider = &mut self.providers[index];
        provider.answers_since = now;
        provider.port = provider.port % 60_000 + 1;
        provider.doing = Doing::Registering;
        // What is on its way is about what it said before.
        provider.asked += 1;
        self.tick_provider(index, 1);
    }

    /// The provider acts in so many milliseconds, and not when it would have.
    pub(crate) fn tick_provider(&mut self, index: usize, after_ms: u64) {
        let provider = &mut self.providers[index];
        provider.tick += 1;
        let (process, tick) = (provider.process, provider.tick);
        self.after(after_ms, Event::Tick { provider: index, process, tick });
    }

    pub(crate) fn provider_acts(&mut self, index: usize, process: u32, tick: u64) {
        let provider = &self.providers[index];
        if provider.process != process || provider.tick != tick {
            return;
        }
        if provider.twin_until.is_some_and(|until| self.now >= until) {
            return self.stop_provider(index);
        }
        let ttl_ms = provider.habits.ttl_ms;
        let (ask, next) = match provider.doing {
            Doing::Nothing => return,
            Doing::Attached => {
                if self.is_held(index) {
                    let now = self.now;
                    self.providers[index].succeeds(now);
                }
                return self.tick_provider(index, ttl_ms / 3);
            }
            // With a connection that is open it says what is new in the other way: of two the later one holds.
            Doing::Registering if provider.attaches && provider.connection.is_none() => {
                self.counts.add(Injected::ProviderAttached);
                let register = self.providers[index].to_register(Ack::Local);
                (Ask::Attach(register), TIMEOUT_MS + self.chance.between(0, 200))
            }
            Doing::Registering => {
                let ack = match self.chance.index(4) {
                    0 => Ack::Peer { until: 500 },
                    1 => Ack::All { until: 500 },
                    _ => Ack::Local,
                };
                (Ask::Register(self.providers[index].to_register(ack)), TIMEOUT_MS + self.chance.between(0, 200))
            }
            Doing::Renewing => {
                (Ask::Heartbeat(self.providers[index].to_heartbeat()), self.chance.between(ttl_ms / 3 - ttl_ms / 12, ttl_ms / 3))
            }
        };
        self.tick_provider(index, next);
        let nodes = self.slots.len();
        let provider = &mut self.providers[index];
        if provider.habits.route == Route::RoundRobin {
            // The balancer knows, mostly, which nodes run.
            let is_informed = self.chance.permille(900);
            let order = (1..=nodes).map(|step| (provider.home + step) % nodes);
            let runs = |node: &usize| !is_informed || self.slots[*node].shell.is_some();
            provider.home = order.into_iter().find(runs).unwrap_or(provider.home);
        }
        provider.asked += 1;
        provider.asked_last = Some(provider.asked);
        provider.said = ask.digest();
        let asker = Asker::Provider { provider: index, process, asked: provider.asked, from_ms: self.now };
        let to = provider.home;
        if self.now < provider.cut_off_until.max(provider.hushed_until) {
            self.counts.add(Injected::Unreachable);
            return self.reply(asker, Reply::Unreachable, TIMEOUT_MS);
        }
        self.ask(to, ask, asker);
    }

    pub(crate) fn provider_hears(&mut self, index: usize, process: u32, asked: u64, from_ms: u64, reply: Reply) {
        let provider = &mut self.providers[index];
        if !provider.is_asking(process, asked) {
            // What it said may have been written after what it has said since.
            if let Reply::Answered(Answer::Registered(registered)) = &reply {
                let overtaken = (provider.key.clone(), registered.digest);
                self.overtaken.insert(overtaken);
            }
            return self.abandon(index, process, asked);
        }
        match reply {
            Reply::Answered(Answer::Registered(registered)) => {
                let said = provider.said;
                // What is said in another way leaves it attached.
                provider.doing = match (provider.attaches, provider.connection) {
                    (true, Some(_)) => Doing::Attached,
                    (true, None) => Doing::Registering,
                    (false, _) => Doing::Renewing,
                };
                provider.digest = Some(registered.digest);
                provider.succeeds(from_ms);
                provider.registered += 1;
                let key = provider.key.clone();
                if Some(registered.digest) != said {
                    self.violate(Invariant::TrueAnswers, format!("{key} said {said:x?}, and was answered {:x}", registered.digest));
                }
                let after = self.chance.between(1, self.providers[index].habits.ttl_ms / 3);
                self.tick_provider(index, after);
            }
            Reply::Answered(Answer::Attached(all)) => {
                let key = provider.key.clone();
                provider.succeeds(from_ms);
                provider.registered += 1;
                let is_held = all.len() == 1 && all[0].attached;
                let is_as_said = is_held && Some(all[0].digest) == provider.said;
                self.attached(index, process, asked);
                if !is_as_said {
                    // What another process registered in this life since holds, until this one registers its own anew.
                    self.providers[index].doing = Doing::Registering;
                }
                let is_overtaken = is_held && self.overtaken.contains(&(key.clone(), all[0].digest));
                if !is_held || !is_as_said && !is_overtaken && !self.is_contested(&key) {
                    self.violate(Invariant::TrueAnswers, format!("{key} was answered {all:?}"));
                }
                self.tick_provider(index, 1);
            }
            Reply::Answered(Answer::Renewed(_)) => {
                provider.succeeds(from_ms);
                provider.renewed += 1;
            }
            Reply::Answered(Answer::Refused(Refusal::UnknownLease)) => {
                provider.doing = Doing::Registering;
                self.tick_provider(index, 1);
            }
            Reply::Answered(Answer::Refused(Refusal::Superseded { incarnation })) => {
                let key = provider.key.clone();
                let is_named = provider.habits.is_named;
                if is_named && self.is_contested(&key) {
                    return self.start_provider(index);
                }
                if is_named {
                    let provider = &self.providers[index];
                    let (key, own) = (provider.key.clone(), provider.incarnation);
                    self.violate(Invariant::NothingLost, format!("the last life of {key}, {own}, was told of a later one, {incarnation}"));
                }
                self.providers[index].doing = Doing::Registering;
                self.tick_provider(index, 1);
            }
            Reply::Answered(Answer::Refused(Refusal::Warming | Refusal::Leaving | Refusal::NameTaken)) | Reply::Unreachable => {
                self.abandon(index, process, asked);
                let nodes = self.slots.len();
                self.providers[index].home = self.chance.index(nodes);
                let after = self.chance.between(50, 300);
                self.tick_provider(index, after);
            }
            Reply::Answered(
                other @ (Answer::Refused(
                    Refusal::LimitReached { .. }
                    | Refusal::UnknownOverride
                    | Refusal::UnknownInstance
                    | Refusal::UnknownNode(_)
                    | Refusal::UnreachableNode(_)
                    | Refusal::NodeAlive(_)
                    | Refusal::Busy,
                )
                | Answer::Deregistered { .. }
                | Answer::AttachRefused { .. }
                | Answer::Drained(_)
                | Answer::Draining
                | Answer::OverrideSet { .. }
                | Answer::OverrideDeleted
                | Answer::Inspected(_)
                | Answer::Diff(_)
                | Answer::NodeForgotten),
            ) => {
                let key = provider.key.clone();
                self.violate(Invariant::TrueAnswers, format!("{key} was answered {other:?}"));
            }
        }
    }

    /// A provider leaves in order; sometimes its request is repeated late, at another node.
    pub(crate) fn deregister_provider(&mut self, index: usize, late_ms: Option<u64>) {
        self.counts.add(Injected::ProviderDeregistered);
        let deregister = self.providers[index].to_deregister();
        self.stop_provider(index);
        let to = self.chance.index(self.slots.len());
        self.ask(to, Ask::Deregister(deregister.clone()), Asker::Nobody);
        if let Some(late_ms) = late_ms {
            self.counts.add(Injected::LateRequest);
            let to = self.chance.index(self.slots.len());
            self.ask_after(late_ms, to, Ask::Deregister(deregister), Asker::Nobody);
        }
    }
}
