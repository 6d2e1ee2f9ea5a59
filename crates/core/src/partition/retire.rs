//! Retention: a finished execution's rows go; its journal records stay.

use tidemill_rows::{
    journal::{NewRecord, kind},
    table::{
        execution_by_flow_key, execution_key, execution_requests_prefix, message_key,
        messages_prefix, start_request_key, step_key, steps_prefix,
    },
};
use tidemill_types::{ExecutionId, StepId};

use super::{Partition, SYSTEM};
use crate::ledger::{Damage, Rows};

/// Up to so many rows are deleted one by one; beyond, a range deletion is cheaper for RocksDB than
/// many tombstones, and below, range tombstones would slow down every later read.
const SINGLE_DELETES_MAX: u32 = 256;

impl Partition {
    /// Removes an execution whose retention has ended.
    pub(super) fn retire(&mut self, id: ExecutionId, rows: &dyn Rows) -> Result<(), Damage> {
        if !self.hydrate(id, rows)? {
            return Ok(());
        }
        let Some(execution) = self.executions.get(&id) else {
            return Ok(());
        };
        if !execution.row.state.is_ended() {
            return Ok(());
        }
        let (flow, steps, messages) = (
            execution.row.flow,
            execution.row.steps,
            execution.row.messages,
        );
        let request_id = execution.row.request_id.clone();
        self.record_execution(id, NewRecord::of(kind::EXECUTION_RETIRED, SYSTEM));
        for (key, _) in self
            .ledger
            .scan_prefix(rows, &execution_requests_prefix(id))?
        {
            self.ledger.delete(key);
        }
        if steps + messages <= SINGLE_DELETES_MAX {
            for step in 0..steps {
                self.ledger.delete(step_key(StepId {
                    execution: id,
                    step,
                }));
            }
            for message in 0..messages {
                self.ledger.delete(message_key(id, message));
            }
        } else {
            self.ledger.delete_prefix(steps_prefix(id));
            self.ledger.delete_prefix(messages_prefix(id));
        }
        self.ledger.delete(execution_by_flow_key(flow, id));
        self.ledger
            .delete(start_request_key(id.partition(), &request_id));
        self.ledger.delete(execution_key(id));
        self.executions.remove(&id);
        self.touched.remove(&id);
        self.forget_if_unused(flow, rows)
    }
}
