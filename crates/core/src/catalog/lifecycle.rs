//! `Start`, `Stop` and the home partition's answers: `inactive → starting → active → stopping → inactive`.
//!
//! All legal transitions stand here. One that the state does not allow is a named rejection.

use bytes::Bytes;
use tidemill_rows::{
    journal::{NewRecord, kind},
    table::{FlowRow, FlowStatus, flow_transition_key, flow_version_key},
};
use tidemill_types::FlowId;

use super::{CLIENT, Catalog, SYSTEM, fingerprint};
use crate::{
    Rejection,
    command::{CatalogEffect, CatalogReply},
    ledger::{Damage, Rows},
};

impl Catalog {
    pub(super) fn start(
        &mut self,
        flow: &str,
        version: u32,
        without_workers: bool,
        request_id: &str,
        rows: &dyn Rows,
    ) -> Result<Result<CatalogReply, Rejection>, Damage> {
        let parts: [&[u8]; 3] = [
            flow.as_bytes(),
            &version.to_be_bytes(),
            &[u8::from(without_workers)],
        ];
        let fingerprint = fingerprint("start", &parts);
        if let Some(reply) = self.repeated(request_id, fingerprint, rows)? {
            return Ok(reply);
        }
        let (id, mut row) = match self.find(flow, rows)? {
            Ok(found) => found,
            Err(rejection) => return Ok(Err(rejection)),
        };
        if matches!(row.status, FlowStatus::Starting | FlowStatus::Active) {
            // Another version is another start: not silently the one that runs.
            if version != 0 && version != row.active_version {
                let needed = "stop it before another version is started";
                return Ok(Err(Rejection::WrongStatus {
                    flow: id,
                    status: row.status,
                    needed,
                }));
            }
            let reply = CatalogReply {
                flow: id,
                version: row.active_version,
                created: false,
                changed: false,
            };
            return Ok(Ok(reply));
        }
        if let Err(rejection) = Self::require(
            id,
            &row,
            FlowStatus::Inactive,
            "wait until it is inactive, then start it",
        ) {
            return Ok(Err(rejection));
        }
        let version = if version == 0 {
            row.latest_version
        } else {
            version
        };
        if version == 0 {
            return Ok(Err(Rejection::NothingPublished(id)));
        }
        if self
            .ledger
            .get(rows, &flow_version_key(id, version))?
            .is_none()
        {
            return Ok(Err(Rejection::VersionNotFound { flow: id, version }));
        }
        let deadline = self.ledger.now().plus_millis(self.config.start_deadline_ms);
        row.status = FlowStatus::Starting;
        row.reason.clear();
        row.active_version = version;
        row.activation += 1;
        row.deadline = Some(deadline);
        row.without_workers = without_workers;
        row.cancel_running = false;
        self.transition(id, &mut row, kind::FLOW_STARTING, CLIENT, request_id);
        let reply = CatalogReply {
            flow: id,
            version,
            created: false,
            changed: true,
        };
        self.remember(request_id, fingerprint, &reply);
        Ok(Ok(reply))
    }

    pub(super) fn stop(
        &mut self,
        flow: &str,
        cancel_running: bool,
        request_id: &str,
        rows: &dyn Rows,
    ) -> Result<Result<CatalogReply, Rejection>, Damage> {
        let fingerprint = fingerprint("stop", &[flow.as_bytes(), &[u8::from(cancel_running)]]);
        if let Some(reply) = self.repeated(request_id, fingerprint, rows)? {
            return Ok(reply);
        }
        let (id, mut row) = match self.find(flow, rows)? {
            Ok(found) => found,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let version = row.active_version;
        let changed = matches!(row.status, FlowStatus::Starting | FlowStatus::Active);
        if changed {
            row.reason.clear();
            row.cancel_running = cancel_running;
            self.begin_stopping(id, &mut row, CLIENT, request_id);
        }
        let reply = CatalogReply {
            flow: id,
            version,
            created: false,
            changed,
        };
        if changed {
            self.remember(request_id, fingerprint, &reply);
        }
        Ok(Ok(reply))
    }

    /// The home partition has armed the flow.
    pub(super) fn armed(
        &mut self,
        id: FlowId,
        activation: u64,
        rows: &dyn Rows,
    ) -> Result<Result<CatalogReply, Rejection>, Damage> {
        let mut row = match self.of_activation(id, activation, rows)? {
            Ok(row) => row,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let changed = row.status == FlowStatus::Starting;
        if changed {
            row.status = FlowStatus::Active;
            row.deadline = None;
            self.transition(id, &mut row, kind::FLOW_STARTED, SYSTEM, "");
        }
        Ok(Ok(CatalogReply {
            flow: id,
            version: row.active_version,
            created: false,
            changed,
        }))
    }

    /// The home partition has refused: the start failed. It goes through `stopping`, so that an arm that
    /// is still on its way is made stale before the flow reads `inactive`.
    pub(super) fn arm_refused(
        &mut self,
        id: FlowId,
        activation: u64,
        reason: String,
        rows: &dyn Rows,
    ) -> Result<Result<CatalogReply, Rejection>, Damage> {
        let mut row = match self.of_activation(id, activation, rows)? {
            Ok(row) => row,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let changed = row.status == FlowStatus::Starting;
        if changed {
            self.fail_start(id, &mut row, reason);
        }
        Ok(Ok(CatalogReply {
            flow: id,
            version: row.active_version,
            created: false,
            changed,
        }))
    }

    /// The home partition has disarmed the flow.
    pub(super) fn disarmed(
        &mut self,
        id: FlowId,
        activation: u64,
        rows: &dyn Rows,
    ) -> Result<Result<CatalogReply, Rejection>, Damage> {
        let mut row = match self.of_activation(id, activation, rows)? {
            Ok(row) => row,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let version = row.active_version;
        let changed = row.status == FlowStatus::Stopping;
        if changed {
            row.status = FlowStatus::Inactive;
            row.active_version = 0;
            row.cancel_running = false;
            self.transition(id, &mut row, kind::FLOW_STOPPED, SYSTEM, "");
        }
        Ok(Ok(CatalogReply {
            flow: id,
            version,
            created: false,
            changed,
        }))
    }

    /// Starts whose time is up fail.
    pub(super) fn end_late_starts(&mut self, rows: &dyn Rows) -> Result<(), Damage> {
        let now = self.ledger.now();
        let late: Vec<FlowId> = self
            .deadlines
            .iter()
            .take_while(|(deadline, _)| *deadline <= now)
            .map(|(_, id)| *id)
            .collect();
        for id in late {
            let Some(mut row) = self.flow(id, rows)? else {
                return Err(Damage::Missing(format!("flow {id} of a transition")));
            };
            let seconds = self.config.start_deadline_ms / 1_000;
            self.fail_start(
                id,
                &mut row,
                format!("its home partition did not answer within {seconds} s"),
            );
        }
        Ok(())
    }

    fn fail_start(&mut self, id: FlowId, row: &mut FlowRow, reason: String) {
        row.reason.clone_from(&reason);
        let version = row.active_version;
        self.record(
            id,
            NewRecord {
                version,
                detail: &reason,
                ..NewRecord::of(kind::FLOW_FAILED, SYSTEM)
            },
        );
        self.begin_stopping(id, row, SYSTEM, "");
    }

    fn begin_stopping(&mut self, id: FlowId, row: &mut FlowRow, actor: &str, request_id: &str) {
        row.status = FlowStatus::Stopping;
        row.deadline = None;
        self.transition(id, row, kind::FLOW_STOPPING, actor, request_id);
    }

    /// The flow's row, when `activation` is its newest.
    fn of_activation(
        &self,
        id: FlowId,
        activation: u64,
        rows: &dyn Rows,
    ) -> Result<Result<FlowRow, Rejection>, Damage> {
        let Some(row) = self.flow(id, rows)? else {
            return Ok(Err(Rejection::FlowNotFound(id.to_string())));
        };
        Ok(if row.activation == activation {
            Ok(row)
        } else {
            Err(Rejection::StaleActivation {
                flow: id,
                got: activation,
                current: row.activation,
            })
        })
    }

    /// Writes a new status with its record, and keeps the table of transitions.
    fn transition(
        &mut self,
        id: FlowId,
        row: &mut FlowRow,
        kind: &str,
        actor: &str,
        request_id: &str,
    ) {
        row.updated_at = self.ledger.now();
        self.put_flow(id, row);
        let before = self.transitions.remove(&id).flatten();
        if let Some(deadline) = before {
            self.deadlines.remove(&(deadline, id));
        }
        if matches!(row.status, FlowStatus::Starting | FlowStatus::Stopping) {
            self.deadlines.extend(row.deadline.map(|at| (at, id)));
            self.ledger.put(flow_transition_key(id), Bytes::new());
            self.transitions.insert(id, row.deadline);
            self.effects.push(CatalogEffect::HandOver(id));
        } else {
            self.ledger.delete(flow_transition_key(id));
        }
        let version = row.active_version;
        self.record(
            id,
            NewRecord {
                version,
                request_id,
                ..NewRecord::of(kind, actor)
            },
        );
        self.effects.push(CatalogEffect::StatusChanged(id));
    }
}
