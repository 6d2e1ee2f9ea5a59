//! The state machine: puts what the log decided into the state, by the fence's rule.
//!
//! It decides nothing else. Whatever it cannot read stops the group on this node, loudly: a replica
//! that skipped an entry would no longer equal the others.

use std::io;

use futures::{Stream, StreamExt, stream::Peekable};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot,
    storage::{ApplyResponder, EntryResponder, RaftStateMachine},
};
use std::{path::Path, pin::Pin, sync::Arc};
use tidemill_rows::{AsChange, Change, CheckedBatch, Epoch, Fence, Key, Mutation, Table, key};
use tidemill_store::{StateStore, StoreError};
use tidemill_types::PartitionId;
use tokio::time::sleep;

use crate::{
    codec,
    limits::{APPLY_WRITE_BYTES_MAX, APPLY_WRITE_ENTRIES_MAX, SPACE_PAUSE},
    log::io_error,
    platform::run_blocking,
    raft::{Applied, Command, Entry, LogId, SnapshotMeta, StoredMembership, Types},
    shared::Shared,
    snapshot::SnapshotSource,
};

/// Rows of `Table::Replica`, by the byte after the prefix.
const ROW_APPLIED: u8 = 1;
const ROW_MEMBERSHIP: u8 = 2;

/// What the replica keeps in the state beside the batches' rows.
#[derive(Clone, Debug, Default)]
struct Rows {
    applied: Option<LogId>,
    membership: StoredMembership,
    fence: Fence,
}

/// The state machine of one group.
pub(crate) struct Machine {
    group: PartitionId,
    state: StateStore,
    shared: Arc<Shared>,
    /// The node's data directory.
    dir: Arc<Path>,
    /// As in the state; every write of the state changes both.
    rows: Rows,
}

type Snap = openraft::alias::SmSnapshotOf<Types, Machine>;

fn replica_key(group: PartitionId, row: u8) -> Key {
    let mut key = key::start(group, Table::Replica);
    key.put_u8(row);
    key.freeze()
}

fn fence_key(group: PartitionId) -> Key {
    key::start(group, Table::Fence).freeze()
}

impl Rows {
    fn read(group: PartitionId, state: &StateStore) -> Result<Self, io::Error> {
        let get = |key: &[u8]| state.get(key).map_err(io_error);
        let applied = get(&replica_key(group, ROW_APPLIED))?
            .map(|value| codec::decode_log_id(&value))
            .transpose()?;
        let membership = get(&replica_key(group, ROW_MEMBERSHIP))?
            .map(|value| codec::decode_stored_membership(&value))
            .transpose()?
            .unwrap_or_default();
        let fence = get(&fence_key(group))?
            .map(|value| {
                Fence::decode(&value).ok_or_else(|| {
                    io::Error::new(io::ErrorKind::InvalidData, "the fence row is malformed")
                })
            })
            .transpose()?
            .unwrap_or_default();
        Ok(Self {
            applied,
            membership,
            fence,
        })
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
        }
    }
}

/// Effects of entries that are written together.
struct Pending {
    rows: Rows,
    batches: Vec<CheckedBatch>,
    responders: Vec<(ApplyResponder<Types>, Applied)>,
    entries: usize,
    bytes: usize,
    fenced: u64,
}

impl Pending {
    fn new(rows: Rows) -> Self {
        Self {
            rows,
            batches: Vec::new(),
            responders: Vec::new(),
            entries: 0,
            bytes: 0,
            fenced: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.entries >= APPLY_WRITE_ENTRIES_MAX || self.bytes >= APPLY_WRITE_BYTES_MAX
    }

    fn add(
        &mut self,
        entry: Entry,
        responder: Option<ApplyResponder<Types>>,
    ) -> Result<(), io::Error> {
        let id = entry.log_id;
        self.entries += 1;
        let applied = if self.rows.applied.is_some_and(|a| id.index() <= a.index()) {
            // A snapshot's files can be newer than what it is announced as; see `snapshot`.
            Applied::Done
        } else {
            self.rows.applied = Some(id);
            self.effect(id, entry)?
        };
        if let Some(responder) = responder {
            self.responders.push((responder, applied));
        }
        Ok(())
    }

    fn effect(&mut self, id: LogId, entry: Entry) -> Result<Applied, io::Error> {
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(membership) => {
                self.rows.membership = StoredMembership::new(Some(id), membership);
            }
            EntryPayload::Normal(Command::EpochStart) => {
                self.rows.fence = self.rows.fence.begin(Epoch {
                    term: id.committed_leader_id().term,
                    index: id.index(),
                });
            }
            EntryPayload::Normal(Command::Batch(bytes)) => {
                self.bytes += bytes.len();
                let batch = CheckedBatch::read(bytes).map_err(|error| {
                    io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("log entry {}: {error}", id.index()),
                    )
                })?;
                match self.rows.fence.admit(batch.epoch, batch.seq, batch.time) {
                    Ok(fence) => {
                        self.rows.fence = fence;
                        self.batches.push(batch);
                    }
                    Err(refusal) => {
                        self.fenced += 1;
                        tracing::warn!(log_index = id.index(), %refusal, "batch dropped by the fence");
                        return Ok(Applied::Refused(refusal));
                    }
                }
            }
        }
        Ok(Applied::Done)
    }
}

impl Machine {
    /// # Errors
    /// When the replica's own rows cannot be read.
    pub fn open(
        group: PartitionId,
        state: StateStore,
        shared: Arc<Shared>,
        dir: Arc<Path>,
    ) -> Result<Self, io::Error> {
        let rows = Rows::read(group, &state)?;
        // Everything that is found at start was flushed: the state has no WAL.
        if rows.applied.is_some() {
            shared.set_durable(rows.meta());
        }
        shared.set_applied(rows.applied.map_or(0, |id| id.index()));
        Ok(Self {
            group,
            state,
            shared,
            dir,
            rows,
        })
    }

    async fn write(&mut self, pending: Pending) -> Result<(), io::Error> {
        let rows = pending.rows;
        if rows.applied != self.rows.applied {
            let mut own = Vec::new();
            let mut put = |key, value| own.push(Mutation::Put { key, value });
            if let Some(applied) = rows.applied {
                let value = codec::encode_log_id(applied);
                put(replica_key(self.group, ROW_APPLIED), value);
            }
            if rows.membership.log_id() != self.rows.membership.log_id() {
                let value = codec::encode_stored_membership(&rows.membership);
                put(replica_key(self.group, ROW_MEMBERSHIP), value);
            }
            if rows.fence != self.rows.fence {
                put(fence_key(self.group), rows.fence.encode());
            }
            let batches = pending.batches.iter().flat_map(CheckedBatch::changes);
            let changes = batches.chain(own.iter().map(Mutation::as_change));
            self.write_rows(&changes.collect::<Vec<_>>()).await?;
        }
        self.rows = rows;
        let index = self.rows.applied.map_or(0, |id| id.index());
        self.shared.count_applied(
            pending.bytes as u64,
            pending.fenced,
            pending
                .responders
                .iter()
                .filter(|(_, applied)| *applied == Applied::Done)
                .count() as u64,
        );
        self.shared.set_applied(index);
        for (responder, applied) in pending.responders {
            responder.send(applied);
        }
        Ok(())
    }

    /// What is committed must be written, so a full disk is waited out: new work is refused meanwhile, and
    /// reads go on.
    async fn write_rows(&self, changes: &[Change<'_>]) -> Result<(), io::Error> {
        let mut waits = Waits::default();
        loop {
            match self.state.write(changes) {
                Err(error @ StoreError::NoSpace { .. }) => waits.pause(self.group, &error).await,
                result => return result.map_err(io_error),
            }
        }
    }

    async fn apply_all<S>(&mut self, mut entries: Pin<&mut Peekable<S>>) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while entries.as_mut().peek().await.is_some() {
            let mut pending = Pending::new(self.rows.clone());
            while !pending.is_full() {
                let Some(next) = entries.next().await else {
                    break;
                };
                let (entry, responder) = next?;
                pending.add(entry, responder)?;
            }
            self.write(pending).await?;
        }
        Ok(())
    }

    fn live(&self) -> SnapshotSource {
        SnapshotSource::Live {
            state: self.state.clone(),
            dir: Arc::clone(&self.dir),
        }
    }

    /// Notes why the group stops, then lets openraft stop it.
    fn stop<T>(&self, doing: &str, result: Result<T, io::Error>) -> Result<T, io::Error> {
        result.inspect_err(|error| self.shared.set_fault(format!("{doing}: {error}")))
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotSource;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.rows.applied, self.rows.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let entries = std::pin::pin!(entries.peekable());
        let result = self.apply_all(entries).await;
        self.stop("apply", result)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            group: self.group,
            meta: self.rows.meta(),
            state: self.state.clone(),
            shared: Arc::clone(&self.shared),
            dir: Arc::clone(&self.dir),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotSource,
    ) -> Result<(), io::Error> {
        let result = async {
            let state = self.state.clone();
            run_blocking(move || snapshot.install(&state)).await??;
            let rows = Rows::read(self.group, &self.state)?;
            if rows.applied < meta.last_log_id {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "the snapshot's files hold {:?}, it was announced as {:?}",
                        rows.applied, meta.last_log_id
                    ),
                ));
            }
            Ok(rows)
        }
        .await;
        self.rows = self.stop("install snapshot", result)?;
        self.shared.set_durable(meta.clone());
        self.shared.count_installed();
        self.shared
            .set_applied(self.rows.applied.map_or(0, |id| id.index()));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snap>, io::Error> {
        Ok(self.shared.durable().map(|meta| Snapshot {
            meta,
            snapshot: self.live(),
        }))
    }
}

/// Waits for space on the disk, and says so once.
#[derive(Default)]
struct Waits {
    said: bool,
}

impl Waits {
    async fn pause(&mut self, group: PartitionId, error: &StoreError) {
        if !self.said {
            tracing::warn!(partition = %group, %error, "no space left: waiting until there is");
            self.said = true;
        }
        sleep(SPACE_PAUSE).await;
    }
}

/// Makes the state durable up to where it was when the builder was made.
pub(crate) struct Builder {
    group: PartitionId,
    meta: SnapshotMeta,
    state: StateStore,
    shared: Arc<Shared>,
    dir: Arc<Path>,
}

impl Builder {
    fn live(&self) -> SnapshotSource {
        SnapshotSource::Live {
            state: self.state.clone(),
            dir: Arc::clone(&self.dir),
        }
    }
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotSource;

    async fn build_snapshot(&mut self) -> Result<Snap, io::Error> {
        let mut waits = Waits::default();
        loop {
            let state = self.state.clone();
            let flushed = run_blocking(move || state.flush()).await;
            let result = match flushed {
                // Nothing is lost: the entries are in the log until the state is flushed.
                Ok(Err(error @ StoreError::NoSpace { .. })) => {
                    waits.pause(self.group, &error).await;
                    continue;
                }
                Ok(result) => result.map_err(io_error),
                Err(panic) => Err(panic),
            };
            if let Err(error) = result {
                self.shared.set_fault(format!("flush: {error}"));
                return Err(error);
            }
            break;
        }
        self.shared.set_durable(self.meta.clone());
        Ok(Snapshot {
            meta: self.meta.clone(),
            snapshot: self.live(),
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::stream;
    use openraft::entry::RaftEntry;
    use tidemill_rows::Batch;
    use tidemill_store::{NodeStore, StoreIdentity, StoreOptions};
    use tidemill_types::{NodeId, Timestamp};

    use super::*;
    use crate::raft::{Payload, log_id};

    const GROUP: PartitionId = PartitionId(1);

    struct Fixture {
        machine: Machine,
        shared: Arc<Shared>,
        state: StateStore,
        _store: NodeStore,
        _dir: tempfile::TempDir,
    }

    fn machine() -> Fixture {
        let dir = tempfile::tempdir().expect("temporary folder");
        let identity = StoreIdentity::new("test", NodeId(1));
        let store =
            NodeStore::open(dir.path(), &identity, StoreOptions::default()).expect("new store");
        let state = store.state(GROUP).expect("new state");
        let shared = Arc::new(Shared::new(u64::MAX));
        let machine = Machine::open(
            GROUP,
            state.clone(),
            Arc::clone(&shared),
            Arc::from(dir.path()),
        )
        .expect("new machine");
        Fixture {
            machine,
            shared,
            state,
            _store: store,
            _dir: dir,
        }
    }

    async fn apply(machine: &mut Machine, entries: Vec<Entry>) -> Result<(), io::Error> {
        let entries = entries.into_iter().map(|entry| Ok((entry, None)));
        machine.apply(stream::iter(entries)).await
    }

    fn entry(index: u64, command: Command) -> Entry {
        Entry::new(log_id(1, index), Payload::Normal(command))
    }

    fn put_row(seq: u64, value: &'static [u8]) -> Command {
        let batch = Batch {
            epoch: Epoch { term: 1, index: 0 },
            seq,
            time: Timestamp(1),
            mutations: vec![Mutation::Put {
                key: Key::from(b"\x00\x01\x20row"),
                value: value.into(),
            }],
        };
        Command::Batch(batch.encode())
    }

    #[tokio::test]
    async fn damage_stops_the_group_and_applies_nothing() {
        let mut fixture = machine();
        let entries = vec![
            entry(0, Command::EpochStart),
            entry(1, put_row(1, b"good")),
            entry(2, Command::Batch(Bytes::from_static(b"damaged"))),
        ];
        assert!(apply(&mut fixture.machine, entries).await.is_err());
        let fault = fixture.shared.fault().expect("the group says why");
        assert!(fault.contains("log entry 2"), "{fault}");
        assert_eq!(fixture.state.get(b"\x00\x01\x20row"), Ok(None));
    }

    #[tokio::test]
    async fn what_a_snapshot_already_held_is_not_applied_again() {
        let mut fixture = machine();
        let entries = vec![
            entry(0, Command::EpochStart),
            entry(1, put_row(1, b"first")),
            entry(2, put_row(2, b"second")),
        ];
        apply(&mut fixture.machine, entries.clone())
            .await
            .expect("applied");
        apply(&mut fixture.machine, entries).await.expect("skipped");
        let row = fixture.state.get(b"\x00\x01\x20row").expect("read");
        assert_eq!(row.as_deref(), Some(b"second".as_slice()));
        assert!(fixture.shared.fault().is_none());
        assert_eq!(*fixture.shared.applied().borrow(), 2);
    }
}
