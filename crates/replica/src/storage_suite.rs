//! openraft's own suite for storage, over the real store.

use std::{path::Path, sync::Arc};

use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
    type_config::TypeConfigExt,
};
use tempfile::TempDir;
use tidemill_store::{NodeStore, StoreIdentity, StoreOptions};
use tidemill_types::{NodeId, PartitionId};

use crate::{log::Log, machine::Machine, raft::Types, shared::Shared};

struct Builder;

/// What must outlive the storage under test, in the order in which it is dropped.
struct Guard(#[allow(dead_code)] NodeStore, #[allow(dead_code)] TempDir);

impl StoreBuilder<Types, Log, Machine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, Log, Machine), StorageError<Types>> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let identity = StoreIdentity::new("suite", NodeId(1));
        let store =
            NodeStore::open(dir.path(), &identity, StoreOptions::default()).expect("new store");
        let group = PartitionId(3);
        let state = store.state(group).expect("new state");
        let machine = Machine::open(
            group,
            state,
            Arc::new(Shared::new(u64::MAX)),
            Arc::<Path>::from(dir.path()),
        )
        .expect("new machine");
        let log = Log::new(store.log(group), Arc::new(Shared::new(u64::MAX)));
        Ok((Guard(store, dir), log, machine))
    }
}

#[test]
fn passes_the_storage_suite() {
    Types::run(async {
        Suite::test_all(Builder).await.expect("suite");
    });
}
