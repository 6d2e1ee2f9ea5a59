//! Where messages go: edges, conditions, joins, loops.

use serde_json::Value;
use tidemill_expression::Limits;
use tidemill_rows::{
    Stored,
    table::{ErrorRow, InputRow, MessageRow, join_key},
};
use tidemill_types::{
    ExecutionId, StepId,
    limits::{EXECUTION_STEPS_MAX, STEP_FAN_OUT_MAX},
};

use super::{Partition, execution::Execution, steps::error};
use crate::{
    command::Targets,
    flow::{EdgeIndex, Join, NodeIndex, On},
};

impl Partition {
    /// The edges along which each message goes, or why that cannot be said: then the step fails with
    /// it, before anything is written.
    pub(super) fn routes(
        execution: &Execution,
        node: u32,
        on: On,
        messages: &[(MessageRow, Targets)],
    ) -> Result<Vec<Vec<EdgeIndex>>, ErrorRow> {
        let node = execution.node(node);
        let mut total = 0_usize;
        let mut joined = 0_usize;
        let mut routes = Vec::with_capacity(messages.len());
        for (message, targets) in messages {
            let mut matching = Vec::new();
            // Parsed at most once a message, and only when a condition looks into it.
            let mut data: Option<Value> = None;
            for index in &node.outgoing {
                let edge = &execution.plan.edges[index.index()];
                let target = &execution.plan.nodes[edge.target.index()];
                let is_named = match targets {
                    Targets::All => true,
                    Targets::None => false,
                    Targets::Named(names) => names.iter().any(|name| **name == *target.id),
                };
                if edge.on != on || !is_named {
                    continue;
                }
                if let Some(condition) = &edge.condition {
                    if data.is_none() {
                        data = Some(parse(&message.data)?);
                    }
                    let data = data.as_ref().unwrap_or(&Value::Null);
                    match condition.evaluate_condition(data, &[], &Limits::default()) {
                        Ok(true) => {}
                        Ok(false) => continue,
                        Err(reason) => {
                            return Err(error(
                                "CONDITION_FAILED",
                                format!(
                                    "condition of the edge from {} to {}: {reason}",
                                    node.id, target.id
                                ),
                                true,
                            ));
                        }
                    }
                }
                joined += usize::from(target.join == Join::All);
                matching.push(*index);
            }
            total += matching.len();
            routes.push(matching);
        }
        if total > STEP_FAN_OUT_MAX {
            return Err(error(
                "FAN_OUT_LIMIT",
                format!(
                    "the step's messages would make {total} steps, at most {STEP_FAN_OUT_MAX} are allowed"
                ),
                true,
            ));
        }
        if execution.row.steps as usize + total - joined > EXECUTION_STEPS_MAX as usize {
            return Err(error(
                "EXECUTION_STEPS_LIMIT",
                format!("the execution would have more than {EXECUTION_STEPS_MAX} steps"),
                true,
            ));
        }
        Ok(routes)
    }

    /// Sends stored messages along their edges.
    pub(super) fn deliver(&mut self, from: StepId, first_message: u32, routes: &[Vec<EdgeIndex>]) {
        let id = from.execution;
        for (message, edges) in (first_message..).zip(routes) {
            for edge in edges {
                let Some(execution) = self.executions.get_mut(&id) else {
                    return;
                };
                let target = execution.plan.edges[edge.index()].target;
                let input = InputRow {
                    message,
                    from_step: from.step + 1,
                    edge: edge.0 + 1,
                };
                if execution.plan.nodes[target.index()].join == Join::All {
                    let arrivals = execution.joins.entry(target.0).or_default();
                    let key = join_key(id, target.0, arrivals.len() as u32);
                    self.ledger.put_fresh(key, input.to_bytes());
                    arrivals.push(input);
                    self.touch(id);
                } else if self.count_iteration(id, target) {
                    self.add_step(id, target, vec![input]);
                } else {
                    self.add_step_over_loop_limit(id, target, input);
                }
            }
        }
    }

    /// Counts a run of a node with `loop`; false when it has used them up.
    fn count_iteration(&mut self, id: ExecutionId, node: NodeIndex) -> bool {
        let Some(execution) = self.executions.get_mut(&id) else {
            return false;
        };
        let Some(limit) = execution.plan.nodes[node.index()].max_iterations else {
            return true;
        };
        let loops = &mut execution.row.loops;
        let at = loops
            .iter()
            .position(|l| l.node == node.0)
            .unwrap_or_else(|| {
                loops.push(tidemill_rows::table::LoopCount {
                    node: node.0,
                    count: 0,
                });
                loops.len() - 1
            });
        loops[at].count += 1;
        loops[at].count <= limit
    }

    /// The message that is one too many for a loop is not dropped: a dead step keeps it.
    fn add_step_over_loop_limit(&mut self, id: ExecutionId, node: NodeIndex, input: InputRow) {
        let Some(execution) = self.executions.get(&id) else {
            return;
        };
        let limit = execution.plan.nodes[node.index()]
            .max_iterations
            .unwrap_or_default();
        let step = StepId {
            execution: id,
            step: execution.row.steps,
        };
        self.add_step(id, node, vec![input]);
        self.take_out(step);
        self.builtins.retain(|other| *other != step);
        self.bury(
            step,
            error(
                "LOOP_LIMIT",
                format!("the node has run {limit} times, as often as its loop allows"),
                true,
            ),
        );
    }

    /// Runs every `join: all` node at which something has arrived and nothing more can.
    pub(super) fn fire_joins(&mut self, id: ExecutionId) {
        loop {
            let Some(execution) = self.executions.get_mut(&id) else {
                return;
            };
            if execution.joins.is_empty() || execution.row.state.is_ended() {
                return;
            }
            let quiet = execution.joins.keys().copied().find(|node| {
                let upstream = &execution.plan.nodes[*node as usize].upstream;
                !execution.is_busy_at(upstream)
            });
            let Some(node) = quiet else { return };
            let mut arrivals = execution.joins.remove(&node).unwrap_or_default();
            self.forget_arrivals(id, node, 0..arrivals.len());
            // Grouped by edge; within an edge in order of arrival, which a stable sort keeps.
            arrivals.sort_by_key(|input| input.edge);
            self.add_step(id, NodeIndex(node), arrivals);
        }
    }

    /// Deletes the rows of arrivals at a join.
    pub(super) fn forget_arrivals(
        &mut self,
        id: ExecutionId,
        node: u32,
        numbers: std::ops::Range<usize>,
    ) {
        for arrival in numbers {
            self.ledger.delete(join_key(id, node, arrival as u32));
        }
    }
}

/// A message's data as a value; what is not JSON fails the step that looks into it.
pub(super) fn parse(data: &[u8]) -> Result<Value, ErrorRow> {
    if data.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(data).map_err(|e| {
        error(
            "DATA_NOT_JSON",
            format!("the message's data is not JSON: {e}"),
            true,
        )
    })
}
