//! `Complete`: a worker's answer takes effect once.

use bytes::Bytes;
use tidemill_rows::{
    Stored,
    journal::{NewRecord, kind, payload_hash},
    table::{ErrorRow, MessageRow, StepState, Timer, TimerKind},
};
use tidemill_types::{
    StepId, TaskId,
    limits::{NODE_STATE_BYTES_MAX, REBOUND_DELAY_MS_MAX, REBOUNDS_MAX, STEP_FAN_OUT_MAX},
};

use super::{Partition, invalid, steps::error};
use crate::{
    command::{CompleteTask, CompletionStatus, Outcome, OutputMessage, Targets, TellEnd},
    flow::On,
    ledger::{Damage, Rows},
};

impl Partition {
    pub(super) fn complete(
        &mut self,
        command: CompleteTask,
        rows: &dyn Rows,
    ) -> Result<CompletionStatus, Damage> {
        let TaskId { step: id, attempt } = command.task;
        if !self.hydrate(id.execution, rows)? {
            return Ok(CompletionStatus::LeaseLost);
        }
        let Some((step, is_builtin)) = self.executions.get(&id.execution).and_then(|e| {
            let step = e.steps.get(&id.step)?;
            Some((step, e.node(step.node).builtin.is_some()))
        }) else {
            return Ok(CompletionStatus::LeaseLost);
        };
        // A built-in step that waits is running too, and no worker holds it.
        let is_held = step.state == StepState::Running && !is_builtin;
        if attempt == 0 || attempt != step.attempt || !is_held {
            return Ok(if attempt != 0 && attempt == step.completed_attempt {
                CompletionStatus::Already
            } else {
                CompletionStatus::LeaseLost
            });
        }
        if self.is_ending(id.execution) {
            // Its next messages would begin something. The step ends with the execution.
            return Ok(CompletionStatus::LeaseLost);
        }
        let actor = format!("worker:{}", step.worker);
        self.work.remove(id, &mut self.ledger);
        Ok(match command.outcome {
            Outcome::Success {
                messages,
                node_state,
            } => match self.check_success(id, &messages, node_state.as_ref()) {
                Err(reason) => {
                    self.fail(
                        id,
                        error("INVALID_COMPLETION", reason.clone(), true),
                        &actor,
                    );
                    invalid(reason)
                }
                Ok(()) => {
                    let messages = messages
                        .into_iter()
                        .map(|m| (m.message, m.targets))
                        .collect();
                    self.succeed_with(id, messages, node_state, &actor);
                    CompletionStatus::Accepted
                }
            },
            Outcome::Failure(error) => {
                self.fail(id, error, &actor);
                CompletionStatus::Accepted
            }
            Outcome::Rebound { after_ms } => self.rebound(id, after_ms, &actor),
        })
    }

    /// What of a success is not allowed.
    fn check_success(
        &self,
        id: StepId,
        messages: &[OutputMessage],
        node_state: Option<&Bytes>,
    ) -> Result<(), String> {
        if messages.len() > STEP_FAN_OUT_MAX {
            return Err(format!(
                "messages: the step gave {}, at most {STEP_FAN_OUT_MAX} are allowed",
                messages.len()
            ));
        }
        let limit = self.config.message_bytes_max;
        let Some(execution) = self.executions.get(&id.execution) else {
            return Ok(());
        };
        let Some(step) = execution.steps.get(&id.step) else {
            return Ok(());
        };
        let node = execution.node(step.node);
        for (at, output) in messages.iter().enumerate() {
            let len = output.message.payload_len();
            if len > limit {
                return Err(format!(
                    "messages[{at}]: has {len} bytes, at most {limit} are allowed"
                ));
            }
            let Targets::Named(names) = &output.targets else {
                continue;
            };
            for name in names {
                let is_target = node.outgoing.iter().any(|edge| {
                    let edge = &execution.plan.edges[edge.index()];
                    edge.on == On::Success
                        && *execution.plan.nodes[edge.target.index()].id == **name
                });
                if !is_target {
                    return Err(format!(
                        "messages[{at}].targets: {name:?} is not a target of node {:?}",
                        node.id
                    ));
                }
            }
        }
        if let Some(state) = node_state
            && state.len() > NODE_STATE_BYTES_MAX
        {
            return Err(format!(
                "node_state: has {} bytes, at most {NODE_STATE_BYTES_MAX} are allowed",
                state.len()
            ));
        }
        Ok(())
    }

    /// A step has given messages: they, its end, the node's state and the next steps are one change.
    pub(super) fn succeed_with(
        &mut self,
        id: StepId,
        messages: Vec<(MessageRow, Targets)>,
        node_state: Option<Bytes>,
        actor: &str,
    ) {
        let Some(execution) = self.executions.get(&id.execution) else {
            return;
        };
        let Some(step) = execution.steps.get(&id.step) else {
            return;
        };
        let routes = match Self::routes(execution, step.node, On::Success, &messages) {
            Ok(routes) => routes,
            Err(error) => return self.fail(id, error, actor),
        };
        let (node, first) = (step.node, execution.row.messages);
        if let Some(state) = node_state {
            self.put_node_state(id.execution, node, state);
        }
        let outputs = messages.len() as u32;
        for (message, _) in messages {
            self.add_message(id.execution, message);
        }
        self.succeed(id, actor, first, outputs);
        self.deliver(id, first, &routes);
        self.drop_unread(id, first, &routes);
        self.settle(id.execution);
    }

    /// Messages that went nowhere need not stay in memory, unless they are to be told at the end.
    fn drop_unread(&mut self, id: StepId, first: u32, routes: &[Vec<crate::flow::EdgeIndex>]) {
        let Some(execution) = self.executions.get_mut(&id.execution) else {
            return;
        };
        if execution.tell_end == TellEnd::RowAndOutput {
            return;
        }
        for (number, _) in (first..).zip(routes).filter(|(_, edges)| edges.is_empty()) {
            execution.messages.remove(&number);
        }
    }

    fn rebound(&mut self, id: StepId, after_ms: u64, actor: &str) -> CompletionStatus {
        let Some(step) = self
            .executions
            .get(&id.execution)
            .and_then(|e| e.steps.get(&id.step))
        else {
            return CompletionStatus::LeaseLost;
        };
        if after_ms > REBOUND_DELAY_MS_MAX {
            let reason = format!(
                "rebound.after_ms: is {after_ms}, at most {REBOUND_DELAY_MS_MAX} is allowed"
            );
            self.fail(id, error("INVALID_COMPLETION", reason.clone(), true), actor);
            return invalid(reason);
        }
        if step.rebounds >= REBOUNDS_MAX {
            // OIH's words for it, and its limit.
            self.fail(
                id,
                error("REBOUND_LIMIT", "Rebound limit exceeded", true),
                actor,
            );
            return CompletionStatus::Accepted;
        }
        let due = self.ledger.now().plus_millis(after_ms);
        self.change_step(id, |step| {
            step.state = StepState::RetryWait;
            step.rebounds += 1;
            step.completed_attempt = step.attempt;
            step.due_at = Some(due);
        });
        self.add_timer(Timer {
            due,
            step: id,
            kind: TimerKind::Retry,
        });
        self.record_step(
            id,
            NewRecord {
                number: after_ms,
                ..NewRecord::of(kind::STEP_REBOUND, actor)
            },
        );
        CompletionStatus::Accepted
    }

    /// A step that failed because of its data, without having reached anybody.
    pub(super) fn fail_unreached(&mut self, id: StepId, reason: ErrorRow) {
        self.fail(id, reason, super::SYSTEM);
    }

    /// SHA-256 of an execution's message, for records that name one.
    #[must_use]
    pub fn message_hash(message: &MessageRow) -> tidemill_rows::Hash {
        payload_hash(&message.to_bytes())
    }
}
