//! Decides for the catalog: flows, versions, and their lifecycle.
//!
//! The lifecycle is a hand-over with the flow's home partition: the catalog marks a flow `starting` or
//! `stopping` and asks the shell to tell the partition; the shell repeats until the partition has
//! answered, and says so here. Each side is idempotent, and a deadline ends what gets no answer.

mod apply;
mod lifecycle;
mod publish;

use std::collections::{BTreeMap, BTreeSet};

use tidemill_rows::{
    EncodedBatch, Epoch, Hash, Stored,
    journal::NewRecord,
    key::{self, Table},
    table::{
        CatalogRequestRow, FlowRow, FlowStatus, catalog_request_expiry_key,
        catalog_request_expiry_of_key, catalog_request_key, flow_by_name_key, flow_key,
        flow_of_key,
    },
};
use tidemill_types::{FlowId, PartitionId, Timestamp};

use crate::{
    Decider, Rejection,
    command::{CatalogCommand, CatalogEffect, CatalogReply},
    ledger::{Damage, Ledger, Rows},
    quarantine::Quarantine,
};

/// What differs between deployments.
#[derive(Clone, Debug)]
pub struct CatalogConfig {
    /// How long a start may take.
    pub start_deadline_ms: u64,
    /// How long a request id is remembered.
    pub request_retention_ms: u64,
}

impl Default for CatalogConfig {
    fn default() -> Self {
        const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
        Self {
            start_deadline_ms: 30_000,
            request_retention_ms: DAY_MS,
        }
    }
}

/// How often request ids that are to be forgotten are looked for.
const SWEEP_MS: u64 = 60_000;
/// Most request ids forgotten in one turn.
const SWEPT_MAX: usize = 1_000;

/// See the module.
#[derive(Debug)]
pub struct Catalog {
    config: CatalogConfig,
    ledger: Ledger,
    /// Flows that are starting, with when that is given up; flows that are stopping never give up.
    transitions: BTreeMap<FlowId, Option<Timestamp>>,
    /// Those that are given up, by when: a million flows may be started at once.
    deadlines: BTreeSet<(Timestamp, FlowId)>,
    next_sweep: Timestamp,
    quarantine: Quarantine,
    effects: Vec<CatalogEffect>,
}

impl Decider for Catalog {
    type Config = CatalogConfig;
    type Command = CatalogCommand;
    type Reply = CatalogReply;
    type Effect = CatalogEffect;

    fn recover(
        config: CatalogConfig,
        partition: PartitionId,
        time: Timestamp,
        rows: &dyn Rows,
    ) -> Result<Self, Damage> {
        let mut catalog = Self {
            config,
            ledger: Ledger::recover(partition, time, rows)?,
            transitions: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            next_sweep: time,
            quarantine: Quarantine::default(),
            effects: Vec::new(),
        };
        let prefix = key::prefix(partition, Table::FlowTransition);
        for (key, _) in catalog.ledger.scan_prefix(rows, &prefix)? {
            let id =
                flow_of_key(&key).ok_or_else(|| Damage::Missing("a transition's flow".into()))?;
            let flow = catalog
                .flow(id, rows)?
                .ok_or_else(|| Damage::Missing(format!("flow {id} of a transition")))?;
            catalog.transitions.insert(id, flow.deadline);
            catalog.deadlines.extend(flow.deadline.map(|at| (at, id)));
            catalog.effects.push(CatalogEffect::HandOver(id));
        }
        catalog.quarantine = Quarantine::recover(&catalog.ledger, rows)?;
        let prefix = key::prefix(partition, Table::FlowDeletion);
        for (key, _) in catalog.ledger.scan_prefix(rows, &prefix)? {
            let id = flow_of_key(&key).ok_or_else(|| Damage::Missing("a deleted flow".into()))?;
            catalog.effects.push(CatalogEffect::HandOver(id));
        }
        Ok(catalog)
    }

    fn handle(
        &mut self,
        command: CatalogCommand,
        now: Timestamp,
        rows: &dyn Rows,
    ) -> Result<Result<CatalogReply, Rejection>, Damage> {
        self.ledger.advance(now);
        match command {
            CatalogCommand::Apply(command) => self.apply(command, rows),
            CatalogCommand::Publish { flow, request_id } => self.publish(&flow, &request_id, rows),
            CatalogCommand::Start {
                flow,
                version,
                without_workers,
                request_id,
            } => self.start(&flow, version, without_workers, &request_id, rows),
            CatalogCommand::Stop {
                flow,
                cancel_running,
                request_id,
            } => self.stop(&flow, cancel_running, &request_id, rows),
            CatalogCommand::Delete { flow, request_id } => self.delete(&flow, &request_id, rows),
            CatalogCommand::Armed { flow, activation } => self.armed(flow, activation, rows),
            CatalogCommand::ArmRefused {
                flow,
                activation,
                reason,
            } => self.arm_refused(flow, activation, reason, rows),
            CatalogCommand::Forgotten { flow } => self.forgotten(flow, rows),
            CatalogCommand::Disarmed { flow, activation } => self.disarmed(flow, activation, rows),
            CatalogCommand::Restarted(panic) => {
                self.quarantine.note(&mut self.ledger, panic);
                Ok(Ok(CatalogReply::default()))
            }
        }
    }

    fn tick(&mut self, now: Timestamp, rows: &dyn Rows) -> Result<(), Damage> {
        self.ledger.advance(now);
        self.end_late_starts(rows)?;
        if self.ledger.now() >= self.next_sweep {
            self.forget_requests(rows)?;
        }
        Ok(())
    }

    fn next_due(&self) -> Option<Timestamp> {
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        deadline.into_iter().chain([self.next_sweep]).min()
    }

    fn has_batch(&self) -> bool {
        self.ledger.has_changes()
    }

    fn batch_len(&self) -> usize {
        self.ledger.pending_len()
    }

    fn batch_bytes(&self) -> usize {
        self.ledger.pending_bytes()
    }

    fn take_batch(&mut self, epoch: Epoch, seq: u64) -> Result<EncodedBatch, Damage> {
        Ok(self.ledger.take(epoch, seq))
    }

    fn take_effects(&mut self) -> Vec<CatalogEffect> {
        std::mem::take(&mut self.effects)
    }

    fn applied(&mut self, seq: u64) {
        self.ledger.applied(seq);
    }

    fn now(&self) -> Timestamp {
        self.ledger.now()
    }
}

impl Catalog {
    /// True when this command is refused because the logic panicked on it.
    #[must_use]
    pub fn is_quarantined(&self, digest: Hash) -> bool {
        self.quarantine.contains(digest)
    }

    fn flow(&self, id: FlowId, rows: &dyn Rows) -> Result<Option<FlowRow>, Damage> {
        self.ledger.read(rows, &flow_key(id))
    }

    /// A flow by id or name.
    fn find(
        &self,
        flow: &str,
        rows: &dyn Rows,
    ) -> Result<Result<(FlowId, FlowRow), Rejection>, Damage> {
        let id = match flow.parse::<FlowId>() {
            Ok(id) => Some(id),
            Err(_) => self.flow_by_name(flow, rows)?,
        };
        let Some(id) = id else {
            return Ok(Err(Rejection::FlowNotFound(flow.into())));
        };
        Ok(self
            .flow(id, rows)?
            .map(|row| (id, row))
            .ok_or_else(|| Rejection::FlowNotFound(flow.into())))
    }

    fn flow_by_name(&self, name: &str, rows: &dyn Rows) -> Result<Option<FlowId>, Damage> {
        let Some(value) = self.ledger.get(rows, &flow_by_name_key(name))? else {
            return Ok(None);
        };
        let id = value
            .as_ref()
            .try_into()
            .map_err(|_| Damage::Missing(format!("the id of {name:?}")))?;
        Ok(Some(FlowId(id)))
    }

    fn put_flow(&mut self, id: FlowId, row: &FlowRow) {
        self.ledger.put(flow_key(id), row.to_bytes());
    }

    fn record(&mut self, id: FlowId, record: NewRecord<'_>) {
        self.ledger.record(&NewRecord {
            flow: Some(id),
            ..record
        });
    }

    /// What a request id led to, if it was used before.
    fn repeated(
        &self,
        request_id: &str,
        fingerprint: Hash,
        rows: &dyn Rows,
    ) -> Result<Option<Result<CatalogReply, Rejection>>, Damage> {
        let row = self
            .ledger
            .read::<CatalogRequestRow>(rows, &catalog_request_key(request_id))?;
        Ok(row.map(|row| {
            if row.fingerprint == fingerprint {
                let CatalogRequestRow {
                    flow,
                    version,
                    created,
                    changed,
                    ..
                } = row;
                Ok(CatalogReply {
                    flow,
                    version,
                    created,
                    changed,
                })
            } else {
                Err(Rejection::RequestIdReused(request_id.into()))
            }
        }))
    }

    /// Remembers what a request id led to.
    fn remember(&mut self, request_id: &str, fingerprint: Hash, reply: &CatalogReply) {
        let expires_at = self
            .ledger
            .now()
            .plus_millis(self.config.request_retention_ms);
        let row = CatalogRequestRow {
            fingerprint,
            flow: reply.flow,
            version: reply.version,
            created: reply.created,
            changed: reply.changed,
            expires_at,
        };
        self.ledger
            .put(catalog_request_key(request_id), row.to_bytes());
        self.ledger.put(
            catalog_request_expiry_key(expires_at, request_id),
            bytes::Bytes::new(),
        );
    }

    fn forget_requests(&mut self, rows: &dyn Rows) -> Result<(), Damage> {
        let now = self.ledger.now();
        let from = key::prefix(PartitionId::CATALOG, Table::RequestExpiry);
        let to = catalog_request_expiry_key(now, "");
        let due = self.ledger.scan(rows, &from, &to, SWEPT_MAX)?;
        let has_more = due.len() == SWEPT_MAX;
        for (key, _) in due {
            if let Some((_, request_id)) = catalog_request_expiry_of_key(&key) {
                self.ledger.delete(catalog_request_key(&request_id));
            }
            self.ledger.delete(key);
        }
        self.next_sweep = if has_more {
            now
        } else {
            now.plus_millis(SWEEP_MS)
        };
        Ok(())
    }

    /// Refuses a status that does not allow it.
    fn require(
        flow: FlowId,
        row: &FlowRow,
        status: FlowStatus,
        needed: &'static str,
    ) -> Result<(), Rejection> {
        if row.status == status {
            Ok(())
        } else {
            Err(Rejection::WrongStatus {
                flow,
                status: row.status,
                needed,
            })
        }
    }
}

/// The meaning of a request.
fn fingerprint(verb: &str, parts: &[&[u8]]) -> Hash {
    use sha2::{Digest, Sha256};
    let mut digest = Sha256::new().chain_update(verb).chain_update([0]);
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    Hash(digest.finalize().into())
}

/// Who causes what a client asked for.
const CLIENT: &str = "client";
/// Who causes what nobody asked for.
const SYSTEM: &str = "system";

#[cfg(test)]
mod tests;
