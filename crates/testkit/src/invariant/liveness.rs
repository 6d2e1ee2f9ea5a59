//! I11: after faults stop, everything runnable finishes. Executions end, queues, leases and joins are
//! empty, no flow stays starting or stopping, every client has its answer.

use tidemill_core::memory::MemoryRows;
use tidemill_rows::{
    key::Table,
    table::{ExecutionRow, FlowRow, FlowStatus},
};
use tidemill_types::PartitionId;

use super::{Checked, Violation, view};

/// A flow that is on its way from one status to another.
#[must_use]
pub fn flow_in_transition(rows: &MemoryRows) -> Option<String> {
    let flows = view::table(rows, PartitionId::CATALOG, Table::Flow);
    flows.into_iter().find_map(|(key, value)| {
        let row: FlowRow = view::decode(&key, value).ok()?;
        matches!(row.status, FlowStatus::Starting | FlowStatus::Stopping)
            .then(|| format!("flow {} is {}", row.name, row.status))
    })
}

/// The names of flows that are active: their schedules go on for ever.
#[must_use]
pub fn active_flows(rows: &MemoryRows) -> Vec<String> {
    let flows = view::table(rows, PartitionId::CATALOG, Table::Flow);
    flows
        .into_iter()
        .filter_map(|(key, value)| view::decode::<FlowRow>(&key, value).ok())
        .filter(|row| row.status == FlowStatus::Active)
        .map(|row| row.name)
        .collect()
}

/// An execution that runs, or a step that waits.
#[must_use]
pub fn work_left(partition: PartitionId, rows: &MemoryRows) -> Option<String> {
    let executions = view::table(rows, partition, Table::Execution);
    let running = executions.into_iter().find_map(|(key, value)| {
        let row: ExecutionRow = view::decode(&key, value).ok()?;
        let id = tidemill_rows::table::execution_of_key(&key)?;
        (!row.state.is_ended()).then(|| format!("{id} runs with {} live steps", row.live))
    });
    running.or_else(|| {
        [Table::Queue, Table::Lease, Table::Join]
            .into_iter()
            .find(|table| !view::table(rows, partition, *table).is_empty())
            .map(|table| format!("partition {partition} has {table:?} rows"))
    })
}

/// The time to come to rest is over.
///
/// # Errors
/// When something has not.
pub fn unfinished(what: Option<String>) -> Checked {
    match what {
        None => Ok(()),
        Some(what) => Err(Violation::new("I11 everything runnable finishes", what)),
    }
}
