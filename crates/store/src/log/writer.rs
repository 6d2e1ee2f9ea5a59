//! The one thread that writes the log: whatever waits when the last sync has ended goes into one
//! batch with one sync, and is then acknowledged in the order in which it came.

use std::{
    collections::BTreeMap,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use rocksdb::WriteBatch;
use tidemill_types::PartitionId;

use super::{
    Done, LogDatabase, LogEntry,
    committed::{COMMITTED_AFTER, WaitingPositions},
    format::{self, Position},
    mark::SyncMark,
    tail::Group,
};
use crate::{
    StoreError,
    space::SpaceMonitor,
    stats::{Counters, add},
    stop::FailStop,
};

/// A batch is written when it has this many bytes, even if more waits.
const BATCH_BYTES: usize = 4 << 20;
/// How often the disk's free space and background failures are looked at.
const LOOK_AROUND_EVERY: Duration = Duration::from_secs(1);

pub enum Command {
    Append {
        group: Arc<Group>,
        entries: Vec<LogEntry>,
        written_when: u64,
        done: Done,
    },
    Vote {
        group: PartitionId,
        vote: Bytes,
        done: Done,
    },
    Truncate {
        group: PartitionId,
        removed: Option<(u64, u64)>,
        done: Done,
    },
    Purge {
        group: PartitionId,
        purged: Option<(u64, Bytes)>,
        done: Done,
    },
    Barrier {
        done: Done,
    },
}

impl Command {
    pub fn finish(self, result: Result<(), StoreError>) {
        match self {
            Self::Append { done, .. }
            | Self::Vote { done, .. }
            | Self::Truncate { done, .. }
            | Self::Purge { done, .. }
            | Self::Barrier { done } => done(result),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Append { entries, .. } => entries.iter().map(|entry| entry.bytes.len()).sum(),
            _ => 0,
        }
    }
}

pub struct Writer {
    pub database: Arc<LogDatabase>,
    pub stop: Arc<FailStop>,
    pub counters: Arc<Counters>,
    pub space: Arc<SpaceMonitor>,
    pub mark: SyncMark,
    pub committed: Arc<WaitingPositions>,
}

/// Stops the store when the writer ends by a panic: nobody would be answered any more.
struct StopOnPanic(Arc<FailStop>);

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop("the log's writer thread panicked");
        }
    }
}

impl Writer {
    /// Writes until all handles are gone.
    pub fn run(mut self, commands: &Receiver<Command>) {
        let _guard = StopOnPanic(Arc::clone(&self.stop));
        let mut looked = Instant::now();
        let mut group = Vec::new();
        let mut is_quiet = false;
        loop {
            let wait = if is_quiet {
                LOOK_AROUND_EVERY
            } else {
                COMMITTED_AFTER
            };
            match commands.recv_timeout(wait) {
                Ok(first) => {
                    is_quiet = false;
                    let mut bytes = first.bytes();
                    group.push(first);
                    while bytes < BATCH_BYTES {
                        let Ok(next) = commands.try_recv() else { break };
                        bytes += next.bytes();
                        group.push(next);
                    }
                    self.handle(mem::take(&mut group));
                }
                Err(RecvTimeoutError::Timeout) => {
                    is_quiet = true;
                    self.write_committed();
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.write_committed();
                    break;
                }
            }
            if looked.elapsed() >= LOOK_AROUND_EVERY {
                self.look_around();
                looked = Instant::now();
            }
        }
        if self.stop.check().is_ok()
            && let Err(error) = self.mark.sync()
        {
            tracing::warn!(%error, "mark of the log not synced at the end");
        }
    }

    fn handle(&mut self, group: Vec<Command>) {
        let result = match self.stop.check() {
            Ok(()) => self.write(&group).map_err(|error| self.stop.failed(error)),
            stopped => stopped,
        };
        for command in group {
            if let (
                Ok(()),
                Command::Append {
                    group,
                    written_when,
                    ..
                },
            ) = (&result, &command)
            {
                group.written(*written_when);
            }
            // One caller's mistake must not leave the others without an answer.
            let finish = AssertUnwindSafe(|| command.finish(result.clone()));
            if catch_unwind(finish).is_err() {
                self.stop.stop("a callback of the log panicked");
            }
        }
    }

    fn write(&mut self, group: &[Command]) -> Result<(), StoreError> {
        for command in group {
            if let Command::Append { group, .. } = command {
                self.database.create_family(group.id)?;
            }
        }
        let mut batch = WriteBatch::default();
        let mut appends = BTreeMap::new();
        for command in group {
            self.put(&mut batch, command);
            if let Command::Append {
                group,
                written_when,
                ..
            } = command
            {
                appends.insert(group.id, *written_when);
            }
        }
        self.put_committed(&mut batch, &appends);
        let start = Instant::now();
        self.database.write(batch, true)?;
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        add(&self.counters.syncs, 1);
        add(&self.counters.sync_micros, micros);
        self.counters
            .sync_micros_max
            .fetch_max(micros, std::sync::atomic::Ordering::Relaxed);
        self.mark.advance(self.database.sequence())?;
        for command in group {
            if let Command::Purge {
                group,
                purged: Some((index, _)),
                ..
            } = command
            {
                self.database.delete_purged_files(*group, *index)?;
            }
        }
        Ok(())
    }

    /// Without a sync: it would be for nothing.
    fn write_committed(&self) {
        let mut batch = WriteBatch::default();
        self.put_committed(&mut batch, &BTreeMap::new());
        if batch.is_empty() || self.stop.check().is_err() {
            return;
        }
        if let Err(error) = self.database.write(batch, false) {
            self.stop.failed(error);
        }
    }

    /// Those whose entries are written, or about to be with this batch.
    fn put_committed(&self, batch: &mut WriteBatch, about_to_be: &BTreeMap<PartitionId, u64>) {
        for (group, position) in self.committed.take(about_to_be) {
            LogDatabase::put_position(batch, group, Position::Committed, &position);
        }
    }

    fn put(&self, batch: &mut WriteBatch, command: &Command) {
        match command {
            Command::Append { group, entries, .. } => {
                for entry in entries {
                    self.database.put_entry(batch, group.id, entry);
                }
                let bytes = command.bytes() as u64;
                add(&self.counters.appended_entries, entries.len() as u64);
                add(&self.counters.appended_bytes, bytes);
            }
            Command::Vote { group, vote, .. } => {
                LogDatabase::put_position(batch, *group, Position::Vote, vote);
                add(&self.counters.votes, 1);
            }
            Command::Truncate { group, removed, .. } => {
                if let Some((first, last)) = *removed {
                    self.database.delete_entries(batch, *group, first, last);
                }
            }
            Command::Purge { group, purged, .. } => {
                if let Some((index, marker)) = purged {
                    let bytes = format::purged(*index, marker);
                    LogDatabase::put_position(batch, *group, Position::Purged, &bytes);
                }
            }
            Command::Barrier { .. } => {}
        }
    }

    fn look_around(&mut self) {
        if self.stop.check().is_err() {
            return;
        }
        // RocksDB fails the writes after a failed flush anyway; here it is seen while nothing is written.
        if self.database.background_errors() > 0 {
            self.stop.stop("log: a flush or compaction failed");
            return;
        }
        if let Err(error) = self.mark.sync() {
            self.stop.stop(&error.to_string());
        }
        if let Err(error) = self.space.restore() {
            tracing::warn!(%error, "free disk space not known");
        }
    }
}
