//! What a leader tells of an execution's end is what can be read of it: I9 for those that are told instead
//! of reading.

use std::collections::BTreeSet;

use tidemill_core::{
    command::{EndedExecution, TellEnd},
    memory::MemoryRows,
};
use tidemill_rows::table::{
    ExecutionRow, MessageRow, StepRow, execution_key, message_key, steps_prefix,
};
use tidemill_types::ExecutionId;

use super::{Checked, Violation, view};

const NAME: &str = "I9 what is told of an end is what can be read";

/// What the simulated clients ask to be told, by the entropy that they give.
#[must_use]
pub const fn asked(entropy: u64) -> TellEnd {
    match entropy % 4 {
        0 => TellEnd::No,
        1 => TellEnd::Row,
        _ => TellEnd::RowAndOutput,
    }
}

/// An end is told by a leader whose replica has these rows. True when it could be compared: the execution may
/// have changed since.
///
/// # Errors
/// When something else can be read.
pub fn on_told(told: &EndedExecution, rows: &MemoryRows) -> Result<bool, Violation> {
    let id = told.execution;
    let row: Option<ExecutionRow> = view::row(rows, &execution_key(id))?;
    let Some(row) = row.filter(|row| row.revision == told.row.revision) else {
        return Ok(false);
    };
    compare(id, "row", &row, &told.row)?;
    let expected = match asked(id.entropy()) {
        TellEnd::RowAndOutput => output(id, rows)?,
        TellEnd::Row => Vec::new(),
        TellEnd::No => {
            return Err(Violation::new(NAME, format!("{id} was told unasked")));
        }
    };
    compare(id, "output", &expected, &told.output)?;
    Ok(true)
}

fn compare<T: PartialEq + std::fmt::Debug>(
    id: ExecutionId,
    what: &str,
    read: &T,
    told: &T,
) -> Checked {
    if read == told {
        return Ok(());
    }
    let detail = format!("{what} of {id} reads {read:?}, {told:?} was told");
    Err(Violation::new(NAME, detail))
}

/// The messages that no step took.
fn output(id: ExecutionId, rows: &MemoryRows) -> Result<Vec<MessageRow>, Violation> {
    let (mut given, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for (key, value) in view::with_prefix(rows, &steps_prefix(id)) {
        let step: StepRow = view::decode(&key, value)?;
        given.extend(step.first_output..step.first_output + step.outputs);
        taken.extend(step.inputs.iter().map(|input| input.message));
    }
    let mut output = Vec::new();
    for number in given.difference(&taken) {
        let message = view::row(rows, &message_key(id, *number))?;
        let missing = || Violation::new(NAME, format!("message {number} of {id} is missing"));
        output.push(message.ok_or_else(missing)?);
    }
    Ok(output)
}
