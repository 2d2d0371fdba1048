//! Disks: what a node saved is what its next life starts from, where the disk did not lie.

use std::sync::Arc;

use muster::registry::{Input, Record};
use muster::wire::Warm;

use crate::chance::Chance;
use crate::counts::Injected;
use crate::invariant::Invariant;
use crate::teeth::Sabotage;
use crate::world::{Event, World};

/// From a change to the file: a write is done within a second of it.
const SAVE_MS: u64 = 700;
/// What changes with the time alone is saved again after this long, while leases wait for a heartbeat.
const REFRESH_MS: u64 = 1000;
/// So small that damage leaves something.
const BLOCK_BYTES: usize = 500;

/// What a disk does with what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Keeps it.
    Sound,
    /// Says that it is full: what was there stays.
    Full,
    /// Keeps the beginning.
    Cuts,
    /// Keeps it with one wrong byte.
    Flips,
}

impl Habit {
    /// Most disks are sound.
    pub(crate) fn drawn(chance: &mut Chance) -> Self {
        chance.pick(&[Self::Sound, Self::Sound, Self::Sound, Self::Full, Self::Cuts, Self::Flips])
    }
}

/// A node's disk, which outlives it.
pub(crate) struct Disk {
    pub(crate) habit: Habit,
    pub(crate) file: Option<Vec<u8>>,
    is_due: bool,
    /// When it is written next though nothing changed.
    refreshed_at: Option<u64>,
}

impl Disk {
    pub(crate) fn new(habit: Habit) -> Self {
        Self { habit, file: None, is_due: false, refreshed_at: None }
    }
}

impl World {
    /// The node's records have changed: they are saved before long, where it has a disk.
    pub(crate) fn save_soon(&mut self, node: usize) {
        let life = self.slots[node].life;
        let Some(disk) = self.disks.get_mut(&node).filter(|disk| !disk.is_due) else { return };
        disk.is_due = true;
        self.after(SAVE_MS, Event::Save { node, life });
    }

    pub(crate) fn save(&mut self, node: usize, life: u32) {
        if self.slots[node].life != life || self.registry(node).is_none() {
            return;
        }
        let now = self.now_at(node);
        let picture = self.registry(node).and_then(|registry| registry.picture(now));
        let unrenewed = picture.as_ref().and_then(|picture| Some(self.slots[node].shell.as_ref()?.unrenewed(picture))).unwrap_or_default();
        let is_waiting = !unrenewed.is_empty();
        let pieces = picture.map(|picture| {
            let records: Vec<_> = picture.records().cloned().collect();
            let pieces = self.codec.warm_pieces(now.wall_ms(), picture.overrides().to_vec(), records.len() as u64, records.into_iter());
            let pieces = pieces.of_one_that_knew(picture.knows_enough()).with_unrenewed(unrenewed);
            pieces.in_blocks_of(BLOCK_BYTES).flatten().collect::<Vec<u8>>()
        });
        let Some(disk) = self.disks.get_mut(&node) else { return };
        disk.is_due = false;
        let habit = disk.habit;
        if is_waiting && disk.refreshed_at.is_none_or(|at| at <= self.now) {
            disk.refreshed_at = Some(self.now + REFRESH_MS);
            self.after(REFRESH_MS, Event::Save { node, life });
        }
        let Some(mut file) = pieces else { return };
        match habit {
            Habit::Sound => {}
            Habit::Full => return self.counts.add(Injected::DiskFull),
            Habit::Cuts => {
                self.counts.add(Injected::DiskCut);
                file.truncate(file.len() * 2 / 3);
            }
            Habit::Flips => {
                self.counts.add(Injected::DiskFlipped);
                let middle = file.len() / 2;
                file[middle] ^= 0x10;
            }
        }
        self.disks.entry(node).and_modify(|disk| disk.file = Some(file));
    }

    /// A node that has just started reads its disk.
    pub(crate) fn restore(&mut self, node: usize) {
        let Some(disk) = self.disks.get_mut(&node) else { return };
        (disk.is_due, disk.refreshed_at) = (false, None);
        let Some(warm) = self.read_disk(node) else { return };
        self.counts.add(Injected::WarmStarted);
        let now = self.now_at(node);
        let saved_at = now.mono.saturating_sub(now.wall_ms().saturating_sub(warm.saved_at));
        self.trace.say(self.now, || format!("n{node} reads {} records, {:?}", warm.records.len(), warm.lost));
        if !matches!(self.sabotage, Some(Sabotage::BlankDisks | Sabotage::LostDisks)) {
            let knew_enough = warm.knew_enough && warm.lost.is_nothing();
            self.feed(
                node,
                Input::Restore { records: warm.records, overrides: warm.overrides, unrenewed: warm.unrenewed, saved_at, knew_enough },
            );
        }
    }

    /// A node that has just started shows at once what its disk held, before it has heard of anybody.
    pub(crate) fn check_shown(&mut self, node: usize) {
        // Whether such a node says later that there is nothing is what `check_secured` is for.
        if self.is_sabotaged(Sabotage::LostDisks) {
            return;
        }
        let Some(warm) = self.read_disk(node) else { return };
        let lacks = |record: &&Arc<Record>| record.registration().is_some() && !self.lists(node, &record.key);
        if let Some(key) = warm.records.iter().find(lacks).map(|record| record.key.clone()) {
            self.violate(Invariant::AloneIsEnough, format!("n{node} starts, and does not show what its disk held: {key}"));
        }
    }

    /// What a node would read from its disk now.
    pub(crate) fn read_disk(&self, node: usize) -> Option<Warm> {
        self.codec.read_warm(self.disks.get(&node)?.file.as_ref()?).ok()
    }

    /// Every place has a disk that keeps what it is given, and what is on each holds.
    pub(crate) fn all_disks(&self, holds: impl Fn(&Warm) -> bool) -> bool {
        self.places().into_iter().all(|node| {
            self.disks.get(&node).is_some_and(|disk| disk.habit == Habit::Sound) && self.read_disk(node).is_some_and(|warm| holds(&warm))
        })
    }
}

/// A saved record of this name, where it is live.
pub(crate) fn live<'a>(warm: &'a Warm, key: &muster::model::InstanceKey) -> Option<&'a Record> {
    warm.records.iter().find(|record| record.key == *key && record.registration().is_some()).map(|record| &**record)
}
