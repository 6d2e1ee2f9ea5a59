//! What is known of a group's log without reading the disk: its positions and its last entries.
//!
//! Invariants: the cache is a run of entries that ends with the last one, and holds every entry that
//! is not yet written; so an entry that is not in it can be read from the database.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use tidemill_types::PartitionId;

use crate::{LogEntry, StoreError};

/// What an entry in memory costs beside its bytes, about.
const ENTRY_OVERHEAD: usize = 64;
/// A group may hold this part of the bound of all groups.
const GROUP_SHARE: usize = 4;

/// Bounds of the cache.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    all_groups: usize,
    one_group: usize,
}

impl Limits {
    pub fn new(all_groups: usize) -> Self {
        Self {
            all_groups,
            one_group: all_groups / GROUP_SHARE,
        }
    }
}

/// One group, for the handles and for the writer.
pub struct Group {
    pub id: PartitionId,
    tail: Mutex<Tail>,
    /// Appends are numbered; those up to this number are in the database. Set by the writer, which
    /// must not take the lock: a caller may hold it while it waits for room in the queue.
    written: Arc<AtomicU64>,
}

pub struct Tail {
    id: PartitionId,
    pub vote: Option<Bytes>,
    pub committed: Option<Bytes>,
    pub purged: Option<(u64, Bytes)>,
    pub first: Option<u64>,
    pub last: Option<u64>,
    /// Changes when entries are removed.
    pub generation: u64,
    cache: VecDeque<Cached>,
    cache_bytes: usize,
    all_groups_bytes: Arc<AtomicUsize>,
    appends: u64,
    written: Arc<AtomicU64>,
}

struct Cached {
    entry: LogEntry,
    written_when: u64,
}

impl Cached {
    fn cost(&self) -> usize {
        self.entry.bytes.len() + ENTRY_OVERHEAD
    }
}

/// What was found of a group when the log was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    pub vote: Option<Bytes>,
    pub committed: Option<Bytes>,
    pub purged: Option<(u64, Bytes)>,
    pub entries: Option<(u64, u64)>,
}

/// How a read goes on.
pub enum Reading {
    /// The cache had all of it.
    Whole(Vec<LogEntry>),
    /// Entries before `disk_to` must be read from the database; `cached` follow them.
    DiskTo {
        disk_to: u64,
        cached: Vec<LogEntry>,
        generation: u64,
    },
}

impl Group {
    pub fn new(id: PartitionId, all_groups_bytes: Arc<AtomicUsize>) -> Self {
        Self::recovered(id, Recovered::default(), all_groups_bytes)
    }

    pub fn recovered(
        id: PartitionId,
        found: Recovered,
        all_groups_bytes: Arc<AtomicUsize>,
    ) -> Self {
        let written = Arc::new(AtomicU64::new(0));
        let tail = Tail {
            id,
            vote: found.vote,
            committed: found.committed,
            purged: found.purged,
            first: found.entries.map(|(first, _)| first),
            last: found.entries.map(|(_, last)| last),
            generation: 0,
            cache: VecDeque::new(),
            cache_bytes: 0,
            all_groups_bytes,
            appends: 0,
            written: Arc::clone(&written),
        };
        Self {
            id,
            tail: Mutex::new(tail),
            written,
        }
    }

    pub fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().expect("nothing panics while it is held")
    }

    /// Says that the append with this number, and all before, can be read from the database.
    pub fn written(&self, written_when: u64) {
        self.written.store(written_when, Ordering::Release);
    }

    /// The last append that can be read from the database.
    pub fn is_written_up_to(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }
}

impl Tail {
    /// The number of the last append.
    pub fn appends(&self) -> u64 {
        self.appends
    }

    /// Takes entries in; gives the number of this append.
    pub fn append(&mut self, entries: &[LogEntry], limits: &Limits) -> Result<u64, StoreError> {
        let mut expected = match (self.last, &self.purged) {
            (Some(last), _) => Some(last.saturating_add(1)),
            (None, Some((purged, _))) => Some(purged.saturating_add(1)),
            (None, None) => None,
        };
        for entry in entries {
            if expected.is_some_and(|expected| expected != entry.index) {
                return Err(StoreError::corrupt(format!(
                    "log of partition {}: entry {} was appended, the next is {}",
                    self.id,
                    entry.index,
                    expected.unwrap_or_default()
                )));
            }
            expected = Some(entry.index.saturating_add(1));
        }
        self.appends += 1;
        if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            self.first.get_or_insert(first.index);
            self.last = Some(last.index);
        }
        for entry in entries {
            let cached = Cached {
                entry: entry.clone(),
                written_when: self.appends,
            };
            self.account(cached.cost(), 0);
            self.cache.push_back(cached);
        }
        self.evict(limits);
        Ok(self.appends)
    }

    /// Removes entries from `index` on; gives the range that was there.
    pub fn truncate_from(&mut self, index: u64) -> Result<Option<(u64, u64)>, StoreError> {
        if let Some((purged, _)) = self.purged
            && index <= purged
        {
            return Err(StoreError::corrupt(format!(
                "log of partition {}: truncated from {index}, but purged up to {purged}",
                self.id
            )));
        }
        let (Some(first), Some(last)) = (self.first, self.last) else {
            return Ok(None);
        };
        if index > last {
            return Ok(None);
        }
        self.generation += 1;
        while let Some(cached) = self.cache.pop_back() {
            if cached.entry.index < index {
                self.cache.push_back(cached);
                break;
            }
            self.account(0, cached.cost());
        }
        if index > first {
            self.last = Some(index - 1);
        } else {
            self.first = None;
            self.last = None;
        }
        Ok(Some((index.max(first), last)))
    }

    /// Removes entries up to `index`; false when as much was purged before.
    pub fn purge_to(&mut self, index: u64, marker: &Bytes) -> bool {
        if let Some((purged, _)) = self.purged
            && index <= purged
        {
            return false;
        }
        self.generation += 1;
        self.purged = Some((index, marker.clone()));
        // Also those that the writer has not seen yet: nobody reads them again.
        while let Some(cached) = self.cache.pop_front() {
            if cached.entry.index > index {
                self.cache.push_front(cached);
                break;
            }
            self.account(0, cached.cost());
        }
        match self.last {
            Some(last) if last > index => {
                self.first = self.first.map(|first| first.max(index + 1));
            }
            _ => {
                self.first = None;
                self.last = None;
            }
        }
        true
    }

    pub fn read(&self, from: u64, to: u64, bytes_max: usize) -> Result<Reading, StoreError> {
        if let Some((purged, _)) = self.purged
            && from <= purged
            && from < to
        {
            return Err(StoreError::Purged {
                group: self.id,
                index: from,
                purged,
            });
        }
        let (Some(first), Some(last)) = (self.first, self.last) else {
            return Ok(Reading::Whole(Vec::new()));
        };
        let to = to.min(last.saturating_add(1));
        if from >= to {
            return Ok(Reading::Whole(Vec::new()));
        }
        if from < first {
            return Err(StoreError::corrupt(format!(
                "log of partition {}: entry {from} was read, the first is {first}",
                self.id
            )));
        }
        let cache_first = self
            .cache
            .front()
            .map_or(last.saturating_add(1), |cached| cached.entry.index);
        let skip = usize::try_from(from.saturating_sub(cache_first)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let mut cached = Vec::new();
        for next in self.cache.iter().skip(skip) {
            bytes += next.entry.bytes.len();
            if next.entry.index >= to || (bytes > bytes_max && !cached.is_empty()) {
                break;
            }
            cached.push(next.entry.clone());
        }
        if from >= cache_first {
            return Ok(Reading::Whole(cached));
        }
        Ok(Reading::DiskTo {
            disk_to: to.min(cache_first),
            cached,
            generation: self.generation,
        })
    }

    fn evict(&mut self, limits: &Limits) {
        let written = self.written.load(Ordering::Acquire);
        while self.cache_bytes > limits.one_group
            || self.all_groups_bytes.load(Ordering::Relaxed) > limits.all_groups
        {
            let Some(cached) = self.cache.pop_front() else {
                break;
            };
            if cached.written_when > written {
                self.cache.push_front(cached);
                break;
            }
            self.account(0, cached.cost());
        }
    }

    fn account(&mut self, more: usize, less: usize) {
        self.cache_bytes = self.cache_bytes + more - less;
        self.all_groups_bytes.fetch_add(more, Ordering::Relaxed);
        self.all_groups_bytes.fetch_sub(less, Ordering::Relaxed);
    }
}
