//! Telling who waits for an execution's end of it, with what it ended with.
//!
//! Whoever starts an execution and waits for its end would otherwise read from rows what this leader has
//! just had in memory: that was an eighth of a node's processor time for flows of one step. It is a hint
//! like all effects. What is not told (another leader, an execution that was let go, too many steps) is said so, or
//! seen by the epoch's end, and read from rows.

use std::collections::BTreeSet;

use tidemill_rows::table::MessageRow;
use tidemill_types::ExecutionId;

use super::{Partition, execution::Execution};
use crate::command::{EndedExecution, PartitionEffect, TellEnd};

/// Of an execution with more steps the output is read from rows: looking for it takes a while, and this
/// is the leader's thread.
const STEPS_LOOKED_AT_MAX: usize = 64;

impl Partition {
    /// An execution has ended: says so if it was asked for.
    pub(super) fn tell_end(&mut self, id: ExecutionId) {
        let Some(execution) = self.executions.get_mut(&id) else {
            return;
        };
        let output = match std::mem::take(&mut execution.tell_end) {
            TellEnd::No => return,
            TellEnd::Row => Some(Vec::new()),
            TellEnd::RowAndOutput => output(execution),
        };
        self.effects.push(match output {
            Some(output) => PartitionEffect::Ended(Box::new(EndedExecution {
                execution: id,
                row: execution.row.clone(),
                output,
            })),
            None => PartitionEffect::EndUntold { execution: id },
        });
    }

    /// An execution is not in memory any more.
    pub(super) fn end_untold(&mut self, id: ExecutionId, gone: Option<Execution>) {
        if gone.is_some_and(|gone| gone.tell_end != TellEnd::No) {
            self.effects
                .push(PartitionEffect::EndUntold { execution: id });
        }
    }
}

/// The messages that no step took, in their order; none when not all of them are in memory.
fn output(execution: &Execution) -> Option<Vec<MessageRow>> {
    if execution.steps.len() > STEPS_LOOKED_AT_MAX {
        return None;
    }
    let steps = execution.steps.values();
    let taken: BTreeSet<u32> = steps
        .clone()
        .flat_map(|step| step.inputs.iter().map(|input| input.message))
        .collect();
    let mut given: Vec<u32> = steps
        .flat_map(|step| step.first_output..step.first_output.saturating_add(step.outputs))
        .filter(|message| !taken.contains(message))
        .collect();
    given.sort_unstable();
    let message = |number| Some(execution.messages.get(&number)?.row().clone());
    given.into_iter().map(message).collect()
}
