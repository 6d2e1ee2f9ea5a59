//! One opened RocksDB of state, in its own directory.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBPinnableSlice, FlushOptions,
    IteratorMode, Options, ReadOptions, ReadTier, WriteBatch, WriteOptions, properties,
};
use tidemill_rows::{AsChange, Change};
use tidemill_types::PartitionId;

use super::families::{Families, Family};
use crate::{StoreError, StoreOptions, file, memory::SharedMemory, options};

const BLOOM_BITS_PER_KEY: f64 = 10.0;
const BLOCK_BYTES: usize = 8 << 10;
/// Larger ones would be rewritten for little, smaller ones would be many.
const ASCENDING_FILE_BYTES: u64 = 8 << 20;
/// RocksDB's own number.
const LEVELS: usize = 7;
/// Half of the bound of all: rows that are soon deleted again are gone before they are flushed.
const MEMORY_SHARE: usize = 2;
const VERIFY_READAHEAD_BYTES: usize = 2 << 20;
/// RocksDB rewrites a file of the lowest level, once no view needs what is in it any more, to forget at what point rows
/// were written. Where keys ascend, rows of many files are never changed, and it would double the work.
const BOTTOM_REWRITTEN_AFTER: &str = "bottommost_file_compaction_delay";
/// The longest that it takes: 136 years.
const NEVER: &str = "4294967295";
/// Rows of another layout that are moved in one batch.
const MOVED_TOGETHER: usize = 1_000;

/// What [`crate::StateStore::verify`] has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Rows.
    pub rows: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

pub struct StateDatabase {
    /// None only while it is dropped: it must be closed before its files go.
    db: Option<DB>,
    families: Families,
    dir: PathBuf,
    write: WriteOptions,
    delete: AtomicBool,
}

fn failed(what: &str) -> impl Fn(rocksdb::Error) -> StoreError {
    move |error| StoreError::rocksdb(format!("state: {what}"), &error)
}

fn database_options(store: &StoreOptions, memory: &SharedMemory) -> Options {
    let mut options = options::database(store);
    memory.apply(&mut options);
    options.set_write_buffer_manager(memory.state_write_buffers());
    // Without a WAL this is what leaves all of a batch or nothing: its rows lie in several families.
    options.set_atomic_flush(true);
    options.set_avoid_unnecessary_blocking_io(true);
    options
}

fn family_options(family: Family, store: &StoreOptions, memory: &SharedMemory) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(store.state_memory_bytes / MEMORY_SHARE);
    options.set_max_write_buffer_number(4);
    options.set_level_compaction_dynamic_level_bytes(true);
    match family {
        // Its files are never merged, only moved down: what is not compressed at once never is.
        Family::Journal => options.set_compression_type(DBCompressionType::Lz4),
        // They are merged once, since those of executions that ran meanwhile overlap, and then moved down.
        Family::Executions
        | Family::Steps
        | Family::Messages
        | Family::Requests
        | Family::Timers
        | Family::ByFlow => {
            let mut by_level = [DBCompressionType::Lz4; LEVELS];
            by_level[0] = DBCompressionType::None;
            options.set_compression_per_level(&by_level);
        }
        // What was just written is soon merged or deleted again: only what stays is worth compressing.
        Family::Others => {
            options.set_compression_type(DBCompressionType::None);
            options.set_bottommost_compression_type(DBCompressionType::Lz4);
        }
    }
    if family.ascends() {
        // What comes next overlaps the end of what is there, which is written anew with it: so that is to be short.
        options.set_target_file_size_base(ASCENDING_FILE_BYTES);
    }
    let mut blocks = memory.blocks();
    blocks.set_block_size(BLOCK_BYTES);
    blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    blocks.set_whole_key_filtering(true);
    blocks.set_optimize_filters_for_memory(true);
    options.set_block_based_table_factory(&blocks);
    options
}

impl StateDatabase {
    /// Opens the database in `dir`; creates one when `create`.
    pub fn open(
        group: PartitionId,
        dir: PathBuf,
        create: bool,
        store: &StoreOptions,
        memory: &SharedMemory,
    ) -> Result<Self, StoreError> {
        file::create_dir(&dir)?;
        let mut options = database_options(store, memory);
        options.create_if_missing(create);
        options.create_missing_column_families(true);
        if !options::direct_io_works(&dir) {
            options.set_use_direct_io_for_flush_and_compaction(false);
        }
        let shown = dir.display().to_string();
        let not_opened =
            |error: rocksdb::Error| StoreError::rocksdb(format!("state: open {shown}"), &error);
        let descriptors = Family::ALL.map(|family| {
            ColumnFamilyDescriptor::new(family.name(), family_options(family, store, memory))
        });
        let db = DB::open_cf_descriptors(&options, &dir, descriptors).map_err(not_opened)?;
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        let database = Self {
            db: Some(db),
            families: Families::new(group),
            dir,
            write,
            delete: AtomicBool::new(false),
        };
        for family in Family::ALL.into_iter().filter(|family| family.ascends()) {
            let options = [(BOTTOM_REWRITTEN_AFTER, NEVER)];
            let set = database
                .db()
                .set_options_cf(database.family(family), &options);
            set.map_err(not_opened)?;
            database.move_into(family)?;
        }
        Ok(database)
    }

    /// Gives a family its rows that lie with the others, as all did before it had a family. What is on disk of a row is
    /// at each moment the one or the other; what a crash left where it was is found when the state is opened again, so
    /// this looks each time.
    fn move_into(&self, family: Family) -> Result<(), StoreError> {
        let Some((from, to)) = self.families.range(family) else {
            return Ok(());
        };
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(&*from);
        options.set_iterate_upper_bound(&*to);
        let others = self.family(Family::Others);
        let mut rows = self.db().raw_iterator_cf_opt(others, options);
        rows.seek_to_first();
        let mut moved = 0_u64;
        while rows.valid() {
            let mut batch = WriteBatch::default();
            while batch.len() < 2 * MOVED_TOGETHER
                && let Some((key, value)) = rows.item()
            {
                batch.put_cf(self.family(family), key, value);
                batch.delete_cf(others, key);
                rows.next();
            }
            moved += batch.len() as u64 / 2;
            let written = self.db().write_opt(batch, &self.write);
            written.map_err(failed("move rows into their family"))?;
        }
        rows.status().map_err(failed("read rows to be moved"))?;
        if moved > 0 {
            tracing::info!(dir = %self.dir.display(), family = family.name(), moved, "rows moved into a column family of their own");
            self.flush()?;
            // Or each look goes over all that was deleted.
            self.db().compact_range_cf(others, Some(&*from), Some(&*to));
        }
        Ok(())
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn db(&self) -> &DB {
        self.db.as_ref().expect("closed only when dropped")
    }

    pub fn families(&self) -> Families {
        self.families
    }

    pub fn family(&self, family: Family) -> &ColumnFamily {
        let handle = self.db().cf_handle(family.name());
        handle.expect("all families are opened with the database")
    }

    pub fn write<C: AsChange>(&self, changes: &[C]) -> Result<u64, StoreError> {
        let handles = Family::ALL.map(|family| self.family(family));
        let of = |key: &[u8]| handles[self.families.of(key) as usize];
        let mut batch = WriteBatch::default();
        for change in changes {
            match change.as_change() {
                Change::Put { key, value } => batch.put_cf(of(key), key, value),
                Change::Delete { key } => batch.delete_cf(of(key), key),
                // RocksDB refuses a range that ends before it starts; it has no parts.
                Change::DeleteRange { from, to } => {
                    for (family, from, to) in self.families.parts(from, to) {
                        batch.delete_range_cf(handles[family as usize], &*from, &*to);
                    }
                }
            }
        }
        let bytes = batch.size_in_bytes() as u64;
        self.db()
            .write_opt(batch, &self.write)
            .map_err(failed("write"))?;
        Ok(bytes)
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let family = self.family(self.families.of(key));
        let row = self.db().get_pinned_cf(family, key);
        copied(row, "read a row")
    }

    pub fn durable(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::Persisted);
        let family = self.family(self.families.of(key));
        let row = self.db().get_pinned_cf_opt(family, key, &options);
        copied(row, "read a durable row")
    }

    pub fn flush(&self) -> Result<(), StoreError> {
        let all = Family::ALL.map(|family| self.family(family));
        self.db()
            .flush_cfs_opt(&all, &FlushOptions::default())
            .map_err(failed("flush"))
    }

    pub fn verify(&self) -> Result<Verified, StoreError> {
        let mut verified = Verified::default();
        for family in Family::ALL {
            let mut options = ReadOptions::default();
            options.set_verify_checksums(true);
            options.fill_cache(false);
            options.set_readahead_size(VERIFY_READAHEAD_BYTES);
            let family = self.family(family);
            for row in self
                .db()
                .iterator_cf_opt(family, options, IteratorMode::Start)
            {
                let (key, value) = row.map_err(failed("verify"))?;
                verified.rows += 1;
                verified.bytes += (key.len() + value.len()) as u64;
            }
        }
        Ok(verified)
    }

    pub fn sizes(&self) -> (u64, u64) {
        let size = |property| {
            Family::ALL
                .into_iter()
                .map(|family| {
                    let family = self.family(family);
                    let value = self.db().property_int_value_cf(family, property);
                    value.ok().flatten().unwrap_or_default()
                })
                .sum()
        };
        (
            size(properties::TOTAL_SST_FILES_SIZE),
            size(properties::SIZE_ALL_MEM_TABLES),
        )
    }

    /// The files go when the last view of this state goes.
    pub fn delete_when_closed(&self) {
        self.delete.store(true, Ordering::Release);
    }
}

fn copied(
    row: Result<Option<DBPinnableSlice<'_>>, rocksdb::Error>,
    what: &str,
) -> Result<Option<Bytes>, StoreError> {
    let row = row.map_err(failed(what))?;
    Ok(row.map(|row| Bytes::copy_from_slice(&row)))
}

impl Drop for StateDatabase {
    fn drop(&mut self) {
        self.db = None;
        if self.delete.load(Ordering::Acquire)
            && let Err(error) = fs::remove_dir_all(&self.dir)
        {
            // Removed at the next start.
            tracing::warn!(dir = %self.dir.display(), %error, "replaced state not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemill_rows::{Key, Mutation, Table, key};

    use super::*;

    const GROUP: PartitionId = PartitionId(1);
    /// Two that lie with the others, and one of each other family.
    const TABLES: [Table; 9] = [
        Table::Fence,
        Table::Execution,
        Table::Step,
        Table::Message,
        Table::Request,
        Table::Timer,
        Table::Lease,
        Table::ExecutionByFlow,
        Table::Journal,
    ];

    fn rows() -> Vec<Mutation> {
        let mut rows = Vec::new();
        for table in TABLES {
            for number in 0..3 * MOVED_TOGETHER as u64 / 2 {
                let mut key = key::start(GROUP, table);
                key.put_u64(number);
                rows.push(Mutation::Put {
                    key: key.freeze(),
                    value: Bytes::copy_from_slice(&number.to_be_bytes()),
                });
            }
        }
        rows
    }

    fn in_family(database: &StateDatabase, family: Family) -> usize {
        let family = database.family(family);
        let rows = database.db().iterator_cf(family, IteratorMode::Start);
        rows.inspect(|row| assert!(row.is_ok())).count()
    }

    #[test]
    fn a_state_of_one_family_gets_the_others_when_it_is_opened() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("state");
        let (store, rows) = (StoreOptions::default(), rows());
        let mut old = Options::default();
        old.create_if_missing(true);
        let database = DB::open(&old, &path).expect("as it was");
        for row in &rows {
            if let Mutation::Put { key, value } = row {
                database.put(key, value).expect("put");
            }
        }
        drop(database);
        let memory = SharedMemory::new(&store).expect("memory");
        // Twice: the second time all is where it belongs.
        for _ in 0..2 {
            let database = StateDatabase::open(GROUP, path.clone(), false, &store, &memory);
            let database = database.expect("opened");
            for row in &rows {
                let Mutation::Put { key, value } = row else {
                    unreachable!("all are written")
                };
                assert_eq!(database.get(key), Ok(Some(value.clone())));
            }
            let each = rows.len() / TABLES.len();
            assert_eq!(in_family(&database, Family::Others), 2 * each);
            for family in Family::ALL.into_iter().filter(|family| family.ascends()) {
                assert_eq!(in_family(&database, family), each, "{family:?}");
            }
            assert_eq!(database.verify().expect("whole").rows, rows.len() as u64);
        }
    }

    #[test]
    fn a_state_whose_rows_were_not_all_moved_is_moved_on() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("state");
        let (store, rows) = (StoreOptions::default(), rows());
        let memory = SharedMemory::new(&store).expect("memory");
        // As a crash leaves it: the families are there, and some rows of theirs lie with the others.
        let database = StateDatabase::open(GROUP, path.clone(), true, &store, &memory);
        let database = database.expect("created");
        for (number, row) in rows.iter().enumerate() {
            let Mutation::Put { key, value } = row else {
                unreachable!("all are written")
            };
            let family = if number % 3 == 0 {
                database.families().of(key)
            } else {
                Family::Others
            };
            let written =
                database
                    .db()
                    .put_cf_opt(database.family(family), key, value, &database.write);
            written.expect("put");
        }
        database.flush().expect("flushed");
        drop(database);
        let database = StateDatabase::open(GROUP, path, false, &store, &memory).expect("opened");
        let each = rows.len() / TABLES.len();
        for family in Family::ALL.into_iter().filter(|family| family.ascends()) {
            assert_eq!(in_family(&database, family), each, "{family:?}");
        }
        assert_eq!(in_family(&database, Family::Others), 2 * each);
    }

    #[test]
    fn a_range_may_be_of_several_families() {
        let dir = tempfile::tempdir().expect("dir");
        let store = StoreOptions::default();
        let memory = SharedMemory::new(&store).expect("memory");
        let path = dir.path().to_owned();
        let database = StateDatabase::open(GROUP, path, true, &store, &memory).expect("opened");
        database.write(&rows()).expect("written");
        let from = Key::from(&key::prefix(GROUP, Table::Step));
        let to = Key::from(&key::prefix(GROUP, Table::Journal));
        database
            .write(&[Mutation::DeleteRange { from, to }])
            .expect("deleted");
        let each = rows().len() / TABLES.len();
        let left = Family::ALL.map(|family| in_family(&database, family));
        assert_eq!(left, [each, each, 0, 0, 0, 0, 0, each]);
    }
}
