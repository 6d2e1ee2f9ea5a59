//! An execution in memory: hydrated from its rows on the first message, flushed into each batch.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tidemill_rows::{
    Stored,
    table::{
        ExecutionRow, InputRow, MessageRow, StepRow, StepState, execution_by_flow_key,
        execution_key, join_of_key, joins_prefix, message_key, step_key, step_of_key, steps_prefix,
    },
};
use tidemill_types::{ExecutionId, StepId};

use super::{Partition, backlog::KeptMessage};
use crate::{
    command::TellEnd,
    flow::{Plan, PlanNode},
    ledger::{Damage, Ledger, Rows},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Execution {
    pub row: ExecutionRow,
    pub plan: Arc<Plan>,
    pub steps: BTreeMap<u32, StepRow>,
    /// Messages that steps still have to run on, as far as there is room; any other is read from its row.
    pub messages: BTreeMap<u32, KeptMessage>,
    /// What has arrived at each `join: all` node that has not run yet, with the arrival's number.
    pub joins: BTreeMap<u32, Vec<InputRow>>,
    pub row_changed: bool,
    /// The state in the by-flow index is not the row's any more.
    pub index_changed: bool,
    pub steps_changed: BTreeSet<u32>,
    /// Live steps at each node; nodes without any are left out.
    pub live_at: BTreeMap<u32, u32>,
    /// Live steps that only a timer can move.
    pub waiting: u32,
    /// What is to be told of its end, as long as it stays in memory.
    pub tell_end: TellEnd,
}

/// About how many bytes a row of an execution or a step has, with its key, besides its texts.
const ROW_BYTES: usize = 160;

/// A live step that only a timer can move.
fn is_waiting(step: &StepRow) -> bool {
    step.state.is_live() && step.due_at.is_some()
}

impl Execution {
    /// A node of the plan. The index comes from a row of this execution, so it is in range.
    pub fn node(&self, index: u32) -> &PlanNode {
        &self.plan.nodes[index as usize]
    }

    /// True when nothing can happen to it before a timer fires or somebody asks.
    pub fn only_waits(&self) -> bool {
        // One that is being ended is looked at again at once.
        self.row.ending.is_none() && (self.row.state.is_ended() || self.row.live == self.waiting)
    }

    /// True when steps of `nodes`, or arrivals at them, can still bring messages further down.
    pub fn is_busy_at(&self, nodes: &[crate::flow::NodeIndex]) -> bool {
        let is_among = |node: u32| nodes.binary_search(&crate::flow::NodeIndex(node)).is_ok();
        self.joins
            .keys()
            .chain(self.live_at.keys())
            .any(|node| is_among(*node))
    }

    /// About how many bytes its row has.
    pub fn bytes(&self) -> usize {
        let row = &self.row;
        ROW_BYTES + row.request_id.len() + row.reason.len() + row.traceparent.len()
    }

    /// Writes what changed into the batch.
    pub fn flush(&mut self, id: ExecutionId, ledger: &mut Ledger) {
        for number in std::mem::take(&mut self.steps_changed) {
            if let Some(step) = self.steps.get(&number) {
                ledger.put(
                    step_key(StepId {
                        execution: id,
                        step: number,
                    }),
                    step.to_bytes(),
                );
            }
        }
        if std::mem::take(&mut self.row_changed) {
            ledger.put(execution_key(id), self.row.to_bytes());
        }
        if std::mem::take(&mut self.index_changed) {
            let state = [self.row.state as u32 as u8];
            ledger.put(
                execution_by_flow_key(self.row.flow, id),
                bytes::Bytes::copy_from_slice(&state),
            );
        }
    }
}

impl Partition {
    /// Brings an execution into memory. False when there is none.
    pub(super) fn hydrate(&mut self, id: ExecutionId, rows: &dyn Rows) -> Result<bool, Damage> {
        if self.executions.contains_key(&id) {
            return Ok(true);
        }
        if id.partition() != self.ledger.partition() {
            return Ok(false);
        }
        let Some(row) = self.ledger.read::<ExecutionRow>(rows, &execution_key(id))? else {
            return Ok(false);
        };
        let plan = self.plan(row.flow, row.version, rows)?;
        let mut steps = BTreeMap::new();
        for (key, value) in self.ledger.scan_prefix(rows, &steps_prefix(id))? {
            let number = step_of_key(&key)
                .ok_or_else(|| Damage::Missing("a step's number".into()))?
                .step;
            let step = StepRow::from_bytes(value)?;
            if step.node as usize >= plan.nodes.len() {
                return Err(Damage::Missing(format!("node {} of {id}", step.node)));
            }
            steps.insert(number, step);
        }
        let mut joins: BTreeMap<u32, Vec<InputRow>> = BTreeMap::new();
        if !row.state.is_ended() {
            for (key, value) in self.ledger.scan_prefix(rows, &joins_prefix(id))? {
                let (node, _) =
                    join_of_key(&key).ok_or_else(|| Damage::Missing("a join's node".into()))?;
                joins
                    .entry(node)
                    .or_default()
                    .push(InputRow::from_bytes(value)?);
            }
        }
        let waiting = steps.values().filter(|s| is_waiting(s)).count() as u32;
        let mut live_at = BTreeMap::new();
        for step in steps.values().filter(|s| s.state.is_live()) {
            *live_at.entry(step.node).or_insert(0) += 1;
        }
        let execution = Execution {
            row,
            plan,
            steps,
            messages: BTreeMap::new(),
            joins,
            row_changed: false,
            index_changed: false,
            steps_changed: BTreeSet::new(),
            live_at,
            waiting,
            tell_end: TellEnd::No,
        };
        self.executions.insert(id, execution);
        self.looked_at.push(id);
        Ok(true)
    }

    /// A message of a hydrated execution.
    pub(super) fn message(
        &self,
        id: ExecutionId,
        number: u32,
        rows: &dyn Rows,
    ) -> Result<MessageRow, Damage> {
        if let Some(message) = self
            .executions
            .get(&id)
            .and_then(|e| e.messages.get(&number))
        {
            return Ok(message.row().clone());
        }
        self.ledger
            .read::<MessageRow>(rows, &message_key(id, number))?
            .ok_or_else(|| Damage::Missing(format!("message {number} of {id}")))
    }

    /// Stores a message; gives its number.
    pub(super) fn add_message(&mut self, id: ExecutionId, message: MessageRow) -> u32 {
        let Some(execution) = self.executions.get_mut(&id) else {
            return 0;
        };
        let number = execution.row.messages;
        execution.row.messages += 1;
        execution.row_changed = true;
        self.ledger
            .put_fresh(message_key(id, number), message.to_bytes());
        // What finds no room is read from its row.
        let bytes_max = self.config.messages_kept_bytes_max;
        if let Some(kept) = self.messages_kept.keep(message, bytes_max) {
            execution.messages.insert(number, kept);
        }
        number
    }

    /// Changes a step of a hydrated execution; its row goes into the batch.
    pub(super) fn change_step(&mut self, id: StepId, change: impl FnOnce(&mut StepRow)) {
        let Some(execution) = self.executions.get_mut(&id.execution) else {
            return;
        };
        let Some(step) = execution.steps.get_mut(&id.step) else {
            return;
        };
        let (was_live, was_dead) = (step.state.is_live(), step.state == StepState::Dead);
        let was_waiting = is_waiting(step);
        change(step);
        let (is_live, is_dead) = (step.state.is_live(), step.state == StepState::Dead);
        let count = |counter: &mut u32, was: bool, is: bool| match (was, is) {
            (true, false) => *counter -= 1,
            (false, true) => *counter += 1,
            _ => {}
        };
        count(&mut execution.row.live, was_live, is_live);
        count(&mut execution.row.dead, was_dead, is_dead);
        count(&mut execution.waiting, was_waiting, is_waiting(step));
        let live_here = execution.live_at.entry(step.node).or_insert(0);
        count(live_here, was_live, is_live);
        if *live_here == 0 {
            execution.live_at.remove(&step.node);
        }
        if was_live && !is_live {
            for input in &step.inputs {
                // Others that need it read it from its row.
                execution.messages.remove(&input.message);
            }
        }
        if execution.steps_changed.insert(id.step) {
            self.unwritten_bytes += ROW_BYTES;
        }
        // A message that an error carries is the large part of a step's row.
        self.unwritten_bytes += step
            .error
            .as_ref()
            .map_or(0, |error| error.message.len() + error.details.len());
        self.touch(id.execution);
    }
}
