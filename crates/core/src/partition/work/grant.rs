//! Giving tasks out and taking them back.

use std::sync::Arc;

use tidemill_rows::{
    Stored,
    journal::{NewRecord, kind},
    table::{LeaseRow, QueueRow, StepState, lease_key, queue_key},
};
use tidemill_types::{StepId, TaskId};

use super::{Function, Work, lease_deadline};
use crate::{
    command::{PartitionEffect, SessionKey, TaskGrant},
    flow::On,
    ledger::{Damage, Rows},
    partition::{Partition, SYSTEM, steps::error},
};

impl Work {
    /// A session with a free place that serves the function; it goes to the end of the turns.
    fn next_session(&mut self, function: &Function) -> Option<SessionKey> {
        for key in [function.clone(), (function.0.clone(), Arc::from(""))] {
            let Some(turns) = self.served_by.get_mut(&key) else {
                continue;
            };
            for _ in 0..turns.len() {
                let Some(session) = turns.pop_front() else {
                    break;
                };
                turns.push_back(session);
                if self.free.contains(&session) {
                    return Some(session);
                }
            }
        }
        None
    }

    /// A worker that let a lease run out is asked last.
    fn ask_last(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get(&key) else {
            return;
        };
        for function in &session.serves {
            if let Some(turns) = self.served_by.get_mut(function) {
                turns.retain(|other| *other != key);
                turns.push_back(key);
            }
        }
    }

    /// The next step that can be given to somebody, and to whom. Functions take turns too: the
    /// search begins after the one that was served last.
    fn next_match(&mut self) -> Option<(StepId, QueueRow, SessionKey)> {
        // Most of the time nothing waits or nobody is free: neither may cost a search.
        if self.queues.is_empty() || self.free.is_empty() {
            return None;
        }
        let functions: Vec<Function> = match &self.last_function {
            Some(last) => {
                let later = (
                    std::ops::Bound::Excluded(last.clone()),
                    std::ops::Bound::Unbounded,
                );
                let earlier = (
                    std::ops::Bound::Unbounded,
                    std::ops::Bound::Included(last.clone()),
                );
                self.queues
                    .range(later)
                    .chain(self.queues.range(earlier))
                    .map(|(f, _)| f.clone())
                    .collect()
            }
            None => self.queues.keys().cloned().collect(),
        };
        for function in functions {
            let Some(session) = self.next_session(&function) else {
                continue;
            };
            let Some(queue) = self.queues.get_mut(&function) else {
                continue;
            };
            let next = queue.pop();
            if queue.is_empty() {
                self.queues.remove(&function);
            }
            self.last_function = Some(function);
            if let Some((flow, (step, row))) = next {
                self.queued.remove(&step);
                self.not_waiting(flow, 1);
                return Some((step, row, session));
            }
        }
        None
    }
}

impl Partition {
    /// Leases waiting steps to workers with free places.
    pub(in crate::partition) fn dispatch(&mut self, rows: &dyn Rows) -> Result<(), Damage> {
        while let Some((step, row, session)) = self.work.next_match() {
            self.lease(step, row, session, rows)?;
        }
        Ok(())
    }

    fn lease(
        &mut self,
        id: StepId,
        queue: QueueRow,
        key: SessionKey,
        rows: &dyn Rows,
    ) -> Result<(), Damage> {
        if !self.hydrate(id.execution, rows)? || self.step_state(id) != Some(StepState::Pending) {
            // Its row is to say so too: a queue row without a pending step would be damage.
            return Err(Damage::Missing(format!(
                "the pending step {id} of the queue"
            )));
        }
        if self.is_ending(id.execution) {
            // Its row goes with the execution's next slice.
            self.work.leave_gate(id, &queue);
            return Ok(());
        }
        let now = self.ledger.now();
        let Some(session) = self.work.sessions.get_mut(&key) else {
            return Ok(());
        };
        session.held += 1;
        let worker = session.worker.clone();
        let lease_ms = session.lease_ms;
        let (instance, number) = (session.instance, session.number);
        self.work.note_places(key);
        self.change_step(id, |step| {
            step.state = StepState::Running;
            step.attempt += 1;
            step.started_at = Some(now);
            step.worker = worker.to_string();
        });
        let Some(execution) = self.executions.get(&id.execution) else {
            return Ok(());
        };
        let Some(step) = execution.steps.get(&id.step) else {
            return Ok(());
        };
        let node = execution.node(step.node);
        let attempt = step.attempt;
        let row = LeaseRow {
            queue: Some(queue),
            attempt,
            worker: worker.to_string(),
            lease_ms,
            timeout_at: node.timeout_ms.map(|ms| now.plus_millis(ms)),
            instance,
            session: number,
        };
        let deadline = lease_deadline(&row, now);
        let mut targets: Vec<Arc<str>> = Vec::new();
        for edge in &node.outgoing {
            let edge = &execution.plan.edges[edge.index()];
            let target = &execution.plan.nodes[edge.target.index()].id;
            if edge.on == On::Success && !targets.contains(target) {
                targets.push(target.clone());
            }
        }
        let mut inputs = Vec::with_capacity(step.inputs.len());
        for input in &step.inputs {
            let from = input
                .from_step
                .checked_sub(1)
                .and_then(|from| execution.steps.get(&from))
                .map_or_else(
                    || Arc::from(""),
                    |from| execution.node(from.node).id.clone(),
                );
            inputs.push((self.message(id.execution, input.message, rows)?, from));
        }
        let flow = execution.row.flow;
        let node_state = self.stateless.read(flow, &node.id, &self.ledger, rows)?;
        let grant = TaskGrant {
            task: TaskId { step: id, attempt },
            session: key,
            component: node.component.clone(),
            function: node.function.clone(),
            flow: execution.row.flow,
            version: execution.row.version,
            node: node.id.clone(),
            inputs,
            fields: node.fields_json.clone(),
            node_settings: node.node_settings_json.clone(),
            node_state,
            lease_deadline: deadline,
            lease_ms,
            traceparent: execution.row.traceparent.clone(),
            tracestate: execution.row.tracestate.clone(),
            targets,
            rebounds: step.rebounds,
        };
        self.ledger.delete(queue_key(id));
        self.ledger.put_fresh(lease_key(id), row.to_bytes());
        self.work.add_lease(id, row, Some(key), now);
        self.record_step(
            id,
            NewRecord::of(kind::STEP_STARTED, &format!("worker:{worker}")),
        );
        self.effects.push(PartitionEffect::Grant(Box::new(grant)));
        Ok(())
    }

    /// Takes back what was not completed in time.
    pub(in crate::partition) fn expire_leases(&mut self, rows: &dyn Rows) -> Result<(), Damage> {
        let now = self.ledger.now();
        while let Some((id, row, session)) = self.work.next_expired(now) {
            let task = TaskId {
                step: id,
                attempt: row.attempt,
            };
            self.work.remove(id, &mut self.ledger);
            if let Some(session) = session {
                self.work.ask_last(session);
            }
            self.effects
                .push(PartitionEffect::LeaseExpired { task, session });
            if !self.is_running(id, rows)? {
                return Err(Damage::Missing(format!("the running step {id} of a lease")));
            }
            if row.timeout_at.is_some_and(|timeout| timeout <= now) {
                self.fail(
                    id,
                    error("TIMEOUT", "the attempt ran into the node's timeout", false),
                    SYSTEM,
                );
                continue;
            }
            self.put_back(id, kind::STEP_LEASE_EXPIRED, row.worker, rows)?;
        }
        Ok(())
    }

    pub(super) fn is_running(&mut self, id: StepId, rows: &dyn Rows) -> Result<bool, Damage> {
        Ok(self.hydrate(id.execution, rows)? && self.step_state(id) == Some(StepState::Running))
    }
}
