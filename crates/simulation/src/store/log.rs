//! In the place of `crates/store/src/log.rs` and its writer thread: the same queue, the same tail in memory
//! (that file is the real one, as is that of the committed positions), the same rule that everything which waits goes
//! into one batch with one sync.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
    time::Duration,
};

use bytes::Bytes;
use tidemill_types::PartitionId;
use tokio::{sync::Notify, time::timeout};

use super::{
    Done, FailStop, LogEntry,
    disk::{Disk, Record},
};
use crate::{
    StoreError, codec,
    committed::{COMMITTED_AFTER, WaitingPositions},
    options::Planted,
    run,
    tail::{Group, Limits, Reading},
};

/// So few that reads often go to the disk.
const TAIL_BYTES: usize = 32 * 1024;

/// When what nobody syncs gets to the disk, in milliseconds, when that bug is planted.
const WRITTEN_BACK_MS: (u64, u64) = (100, 1_500);

/// Something for the writer.
struct Command {
    record: Option<Record>,
    /// Whose append it is, and its number there.
    written: Option<(Arc<Group>, u64)>,
    done: Done,
}

impl Command {
    fn finish(self, result: Result<(), StoreError>) {
        (self.done)(result);
    }
}

#[derive(Default)]
struct Queue {
    commands: Mutex<VecDeque<Command>>,
    more: Notify,
}

impl Queue {
    fn commands(&self) -> MutexGuard<'_, VecDeque<Command>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that waits; at least one.
    async fn next(&self) -> Vec<Command> {
        loop {
            let more = self.more.notified();
            let waiting: Vec<_> = self.commands().drain(..).collect();
            if !waiting.is_empty() {
                return waiting;
            }
            more.await;
        }
    }
}

/// What the groups' logs share.
pub(super) struct LogShared {
    disk: Arc<Disk>,
    stop: Arc<FailStop>,
    queue: Arc<Queue>,
    groups: Mutex<BTreeMap<PartitionId, Arc<Group>>>,
    tail_bytes: Arc<AtomicUsize>,
    committed: Arc<WaitingPositions>,
}

impl LogShared {
    pub fn open(disk: &Arc<Disk>, stop: &Arc<FailStop>) -> Result<Arc<Self>, StoreError> {
        let tail_bytes = Arc::new(AtomicUsize::new(0));
        let groups = disk.recover()?.into_iter().map(|(id, found)| {
            let group = Group::recovered(id, found, Arc::clone(&tail_bytes));
            (id, Arc::new(group))
        });
        let shared = Arc::new(Self {
            disk: Arc::clone(disk),
            stop: Arc::clone(stop),
            queue: Arc::default(),
            groups: Mutex::new(groups.collect()),
            tail_bytes: Arc::clone(&tail_bytes),
            committed: Arc::default(),
        });
        let writer = Writer {
            disk: Arc::clone(disk),
            stop: Arc::clone(stop),
            queue: Arc::clone(&shared.queue),
            committed: Arc::clone(&shared.committed),
        };
        tokio::spawn(writer.run());
        Ok(shared)
    }

    pub fn group(self: &Arc<Self>, id: PartitionId) -> LogStore {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let group = groups
            .entry(id)
            .or_insert_with(|| Arc::new(Group::new(id, Arc::clone(&self.tail_bytes))));
        LogStore {
            shared: Arc::clone(self),
            group: Arc::clone(group),
        }
    }

    fn send(&self, command: Command) {
        self.queue.commands().push_back(command);
        self.queue.more.notify_waiters();
    }
}

/// As `store`'s writer thread.
struct Writer {
    disk: Arc<Disk>,
    stop: Arc<FailStop>,
    queue: Arc<Queue>,
    committed: Arc<WaitingPositions>,
}

impl Writer {
    async fn run(self) {
        loop {
            let Ok(commands) = timeout(COMMITTED_AFTER, self.queue.next()).await else {
                self.write_committed();
                continue;
            };
            if self.stop.has_stopped() {
                for command in commands {
                    command.finish(Err(StoreError::Stopped));
                }
                continue;
            }
            self.write(commands).await;
        }
    }

    fn committed(&self, about_to_be: &BTreeMap<PartitionId, u64>) -> Vec<Record> {
        let positions = self.committed.take(about_to_be).into_iter();
        positions
            .map(|(group, position)| Record::Committed(group, position))
            .collect()
    }

    fn write_committed(&self) {
        let records = self.committed(&BTreeMap::new());
        if !records.is_empty() && !self.stop.has_stopped() && self.disk.write_log(records).is_err()
        {
            self.stop.stop();
        }
    }

    async fn write(&self, commands: Vec<Command>) {
        let appends = commands
            .iter()
            .filter_map(|command| command.written.as_ref());
        let appends = appends.map(|(group, number)| (group.id, *number)).collect();
        let committed = self.committed(&appends);
        let records = commands.iter().filter_map(|command| command.record.clone());
        let records = records
            .filter(|record| {
                !(run::planted(Planted::VoteNotPersisted) && matches!(record, Record::Vote(..)))
            })
            .chain(committed)
            .collect();
        let number = match self.disk.write_log(records) {
            Ok(number) => number,
            Err(error) => {
                self.stop.stop();
                for command in commands {
                    command.finish(Err(error.clone()));
                }
                return;
            }
        };
        if run::planted(Planted::NoSyncBeforeAck) {
            // As the operating system does by itself, some time later.
            finish(commands, Ok(()));
            let disk = Arc::clone(&self.disk);
            tokio::spawn(async move {
                let ms = run::between(WRITTEN_BACK_MS.0, WRITTEN_BACK_MS.1);
                tokio::time::sleep(Duration::from_millis(ms)).await;
                if let Err(error) = disk.sync_log(number) {
                    run::tell(|| format!("not written back: {error}"));
                }
            });
        } else if run::planted(Planted::LogOutOfOrder) {
            let (disk, stop) = (Arc::clone(&self.disk), Arc::clone(&self.stop));
            tokio::spawn(async move {
                let ms = disk.sync_ms() * 4;
                tokio::time::sleep(Duration::from_millis(ms)).await;
                let result = disk.sync_log(number).inspect_err(|_| stop.stop());
                finish(commands, result);
            });
        } else {
            let result = self.sync(number).await;
            finish(commands, result);
        }
    }

    async fn sync(&self, number: u64) -> Result<(), StoreError> {
        let ms = self.disk.sync_ms();
        tokio::time::sleep(Duration::from_millis(ms)).await;
        self.disk.sync_log(number).inspect_err(|_| self.stop.stop())
    }
}

fn finish(commands: Vec<Command>, result: Result<(), StoreError>) {
    for command in commands {
        if let (Ok(()), Some((group, number))) = (&result, &command.written) {
            group.written(*number);
        }
        command.finish(result.clone());
    }
}

/// The log of one group; clones are the same log.
#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<LogShared>,
    group: Arc<Group>,
}

impl LogStore {
    fn ask(&self, record: Option<Record>, done: Done) {
        self.shared.send(Command {
            record,
            written: None,
            done,
        });
    }

    pub fn append(&self, entries: Vec<LogEntry>, done: Done) {
        if let Err(error) = self.shared.stop.check() {
            return done(Err(error));
        }
        for entry in &entries {
            if let Ok(decoded) = codec::decode_entry(entry.bytes.clone()) {
                let term = decoded.log_id.committed_leader_id().term;
                run::on_append(self.group.id, term, entry.index, &entry.bytes);
            }
        }
        let appended = self.group.tail().append(&entries, &Limits::new(TAIL_BYTES));
        match appended {
            Ok(number) => self.shared.send(Command {
                record: Some(Record::Entries(self.group.id, entries)),
                written: Some((Arc::clone(&self.group), number)),
                done,
            }),
            Err(error) => done(Err(error)),
        }
    }

    pub fn save_vote(&self, vote: Bytes, done: Done) {
        if let Err(error) = self.shared.stop.check() {
            return done(Err(error));
        }
        self.group.tail().vote = Some(vote.clone());
        self.ask(Some(Record::Vote(self.group.id, vote)), done);
    }

    pub fn save_committed(&self, committed: Bytes) {
        if self.shared.stop.has_stopped() {
            return;
        }
        let mut tail = self.group.tail();
        tail.committed = Some(committed.clone());
        let waiting = &self.shared.committed;
        waiting.put(&self.group, tail.appends(), committed);
    }

    pub fn truncate_from(&self, index: u64, done: Done) {
        if let Err(error) = self.shared.stop.check() {
            return done(Err(error));
        }
        let removed = self.group.tail().truncate_from(index);
        match removed {
            Ok(removed) => {
                run::count("logs truncated");
                let record =
                    removed.map(|(first, last)| Record::Truncate(self.group.id, first, last));
                self.ask(record, done);
            }
            Err(error) => done(Err(error)),
        }
    }

    pub fn purge_to(&self, index: u64, marker: Bytes, done: Done) {
        if let Err(error) = self.shared.stop.check() {
            return done(Err(error));
        }
        let is_more = self.group.tail().purge_to(index, &marker);
        run::count("logs purged");
        self.ask(
            is_more.then_some(Record::Purge(self.group.id, index, marker)),
            done,
        );
    }

    /// An error once the log takes nothing any more.
    pub fn check(&self) -> Result<(), StoreError> {
        self.shared.stop.check()
    }

    #[allow(clippy::unnecessary_wraps)] // as the real one
    pub fn read_vote(&self) -> Result<Option<Bytes>, StoreError> {
        Ok(self.group.tail().vote.clone())
    }

    #[allow(clippy::unnecessary_wraps)] // as the real one
    pub fn read_committed(&self) -> Result<Option<Bytes>, StoreError> {
        Ok(self.group.tail().committed.clone())
    }

    #[allow(clippy::unnecessary_wraps)] // as the real one
    pub fn read_purged(&self) -> Result<Option<Bytes>, StoreError> {
        Ok(self.group.tail().purged.clone().map(|(_, marker)| marker))
    }

    pub fn first_index(&self) -> Option<u64> {
        self.group.tail().first
    }

    pub fn last(&self) -> Result<Option<LogEntry>, StoreError> {
        let last = self.group.tail().last;
        let Some(last) = last else {
            return Ok(None);
        };
        Ok(self.read(last, last + 1, usize::MAX)?.pop())
    }

    pub fn read(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<LogEntry>, StoreError> {
        let reading = self.group.tail().read(from, to, bytes_max)?;
        let (disk_to, cached) = match reading {
            Reading::Whole(entries) => return Ok(entries),
            Reading::DiskTo {
                disk_to, cached, ..
            } => (disk_to, cached),
        };
        run::count("reads of the log from disk");
        let mut entries = self.shared.disk.entries(self.group.id, from, disk_to);
        if entries.last().map(|entry| entry.index + 1) != Some(disk_to) {
            return Err(StoreError::Corrupt {
                what: format!("log of group {}: entries before {disk_to}", self.group.id),
            });
        }
        entries.extend(cached);
        let mut bytes = 0;
        let fitting = entries
            .iter()
            .take_while(|entry| {
                bytes += entry.bytes.len();
                bytes <= bytes_max
            })
            .count();
        entries.truncate(fitting.max(1));
        Ok(entries)
    }
}
