//! The RocksDB of the log: its options, what is found in it, and reads from it.
//!
//! Tuned for a run of keys that only grows at one end and is dropped at the other. Nothing is ever
//! merged: a group's flushed files do not overlap, so they move down a level without being rewritten,
//! and from there they are deleted whole once purged. Entries below the purged position that remain in
//! a file or in memory are invisible, because reads start above it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use rocksdb::{
    BoundColumnFamily, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, DBWithThreadMode,
    IteratorMode, MultiThreaded, Options, ReadOptions, WriteBatch, WriteOptions, properties,
};
use tidemill_types::PartitionId;

use super::{
    format::{self, Position},
    tail::Recovered,
};
use crate::{LogEntry, StoreError, StoreOptions, file, memory::SharedMemory, options};

pub const FOLDER: &str = "log";
const POSITIONS_FAMILY: &str = "default";
const FAMILY_MEMORY_BYTES: usize = 16 << 20;
/// Files at level 0 before they move down.
const FLUSHED_FILES: i32 = 2;
/// The WAL has a file for each time that memory fills up; when its bound is reached, so many more are there at most.
const WAL_FILES_BEYOND_BOUND: usize = 2;
const LEVELS: i32 = 2;
/// The last level may hold all: nothing but purging makes the log smaller.
const LEVEL_BYTES: u64 = 1 << 50;
const RECOVERY_READAHEAD_BYTES: usize = 2 << 20;

pub struct LogDatabase {
    db: DBWithThreadMode<MultiThreaded>,
    /// Groups that have a column family; RocksDB's binding does not list them.
    families: Mutex<BTreeSet<PartitionId>>,
    new_family: Options,
    synced: WriteOptions,
    unsynced: WriteOptions,
}

fn failed(what: &str) -> impl Fn(rocksdb::Error) -> StoreError {
    move |error| StoreError::rocksdb(format!("log: {what}"), &error)
}

fn database_options(store: &StoreOptions, exists: bool) -> Options {
    let mut options = options::database(store);
    // A log that was there and is not any more is damage, not a new node.
    options.create_if_missing(!exists);
    // The only mode that may be used with recycled files, whose ends look damaged by nature. What it
    // would take for an end too early is found by comparing with the mark.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // A sync of a file that does not grow leaves the file system's journal alone. All files that the bound lets go at
    // once are kept for reuse, or the next ones grow.
    let files_within_bound = store.wal_bytes_max as usize / family_memory_bytes(store);
    options.set_recycle_log_file_num(files_within_bound + WAL_FILES_BEYOND_BOUND);
    options.set_max_total_wal_size(store.wal_bytes_max);
    options.set_db_write_buffer_size(store.log_memory_bytes);
    options.set_avoid_unnecessary_blocking_io(true);
    options
}

/// What one group's entries take in memory before they are flushed.
fn family_memory_bytes(store: &StoreOptions) -> usize {
    FAMILY_MEMORY_BYTES.min(store.log_memory_bytes).max(1)
}

fn family_options(store: &StoreOptions, memory: &SharedMemory) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(family_memory_bytes(store));
    options.set_max_write_buffer_number(4);
    options.set_num_levels(LEVELS);
    options.set_level_compaction_dynamic_level_bytes(false);
    options.set_max_bytes_for_level_base(LEVEL_BYTES);
    options.set_target_file_size_base(FAMILY_MEMORY_BYTES as u64);
    options.set_level_zero_file_num_compaction_trigger(FLUSHED_FILES);
    options.set_level_zero_slowdown_writes_trigger(1 << 10);
    options.set_level_zero_stop_writes_trigger(1 << 11);
    options.set_compression_type(DBCompressionType::None);
    options.set_block_based_table_factory(&memory.blocks());
    options
}

impl LogDatabase {
    pub fn open(
        dir: &Path,
        store: &StoreOptions,
        memory: &SharedMemory,
        exists: bool,
    ) -> Result<Self, StoreError> {
        let path = dir.join(FOLDER);
        file::create_dir(&path)?;
        let mut options = database_options(store, exists);
        memory.apply(&mut options);
        if !options::direct_io_works(&path) {
            options.set_use_direct_io_for_flush_and_compaction(false);
        }
        let not_opened = |error: rocksdb::Error| {
            StoreError::rocksdb(format!("log: open {}", path.display()), &error)
        };
        let mut names = if exists || path.join("CURRENT").exists() {
            DBWithThreadMode::<MultiThreaded>::list_cf(&options, &path).map_err(not_opened)?
        } else {
            Vec::new()
        };
        if !names.iter().any(|name| name == POSITIONS_FAMILY) {
            names.push(POSITIONS_FAMILY.to_owned());
        }
        let groups = names
            .iter()
            .filter(|name| *name != POSITIONS_FAMILY)
            .map(|name| format::parse_family(name))
            .collect::<Result<_, _>>()?;
        let families = names
            .into_iter()
            .map(|name| ColumnFamilyDescriptor::new(name, family_options(store, memory)));
        let db =
            DBWithThreadMode::open_cf_descriptors(&options, &path, families).map_err(not_opened)?;
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        Ok(Self {
            db,
            families: Mutex::new(groups),
            new_family: family_options(store, memory),
            synced,
            unsynced: WriteOptions::default(),
        })
    }

    /// Number of the last change, in the WAL or in table files.
    pub fn sequence(&self) -> u64 {
        self.db.latest_sequence_number()
    }

    /// Finds all groups. With `verify`, reads every entry that is not purged; without, only the first
    /// and the last.
    pub fn recover(&self, verify: bool) -> Result<BTreeMap<PartitionId, Recovered>, StoreError> {
        let mut groups = BTreeMap::<_, Recovered>::new();
        for row in self.db.iterator(IteratorMode::Start) {
            let (key, value) = row.map_err(failed("read positions"))?;
            let (group, position) = format::parse_position(&key)?;
            let bytes = format::unseal(&key, &value)?;
            let found = groups.entry(group).or_default();
            match position {
                Position::Vote => found.vote = Some(bytes),
                Position::Committed => found.committed = Some(bytes),
                Position::Purged => found.purged = Some(format::parse_purged(bytes)?),
            }
        }
        for group in self.groups() {
            groups.entry(group).or_default();
        }
        for (group, found) in &mut groups {
            found.entries = self.recover_entries(*group, found.purged.as_ref(), verify)?;
        }
        Ok(groups)
    }

    fn recover_entries(
        &self,
        group: PartitionId,
        purged: Option<&(u64, Bytes)>,
        verify: bool,
    ) -> Result<Option<(u64, u64)>, StoreError> {
        let Some(family) = self.family(group) else {
            return Ok(None);
        };
        let from = purged.map_or(0, |(index, _)| index.saturating_add(1));
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(format::entry_key(group, from));
        options.set_readahead_size(RECOVERY_READAHEAD_BYTES);
        options.fill_cache(false);
        let mut rows = self.db.raw_iterator_cf_opt(&family, options);
        let mut found: Option<(u64, u64)> = None;
        let mut expected = purged.map(|_| from);
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            let index = format::entry_index(group, key)?;
            if let Some(expected) = expected
                && expected != index
            {
                return Err(missing(group, expected, index));
            }
            format::unseal(key, value)?;
            expected = Some(index.saturating_add(1));
            found = Some((found.map_or(index, |(first, _)| first), index));
            if verify {
                rows.next();
            } else {
                break;
            }
        }
        rows.status().map_err(failed("read entries"))?;
        if let (false, Some((first, _))) = (verify, found) {
            rows.seek_to_last();
            rows.status().map_err(failed("read the last entry"))?;
            if let Some((key, value)) = rows.item() {
                format::unseal(key, value)?;
                found = Some((first, format::entry_index(group, key)?));
            }
        }
        Ok(found)
    }

    /// Entries from `from` up to, without, `to`, all of which must be there, until their bytes exceed
    /// `bytes_max`; at least one.
    pub fn read(
        &self,
        group: PartitionId,
        from: u64,
        to: u64,
        bytes_max: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut next = from;
        if let Some(family) = self.family(group) {
            let mut options = ReadOptions::default();
            options.set_iterate_lower_bound(format::entry_key(group, from));
            options.set_iterate_upper_bound(format::entry_key(group, to));
            let mut rows = self.db.raw_iterator_cf_opt(&family, options);
            rows.seek_to_first();
            while let Some((key, value)) = rows.item() {
                let index = format::entry_index(group, key)?;
                if index != next {
                    return Err(missing(group, next, index));
                }
                let entry = format::unseal(key, value)?;
                bytes += entry.len();
                if bytes > bytes_max && !entries.is_empty() {
                    return Ok(entries);
                }
                entries.push(LogEntry {
                    index,
                    bytes: entry,
                });
                next += 1;
                rows.next();
            }
            rows.status().map_err(failed("read entries"))?;
        }
        if next < to {
            return Err(missing(group, next, to));
        }
        Ok(entries)
    }

    fn family(&self, group: PartitionId) -> Option<Arc<BoundColumnFamily<'_>>> {
        self.db.cf_handle(&format::family(group))
    }

    /// Makes place for a group's entries. Waits for the disk when the group is new.
    pub fn create_family(&self, group: PartitionId) -> Result<(), StoreError> {
        if self.family(group).is_none() {
            self.db
                .create_cf(format::family(group), &self.new_family)
                .map_err(failed("create a column family"))?;
            self.families
                .lock()
                .expect("nothing panics while it is held")
                .insert(group);
        }
        Ok(())
    }

    pub fn put_entry(&self, batch: &mut WriteBatch, group: PartitionId, entry: &LogEntry) {
        let family = self.family(group).expect("created before entries are put");
        let key = format::entry_key(group, entry.index);
        batch.put_cf(&family, key, format::seal(&key, &entry.bytes));
    }

    /// Removes entries from `first` up to and including `last`.
    pub fn delete_entries(
        &self,
        batch: &mut WriteBatch,
        group: PartitionId,
        first: u64,
        last: u64,
    ) {
        if let Some(family) = self.family(group) {
            let to = format::entry_key(group, last.saturating_add(1));
            batch.delete_range_cf(&family, format::entry_key(group, first), to);
        }
    }

    pub fn put_position(
        batch: &mut WriteBatch,
        group: PartitionId,
        position: Position,
        bytes: &[u8],
    ) {
        let key = format::position_key(group, position);
        batch.put(key, format::seal(&key, bytes));
    }

    pub fn write(&self, batch: WriteBatch, sync: bool) -> Result<(), StoreError> {
        let options = if sync { &self.synced } else { &self.unsynced };
        self.db.write_opt(batch, options).map_err(failed("write"))
    }

    /// Deletes the table files that hold nothing above `index`. To be called when the purged position
    /// is durable.
    pub fn delete_purged_files(&self, group: PartitionId, index: u64) -> Result<(), StoreError> {
        let Some(family) = self.family(group) else {
            return Ok(());
        };
        let (from, to) = (format::entry_key(group, 0), format::entry_key(group, index));
        self.db
            .delete_file_in_range_cf(&family, from, to)
            .map_err(failed("delete purged files"))
    }

    /// Reads every block and every entry.
    pub fn verify(&self) -> Result<(), StoreError> {
        self.recover(true).map(|_| ())
    }

    /// Failures of flushes and compactions, which no caller sees.
    pub fn background_errors(&self) -> u64 {
        self.property(properties::BACKGROUND_ERRORS)
    }

    /// Bytes of table files, and of what is not yet in any.
    pub fn sizes(&self) -> (u64, u64) {
        let mut sizes = (0, 0);
        for family in self
            .groups()
            .into_iter()
            .filter_map(|group| self.family(group))
        {
            let size = |property| {
                let value = self.db.property_int_value_cf(&family, property);
                value.ok().flatten().unwrap_or_default()
            };
            sizes.0 += size(properties::TOTAL_SST_FILES_SIZE);
            sizes.1 += size(properties::SIZE_ALL_MEM_TABLES);
        }
        sizes
    }

    fn groups(&self) -> BTreeSet<PartitionId> {
        let families = self.families.lock();
        families.expect("nothing panics while it is held").clone()
    }

    fn property(&self, name: &properties::PropName) -> u64 {
        let value = self.db.property_int_value(name);
        value.ok().flatten().unwrap_or_default()
    }
}

fn missing(group: PartitionId, expected: u64, found: u64) -> StoreError {
    StoreError::corrupt(format!(
        "log of partition {group}: entries from {expected} up to {found} are missing"
    ))
}
