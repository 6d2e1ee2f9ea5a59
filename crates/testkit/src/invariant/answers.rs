//! A `respond` gives the one answer to whoever started the execution: once given it stays.

use std::collections::BTreeMap;

use tidemill_core::memory::MemoryRows;
use tidemill_rows::table::{ExecutionRow, execution_key};
use tidemill_types::ExecutionId;

use super::{Checked, Violation, view};

/// See the module.
#[derive(Debug, Default)]
pub struct Answers {
    /// The message that is the answer.
    given: BTreeMap<ExecutionId, u32>,
}

impl Answers {
    /// An execution's rows were written.
    ///
    /// # Errors
    /// The first violation.
    pub fn of_execution(&mut self, id: ExecutionId, rows: &MemoryRows) -> Checked {
        let row: Option<ExecutionRow> = view::row(rows, &execution_key(id))?;
        let Some(row) = row else {
            return Ok(());
        };
        match (self.given.get(&id).copied(), row.reply) {
            (Some(before), now) if now != Some(before) => Err(Violation::new(
                "the first answer counts",
                format!("{id} was answered by message {before}, now by {now:?}"),
            )),
            (None, Some(now)) => {
                self.given.insert(id, now);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// How many executions have one.
    #[must_use]
    pub fn given(&self) -> u64 {
        self.given.len() as u64
    }
}
