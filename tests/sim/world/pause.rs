//! Pauses: a node's process stops for a while, as a stopped or suspended one does. Nothing of it runs, its clock goes on, and what comes
//! for it waits, up to a bound.

use std::collections::VecDeque;

use super::{Event, Reply, World};
use crate::counts::Injected;
use crate::provider::TIMEOUT_MS;

/// How many frames wait for a paused node; past it the bus lets go of them, and of the node's connection.
const FRAMES_HELD_MAX: usize = 512;
/// How many requests wait at a paused node's socket; past it they are refused.
const REQUESTS_HELD_MAX: usize = 128;

/// What waits for a paused node.
#[derive(Default)]
pub(crate) struct Pause {
    held: VecDeque<Event>,
    frames: usize,
    requests: usize,
    /// More came than could wait.
    has_lost: bool,
}

impl World {
    /// The node stops for so long, in the midst of whatever it does.
    pub(crate) fn pause(&mut self, node: usize, ms: u64) {
        if self.slots[node].shell.is_none() || self.slots[node].pause.is_some() {
            return;
        }
        self.counts.add(Injected::NodePaused);
        self.trace.say(self.now, || format!("n{node} is paused for {ms} ms"));
        self.slots[node].pause = Some(Pause::default());
        let life = self.slots[node].life;
        self.after(ms, Event::Resume { node, life });
        self.miss_pings(node, ms);
    }

    /// A paused node goes on, with what waited for it, or with a part of that and a new connection.
    pub(crate) fn resume(&mut self, node: usize) {
        let Some(pause) = self.slots[node].pause.take() else { return };
        self.trace.say(self.now, || format!("n{node} goes on; {} things waited", pause.held.len()));
        let loses = pause.has_lost || self.chance.permille(300);
        for event in pause.held {
            if loses && matches!(event, Event::Frame { .. }) && self.chance.permille(500) {
                self.counts.add(Injected::Dropped);
            } else {
                self.after(0, event);
            }
        }
        let life = self.slots[node].life;
        if loses {
            self.after(0, Event::TellLink { node, life, up: false });
        }
        self.slots[node].wake_at = None;
        self.slots[node].resumed_at = self.now;
        self.schedule(node);
    }

    /// Keeps what is for a paused node; gives back everything else.
    pub(super) fn unless_paused(&mut self, event: Event) -> Option<Event> {
        let node = match &event {
            Event::Frame { to, .. } => *to,
            Event::Wake { node, .. }
            | Event::Publish { node, .. }
            | Event::TellLink { node, .. }
            | Event::Checked { node, .. }
            | Event::Seen { node, .. }
            | Event::Delivered { node, .. }
            | Event::Save { node, .. }
            | Event::Detached { node, .. }
            | Event::Request { node, .. } => *node,
            Event::Reply { .. }
            | Event::Tick { .. }
            | Event::Start { .. }
            | Event::Stop { .. }
            | Event::Isolate(_)
            | Event::Resume { .. }
            | Event::Mend(_)
            | Event::Chaos
            | Event::Look
            | Event::Told { .. }
            | Event::Connect { .. }
            | Event::ConnectionEnds { .. }
            | Event::Restart { .. }
            | Event::Speak { .. }
            | Event::SpeakerHears { .. } => return Some(event),
        };
        let Some(pause) = &mut self.slots[node].pause else { return Some(event) };
        match event {
            // It is woken anew when it goes on.
            Event::Wake { .. } => {}
            Event::Frame { .. } if pause.frames >= FRAMES_HELD_MAX => {
                pause.has_lost = true;
                self.counts.add(Injected::Dropped);
            }
            Event::Frame { .. } => {
                pause.frames += 1;
                pause.held.push_back(event);
            }
            // Whoever asks waits no longer than always; what was asked is read all the same, later.
            Event::Request { node, ask, asker } => {
                if pause.requests < REQUESTS_HELD_MAX {
                    pause.requests += 1;
                    pause.held.push_back(Event::Request { node, ask, asker: super::Asker::Nobody });
                }
                self.counts.add(Injected::Unreachable);
                self.reply(asker, Reply::Unreachable, TIMEOUT_MS);
            }
            other => pause.held.push_back(other),
        }
        None
    }
}
