//! One opened RocksDB of state, in its own directory.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use rocksdb::{
    DB, DBCompressionType, IteratorMode, Options, ReadOptions, ReadTier, WriteBatch, WriteOptions,
    properties,
};
use tidemill_rows::{AsChange, Change};

use crate::{StoreError, StoreOptions, file, memory::SharedMemory, options};

const BLOOM_BITS_PER_KEY: f64 = 10.0;
const BLOCK_BYTES: usize = 8 << 10;
/// Half of the bound of all: rows that are soon deleted again are gone before they are flushed.
const MEMORY_SHARE: usize = 2;
const VERIFY_READAHEAD_BYTES: usize = 2 << 20;

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
    dir: PathBuf,
    write: WriteOptions,
    delete: AtomicBool,
}

fn failed(what: &str) -> impl Fn(rocksdb::Error) -> StoreError {
    move |error| StoreError::rocksdb(format!("state: {what}"), &error)
}

fn database_options(store: &StoreOptions, memory: &SharedMemory) -> Options {
    let mut options = options::database(store);
    options.create_if_missing(true);
    memory.apply(&mut options);
    options.set_write_buffer_manager(memory.state_write_buffers());
    options.set_write_buffer_size(store.state_memory_bytes / MEMORY_SHARE);
    options.set_max_write_buffer_number(4);
    options.set_level_compaction_dynamic_level_bytes(true);
    // What was just written is soon merged or deleted again: only what stays is worth compressing.
    options.set_compression_type(DBCompressionType::None);
    options.set_bottommost_compression_type(DBCompressionType::Lz4);
    options.set_avoid_unnecessary_blocking_io(true);
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
        dir: PathBuf,
        create: bool,
        store: &StoreOptions,
        memory: &SharedMemory,
    ) -> Result<Self, StoreError> {
        file::create_dir(&dir)?;
        let mut options = database_options(store, memory);
        options.create_if_missing(create);
        if !options::direct_io_works(&dir) {
            options.set_use_direct_io_for_flush_and_compaction(false);
        }
        let db = DB::open(&options, &dir).map_err(|error| {
            StoreError::rocksdb(format!("state: open {}", dir.display()), &error)
        })?;
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        Ok(Self {
            db: Some(db),
            dir,
            write,
            delete: AtomicBool::new(false),
        })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn db(&self) -> &DB {
        self.db.as_ref().expect("closed only when dropped")
    }

    pub fn write<C: AsChange>(&self, changes: &[C]) -> Result<u64, StoreError> {
        let mut batch = WriteBatch::default();
        for change in changes {
            match change.as_change() {
                Change::Put { key, value } => batch.put(key, value),
                Change::Delete { key } => batch.delete(key),
                // RocksDB refuses a range that ends before it starts; it has no rows in it.
                Change::DeleteRange { from, to } if from < to => batch.delete_range(from, to),
                Change::DeleteRange { .. } => {}
            }
        }
        let bytes = batch.size_in_bytes() as u64;
        self.db()
            .write_opt(batch, &self.write)
            .map_err(failed("write"))?;
        Ok(bytes)
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let row = self.db().get_pinned(key).map_err(failed("read a row"))?;
        Ok(row.map(|row| Bytes::copy_from_slice(&row)))
    }

    pub fn durable(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::Persisted);
        let row = self
            .db()
            .get_pinned_opt(key, &options)
            .map_err(failed("read a durable row"))?;
        Ok(row.map(|row| Bytes::copy_from_slice(&row)))
    }

    pub fn flush(&self) -> Result<(), StoreError> {
        self.db().flush().map_err(failed("flush"))
    }

    pub fn verify(&self) -> Result<Verified, StoreError> {
        let mut options = ReadOptions::default();
        options.set_verify_checksums(true);
        options.fill_cache(false);
        options.set_readahead_size(VERIFY_READAHEAD_BYTES);
        let mut verified = Verified::default();
        for row in self.db().iterator_opt(IteratorMode::Start, options) {
            let (key, value) = row.map_err(failed("verify"))?;
            verified.rows += 1;
            verified.bytes += (key.len() + value.len()) as u64;
        }
        Ok(verified)
    }

    pub fn sizes(&self) -> (u64, u64) {
        let size = |property| {
            let value = self.db().property_int_value(property);
            value.ok().flatten().unwrap_or_default()
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
