//! openraft's own suite for storage, over the real store.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use futures::StreamExt as _;
use openraft::{
    StorageError,
    entry::RaftEntry as _,
    storage::{RaftLogReader as _, RaftLogStorageExt as _},
    testing::log::{StoreBuilder, Suite},
    type_config::TypeConfigExt,
};
use tempfile::TempDir;
use tidemill_store::{NodeStore, StoreIdentity, StoreOptions};
use tidemill_types::{NodeId, PartitionId};

use crate::{
    log::Log,
    machine::Machine,
    raft::{Entry, Payload, Types, log_id},
    shared::Shared,
};

const GROUP: PartitionId = PartitionId(3);

struct Builder;

/// What must outlive the storage under test, in the order in which it is dropped.
struct Guard(#[allow(dead_code)] NodeStore, #[allow(dead_code)] TempDir);

impl StoreBuilder<Types, Log, Machine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, Log, Machine), StorageError<Types>> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let identity = StoreIdentity::new("suite", NodeId(1));
        let store =
            NodeStore::open(dir.path(), &identity, StoreOptions::default()).expect("new store");
        let state = store.state(GROUP).expect("new state");
        let machine = Machine::open(
            GROUP,
            state,
            Arc::new(Shared::new(u64::MAX)),
            Arc::<Path>::from(dir.path()),
        )
        .expect("new machine");
        let log = Log::new(store.log(GROUP), Arc::new(Shared::new(u64::MAX)));
        Ok((Guard(store, dir), log, machine))
    }
}

/// The suite wants that to be no error in a log that is well.
#[tokio::test]
async fn a_log_that_has_failed_says_so_to_who_applies_what_it_never_took() {
    let (Guard(store, _dir), mut log, _) = Builder.build().await.expect("new store");
    let entry = |index| Entry::new(log_id(1, index), Payload::Blank);
    log.blocking_append([entry(0)]).await.expect("appended");
    store
        .log(GROUP)
        .save_vote(Bytes::new(), Box::new(|_| panic!("a caller's mistake")));
    log.blocking_append([entry(1)]).await.ok();
    log.blocking_append([entry(2)])
        .await
        .expect_err("the store has stopped");
    let entries = log.entries_stream(0..3).await;
    let entries: Vec<_> = entries.map(|entry| entry.is_ok()).collect().await;
    assert_eq!(entries.first(), Some(&true));
    assert_eq!(entries.last(), Some(&false));
}

#[test]
fn passes_the_storage_suite() {
    Types::run(async {
        Suite::test_all(Builder).await.expect("suite");
    });
}
