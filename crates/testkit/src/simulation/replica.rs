//! A replica: rows, and how far the log is in them. It decides nothing but the fence, by the real rule.

use bytes::Bytes;
use tidemill_core::{Rows as _, memory::MemoryRows};
use tidemill_rows::{Batch, Epoch, Fence, Key, Mutation, Table, key};
use tidemill_types::PartitionId;

use super::{options::Planted, random::hash};

/// What an entry of the log carries.
#[derive(Clone, Debug)]
pub enum Payload {
    /// A new leader's first entry.
    Blank,
    /// A leader's actor begins an epoch.
    EpochStart,
    /// What a leader decided, encoded.
    Batch(Bytes),
}

/// An entry of the log. Its index is its place.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The term in which it was appended.
    pub term: u64,
    /// What it carries.
    pub payload: Payload,
    /// Who waits for it: the node, and the proposal's number.
    pub proposer: Option<(usize, u64)>,
}

/// What became of an entry.
#[derive(Clone, Debug)]
pub enum Applied {
    /// It carried nothing.
    Nothing,
    /// An epoch began.
    Epoch(Epoch),
    /// A batch is in the rows.
    Admitted(Batch),
    /// The fence refused a batch.
    Refused,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    /// The applied rows, the fence's among them.
    pub rows: MemoryRows,
    /// Entries applied so far: the index of the last.
    pub applied: usize,
    /// A sum over all rows: equal rows, equal sum.
    digest: u64,
}

fn row_hash(key: &[u8], value: &[u8]) -> u64 {
    hash(key).rotate_left(17) ^ hash(value).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Replica {
    /// The fence, as its row has it.
    #[must_use]
    pub fn fence(&self, partition: PartitionId) -> Fence {
        let row = self.rows.get(&fence_key(partition));
        row.expect("rows in memory can be read")
            .and_then(|value| Fence::decode(&value))
            .unwrap_or_default()
    }

    /// A sum over all rows.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The sum, taken anew: what [`digest`](Self::digest) must be.
    #[must_use]
    pub fn digest_of_rows(&self) -> u64 {
        self.rows.iter().fold(0, |sum, (key, value)| {
            sum.wrapping_add(row_hash(key, value))
        })
    }

    /// Rebuilds this replica from another one's rows.
    pub fn install(&mut self, from: &Self, partition: PartitionId, planted: Option<Planted>) {
        *self = from.clone();
        if planted == Some(Planted::SnapshotWithoutFence) {
            self.mutate(&[Mutation::Delete {
                key: fence_key(partition),
            }]);
        }
    }

    /// Applies the next entry.
    pub fn apply(
        &mut self,
        entry: &Entry,
        partition: PartitionId,
        planted: Option<Planted>,
    ) -> Applied {
        self.applied += 1;
        let fence = self.fence(partition);
        match &entry.payload {
            Payload::Blank => Applied::Nothing,
            Payload::EpochStart => {
                let epoch = Epoch {
                    term: entry.term,
                    index: self.applied as u64,
                };
                self.put_fence(partition, fence.begin(epoch));
                Applied::Epoch(epoch)
            }
            Payload::Batch(bytes) => {
                let batch = Batch::decode(bytes.clone()).expect("a batch that was encoded");
                let next = match fence.admit(batch.epoch, batch.seq, batch.time) {
                    Ok(next) => next,
                    Err(_) if planted == Some(Planted::SkipFence) => Fence {
                        seq: batch.seq,
                        ..fence
                    },
                    Err(_) => return Applied::Refused,
                };
                self.mutate(&batch.mutations);
                self.put_fence(partition, next);
                Applied::Admitted(batch)
            }
        }
    }

    fn put_fence(&mut self, partition: PartitionId, fence: Fence) {
        self.mutate(&[Mutation::Put {
            key: fence_key(partition),
            value: fence.encode(),
        }]);
    }

    fn mutate(&mut self, mutations: &[Mutation]) {
        for mutation in mutations {
            match mutation {
                Mutation::Put { key, value } => {
                    self.forget(key);
                    self.digest = self.digest.wrapping_add(row_hash(key, value));
                }
                Mutation::Delete { key } => self.forget(key),
                Mutation::DeleteRange { from, to } => {
                    let gone = self.rows.scan(from, to, usize::MAX, false);
                    for (key, _) in gone.expect("rows in memory can be read") {
                        self.forget(&key);
                    }
                }
            }
            self.rows.apply(std::slice::from_ref(mutation));
        }
    }

    fn forget(&mut self, key: &[u8]) {
        let old = self.rows.get(key).expect("rows in memory can be read");
        if let Some(old) = old {
            self.digest = self.digest.wrapping_sub(row_hash(key, &old));
        }
    }
}

/// The key of the fence row.
#[must_use]
pub fn fence_key(partition: PartitionId) -> Key {
    Key::from(&key::prefix(partition, Table::Fence))
}
