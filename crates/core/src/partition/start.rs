//! `Start`: an execution begins. One batch holds it, its first steps and their leases.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tidemill_rows::{
    Hash, Stored,
    journal::{kind, payload_hash},
    table::{
        ExecutionRow, ExecutionState, InputRow, RequestRow, Timer, TimerKind,
        execution_by_flow_key, start_request_key,
    },
};
use tidemill_types::{ExecutionId, StepId};

use super::{CLIENT, Partition, execution::Execution};
use crate::{
    Rejection,
    command::{PartitionReply, StartExecution},
    ledger::{Damage, Rows},
};

impl Partition {
    pub(super) fn start(
        &mut self,
        command: StartExecution,
        rows: &dyn Rows,
    ) -> Result<Result<PartitionReply, Rejection>, Damage> {
        let partition = self.ledger.partition();
        let message = command.message.to_bytes();
        let hash = payload_hash(&message);
        let fingerprint = Hash(
            Sha256::new()
                .chain_update(command.flow.0)
                .chain_update(hash.0)
                .finalize()
                .into(),
        );
        let request_key = start_request_key(partition, &command.request_id);
        if let Some(request) = self.ledger.read::<RequestRow>(rows, &request_key)? {
            return Ok(if request.fingerprint == fingerprint {
                Ok(PartitionReply::Started {
                    execution: request.execution,
                    created: false,
                })
            } else {
                Err(Rejection::RequestIdReused(command.request_id))
            });
        }
        let Some(flow) = self
            .armed_flow(command.flow, rows)?
            .filter(|flow| flow.row.armed)
        else {
            return Ok(Err(Rejection::FlowNotActive(command.flow)));
        };
        let limit = self.config.message_bytes_max;
        if command.message.payload_len() > limit {
            return Ok(Err(Rejection::invalid(
                "message",
                format!(
                    "has {} bytes, at most {limit} are allowed",
                    command.message.payload_len()
                ),
            )));
        }
        let version = flow.row.version;
        let plan = self.plan(command.flow, version, rows)?;
        let now = self.ledger.now();
        let id = ExecutionId::new(now.as_millis(), partition, command.entropy);
        if self.executions.contains_key(&id) {
            // 64 bits of entropy met within a millisecond: the caller draws again.
            return Ok(Err(Rejection::invalid(
                "entropy",
                "met one that is in use: retry",
            )));
        }
        let deadline = plan.timeout_ms.map(|ms| now.plus_millis(ms));
        let row = ExecutionRow {
            flow: command.flow,
            version,
            state: ExecutionState::Running,
            started_at: now,
            request_id: command.request_id.clone(),
            traceparent: command.traceparent,
            tracestate: command.tracestate,
            deadline,
            ..ExecutionRow::default()
        };
        let roots = plan.roots.clone();
        self.executions.insert(
            id,
            Execution {
                row,
                plan,
                steps: BTreeMap::new(),
                messages: BTreeMap::new(),
                joins: BTreeMap::new(),
                row_changed: true,
                index_changed: false,
                steps_changed: BTreeSet::new(),
                live_at: BTreeMap::new(),
                waiting: 0,
            },
        );
        let request = RequestRow {
            fingerprint,
            execution: id,
            number: 1,
        };
        self.ledger.put_fresh(request_key, request.to_bytes());
        let state = [ExecutionState::Running as u32 as u8];
        self.ledger.put_fresh(
            execution_by_flow_key(command.flow, id),
            Bytes::copy_from_slice(&state),
        );
        if let Some(due) = deadline {
            let step = StepId {
                execution: id,
                step: 0,
            };
            self.add_timer(Timer {
                due,
                step,
                kind: TimerKind::ExecutionTimeout,
            });
        }
        let number = self.add_message(id, command.message);
        self.touch(id);
        self.record_execution(id, kind::EXECUTION_STARTED, CLIENT, |record| {
            record.request_id = command.request_id;
            record.payload_hash = Some(hash);
        });
        for root in roots {
            let input = InputRow {
                message: number,
                from_step: 0,
                edge: 0,
            };
            self.add_step(id, root, vec![input]);
        }
        self.settle(id);
        Ok(Ok(PartitionReply::Started {
            execution: id,
            created: true,
        }))
    }
}
