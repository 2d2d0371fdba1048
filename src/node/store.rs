//! The store: the node's folder on disk. It holds the warm file and the one before it, and a lock that keeps a second process out.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::history::FILES as EVENT_FILES;
use super::private_file;
use crate::model::Cluster;
use crate::registry::{Entry, Picture, Record, UnrenewedLease};
use crate::wire::{Codec, NotWarm, Warm};

/// What was saved longer ago is not read: whoever it names has gone or has registered again. As long as a silent node is remembered.
const FORGET_AFTER_MS: u64 = 24 * 3_600_000;

/// The file a node starts from.
const CURRENT: &str = "warm";
/// The one before it: read when the current one cannot be.
const PREVIOUS: &str = "warm.previous";
/// One that is being written.
const UNFINISHED: &str = "warm.new";
/// Held while a process uses the folder.
const LOCK: &str = "lock";

/// A folder that this process alone uses.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    codec: Codec,
    /// The lock ends with the file.
    _lock: File,
}

/// What a node starts from.
#[derive(Debug, Default)]
pub struct Restored {
    /// Those of the saved records that could be read; none when there is no file that holds.
    pub records: Vec<Arc<Record>>,
    /// Likewise the overrides, with the time that was left of each.
    pub overrides: Vec<Entry>,
    /// Likewise for how long leases were not renewed.
    pub unrenewed: Vec<UnrenewedLease>,
    /// How long ago they were saved, by the wall clock; 0 where that says it is still to come.
    pub age_ms: u64,
    /// All of it was read, and the node that saved it knew enough: what is not there was not there.
    pub knew_enough: bool,
}

/// Why a folder cannot be used; nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The system refuses.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, #[source] io::Error),
}

impl Store {
    /// Takes a folder, which is made where there is none.
    ///
    /// # Errors
    /// [`StoreError`] when another process has it, or the system refuses.
    pub fn open(folder: &Path, cluster: &Cluster) -> Result<Self, StoreError> {
        let refused = |error| StoreError::Io(folder.to_owned(), error);
        private_file::folder(folder, is_own).map_err(refused)?;
        let lock = private_file::lock(&folder.join(LOCK)).map_err(|error| StoreError::Io(folder.join(LOCK), error))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::InUse(folder.to_owned()),
            TryLockError::Error(error) => refused(error),
        })?;
        tighten(folder);
        Ok(Self { folder: folder.to_owned(), codec: Codec::new(cluster), _lock: lock })
    }

    /// The folder, for what else the node keeps there.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was saved last, as far as it is whole: from the current file, else from the one before it. `now` is the wall clock's.
    ///
    /// Nothing here keeps a node from starting: what cannot be read is said in the log.
    #[must_use]
    pub fn read(&self, now: u64) -> Restored {
        [CURRENT, PREVIOUS].into_iter().find_map(|name| self.read_file(name, now)).unwrap_or_default()
    }

    /// `None`: the file is not there, or cannot be used.
    fn read_file(&self, name: &str, now: u64) -> Option<Restored> {
        let file = self.folder.join(name);
        let path = file.display();
        let opened = match private_file::read(&file) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::error!(%path, %error, "the warm file cannot be read");
                return None;
            }
        };
        let Warm { saved_at, mut records, overrides, unrenewed, knew_enough, lost } = match self.codec.read_warm_from(opened) {
            Ok(warm) => warm,
            Err(error @ (NotWarm::Cluster | NotWarm::Major(_))) => {
                tracing::warn!(%path, "the warm file is not used: {error}");
                return None;
            }
            Err(error @ (NotWarm::Short | NotWarm::Magic | NotWarm::Checksum | NotWarm::Unreadable(_))) => {
                tracing::error!(%path, "the warm file is not used: {error}");
                return None;
            }
        };
        let age_ms = now.saturating_sub(saved_at);
        if age_ms > FORGET_AFTER_MS {
            tracing::warn!(%path, hours = age_ms / 3_600_000, "only the overrides of the warm file are used: it is older than a day");
            records.clear();
        }
        if !lost.is_nothing() {
            let (records, stretches, unknown_blocks, cut) = (lost.records, lost.stretches, lost.unknown_blocks, lost.end);
            tracing::error!(%path, records, stretches, unknown_blocks, cut, "a part of the warm file is lost");
        }
        let knew_enough = knew_enough && name == CURRENT && lost.is_nothing() && age_ms <= FORGET_AFTER_MS;
        tracing::info!(%path, records = records.len(), age_ms, knew_enough, "read the warm file");
        Some(Restored { records, overrides, unrenewed, age_ms, knew_enough })
    }

    /// Saves a picture, and for how long leases were not renewed, in the place of the file before, which stays until the new one is whole and on the disk. `now` is the wall clock's.
    ///
    /// # Errors
    /// What the system says; the files that were there are as they were.
    pub fn write(&self, picture: &Picture, unrenewed: &[UnrenewedLease], now: u64) -> io::Result<()> {
        let unfinished = self.folder.join(UNFINISHED);
        let written = self.write_file(&unfinished, picture, unrenewed, now).and_then(|()| self.put_in_place(&unfinished));
        if written.is_err() {
            // A disk that is full has room again; where even that fails the next write begins the file anew.
            let _ = fs::remove_file(&unfinished);
        }
        written
    }

    fn write_file(&self, path: &Path, picture: &Picture, unrenewed: &[UnrenewedLease], now: u64) -> io::Result<()> {
        let mut file = private_file::create(path)?;
        let records = picture.records().cloned();
        let pieces = self.codec.warm_pieces(now, picture.overrides().to_vec(), picture.len() as u64, records);
        for piece in pieces.of_one_that_knew(picture.knows_enough()).with_unrenewed(unrenewed.to_vec()) {
            file.write_all(&piece)?;
        }
        file.sync_all()
    }

    fn put_in_place(&self, unfinished: &Path) -> io::Result<()> {
        let current = self.folder.join(CURRENT);
        match fs::rename(&current, self.folder.join(PREVIOUS)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        fs::rename(unfinished, &current)?;
        File::open(&self.folder)?.sync_all()
    }
}

/// Every file that a node keeps in its folder.
fn is_own(name: &str) -> bool {
    [CURRENT, PREVIOUS, UNFINISHED, LOCK].contains(&name) || EVENT_FILES.contains(&name)
}

/// A former version left its files as the umask had them.
fn tighten(folder: &Path) {
    for name in [CURRENT, PREVIOUS].into_iter().chain(EVENT_FILES) {
        if let Err(error) = private_file::tighten(&folder.join(name)) {
            tracing::warn!(path = %folder.join(name).display(), %error, "this file cannot be made this user's alone (0600)");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Address, InstanceId, InstanceKey, Namespace, NodeName, Port, Registration, RegistrationDraft, ServiceKey, ServiceName, Ttl,
    };
    use crate::registry::{Input, Now, Outbox, Register, Registry, Settings};

    const NOW: u64 = 1_763_640_000_000;

    fn cluster() -> Cluster {
        Cluster::parse("test").unwrap()
    }

    /// All records of a registry that holds so many instances.
    fn picture(instances: usize) -> Picture {
        let settings =
            Settings { has_bus: false, expect_empty: true, ..Settings::new(NodeName::parse("n1").unwrap(), crate::model::Epoch(1)) };
        let now = Now { mono: 1_000_000, wall: NOW };
        let mut registry = Registry::new(settings, 1, now);
        for number in 0..instances {
            let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
            let key = InstanceKey { service, id: InstanceId::parse(&format!("i{number}")).unwrap() };
            let draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(15_000).unwrap());
            let registration = Arc::new(Registration::new(draft).unwrap());
            let register = Register::new(key, registration, now.mono);
            registry.handle(Input::Register(number as u64, register), now, &mut Outbox::new());
        }
        registry.picture(now).unwrap()
    }

    fn read(folder: &Path, now: u64) -> usize {
        Store::open(folder, &cluster()).unwrap().read(now).records.len()
    }

    #[test]
    fn what_was_written_last_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let store = Store::open(&path, &cluster()).unwrap();
        assert_eq!(store.read(NOW).records.len(), 0);
        store.write(&picture(3), &[], NOW).unwrap();
        store.write(&picture(2), &[], NOW + 10).unwrap();
        let restored = store.read(NOW + 60_010);
        assert_eq!((restored.records.len(), restored.age_ms), (2, 60_000));
        assert_eq!(restored.records, picture(2).records().cloned().collect::<Vec<_>>());
    }

    #[test]
    fn the_file_before_stands_in_for_one_that_cannot_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &cluster()).unwrap();
        store.write(&picture(3), &[], NOW).unwrap();
        store.write(&picture(2), &[], NOW).unwrap();
        drop(store);
        let current = folder.path().join(CURRENT);
        let mut bytes = fs::read(&current).unwrap();
        bytes[20] ^= 1;
        fs::write(&current, &bytes).unwrap();
        assert_eq!(read(folder.path(), NOW), 3);
        fs::remove_file(&current).unwrap();
        assert_eq!(read(folder.path(), NOW), 3);
    }

    #[test]
    fn a_folder_is_used_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = Store::open(folder.path(), &cluster()).unwrap();
        assert!(matches!(Store::open(folder.path(), &cluster()), Err(StoreError::InUse(_))));
        drop(first);
        assert!(Store::open(folder.path(), &cluster()).is_ok());
    }

    #[test]
    fn what_is_too_old_or_another_clusters_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        Store::open(folder.path(), &cluster()).unwrap().write(&picture(3), &[], NOW).unwrap();
        assert_eq!(read(folder.path(), NOW + FORGET_AFTER_MS), 3);
        assert_eq!(read(folder.path(), NOW + FORGET_AFTER_MS + 1), 0);
        assert_eq!(read(folder.path(), NOW - 3_600_000), 3);
        let other = Store::open(folder.path(), &Cluster::parse("other").unwrap()).unwrap();
        assert_eq!(other.read(NOW).records.len(), 0);
    }

    #[test]
    fn a_write_that_fails_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &cluster()).unwrap();
        store.write(&picture(3), &[], NOW).unwrap();
        fs::create_dir(folder.path().join(UNFINISHED)).unwrap();
        assert!(store.write(&picture(2), &[], NOW).is_err());
        assert_eq!(store.read(NOW).records.len(), 3);
    }
}
