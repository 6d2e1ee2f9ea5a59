//! `Apply` and `Delete`: drafts come, change and go.

use bytes::Bytes;
use tidemill_rows::{
    Hash,
    journal::{NewRecord, kind},
    table::{
        FlowRow, FlowStatus, flow_by_name_key, flow_deletion_key, flow_key,
        flow_version_by_hash_prefix, flow_versions_prefix,
    },
};
use tidemill_types::{FlowId, PartitionId};

use super::{CLIENT, Catalog, fingerprint};
use crate::{
    Rejection,
    command::{ApplyFlow, CatalogEffect, CatalogReply},
    flow,
    ledger::{Damage, Rows},
};

impl Catalog {
    pub(super) fn apply(
        &mut self,
        command: ApplyFlow,
        rows: &dyn Rows,
    ) -> Result<Result<CatalogReply, Rejection>, Damage> {
        let hash = Hash(flow::content_hash(&command.document));
        let target = command.flow.map(|id| id.0).unwrap_or_default();
        let revision = command.expected_revision.to_be_bytes();
        let operation = if command.create_only {
            "create"
        } else {
            "apply"
        };
        let fingerprint = fingerprint(operation, &[&target, &revision, &hash.0]);
        if let Some(reply) = self.repeated(&command.request_id, fingerprint, rows)? {
            return Ok(reply);
        }
        let errors: Vec<_> = flow::validate(&command.document)
            .into_iter()
            .filter(flow::Problem::is_error)
            .collect();
        if !errors.is_empty() {
            return Ok(Err(Rejection::InvalidDocument(errors)));
        }
        let Some(name) = command
            .document
            .name
            .clone()
            .filter(|name| !name.is_empty())
        else {
            return Ok(Err(Rejection::invalid(
                "/name",
                "a flow needs a name to be stored",
            )));
        };
        let owner = self.flow_by_name(&name, rows)?;
        if let Some(owner) = owner.filter(|_| command.create_only) {
            return Ok(Err(Rejection::NameTaken { name, owner }));
        }
        let document = Bytes::from(flow::canonical_json(&command.document));
        let now = self.ledger.now();
        let reply = match command.flow.or(owner) {
            None => {
                if command.expected_revision != 0 {
                    return Ok(Err(Rejection::RevisionMismatch {
                        expected: command.expected_revision,
                        current: 0,
                    }));
                }
                // Spread by chance: homes are even, and nothing has to be counted.
                let home = PartitionId(
                    1 + (command.entropy % u64::from(command.partitions.max(1))) as u16,
                );
                let id = FlowId::new(now.as_millis(), home, command.entropy);
                let row = FlowRow {
                    name: name.clone(),
                    status: FlowStatus::Inactive,
                    revision: 1,
                    created_at: now,
                    updated_at: now,
                    document,
                    ..FlowRow::default()
                };
                self.ledger
                    .put(flow_by_name_key(&name), Bytes::copy_from_slice(&id.0));
                self.put_flow(id, &row);
                self.record(
                    id,
                    NewRecord {
                        request_id: &command.request_id,
                        payload_hash: Some(hash),
                        detail: &name,
                        ..NewRecord::of(kind::FLOW_CREATED, CLIENT)
                    },
                );
                CatalogReply {
                    flow: id,
                    version: 0,
                    created: true,
                    changed: true,
                }
            }
            Some(id) => {
                let Some(mut row) = self.flow(id, rows)? else {
                    return Ok(Err(Rejection::FlowNotFound(id.to_string())));
                };
                if command.expected_revision != 0 && command.expected_revision != row.revision {
                    return Ok(Err(Rejection::RevisionMismatch {
                        expected: command.expected_revision,
                        current: row.revision,
                    }));
                }
                if let Some(owner) = owner.filter(|owner| *owner != id) {
                    return Ok(Err(Rejection::NameTaken { name, owner }));
                }
                let changed = row.document != document;
                if changed {
                    if row.name != name {
                        self.ledger.delete(flow_by_name_key(&row.name));
                        self.ledger
                            .put(flow_by_name_key(&name), Bytes::copy_from_slice(&id.0));
                    }
                    row.name = name;
                    row.document = document;
                    row.revision += 1;
                    row.updated_at = now;
                    self.put_flow(id, &row);
                    let revision = row.revision;
                    self.record(
                        id,
                        NewRecord {
                            request_id: &command.request_id,
                            payload_hash: Some(hash),
                            number: revision,
                            ..NewRecord::of(kind::FLOW_MODIFIED, CLIENT)
                        },
                    );
                }
                CatalogReply {
                    flow: id,
                    version: 0,
                    created: false,
                    changed,
                }
            }
        };
        self.remember(&command.request_id, fingerprint, &reply);
        Ok(Ok(reply))
    }

    pub(super) fn delete(
        &mut self,
        flow: &str,
        request_id: &str,
        rows: &dyn Rows,
    ) -> Result<Result<CatalogReply, Rejection>, Damage> {
        let fingerprint = fingerprint("delete", &[flow.as_bytes()]);
        if let Some(reply) = self.repeated(request_id, fingerprint, rows)? {
            return Ok(reply);
        }
        let (id, row) = match self.find(flow, rows)? {
            Ok(found) => found,
            Err(rejection) => return Ok(Err(rejection)),
        };
        if let Err(rejection) = Self::require(
            id,
            &row,
            FlowStatus::Inactive,
            "only an inactive flow can be deleted: stop it first",
        ) {
            return Ok(Err(rejection));
        }
        self.ledger.delete(flow_by_name_key(&row.name));
        self.ledger.delete(flow_key(id));
        self.ledger.delete_prefix(flow_versions_prefix(id));
        self.ledger.delete_prefix(flow_version_by_hash_prefix(id));
        if row.activation > 0 {
            // It was started once: its home partition has rows of it.
            self.ledger.put(flow_deletion_key(id), Bytes::new());
            self.effects.push(CatalogEffect::HandOver(id));
        }
        self.record(
            id,
            NewRecord {
                request_id,
                detail: &row.name,
                ..NewRecord::of(kind::FLOW_DELETED, CLIENT)
            },
        );
        let reply = CatalogReply {
            flow: id,
            version: 0,
            created: false,
            changed: true,
        };
        self.remember(request_id, fingerprint, &reply);
        Ok(Ok(reply))
    }

    /// The home partition knows that the flow is deleted.
    pub(super) fn forgotten(
        &mut self,
        id: FlowId,
        rows: &dyn Rows,
    ) -> Result<Result<CatalogReply, Rejection>, Damage> {
        let key = flow_deletion_key(id);
        let changed = self.ledger.get(rows, &key)?.is_some();
        if changed {
            self.ledger.delete(key);
        }
        Ok(Ok(CatalogReply {
            flow: id,
            version: 0,
            created: false,
            changed,
        }))
    }
}
