//! What an actor needs of its Raft group: an interface, so that tests can stand in for the log.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use tidemill_core::{Rows, RowsError};
use tidemill_replica::{Committed, Group, Leadership, ProposeError, ReadError, StoppedGroup};
use tidemill_rows::{EncodedBatch, Epoch, Key};
use tidemill_store::{StateStore, StateView, StoreError};
use tidemill_types::PartitionId;
use tokio::sync::watch;

/// Rows that can be read from any thread.
pub type SharedRows = Arc<dyn Rows + Send + Sync>;

/// One Raft group, as its actor sees it. The futures are boxed: one allocation for a batch of many
/// commands is nothing beside its fsync, and the actor's own type stays free of the log's.
pub trait GroupLog: Send + Sync + 'static {
    /// The partition.
    fn id(&self) -> PartitionId;
    /// Who leads; changes are told at once.
    fn leadership(&self) -> watch::Receiver<Leadership>;
    /// Commits the start of a new epoch and waits until it is applied here.
    fn start_epoch(&self) -> BoxFuture<'static, Result<Epoch, ProposeError>>;
    /// Queues a batch; the order of calls is the order in the log.
    fn propose(&self, batch: EncodedBatch) -> BoxFuture<'static, Result<Committed, ProposeError>>;
    /// Returns when everything acknowledged before the call is applied here.
    fn read_barrier(&self) -> BoxFuture<'static, Result<(), ReadError>>;
    /// How far the log is applied here: the rows are the same as long as this is.
    fn applied(&self) -> u64;
    /// The rows as they are applied, always the newest.
    fn rows(&self) -> SharedRows;
    /// The rows as they are now, unchanged by what is applied later.
    fn snapshot(&self) -> SharedRows;
    /// Why the group has stopped on this node, if it has.
    fn fault(&self) -> Option<String>;
    /// Stops the group on this node and gives leadership away: its rows are damaged.
    fn retire(&self, reason: &str);
}

/// A group of the replica.
pub(crate) struct ReplicaLog {
    group: Group,
}

impl ReplicaLog {
    pub(crate) fn new(group: Group) -> Self {
        Self { group }
    }
}

impl GroupLog for ReplicaLog {
    fn id(&self) -> PartitionId {
        self.group.id()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.group.leadership()
    }

    fn start_epoch(&self) -> BoxFuture<'static, Result<Epoch, ProposeError>> {
        let group = self.group.clone();
        Box::pin(async move { group.start_epoch().await })
    }

    fn propose(&self, batch: EncodedBatch) -> BoxFuture<'static, Result<Committed, ProposeError>> {
        // Outside of the future: the call, not the first poll, gives the batch its place.
        Box::pin(self.group.propose(batch))
    }

    fn read_barrier(&self) -> BoxFuture<'static, Result<(), ReadError>> {
        let group = self.group.clone();
        Box::pin(async move { group.read_barrier().await })
    }

    fn applied(&self) -> u64 {
        self.group.applied()
    }

    fn rows(&self) -> SharedRows {
        Arc::new(StoreRows(self.group.state()))
    }

    fn snapshot(&self) -> SharedRows {
        Arc::new(ViewRows(self.group.state().view()))
    }

    fn fault(&self) -> Option<String> {
        self.group.fault()
    }

    fn retire(&self, reason: &str) {
        self.group.retire(reason);
    }
}

/// A group that could not be opened on this node: another node serves it, here it has nothing but a reason.
impl GroupLog for StoppedGroup {
    fn id(&self) -> PartitionId {
        self.id()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership()
    }

    fn start_epoch(&self) -> BoxFuture<'static, Result<Epoch, ProposeError>> {
        let reason = self.reason().to_owned();
        Box::pin(std::future::ready(Err(ProposeError::Stopped { reason })))
    }

    fn propose(&self, _: EncodedBatch) -> BoxFuture<'static, Result<Committed, ProposeError>> {
        let reason = self.reason().to_owned();
        Box::pin(std::future::ready(Err(ProposeError::Stopped { reason })))
    }

    fn read_barrier(&self) -> BoxFuture<'static, Result<(), ReadError>> {
        let reason = self.reason().to_owned();
        Box::pin(std::future::ready(Err(ReadError::Stopped { reason })))
    }

    fn applied(&self) -> u64 {
        0
    }

    fn rows(&self) -> SharedRows {
        Arc::new(NoRows(self.reason().to_owned()))
    }

    fn snapshot(&self) -> SharedRows {
        self.rows()
    }

    fn fault(&self) -> Option<String> {
        Some(self.reason().to_owned())
    }

    fn retire(&self, _: &str) {}
}

/// Rows that cannot be read: never an empty answer.
struct NoRows(String);

impl Rows for NoRows {
    fn get(&self, _: &[u8]) -> Result<Option<Bytes>, RowsError> {
        Err(RowsError(self.0.clone()))
    }

    fn scan(&self, _: &[u8], _: &[u8], _: usize, _: bool) -> Result<Vec<(Key, Bytes)>, RowsError> {
        Err(RowsError(self.0.clone()))
    }
}

/// The applied rows, always the newest: what a decider reads, under its ledger.
struct StoreRows(StateStore);

/// The applied rows at one moment: what a reader of several rows needs.
struct ViewRows(StateView);

fn unreadable(error: &StoreError) -> RowsError {
    RowsError(error.to_string())
}

impl Rows for StoreRows {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError> {
        self.0.get(key).map_err(|error| unreadable(&error))
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(Key, Bytes)>, RowsError> {
        self.0
            .scan(from, to, limit, reverse)
            .map_err(|error| unreadable(&error))
    }
}

impl Rows for ViewRows {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError> {
        self.0.get(key).map_err(|error| unreadable(&error))
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(Key, Bytes)>, RowsError> {
        self.0
            .scan(from, to, limit, reverse)
            .map_err(|error| unreadable(&error))
    }
}
