//! What a group's committed log says: the entries that any node has applied, applied here once more by
//! rules of its own. Every replica must have applied the same entries, and have the same rows after each.

use std::collections::BTreeMap;

use openraft::EntryPayload;
use rows::{Stored, table::FlowRow};
use tidemill_core::{Rows as _, memory::MemoryRows};
use tidemill_testkit::{
    invariant::{Checked, Checks, liveness},
    simulation::random::hash,
};
use tidemill_types::{FlowId, PartitionId};

use super::node::Node;
use crate::{
    Batch, Epoch, Key, LogEntry, Mutation, Table, Violation, codec, key,
    raft::{Command, LogId},
    run,
    store::digest_after,
};

/// See the module.
pub(super) struct Truth {
    group: PartitionId,
    rows: MemoryRows,
    fence: rows::Fence,
    digest: u64,
    /// By index: the entry's hash, and the digest of the rows after it.
    applied: Vec<(u64, u64)>,
    /// Each node's process and how many snapshots that has installed, and the next index to be looked at.
    seen: BTreeMap<u64, ((u64, u64), u64)>,
}

/// The replica's own row of the last applied entry.
fn applied_row(group: PartitionId) -> Key {
    let mut key = key::start(group, Table::Replica);
    key.put_u8(1);
    key.freeze()
}

fn applied_of(group: PartitionId, rows: &MemoryRows) -> Option<LogId> {
    let value = rows.get(&applied_row(group)).expect("rows in memory")?;
    codec::decode_log_id(&value).ok()
}

fn is_replicas_own(key: &[u8]) -> bool {
    key.get(2) == Some(&(Table::Replica as u8))
}

impl Truth {
    pub fn new(group: PartitionId) -> Self {
        Self {
            group,
            rows: MemoryRows::default(),
            fence: rows::Fence::default(),
            digest: 0,
            applied: Vec::new(),
            seen: BTreeMap::new(),
        }
    }

    /// How many entries any replica has applied.
    fn len(&self) -> u64 {
        self.applied.len() as u64
    }

    /// Looks at what a node has applied since it was last looked at.
    pub fn look_at(&mut self, node: &Node, checks: &mut Checks) {
        let (group, id) = (self.group, node.id);
        let (applied, digest) = node
            .disk
            .read_rows(group, |rows, digest| (applied_of(group, rows), digest));
        let Some(applied) = applied else {
            return;
        };
        let to = applied.index() + 1;
        // What a process finds, and what a snapshot brings, need not be in the log: that may still hold what a
        // deposed leader left there. The digest tells of the rows in any case.
        let source = (node.process, node.snapshots_installed(group));
        let from = match self.seen.insert(id, (source, to)) {
            Some((before, from)) if before == source => from,
            _ => self.len(),
        };
        if from == to {
            return;
        }
        let result = self
            .follow(node, from, to, checks)
            .and_then(|()| self.compare(id, applied, digest));
        if let Err(violation) = result {
            run::violate(violation);
        }
    }

    fn follow(&mut self, node: &Node, from: u64, to: u64, checks: &mut Checks) -> Checked {
        let entries = node
            .log(self.group, from.min(self.len()), to)
            .map_err(|error| Violation::new("entries can be read", error))?;
        for entry in entries {
            let own = hash(&entry.bytes);
            match self.applied.get(entry.index as usize) {
                Some((known, _)) if *known != own => {
                    return Err(Violation::new(
                        "I1 what is committed stays",
                        format!(
                            "group {}: node {} has applied another entry {} than others",
                            self.group, node.id, entry.index
                        ),
                    ));
                }
                Some(_) => {}
                None if entry.index == self.len() => self.apply(entry, own, checks)?,
                None => break,
            }
        }
        if self.len() < to {
            return Err(Violation::new(
                "I1 what is committed stays",
                format!(
                    "group {}: node {} has applied up to {to}, and its log is not there from {}",
                    self.group,
                    node.id,
                    self.len()
                ),
            ));
        }
        Ok(())
    }

    fn apply(&mut self, entry: LogEntry, own: u64, checks: &mut Checks) -> Checked {
        let index = entry.index;
        let malformed = |what: String| Violation::new("entries can be read", what);
        let decoded =
            codec::decode_entry(entry.bytes).map_err(|error| malformed(error.to_string()))?;
        let term = decoded.log_id.committed_leader_id().term;
        run::note("applied", &[u64::from(self.group.0), term, index, own]);
        match decoded.payload {
            EntryPayload::Blank | EntryPayload::Membership(_) => {}
            EntryPayload::Normal(Command::EpochStart) => {
                let epoch = Epoch { term, index };
                if epoch <= self.fence.epoch {
                    return Err(malformed(format!("{epoch:?} after {:?}", self.fence.epoch)));
                }
                self.fence = self.fence.begin(epoch);
                self.put_fence();
            }
            EntryPayload::Normal(Command::Batch(bytes)) => {
                let batch = Batch::decode(bytes).map_err(|error| malformed(error.to_string()))?;
                match self.fence.admit(batch.epoch, batch.seq, batch.time) {
                    Ok(fence) => {
                        run::count("batches");
                        self.fence = fence;
                        for mutation in &batch.mutations {
                            self.write(mutation);
                        }
                        self.put_fence();
                        checks.on_batch(self.group, &batch, &self.rows)?;
                    }
                    Err(_) => run::count("batches refused by the fence"),
                }
            }
        }
        self.applied.push((own, self.digest));
        Ok(())
    }

    fn write(&mut self, mutation: &Mutation) {
        self.digest = digest_after(self.digest, &self.rows, mutation);
        self.rows.apply(std::slice::from_ref(mutation));
    }

    fn put_fence(&mut self) {
        let key = key::start(self.group, Table::Fence).freeze();
        let value = self.fence.encode();
        self.write(&Mutation::Put { key, value });
    }

    fn compare(&self, node: u64, applied: LogId, digest: u64) -> Checked {
        match self.applied.get(applied.index() as usize) {
            Some((_, truth)) if *truth == digest => Ok(()),
            _ => Err(Violation::new(
                "I7 replicas are identical",
                format!(
                    "group {}: the rows on node {node} at index {} are not what the log says",
                    self.group,
                    applied.index()
                ),
            )),
        }
    }

    /// A row as it is committed.
    pub fn row<T: Stored>(&self, key: &[u8]) -> Option<T> {
        T::from_bytes(self.rows.get(key).expect("rows in memory")?).ok()
    }

    /// All flows, of the catalog.
    pub fn flows(&self) -> Vec<(FlowId, FlowRow)> {
        let prefix = key::prefix(self.group, Table::Flow);
        let to = key::after_prefix(&prefix).expect("a table's prefix is not all 0xff");
        let found = self.rows.scan(&prefix, &to, usize::MAX, false);
        let found = found.expect("rows in memory").into_iter();
        found
            .filter_map(|(key, value)| {
                let id = key[key::PREFIX_LEN..].try_into().ok()?;
                Some((FlowId(id), FlowRow::from_bytes(value).ok()?))
            })
            .collect()
    }

    /// What has not come to rest, if anything.
    pub fn unfinished(&self, nodes: &[&Node]) -> Option<String> {
        let behind = nodes.iter().find_map(|node| {
            let applied = node
                .disk
                .read_rows(self.group, |rows, _| applied_of(self.group, rows));
            let next = applied.map_or(0, |applied| applied.index() + 1);
            (next < self.len()).then(|| {
                format!(
                    "group {}: node {} is at {next} of {}",
                    self.group,
                    node.id,
                    self.len()
                )
            })
        });
        behind
            .or_else(|| liveness::work_left(self.group, &self.rows))
            .or_else(|| liveness::flow_in_transition(&self.rows))
    }

    /// Everything, once all is at rest.
    pub fn at_rest(&self, nodes: &[&Node], checks: &mut Checks) -> Checked {
        checks.at_rest(self.group, &self.rows)?;
        for node in nodes {
            let is_same = node.disk.read_rows(self.group, |rows, _| {
                rows.iter()
                    .filter(|(key, _)| !is_replicas_own(key))
                    .eq(self.rows.iter())
            });
            if !is_same {
                return Err(Violation::new(
                    "I7 replicas are identical",
                    format!(
                        "group {}: the rows on node {} differ at the end",
                        self.group, node.id
                    ),
                ));
            }
        }
        Ok(())
    }
}
