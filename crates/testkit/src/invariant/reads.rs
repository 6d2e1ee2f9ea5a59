//! I9: no read goes back in time. A read from a leader shows at least what any read or acknowledgement
//! showed before it began; and what can be read only moves on: revisions grow.

use std::collections::BTreeMap;

use tidemill_core::memory::MemoryRows;
use tidemill_rows::{
    key::Table,
    table::{ExecutionRow, FlowRow, execution_key, flow_of_key},
};
use tidemill_types::{ExecutionId, FlowId, PartitionId};

use super::{Checked, Violation, view};

const NAME: &str = "I9 no read goes back in time";

/// See the module.
#[derive(Debug, Default)]
pub struct Reads {
    /// The highest revision that anybody has read.
    seen: BTreeMap<ExecutionId, u64>,
    /// The revision in the truth.
    written: BTreeMap<ExecutionId, u64>,
    flows: BTreeMap<FlowId, (u64, u64)>,
}

impl Reads {
    /// The highest revision of an execution that anybody has read; at least 1 for one that is known.
    #[must_use]
    pub fn seen(&self, id: ExecutionId) -> u64 {
        self.seen.get(&id).copied().unwrap_or(1)
    }

    /// A client reads an execution that it knows, having begun when `floor` was seen.
    ///
    /// # Errors
    /// When it sees less.
    pub fn on_read(
        &mut self,
        id: ExecutionId,
        rows: &MemoryRows,
        floor: u64,
        retired: bool,
    ) -> Checked {
        let row: Option<ExecutionRow> = view::row(rows, &execution_key(id))?;
        let revision = match row {
            Some(row) => row.revision,
            None if retired => return Ok(()),
            None => 0,
        };
        if revision < floor {
            return Err(Violation::new(
                NAME,
                format!("{id} was read at revision {floor}, then at {revision}"),
            ));
        }
        let seen = self.seen.entry(id).or_default();
        *seen = revision.max(*seen);
        Ok(())
    }

    /// An execution's rows changed in the truth.
    ///
    /// # Errors
    /// When its revision went back.
    pub fn on_change(&mut self, id: ExecutionId, rows: &MemoryRows) -> Checked {
        let row: Option<ExecutionRow> = view::row(rows, &execution_key(id))?;
        let Some(row) = row else {
            return Ok(());
        };
        let before = self.written.insert(id, row.revision).unwrap_or(0);
        if row.revision < before {
            return Err(Violation::new(
                NAME,
                format!("{id} went from revision {before} to {}", row.revision),
            ));
        }
        Ok(())
    }

    /// Flows' revisions and activations only grow.
    ///
    /// # Errors
    /// When one went back.
    pub fn on_flows(&mut self, rows: &MemoryRows) -> Checked {
        for (key, value) in view::table(rows, PartitionId::CATALOG, Table::Flow) {
            let row: FlowRow = view::decode(&key, value)?;
            let Some(id) = flow_of_key(&key) else {
                continue;
            };
            let now = (row.revision, row.activation);
            let before = self.flows.insert(id, now).unwrap_or_default();
            if now.0 < before.0 || now.1 < before.1 {
                return Err(Violation::new(
                    NAME,
                    format!("flow {id} went from {before:?} to {now:?}"),
                ));
            }
        }
        Ok(())
    }
}
