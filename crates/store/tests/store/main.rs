//! The store from outside: real files, reopened, killed, damaged.

mod damage;
mod kill;
mod log;
mod model;
mod node;
mod state;
mod sync;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, sync_channel},
    time::Duration,
};

use bytes::Bytes;
use tidemill_store::{
    Done, LogEntry, LogStore, NodeStore, StoreError, StoreIdentity, StoreOptions,
};
use tidemill_types::{NodeId, PartitionId};

const GROUP: PartitionId = PartitionId(1);
const MIB: usize = 1 << 20;
/// Nothing here takes long; it only bounds a test that hangs.
const DEADLINE: Duration = Duration::from_secs(120);

fn identity() -> StoreIdentity {
    StoreIdentity::new("test", NodeId(1))
}

/// Small bounds, so that little data reaches all code.
fn small() -> StoreOptions {
    StoreOptions {
        reserve_bytes: 0,
        block_cache_bytes: MIB,
        state_memory_bytes: MIB,
        log_memory_bytes: MIB,
        log_tail_bytes: 4096,
        wal_bytes_max: 4 * MIB as u64,
        ..StoreOptions::default()
    }
}

fn open(dir: &Path) -> NodeStore {
    NodeStore::open(dir, &identity(), small()).expect("open")
}

/// A `done` and where it reports to.
fn done() -> (Done, Receiver<Result<(), StoreError>>) {
    let (sender, receiver) = sync_channel(1);
    let done: Done = Box::new(move |result| {
        let _ = sender.send(result);
    });
    (done, receiver)
}

fn wait(receiver: &Receiver<Result<(), StoreError>>) -> Result<(), StoreError> {
    receiver.recv_timeout(DEADLINE).expect("done is called")
}

/// Runs one operation to its end.
fn sync(run: impl FnOnce(Done)) -> Result<(), StoreError> {
    let (done, receiver) = done();
    run(done);
    wait(&receiver)
}

/// An entry whose bytes follow from its index and salt.
fn entry(index: u64, salt: u8, len: usize) -> LogEntry {
    let seed = index.to_be_bytes();
    let bytes: Vec<u8> = (0..len)
        .map(|at| seed[at % 8] ^ salt ^ (at / 8) as u8)
        .collect();
    LogEntry {
        index,
        bytes: Bytes::from(bytes),
    }
}

fn append(log: &LogStore, indexes: std::ops::Range<u64>, len: usize) {
    let entries = indexes.map(|index| entry(index, 0, len)).collect();
    sync(|done| log.append(entries, done)).expect("append");
}

/// The files of a folder with this extension that are not empty, with their lengths. RocksDB may rename or delete some
/// meanwhile.
fn files(dir: &Path, extension: &str) -> BTreeMap<PathBuf, u64> {
    fs::read_dir(dir)
        .expect("list")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .filter_map(|path| {
            let bytes = path.metadata().ok()?.len();
            (bytes > 0).then_some((path, bytes))
        })
        .collect()
}

fn read_all(log: &LogStore, from: u64) -> Vec<LogEntry> {
    log.read(from, u64::MAX, usize::MAX).expect("read")
}
