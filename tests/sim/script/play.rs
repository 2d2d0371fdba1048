//! What a script may say, a line each. `nN` is a node, KEY an instance of service `s` (or `SERVICE/ID`), times are in ms.
//!
//! ```text
//! nodes N                          N nodes start together, and are ready
//! empty N                          room for N nodes, none of which runs
//! disk n0 sound|full|cuts|flips    it has a disk, and keeps on it what it holds, or not quite
//! start n0 | crash n0 | leave n0 MS | pause n0 MS | clone n0        (a clone of n0 runs in the next room)
//! register n0 KEY PORT [life I] [=> ANSWER]
//! heartbeat n0 KEY [PORT] [=> ANSWER]     with PORT: the digest of that content is sent
//! deregister n0 KEY [life I] [=> ANSWER]
//!                                  ANSWER: registered renewed deregistered unknown superseded warming leaving full
//! provider KEY n0 | provider KEY all      a process that renews there, or behind a balancer; `stop`, `restart` or `update KEY`
//! provider KEY n0 looked-at | checked     the same, looked at once it is late, or always; others never are
//! mute KEY MS                      that process reaches no node for so long, and none reaches it
//! hush KEY MS                      its heartbeats reach no node for so long; it can be reached
//! hide KEY n0 MS                   n0 does not reach it for so long
//! forge n0 KEY generation|owner|place     n0 is told, in the name of the record's owner, what that cannot have written
//! consumer SERVICE n0              somebody follows a service from there on
//! advance MS
//! cut n0 n1 | n2                   the bus is parted; `part`: bus and HTTP; `one-way n0 n1`: n1 does not hear n0; `mend`
//! break n0 [MS] | repair n0        its line to the bus; it notices after so long
//! lose MS                          changes that leave are lost for so long
//! weather [loss N] [twice N] [late N MS]  in thousandths
//! flood n0 MS | replay             what comes is lost for so long; every frame of late comes again
//! mark                             changes and frames are counted from here
//! expect n0 KEY :PORT | gone | suspect | down
//! expect n0 lists N                so many instances of service `s`, as consumers see it
//! expect n0 ready | preserving | warming | unsure | sure | alone | reaches n1 | apart n1
//! expect owner KEY n0              that node and no other holds the lease
//! expect changes N | relays N      at most so many since the mark
//! expect consumers N               every consumer holds N instances, or fewer are not said to be all
//! listed                           from now on what providers keep stays listed everywhere
//! agree MS                         all agree within this time, in everything
//! providers                        each provider that runs is listed everywhere as it says, and no other
//! ```

use muster::model::{InstanceKey, Registration, Status};
use muster::registry::{Answer, BusHealth, Refusal, content_digest};

use crate::bus::Weather;
use crate::chaos::hostile::{Forgery, tell_forged};
use crate::disk::{Disk, Habit};
use crate::eyes::Looks;
use crate::provider::{Route, draft};
use crate::scenarios::{TTL_MS, cluster, deregister, heartbeat, provider, try_register};
use crate::trace::Level;
use crate::world::{Event, World, key};

const VERBS: [&str; 35] = [
    "nodes",
    "empty",
    "disk",
    "start",
    "crash",
    "leave",
    "pause",
    "clone",
    "register",
    "heartbeat",
    "deregister",
    "provider",
    "mute",
    "hush",
    "hide",
    "forge",
    "stop",
    "restart",
    "update",
    "consumer",
    "advance",
    "cut",
    "part",
    "one-way",
    "mend",
    "break",
    "repair",
    "lose",
    "weather",
    "flood",
    "replay",
    "mark",
    "expect",
    "listed",
    "agree",
];

pub(super) fn is_known(line: &str) -> bool {
    let verb = line.split(' ').next().unwrap_or_default();
    VERBS.contains(&verb) || verb == "providers"
}

/// Where a script is played.
#[derive(Default)]
pub(super) struct Stage {
    world: Option<World>,
    /// Changes written and renewals relayed when it was marked.
    marked: (u64, u64),
}

type Outcome = Result<(), String>;

impl Stage {
    pub(super) fn trace(&self) -> String {
        self.world.as_ref().map_or_else(String::new, |world| world.trace.about(&[]))
    }

    pub(super) fn play(&mut self, line: &str) -> Outcome {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["nodes", count] => self.world = Some(begun(cluster(number(count)? as usize))),
            ["empty", count] => self.world = Some(begun(World::new(7, number(count)? as usize))),
            ["mark"] => {
                let world = self.world()?;
                self.marked = (world.writes, world.relays.1);
            }
            ["expect", what @ ("changes" | "relays"), most] => {
                let (marked, most) = (self.marked, number(most)?);
                let world = self.world()?;
                let count = if *what == "changes" { world.writes - marked.0 } else { world.relays.1 - marked.1 };
                hold(count <= most, || format!("there are {count}"))?;
            }
            ["expect", rest @ ..] => expect(self.world()?, rest)?,
            words => {
                let world = self.world()?;
                world.trace.say(world.now, || format!("> {line}"));
                act(world, words)?;
            }
        }
        let violation = self.world()?.violation.take();
        violation.map_or(Ok(()), |violation| Err(violation.to_string()))
    }

    fn world(&mut self) -> Result<&mut World, String> {
        self.world.as_mut().ok_or_else(|| "there are no nodes yet".to_owned())
    }
}

fn begun(mut world: World) -> World {
    world.set_clocks_right();
    world.trace.level = Level::Changes;
    world
}

fn act(world: &mut World, words: &[&str]) -> Outcome {
    match words {
        [verb @ ("start" | "crash" | "clone" | "break" | "repair" | "leave" | "pause" | "flood"), node, rest @ ..] => {
            let node = node_of(world, node)?;
            let ms = rest.first().map_or(Ok(0), |ms| number(ms))?;
            act_on(world, verb, node, ms);
        }
        ["register", node, id, port, rest @ ..] => {
            let (node, port) = (node_of(world, node)?, number(port)? as u16);
            let (life, wanted) = split(rest)?;
            let answer = try_register(world, node, &key_of(id), port, life);
            answered(&answer, wanted)?;
        }
        ["heartbeat", node, id, rest @ ..] => {
            let node = node_of(world, node)?;
            let digest = match rest.first() {
                Some(port) if *port != "=>" => Some(content_digest(&content(&key_of(id), number(port)? as u16)?)),
                Some(_) | None => None,
            };
            let (_, wanted) = split(&rest[usize::from(digest.is_some())..])?;
            let answer = heartbeat(world, node, &key_of(id), digest);
            answered(&answer, wanted)?;
        }
        ["deregister", node, id, rest @ ..] => {
            let node = node_of(world, node)?;
            let (life, wanted) = split(rest)?;
            let answer = deregister(world, node, &key_of(id), life);
            answered(&answer, wanted)?;
        }
        ["provider", id, "all"] => {
            provider(world, id, Route::RoundRobin);
        }
        ["provider", id, node, how @ ("looked-at" | "checked")] => {
            let node = node_of(world, node)?;
            let index = provider(world, id, Route::Sticky);
            let provider = &mut world.providers[index];
            provider.home = node;
            provider.habits.looks = if *how == "checked" { Looks::Always } else { Looks::Late };
        }
        ["provider", id, node] => {
            let node = node_of(world, node)?;
            let index = provider(world, id, Route::Sticky);
            world.providers[index].home = node;
        }
        [verb @ ("stop" | "restart" | "update"), id] => {
            let wanted = key_of(id);
            let index = world.providers.iter().position(|provider| provider.key == wanted).ok_or("there is no such provider")?;
            match *verb {
                "stop" => world.stop_provider(index),
                "restart" => world.start_provider(index),
                _ => world.update_provider(index),
            }
        }
        ["mute", id, ms] => {
            let (wanted, ms) = (key_of(id), number(ms)?);
            let provider = world.providers.iter_mut().find(|provider| provider.key == wanted).ok_or("there is no such provider")?;
            provider.cut_off_until = world.now + ms;
        }
        ["hush", id, ms] => {
            let (wanted, ms) = (key_of(id), number(ms)?);
            let provider = world.providers.iter_mut().find(|provider| provider.key == wanted).ok_or("there is no such provider")?;
            provider.hushed_until = world.now + ms;
        }
        ["hide", id, node, ms] => {
            let (wanted, node, ms) = (key_of(id), node_of(world, node)?, number(ms)?);
            let provider = world.providers.iter_mut().find(|provider| provider.key == wanted).ok_or("there is no such provider")?;
            provider.hidden_from.push((node, world.now + ms));
        }
        ["forge", node, id, how] => {
            let node = node_of(world, node)?;
            let how = match *how {
                "generation" => Forgery::Generation,
                "owner" => Forgery::Owner,
                "place" => Forgery::Place,
                _ => return Err("nobody forges so".to_owned()),
            };
            let known =
                world.registry(node).and_then(|registry| registry.record(&key_of(id))).cloned().ok_or("it knows no such instance")?;
            tell_forged(world, node, &known, how);
        }
        ["disk", node, habit] => {
            let habit = match *habit {
                "sound" => Habit::Sound,
                "full" => Habit::Full,
                "cuts" => Habit::Cuts,
                "flips" => Habit::Flips,
                _ => return Err("there is no such disk".to_owned()),
            };
            let node = node_of(world, node)?;
            world.disks.entry(node).or_insert_with(|| Disk::new(habit)).habit = habit;
        }
        ["consumer", service, node] => {
            let node = node_of(world, node)?;
            world.add_consumer(key(service, "x").service, node);
        }
        ["advance", ms] => world.run_for(number(ms)?),
        [verb @ ("cut" | "part"), groups @ ..] => {
            let groups: Result<Vec<Vec<usize>>, String> =
                groups.split(|word| *word == "|").map(|group| group.iter().map(|node| node_of(world, node)).collect()).collect();
            if *verb == "cut" { world.bus.split(&groups?) } else { world.split_network(&groups?) }
        }
        ["one-way", from, to] => {
            let (from, to) = (node_of(world, from)?, node_of(world, to)?);
            world.bus.cut(from, to);
        }
        ["mend"] => {
            world.bus.heal();
            world.mend_reach();
        }
        ["lose", ms] => world.bus.changes_lost_until = world.now + number(ms)?,
        ["weather", rest @ ..] => world.bus.weather = weather(rest)?,
        ["replay"] => replay(world),
        ["listed"] => world.protect(),
        ["agree", ms] => agree(world, number(ms)?)?,
        ["providers"] => world.check_providers(),
        _ => return Err("nobody knows what that means".to_owned()),
    }
    Ok(())
}

fn act_on(world: &mut World, verb: &str, node: usize, ms: u64) {
    match verb {
        "start" => world.start(node),
        "crash" => world.crash(node),
        "leave" => world.leave(node, ms),
        "pause" => world.pause(node, ms),
        "break" => world.break_line(node, ms),
        "repair" => world.mend_line(node),
        "flood" => {
            world.bus.flood(node, world.now + ms);
            let life = world.slots[node].life;
            world.after(ms, Event::TellLink { node, life, up: false });
        }
        _ => {
            world.add_clone_of(node);
            world.start(world.slots.len() - 1);
        }
    }
}

fn expect(world: &mut World, words: &[&str]) -> Outcome {
    match words {
        ["owner", id, node] => {
            let (wanted, node) = (key_of(id), node_of(world, node)?);
            let holders: Vec<usize> = world
                .running()
                .into_iter()
                .filter(|node| world.registry(*node).is_some_and(|registry| registry.holds_lease(&wanted)))
                .collect();
            hold(holders == [node], || format!("the lease is held at {holders:?}"))
        }
        ["consumers", count] => {
            let count = number(count)? as usize;
            let wrong = world.consumers.iter().find(|consumer| consumer.count() != count && consumer.is_sure());
            hold(wrong.is_none(), || format!("one holds {}", wrong.map_or(0, crate::consumer::Consumer::count)))
        }
        [node, "lists", count] => {
            let (node, wanted) = (node_of(world, node)?, number(count)?);
            let view = world.registry(node).and_then(|registry| registry.catalog().view(&key("s", "x").service));
            let count = view.map_or(0, |view| view.instances().len() as u64);
            hold(count == wanted, || format!("it lists {count}"))
        }
        [node, "reaches", peer] => reach(world, node, peer, true),
        [node, "apart", peer] => reach(world, node, peer, false),
        [node, how @ ("ready" | "preserving" | "warming" | "unsure" | "sure" | "alone")] => {
            let node = node_of(world, node)?;
            let registry = world.registry(node).ok_or("it does not run")?;
            let (is_ready, complete, bus) = (world.is_ready(node), registry.complete(), registry.bus());
            let holds = match *how {
                "ready" => is_ready && !registry.is_preserving(),
                "preserving" => registry.is_preserving(),
                "warming" => !is_ready,
                "sure" => complete,
                "unsure" => !complete,
                _ => bus != BusHealth::Up,
            };
            hold(holds, || format!("it is {}, complete: {complete}, bus: {}", registry.state_word(), bus.as_str()))
        }
        [node, id, how] => {
            let node = node_of(world, node)?;
            let is = listed(world, node, &key_of(id));
            hold(is.iter().any(|is| is == how), || format!("it is {}", is.join(" ")))
        }
        _ => Err("nobody knows what that means".to_owned()),
    }
}

/// How a node lists an instance: its port and its status, or `gone`.
fn listed(world: &World, node: usize, key: &InstanceKey) -> Vec<String> {
    let record = world.registry(node).and_then(|registry| registry.record(key));
    match record.and_then(|record| record.to_listed()) {
        Some(listed) => vec![format!(":{}", listed.registration.port()), Status::as_str(listed.status).to_owned()],
        None => vec!["gone".to_owned()],
    }
}

fn reach(world: &World, node: &str, peer: &str, wanted: bool) -> Outcome {
    let (from, to) = (node_of(world, node)?, node_of(world, peer)?);
    hold(world.is_answered_by(from, &world.slots[to].name, None) == wanted, || format!("it is {}", !wanted))
}

fn agree(world: &mut World, ms: u64) -> Outcome {
    let until = world.now + ms;
    while world.disagreement().is_some() && world.now < until && world.violation.is_none() {
        world.run_for(10);
    }
    world.disagreement().map_or(Ok(()), Err)?;
    world.check_contents();
    world.check_leases();
    Ok(())
}

fn replay(world: &mut World) {
    let recent: Vec<_> = world.bus.recent().cloned().collect();
    for (from, to, frame) in recent {
        world.after(1, Event::Frame { from, to, frame });
    }
}

fn weather(words: &[&str]) -> Result<Weather, String> {
    let mut weather = Weather::FAIR;
    let mut rest = words;
    loop {
        rest = match rest {
            [] => return Ok(weather),
            ["loss", permille, rest @ ..] => {
                weather.loss = number(permille)?;
                rest
            }
            ["twice", permille, rest @ ..] => {
                weather.duplication = number(permille)?;
                rest
            }
            ["late", permille, ms, rest @ ..] => {
                (weather.late, weather.late_ms) = (number(permille)?, number(ms)?);
                rest
            }
            _ => return Err("no such weather".to_owned()),
        };
    }
}

/// `life I` and `=> ANSWER`, where they are there.
fn split<'a>(words: &[&'a str]) -> Result<(Option<u64>, Option<&'a str>), String> {
    match words {
        [] => Ok((None, None)),
        ["life", life] => Ok((Some(number(life)?), None)),
        ["=>", wanted] => Ok((None, Some(wanted))),
        ["life", life, "=>", wanted] => Ok((Some(number(life)?), Some(wanted))),
        _ => Err("nobody knows what that means".to_owned()),
    }
}

fn answered(answer: &Answer, wanted: Option<&str>) -> Outcome {
    let is = match answer {
        Answer::Registered(_) => "registered",
        Answer::Attached(_) => "attached",
        Answer::AttachRefused { .. } => "not attached",
        Answer::Renewed(_) => "renewed",
        Answer::Deregistered { .. } => "deregistered",
        Answer::Inspected(_) => "inspected",
        Answer::Drained(_) | Answer::Draining => "draining",
        Answer::OverrideSet { .. } => "overridden",
        Answer::OverrideDeleted => "deleted",
        Answer::Diff(_) => "compared",
        Answer::NodeForgotten => "forgotten",
        Answer::Refused(Refusal::UnknownNode(_) | Refusal::UnreachableNode(_) | Refusal::NodeAlive(_) | Refusal::Busy) => "not compared",
        Answer::Refused(Refusal::UnknownLease | Refusal::UnknownInstance | Refusal::UnknownOverride) => "unknown",
        Answer::Refused(Refusal::Superseded { .. }) => "superseded",
        Answer::Refused(Refusal::Warming) => "warming",
        Answer::Refused(Refusal::Leaving | Refusal::NameTaken) => "leaving",
        Answer::Refused(Refusal::LimitReached { .. }) => "full",
    };
    hold(wanted.is_none_or(|wanted| wanted == is), || format!("the answer is {is}"))
}

fn content(key: &InstanceKey, port: u16) -> Result<Registration, String> {
    Registration::new(draft(key, port, TTL_MS)).map_err(|_| "that is no port".to_owned())
}

fn hold(is_so: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if is_so { Ok(()) } else { Err(otherwise()) }
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("`{word}` is no number"))
}

fn node_of(world: &World, word: &str) -> Result<usize, String> {
    let index = word.strip_prefix('n').and_then(|number| number.parse().ok());
    index.filter(|index| *index < world.slots.len()).ok_or_else(|| format!("there is no node `{word}`"))
}

fn key_of(word: &str) -> InstanceKey {
    match word.split_once('/') {
        Some((service, id)) => key(service, id),
        None => key("s", word),
    }
}
