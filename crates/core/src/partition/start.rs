//! `Start`: an execution begins. One batch holds it, its first steps and their leases.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tidemill_rows::{
    Hash, Stored,
    journal::{NewRecord, kind, payload_hash},
    table::{
        ExecutionRow, ExecutionState, InputRow, MessageRow, RequestRow, Timer, TimerKind,
        execution_by_flow_key, start_request_key,
    },
};
use tidemill_types::{ExecutionId, FlowId, StepId, Timestamp};

use super::{CLIENT, Partition, SYSTEM, execution::Execution};
use crate::{
    Rejection,
    command::{PartitionReply, StartExecution, TellEnd},
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
        let mut digest = Sha256::new().chain_update(command.flow.0);
        if !command.request_id_only {
            digest.update(hash.0);
        }
        let fingerprint = Hash(digest.finalize().into());
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
        if !command.message.is_within(limit) {
            return Ok(Err(Rejection::invalid(
                "message",
                format!(
                    "has {} bytes, at most {limit} are allowed",
                    command.message.payload_len()
                ),
            )));
        }
        if let Some(rejection) = self.backlog_full(command.flow) {
            return Ok(Err(rejection));
        }
        let begin = Begin {
            flow: command.flow,
            version: flow.row.version,
            message: command.message,
            request_id: command.request_id,
            fingerprint,
            traceparent: command.traceparent,
            tracestate: command.tracestate,
            entropy: command.entropy,
            occurrence_at: None,
            tell_end: command.tell_end,
        };
        let (id, version, request_id) = (begin.flow, begin.version, begin.request_id.clone());
        Ok(match self.begin(begin, hash, rows)? {
            Some(execution) => {
                if command.by_hand {
                    self.note_manual(id, version, execution, &request_id, rows)?;
                }
                Ok(PartitionReply::Started {
                    execution,
                    created: true,
                })
            }
            // 64 bits of entropy met within a millisecond: the caller draws again.
            None => Err(Rejection::invalid(
                "entropy",
                "met one that is in use: retry",
            )),
        })
    }

    /// Begins an execution: its rows, its first steps. None when the id is in use.
    pub(super) fn begin(
        &mut self,
        begin: Begin,
        message_hash: Hash,
        rows: &dyn Rows,
    ) -> Result<Option<ExecutionId>, Damage> {
        let partition = self.ledger.partition();
        let Begin { flow, version, .. } = begin;
        let plan = self.plan(flow, version, rows)?;
        let now = self.ledger.now();
        let id = ExecutionId::new(now.as_millis(), partition, begin.entropy);
        if self.executions.contains_key(&id) {
            return Ok(None);
        }
        let deadline = plan.timeout_ms.map(|ms| now.plus_millis(ms));
        let row = ExecutionRow {
            flow,
            version,
            state: ExecutionState::Running,
            started_at: now,
            request_id: begin.request_id.clone(),
            traceparent: begin.traceparent,
            tracestate: begin.tracestate,
            deadline,
            occurrence_at: begin.occurrence_at,
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
                tell_end: begin.tell_end,
            },
        );
        let request = RequestRow {
            fingerprint: begin.fingerprint,
            execution: id,
            number: 1,
        };
        let request_key = start_request_key(partition, &begin.request_id);
        self.ledger.put_fresh(request_key, request.to_bytes());
        let state = [ExecutionState::Running as u32 as u8];
        self.ledger.put_fresh(
            execution_by_flow_key(flow, id),
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
        let number = self.add_message(id, begin.message);
        self.touch(id);
        let actor = if begin.occurrence_at.is_some() {
            SYSTEM
        } else {
            CLIENT
        };
        self.record_execution(
            id,
            NewRecord {
                request_id: &begin.request_id,
                payload_hash: Some(message_hash),
                ..NewRecord::of(kind::EXECUTION_STARTED, actor)
            },
        );
        for root in roots {
            let input = InputRow {
                message: number,
                from_step: 0,
                edge: 0,
            };
            self.add_step(id, root, vec![input]);
        }
        self.settle(id);
        Ok(Some(id))
    }
}

/// What an execution begins with.
pub(super) struct Begin {
    pub flow: FlowId,
    pub version: u32,
    pub message: MessageRow,
    pub request_id: String,
    pub fingerprint: Hash,
    pub traceparent: String,
    pub tracestate: String,
    pub entropy: u64,
    pub occurrence_at: Option<Timestamp>,
    pub tell_end: TellEnd,
}
