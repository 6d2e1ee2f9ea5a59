//! The log of all groups of a node: entries, votes, committed and purged positions.
//!
//! One writer thread and one WAL order everything; what is acknowledged is synced, in the order in
//! which it was asked for. The log never looks into an entry.

mod committed;
mod database;
mod format;
mod mark;
mod tail;
mod writer;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use tidemill_types::PartitionId;

use self::{
    committed::WaitingPositions,
    database::LogDatabase,
    mark::SyncMark,
    tail::{Group, Limits, Reading},
    writer::{Command, Writer},
};
use crate::{
    StoreError, StoreOptions,
    memory::SharedMemory,
    space::SpaceMonitor,
    stats::{Counters, add},
    stop::FailStop,
};

/// Called on the writer thread when what was asked for is synced, or will never be. All groups wait for
/// it: it must be quick, and must not use the log, whose queue only this thread empties.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Commands that may wait for the writer; the next caller then waits too. Reached only when the disk
/// stalls: openraft has one append per group in flight, or a few.
const QUEUE_COMMANDS_MAX: usize = 4096;

/// One entry; what it holds is the caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place in the group's log.
    pub index: u64,
    /// What it holds.
    pub bytes: Bytes,
}

/// The log of one group; clones are the same log.
///
/// Methods with a `done` never wait for the disk, except that they wait for room in the writer's queue
/// when the disk has stalled. A write is seen by reads at once, before it is synced.
#[derive(Clone)]
pub struct LogStore {
    shared: Arc<LogShared>,
    group: Arc<Group>,
}

/// What the groups' logs share. Dropping the last handle ends the writer and closes the database.
pub struct LogShared {
    pub database: Arc<LogDatabase>,
    stop: Arc<FailStop>,
    counters: Arc<Counters>,
    groups: Mutex<BTreeMap<PartitionId, Arc<Group>>>,
    limits: Limits,
    tail_bytes: Arc<AtomicUsize>,
    committed: Arc<WaitingPositions>,
    queue: Option<SyncSender<Command>>,
    writer: Option<JoinHandle<()>>,
}

impl LogShared {
    /// Opens the log below `dir` and checks it. Reads all of it when `verify_log` is set.
    pub fn open(
        dir: &Path,
        options: &StoreOptions,
        memory: &SharedMemory,
        stop: Arc<FailStop>,
        counters: Arc<Counters>,
        space: Arc<SpaceMonitor>,
    ) -> Result<Self, StoreError> {
        let mark = SyncMark::open(dir)?;
        let database = Arc::new(LogDatabase::open(dir, options, memory, mark.exists())?);
        mark.check(database.sequence())?;
        let tail_bytes = Arc::new(AtomicUsize::new(0));
        let mut groups = BTreeMap::new();
        for (id, found) in database.recover(options.verify_log)? {
            groups.insert(
                id,
                Arc::new(Group::recovered(id, found, Arc::clone(&tail_bytes))),
            );
        }
        let (queue, commands) = sync_channel(QUEUE_COMMANDS_MAX);
        let committed = Arc::new(WaitingPositions::default());
        let writer = Writer {
            database: Arc::clone(&database),
            stop: Arc::clone(&stop),
            counters: Arc::clone(&counters),
            space,
            mark,
            committed: Arc::clone(&committed),
        };
        let writer = thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer.run(&commands))
            .map_err(|error| StoreError::io("start the log's writer thread", &error))?;
        Ok(Self {
            database,
            stop,
            counters,
            groups: Mutex::new(groups),
            limits: Limits::new(options.log_tail_bytes),
            tail_bytes,
            committed,
            queue: Some(queue),
            writer: Some(writer),
        })
    }

    pub fn group(self: &Arc<Self>, id: PartitionId) -> LogStore {
        let mut groups = self.groups.lock().expect("nothing panics while it is held");
        let group = groups
            .entry(id)
            .or_insert_with(|| Arc::new(Group::new(id, Arc::clone(&self.tail_bytes))));
        LogStore {
            shared: Arc::clone(self),
            group: Arc::clone(group),
        }
    }

    /// Groups that have anything in the log.
    pub fn groups(&self) -> Vec<PartitionId> {
        let groups = self.groups.lock().expect("nothing panics while it is held");
        groups.keys().copied().collect()
    }

    pub fn tail_bytes(&self) -> usize {
        self.tail_bytes.load(Ordering::Relaxed)
    }

    fn send(&self, command: Command) {
        let queue = self.queue.as_ref().expect("taken only when dropped");
        if let Err(unsent) = queue.send(command) {
            // The writer is gone only after a panic.
            self.stop.stop("the log's writer thread ended");
            unsent.0.finish(Err(StoreError::Stopped));
        }
    }
}

impl Drop for LogShared {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // A `done` may hold the last handle; the writer cannot wait for itself and ends anyway.
            if writer.thread().id() != thread::current().id() && writer.join().is_err() {
                tracing::error!("the log's writer thread panicked");
            }
        }
    }
}

impl LogStore {
    /// The group.
    #[must_use]
    pub fn group(&self) -> PartitionId {
        self.group.id
    }

    /// Appends entries, which must follow the last one without a gap.
    pub fn append(&self, entries: Vec<LogEntry>, done: Done) {
        if let Err(error) = self.shared.stop.check() {
            return done(Err(error));
        }
        let mut tail = self.group.tail();
        match tail.append(&entries, &self.shared.limits) {
            Ok(written_when) => self.shared.send(Command::Append {
                group: Arc::clone(&self.group),
                entries,
                written_when,
                done,
            }),
            Err(error) => {
                drop(tail);
                done(Err(error));
            }
        }
    }

    /// Saves the vote.
    pub fn save_vote(&self, vote: Bytes, done: Done) {
        if let Err(error) = self.shared.stop.check() {
            return done(Err(error));
        }
        let mut tail = self.group.tail();
        tail.vote = Some(vote.clone());
        self.shared.send(Command::Vote {
            group: self.group.id,
            vote,
            done,
        });
    }

    /// Saves the committed position: written with the next write, or a little later, and never before the entries
    /// that were appended before.
    pub fn save_committed(&self, committed: Bytes) {
        if self.shared.stop.check().is_err() {
            return;
        }
        let mut tail = self.group.tail();
        tail.committed = Some(committed.clone());
        let waiting = &self.shared.committed;
        waiting.put(&self.group, tail.appends(), committed);
    }

    /// Removes the entry at `index` and all later ones.
    pub fn truncate_from(&self, index: u64, done: Done) {
        if let Err(error) = self.shared.stop.check() {
            return done(Err(error));
        }
        let mut tail = self.group.tail();
        match tail.truncate_from(index) {
            Ok(removed) => self.shared.send(Command::Truncate {
                group: self.group.id,
                removed,
                done,
            }),
            Err(error) => {
                drop(tail);
                done(Err(error));
            }
        }
    }

    /// Removes the entries up to and including `index`, which may lie after the last one; `marker` is
    /// kept for [`Self::read_purged`]. Purging less than before changes nothing.
    pub fn purge_to(&self, index: u64, marker: Bytes, done: Done) {
        if let Err(error) = self.shared.stop.check() {
            return done(Err(error));
        }
        let mut tail = self.group.tail();
        let purged = tail.purge_to(index, &marker).then_some((index, marker));
        self.shared.send(Command::Purge {
            group: self.group.id,
            purged,
            done,
        });
    }

    /// Calls `done` when everything asked for before is written and synced.
    pub fn barrier(&self, done: Done) {
        if let Err(error) = self.shared.stop.check() {
            return done(Err(error));
        }
        let _in_order = self.group.tail();
        self.shared.send(Command::Barrier { done });
    }

    /// Whether the log still takes anything.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] once a write has failed.
    pub fn check(&self) -> Result<(), StoreError> {
        self.shared.stop.check()
    }

    /// The vote saved last. From memory.
    ///
    /// # Errors
    /// None today; reading from disk would have some.
    pub fn read_vote(&self) -> Result<Option<Bytes>, StoreError> {
        Ok(self.group.tail().vote.clone())
    }

    /// The committed position saved last. From memory.
    ///
    /// # Errors
    /// None today; reading from disk would have some.
    pub fn read_committed(&self) -> Result<Option<Bytes>, StoreError> {
        Ok(self.group.tail().committed.clone())
    }

    /// The marker of the last purge. From memory.
    ///
    /// # Errors
    /// None today; reading from disk would have some.
    pub fn read_purged(&self) -> Result<Option<Bytes>, StoreError> {
        Ok(self.group.tail().purged.clone().map(|(_, marker)| marker))
    }

    /// The index of the last entry; none when the log is empty or wholly purged. From memory.
    #[must_use]
    pub fn last_index(&self) -> Option<u64> {
        self.group.tail().last
    }

    /// The index of the first entry; none when the log is empty or wholly purged. From memory.
    #[must_use]
    pub fn first_index(&self) -> Option<u64> {
        self.group.tail().first
    }

    /// The last entry; none when the log is empty or wholly purged. May wait for the disk.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is damaged or missing.
    pub fn last(&self) -> Result<Option<LogEntry>, StoreError> {
        loop {
            let Some(last) = self.last_index() else {
                return Ok(None);
            };
            match self.read(last, last.saturating_add(1), usize::MAX) {
                // It was truncated or purged since.
                Ok(entries) if entries.is_empty() => {}
                Err(StoreError::Purged { .. }) => {}
                Ok(mut entries) => return Ok(entries.pop()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Entries from `from` up to, without, `to_exclusive`: all there are, until their bytes exceed
    /// `bytes_max`; at least one when there is one. Waits for the disk only for entries that have left
    /// the tail in memory.
    ///
    /// # Errors
    /// [`StoreError::Purged`] when `from` was purged; [`StoreError::Corrupt`] when an entry is damaged or
    /// missing.
    pub fn read(
        &self,
        from: u64,
        to_exclusive: u64,
        bytes_max: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        loop {
            let reading = self.group.tail().read(from, to_exclusive, bytes_max)?;
            let (disk_to, cached, generation) = match reading {
                Reading::Whole(entries) => return Ok(entries),
                Reading::DiskTo {
                    disk_to,
                    cached,
                    generation,
                } => (disk_to, cached, generation),
            };
            add(&self.shared.counters.log_disk_reads, 1);
            let read = self
                .shared
                .database
                .read(self.group.id, from, disk_to, bytes_max);
            if self.group.tail().generation != generation {
                // Truncated or purged meanwhile: what was read, or missed, may be neither old nor new.
                continue;
            }
            let mut entries = read?;
            if entries
                .last()
                .is_some_and(|entry| entry.index + 1 == disk_to)
            {
                let mut bytes: usize = entries.iter().map(|entry| entry.bytes.len()).sum();
                for entry in cached {
                    bytes += entry.bytes.len();
                    if bytes > bytes_max {
                        break;
                    }
                    entries.push(entry);
                }
            }
            return Ok(entries);
        }
    }
}
