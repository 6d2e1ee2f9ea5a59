//! Decides for a partition: executions, steps, tasks, leases, timers, armed flows.
//!
//! Owns the volatile state of a leader: hydrated executions, queues, leases, sessions, near timers,
//! compiled plans. All of it can be rebuilt from rows, and is, by [`recover`](Decider::recover). One
//! file per command; what several commands share stands in `steps`, `routing`, `failure` and
//! `work`.

mod armed;
mod backlog;
mod builtin;
mod cancel;
mod complete;
mod ending;
mod execution;
mod failure;
mod forget;
mod node_state;
mod redrive;
mod respond;
mod retire;
mod routing;
mod schedule;
mod start;
mod steps;
mod telling;
mod timers;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tidemill_rows::{
    EncodedBatch, Epoch, Hash, Stored,
    journal::{NewRecord, kind},
    key::{self, Table, after_prefix},
    table::{LeaseRow, QueueRow, StepState, step_of_key},
};
use tidemill_types::{
    ExecutionId, FlowId, PartitionId, StepId, Timestamp,
    limits::{
        BACKLOG_DEFAULT, EXECUTIONS_HYDRATED_MAX, FLOW_BACKLOG_DEFAULT, LEDGER_KEPT_MS_DEFAULT,
        MESSAGE_BYTES_DEFAULT, MESSAGES_KEPT_BYTES_MAX, ROWS_FORGOTTEN_PER_TURN_MAX,
        STEPS_ENDED_PER_TURN_MAX,
    },
};

use self::{
    armed::ArmedFlow, backlog::MessagesKept, execution::Execution, node_state::Stateless,
    timers::Timers, work::Work,
};
use crate::{
    Decider, Rejection, Turns,
    command::{CompletionStatus, PartitionCommand, PartitionEffect, PartitionReply},
    flow::Plan,
    ledger::{Damage, Ledger, Rows},
    quarantine::Quarantine,
};

/// What differs between deployments.
#[derive(Clone, Debug)]
pub struct PartitionConfig {
    /// Most bytes in one message.
    pub message_bytes_max: usize,
    /// How long a finished execution is kept when its flow does not say.
    pub retention_ms: u64,
    /// Most steps that a cancellation or a time-out ends in one batch.
    pub steps_ended_per_turn: usize,
    /// Most rows of a deleted flow that are removed in one batch.
    pub rows_forgotten_per_turn: usize,
    /// How long it is remembered that a flow was deleted: longer than a word about it can be on its way.
    pub deleted_flow_kept_ms: u64,
    /// How long the ledger rows of occurrences are kept.
    pub ledger_kept_ms: u64,
    /// With so many steps of a flow waiting to be run, nothing more of it is started.
    pub flow_backlog_max: usize,
    /// The same for all flows together.
    pub backlog_max: usize,
    /// Most bytes of messages kept in memory for steps that will run on them.
    pub messages_kept_bytes_max: usize,
}

impl Default for PartitionConfig {
    fn default() -> Self {
        const HOUR_MS: u64 = 60 * 60 * 1_000;
        const SEVEN_DAYS_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
        Self {
            message_bytes_max: MESSAGE_BYTES_DEFAULT,
            retention_ms: SEVEN_DAYS_MS,
            steps_ended_per_turn: STEPS_ENDED_PER_TURN_MAX,
            rows_forgotten_per_turn: ROWS_FORGOTTEN_PER_TURN_MAX,
            deleted_flow_kept_ms: HOUR_MS,
            ledger_kept_ms: LEDGER_KEPT_MS_DEFAULT,
            flow_backlog_max: FLOW_BACKLOG_DEFAULT,
            backlog_max: BACKLOG_DEFAULT,
            messages_kept_bytes_max: MESSAGES_KEPT_BYTES_MAX,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Partition {
    config: PartitionConfig,
    ledger: Ledger,
    flows: BTreeMap<FlowId, ArmedFlow>,
    plans: BTreeMap<(FlowId, u32), Arc<Plan>>,
    executions: BTreeMap<ExecutionId, Execution>,
    /// Executions with changes that are not in the ledger yet.
    touched: BTreeSet<ExecutionId>,
    /// About how many bytes the rows of `touched` will have.
    unwritten_bytes: usize,
    /// Executions that were brought into memory, perhaps only to be looked at.
    looked_at: Vec<ExecutionId>,
    /// Steps of built-in components that can run at once.
    builtins: Turns<FlowId, StepId>,
    work: Work,
    stateless: Stateless,
    timers: Timers,
    quarantine: Quarantine,
    /// Executions of schedules that have ended within this command.
    ended_scheduled: Vec<(ExecutionId, FlowId)>,
    messages_kept: MessagesKept,
    effects: Vec<PartitionEffect>,
}

impl Decider for Partition {
    type Config = PartitionConfig;
    type Command = PartitionCommand;
    type Reply = PartitionReply;
    type Effect = PartitionEffect;

    fn recover(
        config: PartitionConfig,
        partition: PartitionId,
        time: Timestamp,
        rows: &dyn Rows,
    ) -> Result<Self, Damage> {
        let mut recovered = Self {
            config,
            ledger: Ledger::recover(partition, time, rows)?,
            flows: BTreeMap::new(),
            plans: BTreeMap::new(),
            executions: BTreeMap::new(),
            touched: BTreeSet::new(),
            unwritten_bytes: 0,
            looked_at: Vec::new(),
            builtins: Turns::default(),
            work: Work::default(),
            stateless: Stateless::default(),
            timers: Timers::default(),
            quarantine: Quarantine::default(),
            ended_scheduled: Vec::new(),
            messages_kept: MessagesKept::default(),
            effects: Vec::new(),
        };
        recovered.recover_work(rows)?;
        recovered.quarantine = Quarantine::recover(&recovered.ledger, rows)?;
        Ok(recovered)
    }

    fn handle(
        &mut self,
        command: PartitionCommand,
        now: Timestamp,
        rows: &dyn Rows,
    ) -> Result<Result<PartitionReply, Rejection>, Damage> {
        self.ledger.advance(now);
        let reply = match command {
            PartitionCommand::Start(command) => self.start(command, rows)?,
            PartitionCommand::Cancel(command) => self.cancel(command, rows)?,
            PartitionCommand::Redrive(command) => self.redrive(command, rows)?,
            PartitionCommand::Complete(command) => {
                let (session, task) = (command.session, command.task);
                let status = self.complete(command, rows)?;
                self.effects.push(PartitionEffect::Completed {
                    session,
                    task,
                    status: status.clone(),
                });
                Ok(PartitionReply::Completed(status))
            }
            PartitionCommand::Renew(command) => {
                let held = self.work.renew(command.task, self.ledger.now());
                Ok(PartitionReply::Renewed { held })
            }
            PartitionCommand::Session(update) => {
                self.update_session(update);
                Ok(PartitionReply::Nothing)
            }
            PartitionCommand::GatewayGone { gateway } => {
                self.work.forget_gateway(gateway);
                Ok(PartitionReply::Nothing)
            }
            PartitionCommand::Arm(command) => self.arm(command, rows)?,
            PartitionCommand::Disarm(command) => self.disarm(command, rows)?,
            PartitionCommand::ChangeSchedule(command) => self.change_schedule(command, rows)?,
            PartitionCommand::Backfill(command) => self.backfill(command, rows)?,
            PartitionCommand::ClockJumped { by_ms } => self.clock_jumped(by_ms),
            PartitionCommand::Restarted(panic) => {
                self.quarantine.note(&mut self.ledger, panic);
                Ok(PartitionReply::Nothing)
            }
            PartitionCommand::Forget { flow } => Ok(self.forget(flow, rows)?),
        };
        self.free_leases(rows)?;
        self.run_builtins(rows)?;
        self.start_queued(rows)?;
        self.dispatch(rows)?;
        if self.touched.is_empty() {
            self.let_go();
        }
        Ok(reply)
    }

    fn tick(&mut self, now: Timestamp, rows: &dyn Rows) -> Result<(), Damage> {
        self.ledger.advance(now);
        self.fire_timers(rows)?;
        self.expire_leases(rows)?;
        self.free_leases(rows)?;
        self.run_builtins(rows)?;
        self.start_queued(rows)?;
        self.dispatch(rows)
    }

    fn next_due(&self) -> Option<Timestamp> {
        if !self.builtins.is_empty() {
            return Some(self.ledger.now());
        }
        [self.timers.next_due(), self.work.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn has_batch(&self) -> bool {
        self.ledger.has_changes() || !self.touched.is_empty()
    }

    fn batch_len(&self) -> usize {
        self.ledger.pending_len() + self.touched.len()
    }

    fn batch_bytes(&self) -> usize {
        self.ledger.pending_bytes() + self.unwritten_bytes
    }

    fn take_batch(&mut self, epoch: Epoch, seq: u64) -> Result<EncodedBatch, Damage> {
        self.flush();
        Ok(self.ledger.take(epoch, seq))
    }

    fn take_effects(&mut self) -> Vec<PartitionEffect> {
        std::mem::take(&mut self.effects)
    }

    fn applied(&mut self, seq: u64) {
        self.ledger.applied(seq);
    }

    fn now(&self) -> Timestamp {
        self.ledger.now()
    }
}

impl Partition {
    /// True when this command is refused because the logic panicked on it.
    #[must_use]
    pub fn is_quarantined(&self, digest: Hash) -> bool {
        self.quarantine.contains(digest)
    }

    /// Queues and leases, from their rows.
    fn recover_work(&mut self, rows: &dyn Rows) -> Result<(), Damage> {
        let partition = self.ledger.partition();
        let now = self.ledger.now();
        let lease_prefix = key::prefix(partition, Table::Lease);
        for (key, value) in self.ledger.scan_prefix(rows, &lease_prefix)? {
            let step = step_of_key(&key).ok_or_else(|| Damage::Missing("a lease's step".into()))?;
            self.work
                .recover_lease(step, LeaseRow::from_bytes(value)?, now);
        }
        let queue_prefix = key::prefix(partition, Table::Queue);
        let mut from = queue_prefix.to_vec();
        let to = after_prefix(&queue_prefix).expect("a table's prefix is not all 0xff");
        // In parts: the queue may be long, and its rows are not needed twice.
        const PART: usize = 10_000;
        loop {
            let part = self.ledger.scan(rows, &from, &to, PART)?;
            let last = part.len() < PART;
            if let Some((key, _)) = part.last() {
                from = key.to_vec();
                from.push(0);
            }
            for (key, value) in part {
                let step =
                    step_of_key(&key).ok_or_else(|| Damage::Missing("a queue's step".into()))?;
                let row = QueueRow::from_bytes(value)?;
                if crate::flow::Builtin::from_component(&row.component).is_some() {
                    self.builtins.push(row.flow, step);
                } else {
                    self.work.enqueue(step, row);
                }
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Writes what changed in memory into the batch, and lets go of executions that only wait.
    fn flush(&mut self) {
        self.unwritten_bytes = 0;
        for id in std::mem::take(&mut self.touched) {
            let Some(execution) = self.executions.get_mut(&id) else {
                continue;
            };
            execution.flush(id, &mut self.ledger);
            self.looked_at.push(id);
        }
        self.let_go();
    }

    /// Lets go of executions that only wait and have nothing to write.
    fn let_go(&mut self) {
        for id in std::mem::take(&mut self.looked_at) {
            let only_waits = self.executions.get(&id).is_some_and(Execution::only_waits);
            if only_waits && !self.touched.contains(&id) {
                let gone = self.executions.remove(&id);
                self.end_untold(id, gone);
            }
        }
        if self.touched.is_empty() {
            while self.executions.len() > EXECUTIONS_HYDRATED_MAX
                && let Some((id, gone)) = self.executions.pop_first()
            {
                self.end_untold(id, Some(gone));
            }
        }
    }

    /// Starts the occurrences that waited for executions that have ended within this command.
    fn start_queued(&mut self, rows: &dyn Rows) -> Result<(), Damage> {
        while let Some((execution, flow)) = self.ended_scheduled.pop() {
            self.after_scheduled(execution, flow, rows)?;
            self.run_builtins(rows)?;
        }
        Ok(())
    }

    /// The leader's wall clock has jumped forward. What fell due meanwhile fell due while nothing could
    /// fire: its lateness says so by itself.
    fn clock_jumped(&mut self, by_ms: u64) -> Result<PartitionReply, Rejection> {
        self.ledger.record(&NewRecord {
            kind: kind::CLOCK_JUMPED,
            actor: SYSTEM,
            number: by_ms,
            ..NewRecord::default()
        });
        Ok(PartitionReply::Nothing)
    }

    /// A record about an execution.
    fn record_execution(&mut self, id: ExecutionId, record: NewRecord<'_>) {
        let Some(execution) = self.executions.get(&id) else {
            return;
        };
        self.ledger.record(&NewRecord {
            flow: Some(execution.row.flow),
            execution: Some(id),
            version: execution.row.version,
            ..record
        });
    }

    /// A record about a step: its flow and version stand in the execution's first record.
    fn record_step(&mut self, id: StepId, record: NewRecord<'_>) {
        let Some(execution) = self.executions.get(&id.execution) else {
            return;
        };
        let Some(step) = execution.steps.get(&id.step) else {
            return;
        };
        self.ledger.record(&NewRecord {
            execution: Some(id.execution),
            step: id.step + 1,
            attempt: step.attempt,
            node: &execution.node(step.node).id,
            ..record
        });
    }

    /// Marks an execution as changed by this batch.
    fn touch(&mut self, id: ExecutionId) {
        if let Some(execution) = self.executions.get_mut(&id) {
            execution.row.revision += 1;
            execution.row_changed = true;
            if self.touched.insert(id) {
                self.unwritten_bytes += execution.bytes();
            }
            let state = execution.row.state;
            // One notice per command is enough: it carries no detail.
            if !matches!(self.effects.last(), Some(PartitionEffect::Changed { execution, state: s }) if *execution == id && *s == state)
            {
                self.effects.push(PartitionEffect::Changed {
                    execution: id,
                    state,
                });
            }
        }
    }

    /// The state of a step in memory.
    fn step_state(&self, id: StepId) -> Option<StepState> {
        Some(
            self.executions
                .get(&id.execution)?
                .steps
                .get(&id.step)?
                .state,
        )
    }
}

/// Who causes what nobody asked for.
const SYSTEM: &str = "system";
/// Who causes what a client asked for.
const CLIENT: &str = "client";

/// Cuts a text at a character's boundary.
fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let end = (0..=bytes_max)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// What a completion that is not allowed is answered.
fn invalid(reason: impl Into<String>) -> CompletionStatus {
    CompletionStatus::Invalid(reason.into())
}

#[cfg(test)]
mod tests;
