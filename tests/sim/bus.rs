//! The bus: who hears whom, and what becomes of a frame on its way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::chance::Chance;
use crate::counts::{Counts, Injected};
use crate::lines::{Direction, Line};

/// How many frames are remembered to be replayed.
const RECENT_MAX: usize = 200;

/// What may happen to a frame, in thousandths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    pub(crate) loss: u64,
    pub(crate) duplication: u64,
    /// Overtaken by others.
    pub(crate) late: u64,
    /// How late.
    pub(crate) late_ms: u64,
}

impl Weather {
    pub(crate) const FAIR: Self = Self { loss: 0, duplication: 0, late: 0, late_ms: 0 };
}

pub(crate) struct Bus {
    pub(crate) weather: Weather,
    /// (from, to) that does not get through.
    cuts: BTreeSet<(usize, usize)>,
    /// Cut off from all others, one by one.
    isolated: BTreeSet<usize>,
    /// What comes to these is more than they can read, and lost, until then.
    flooded: BTreeMap<usize, u64>,
    /// Whose line to the bus works.
    attached: BTreeSet<usize>,
    /// Nodes that are far away, or to which little fits through.
    lines: BTreeMap<usize, Line>,
    /// Bytes that each node was sent, whether or not they came through.
    pub(crate) bytes_to: BTreeMap<usize, u64>,
    /// Bytes that each node sent.
    pub(crate) bytes_from: BTreeMap<usize, u64>,
    /// Frames that carry changes are lost until then: a lost tail.
    pub(crate) changes_lost_until: u64,
    recent: VecDeque<(usize, usize, Bytes)>,
}

impl Bus {
    pub(crate) fn new() -> Self {
        Self {
            weather: Weather::FAIR,
            cuts: BTreeSet::new(),
            isolated: BTreeSet::new(),
            flooded: BTreeMap::new(),
            attached: BTreeSet::new(),
            lines: BTreeMap::new(),
            bytes_to: BTreeMap::new(),
            bytes_from: BTreeMap::new(),
            changes_lost_until: 0,
            recent: VecDeque::new(),
        }
    }

    pub(crate) fn attach(&mut self, node: usize, works: bool) {
        if works {
            self.attached.insert(node);
        } else {
            self.attached.remove(&node);
        }
    }

    pub(crate) fn is_attached(&self, node: usize) -> bool {
        self.attached.contains(&node)
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    pub(crate) fn cut_both(&mut self, one: usize, other: usize) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Nodes of different groups do not hear each other.
    pub(crate) fn split(&mut self, groups: &[Vec<usize>]) {
        for (index, group) in groups.iter().enumerate() {
            for other in groups.iter().skip(index + 1).flatten() {
                for one in group {
                    self.cut_both(*one, *other);
                }
            }
        }
    }

    pub(crate) fn mend_cuts(&mut self) {
        self.cuts.clear();
    }

    pub(crate) fn isolate(&mut self, node: usize) {
        self.isolated.insert(node);
    }

    pub(crate) fn end_isolation(&mut self, node: usize) {
        self.isolated.remove(&node);
    }

    /// From now on this is what the node's line is like.
    pub(crate) fn set_line(&mut self, node: usize, line: Line) {
        self.lines.insert(node, line);
    }

    pub(crate) fn end_line(&mut self, node: usize) {
        self.lines.remove(&node);
    }

    /// When a frame that `from` sends now has come to the bus; `None`: never.
    pub(crate) fn leave(&mut self, from: usize, bytes: usize, now: u64) -> Option<u64> {
        *self.bytes_from.entry(from).or_default() += bytes as u64;
        self.lines.get_mut(&from).map_or(Some(now), |line| line.pass(Direction::Out, bytes, now))
    }

    /// When a frame that is at the bus then has come to `to`; `None`: never.
    pub(crate) fn reach(&mut self, to: usize, bytes: usize, at: u64) -> Option<u64> {
        *self.bytes_to.entry(to).or_default() += bytes as u64;
        self.lines.get_mut(&to).map_or(Some(at), |line| line.pass(Direction::In, bytes, at))
    }

    pub(crate) fn flood(&mut self, node: usize, until: u64) {
        self.flooded.insert(node, until);
    }

    pub(crate) fn is_flooded(&self, node: usize, now: u64) -> bool {
        self.flooded.get(&node).is_some_and(|until| now < *until)
    }

    /// Everything is carried again, as it should be.
    pub(crate) fn heal(&mut self) {
        self.weather = Weather::FAIR;
        self.changes_lost_until = 0;
        self.cuts.clear();
        self.isolated.clear();
        self.flooded.clear();
        self.lines.clear();
    }

    pub(crate) fn carries(&self, from: usize, to: usize) -> bool {
        let is_isolated = from != to && (self.isolated.contains(&from) || self.isolated.contains(&to));
        self.is_attached(from) && self.is_attached(to) && !is_isolated && !self.cuts.contains(&(from, to))
    }

    /// When a frame that leaves now arrives: never, once, or more than once.
    pub(crate) fn deliveries(&mut self, from: usize, to: usize, frame: &Bytes, chance: &mut Chance, counts: &mut Counts) -> Vec<u64> {
        self.recent.push_back((from, to, frame.clone()));
        if self.recent.len() > RECENT_MAX {
            self.recent.pop_front();
        }
        if !self.carries(from, to) {
            counts.add(Injected::Cut);
            return Vec::new();
        }
        if chance.permille(self.weather.loss) {
            counts.add(Injected::Lost);
            return Vec::new();
        }
        let mut delays = vec![chance.between(1, 4)];
        if chance.permille(self.weather.late) {
            counts.add(Injected::Late);
            delays[0] += chance.between(1, self.weather.late_ms);
        }
        if chance.permille(self.weather.duplication) {
            counts.add(Injected::Duplicated);
            let more = chance.between(1, 1000);
            delays.push(more);
        }
        delays
    }

    /// The last frames that were sent, whoever heard them.
    pub(crate) fn recent(&self) -> impl Iterator<Item = &(usize, usize, Bytes)> {
        self.recent.iter()
    }
}
