//! One node's disk. The log's batches are written in order and synced some time later; a power cut keeps a
//! run of those that were not synced, cut anywhere between two batches (RocksDB's WAL drops a torn one
//! whole). The state has no WAL: a crash keeps a run of its writes, those that RocksDB happened to have flushed.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tidemill_core::{Rows as _, memory::MemoryRows};
use tidemill_testkit::simulation::random::{hash, mix};
use tidemill_types::PartitionId;

use crate::{LogEntry, Mutation, StoreError, Table, options::Planted, run, tail::Recovered};

/// How a node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The process ends: what it has written is with the operating system.
    Killed,
    /// The machine ends: what was not synced may be lost.
    PowerCut,
}

/// One change of the log.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    Entries(PartitionId, Vec<LogEntry>),
    Vote(PartitionId, Bytes),
    Committed(PartitionId, Bytes),
    Truncate(PartitionId, u64, u64),
    Purge(PartitionId, u64, Bytes),
}

/// One group's log.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogImage {
    pub vote: Option<Bytes>,
    pub committed: Option<Bytes>,
    pub purged: Option<(u64, Bytes)>,
    pub entries: BTreeMap<u64, Bytes>,
}

type Images = BTreeMap<PartitionId, LogImage>;

fn apply(images: &mut Images, record: &Record) {
    match record {
        Record::Entries(group, entries) => {
            let image = images.entry(*group).or_default();
            for entry in entries {
                image.entries.insert(entry.index, entry.bytes.clone());
            }
        }
        Record::Vote(group, vote) => images.entry(*group).or_default().vote = Some(vote.clone()),
        Record::Committed(group, committed) => {
            images.entry(*group).or_default().committed = Some(committed.clone());
        }
        Record::Truncate(group, first, last) => {
            let image = images.entry(*group).or_default();
            image
                .entries
                .retain(|index, _| !(*first..=*last).contains(index));
        }
        Record::Purge(group, index, marker) => {
            let image = images.entry(*group).or_default();
            image.entries = image.entries.split_off(&(index + 1));
            image.purged = Some((*index, marker.clone()));
        }
    }
}

/// A batch that is with the operating system and not synced.
struct Written {
    number: u64,
    records: Vec<Record>,
}

/// One group's rows.
#[derive(Default)]
struct StateImage {
    /// As a crash leaves them.
    flushed: MemoryRows,
    /// Writes since.
    pending: Vec<Vec<Mutation>>,
    live: MemoryRows,
    digest: u64,
}

struct Media {
    /// As a power cut leaves it.
    synced: Images,
    /// As the process reads it.
    visible: Images,
    written: VecDeque<Written>,
    batches: u64,
    states: BTreeMap<PartitionId, StateImage>,
    /// Milliseconds that a sync takes.
    sync_ms: (u64, u64),
    is_full: bool,
    fails_next_sync: bool,
    fails_flushes: bool,
    fails_next_write: bool,
}

/// See the module. Outlives the processes of its node.
pub(crate) struct Disk(Mutex<Media>);

/// Milliseconds that a sync takes on a healthy disk.
const SYNC_MS: (u64, u64) = (0, 4);
/// And on a slow one.
const SLOW_SYNC_MS: (u64, u64) = (30, 400);

/// The digest of a row; those that differ in how writes were grouped have none.
fn digest(key: &[u8], value: &[u8]) -> u64 {
    if key.get(2) == Some(&(Table::Replica as u8)) {
        return 0;
    }
    mix(hash(key) ^ hash(value).rotate_left(17))
}

/// The digest of rows after a mutation, from the one before it.
pub(crate) fn digest_after(before: u64, rows: &MemoryRows, mutation: &Mutation) -> u64 {
    let old = |key: &[u8]| {
        let value = rows.get(key).expect("rows in memory");
        value.map_or(0, |value| digest(key, &value))
    };
    match mutation {
        Mutation::Put { key, value } => before
            .wrapping_sub(old(key))
            .wrapping_add(digest(key, value)),
        Mutation::Delete { key } => before.wrapping_sub(old(key)),
        Mutation::DeleteRange { from, to } => {
            let gone = rows.scan(from, to, usize::MAX, false);
            gone.expect("rows in memory")
                .iter()
                .fold(before, |sum, (key, value)| {
                    sum.wrapping_sub(digest(key, value))
                })
        }
    }
}

fn digest_of(rows: &MemoryRows) -> u64 {
    rows.iter()
        .fold(0, |sum, (key, value)| sum.wrapping_add(digest(key, value)))
}

impl StateImage {
    fn write(&mut self, mutations: &[Mutation]) {
        for mutation in mutations {
            self.digest = digest_after(self.digest, &self.live, mutation);
            self.live.apply(std::slice::from_ref(mutation));
        }
        self.pending.push(mutations.to_vec());
    }

    fn flush(&mut self, writes: usize) {
        for mutations in self.pending.drain(..writes) {
            self.flushed.apply(&mutations);
        }
    }
}

fn no_space() -> StoreError {
    StoreError::NoSpace {
        what: "simulated write".to_owned(),
    }
}

fn io_error(what: &str) -> StoreError {
    StoreError::Io {
        what: what.to_owned(),
        error: "input/output error".to_owned(),
    }
}

impl Disk {
    pub fn new() -> Self {
        Self(Mutex::new(Media {
            synced: Images::new(),
            visible: Images::new(),
            written: VecDeque::new(),
            batches: 0,
            states: BTreeMap::new(),
            sync_ms: SYNC_MS,
            is_full: false,
            fails_next_sync: false,
            fails_flushes: false,
            fails_next_write: false,
        }))
    }

    fn media(&self) -> MutexGuard<'_, Media> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_slow(&self, is_slow: bool) {
        self.media().sync_ms = if is_slow { SLOW_SYNC_MS } else { SYNC_MS };
    }

    pub fn set_full(&self, is_full: bool) {
        self.media().is_full = is_full;
    }

    pub fn is_full(&self) -> bool {
        self.media().is_full
    }

    pub fn fail_next_sync(&self) {
        self.media().fails_next_sync = true;
    }

    /// Flushes of states write a part, and fail, until the process has ended.
    pub fn fail_flushes(&self) {
        self.media().fails_flushes = true;
    }

    /// The next write to a state fails.
    pub fn fail_next_write(&self) {
        self.media().fails_next_write = true;
    }

    /// Milliseconds that the next sync takes.
    pub fn sync_ms(&self) -> u64 {
        let (least, most) = self.media().sync_ms;
        run::between(least, most)
    }

    /// Hands a batch of the log to the operating system; gives its number.
    pub fn write_log(&self, records: Vec<Record>) -> Result<u64, StoreError> {
        let mut media = self.media();
        if media.is_full {
            return Err(no_space());
        }
        for record in &records {
            apply(&mut media.visible, record);
        }
        media.batches += 1;
        let number = media.batches;
        media.written.push_back(Written { number, records });
        Ok(number)
    }

    /// Makes the batches up to this one durable.
    pub fn sync_log(&self, number: u64) -> Result<(), StoreError> {
        let mut media = self.media();
        if std::mem::take(&mut media.fails_next_sync) {
            return Err(io_error("sync of the simulated log"));
        }
        let out_of_order = run::planted(Planted::LogOutOfOrder);
        let (now, later) = std::mem::take(&mut media.written)
            .into_iter()
            .partition::<VecDeque<_>, _>(|written| {
                written.number == number || (written.number < number && !out_of_order)
            });
        media.written = later;
        for written in now {
            for record in &written.records {
                apply(&mut media.synced, record);
            }
        }
        run::note("sync", &[number]);
        Ok(())
    }

    /// What is left when the node ends.
    pub fn crash(&self, crash: Crash) {
        let mut media = self.media();
        let written = std::mem::take(&mut media.written);
        let kept = match crash {
            Crash::Killed => written.len(),
            Crash::PowerCut => run::between(0, written.len() as u64) as usize,
        };
        if kept < written.len() {
            run::count("writes of the log lost");
        }
        for written in written.into_iter().take(kept) {
            for record in &written.records {
                apply(&mut media.synced, record);
            }
        }
        media.visible = media.synced.clone();
        media.fails_next_sync = false;
        media.fails_flushes = false;
        media.fails_next_write = false;
        for state in media.states.values_mut() {
            let kept = run::between(0, state.pending.len() as u64) as usize;
            if kept < state.pending.len() {
                run::count("writes of the state lost");
            }
            state.flush(kept);
            state.pending.clear();
            state.live = state.flushed.clone();
            state.digest = digest_of(&state.live);
        }
    }

    /// What a process finds of the log. A hole is damage.
    pub fn recover(&self) -> Result<Vec<(PartitionId, Recovered)>, StoreError> {
        let media = self.media();
        let mut found = Vec::new();
        for (group, image) in &media.visible {
            let mut expected = image.purged.as_ref().map(|(index, _)| index + 1);
            for index in image.entries.keys() {
                if expected.is_some_and(|expected| expected != *index) {
                    return Err(StoreError::Corrupt {
                        what: format!(
                            "log of group {group}: {expected:?} is missing before {index}"
                        ),
                    });
                }
                expected = Some(index + 1);
            }
            let (first, last) = (
                image.entries.keys().next(),
                image.entries.keys().next_back(),
            );
            found.push((
                *group,
                Recovered {
                    vote: image.vote.clone(),
                    committed: image.committed.clone(),
                    purged: image.purged.clone(),
                    entries: first.copied().zip(last.copied()),
                },
            ));
        }
        Ok(found)
    }

    /// Entries of the log that are written, from `from` up to, without, `to`: as many as are there in a row.
    pub fn entries(&self, group: PartitionId, from: u64, to: u64) -> Vec<LogEntry> {
        let media = self.media();
        let Some(image) = media.visible.get(&group) else {
            return Vec::new();
        };
        let run = (from..).zip(image.entries.range(from..to.max(from)));
        let entries = run.take_while(|(expected, (index, _))| expected == *index);
        entries
            .map(|(index, (_, bytes))| LogEntry {
                index,
                bytes: bytes.clone(),
            })
            .collect()
    }

    /// Does something with a group's rows and their digest.
    pub fn read_rows<T>(&self, group: PartitionId, read: impl FnOnce(&MemoryRows, u64) -> T) -> T {
        let mut media = self.media();
        let state = media.states.entry(group).or_default();
        read(&state.live, state.digest)
    }

    pub fn write_rows(&self, group: PartitionId, mutations: &[Mutation]) -> Result<(), StoreError> {
        let mut media = self.media();
        if media.is_full {
            return Err(no_space());
        }
        if std::mem::take(&mut media.fails_next_write) {
            run::count("writes of the state failed");
            return Err(io_error("write to the simulated state"));
        }
        media.states.entry(group).or_default().write(mutations);
        Ok(())
    }

    pub fn flush_rows(&self, group: PartitionId) -> Result<(), StoreError> {
        let mut media = self.media();
        if media.is_full {
            return Err(no_space());
        }
        let fails = media.fails_flushes;
        let state = media.states.entry(group).or_default();
        if fails {
            run::count("flushes failed");
            // Some of the tables may be there.
            let kept = run::between(0, state.pending.len() as u64) as usize;
            state.flush(kept);
            return Err(io_error("flush of the simulated state"));
        }
        if !run::planted(Planted::FlushNotDurable) {
            state.flush(state.pending.len());
        }
        Ok(())
    }

    pub fn replace_rows(&self, group: PartitionId, rows: MemoryRows) {
        let mut media = self.media();
        let state = media.states.entry(group).or_default();
        state.pending.clear();
        state.digest = digest_of(&rows);
        state.flushed.clone_from(&rows);
        state.live = rows;
    }
}
