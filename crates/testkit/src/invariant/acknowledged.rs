//! I1: every acknowledged command is in every later state. When an acknowledgement reaches its client
//! the change must be in the journal, and what is in the journal stays (I6). Its rows stay too, until
//! retention says in the journal that they go.

use std::collections::BTreeMap;

use tidemill_core::{Rejection, memory::MemoryRows};
use tidemill_rows::{
    journal::{JournalRecord, kind},
    table::{ExecutionRow, execution_key},
};
use tidemill_types::{ExecutionId, FlowId, PartitionId};

use super::{Checked, Violation, fold::History, view};

const NAME: &str = "I1 acknowledged commands stay";

/// What a client was told.
#[derive(Clone, Debug)]
pub enum Acknowledged {
    /// An execution runs.
    Started {
        /// Which.
        execution: ExecutionId,
        /// Of which flow.
        flow: FlowId,
    },
    /// An execution is cancelled.
    Cancelled {
        /// Which.
        execution: ExecutionId,
        /// False: it had ended before.
        changed: bool,
    },
    /// An execution goes on.
    Redriven {
        /// Which.
        execution: ExecutionId,
    },
    /// A schedule was paused, resumed or is backfilled.
    Schedule {
        /// Of which flow.
        flow: FlowId,
        /// False: nothing new was done.
        changed: bool,
    },
    /// A flow was changed.
    Catalog {
        /// Which.
        flow: FlowId,
        /// False: it was so already.
        changed: bool,
    },
}

/// See the module.
#[derive(Debug, Default)]
pub struct Acknowledgements {
    started: Vec<ExecutionId>,
    /// Request ids in the catalog's journal, with the flow.
    catalog: BTreeMap<String, FlowId>,
    /// Request ids of changes to schedules in the partitions' journals.
    schedules: BTreeMap<String, FlowId>,
}

impl Acknowledgements {
    /// The catalog's journal tells of a request.
    pub fn on_catalog_record(&mut self, record: &JournalRecord) {
        if let Some(flow) = record.flow
            && !record.request_id.is_empty()
        {
            self.catalog.insert(record.request_id.clone(), flow);
        }
    }

    /// A partition's journal tells of a request about a schedule.
    pub fn on_schedule_record(&mut self, record: &JournalRecord) {
        let changes = [
            kind::SCHEDULE_PAUSED,
            kind::SCHEDULE_RESUMED,
            kind::BACKFILL_STARTED,
        ];
        if let Some(flow) = record.flow
            && changes.contains(&record.kind.as_str())
        {
            self.schedules.insert(record.request_id.clone(), flow);
        }
    }

    /// A client was told that its request was done.
    ///
    /// # Errors
    /// When the journal knows nothing of it.
    pub fn on_acknowledged(
        &mut self,
        request_id: &str,
        what: &Acknowledged,
        history: &History,
    ) -> Checked {
        let has_request = |execution: &ExecutionId, event: &str| {
            history.get(*execution).is_some_and(|told| {
                told.requests
                    .iter()
                    .any(|(id, kind)| id == request_id && kind == event)
            })
        };
        let holds = match what {
            Acknowledged::Started { execution, flow } => {
                self.started.push(*execution);
                history
                    .get(*execution)
                    .is_some_and(|told| told.request_id == request_id && told.flow == Some(*flow))
            }
            Acknowledged::Cancelled {
                execution,
                changed: true,
            } => {
                has_request(execution, kind::EXECUTION_CANCELLED)
                    || has_request(execution, kind::EXECUTION_ENDING)
            }
            Acknowledged::Cancelled {
                execution,
                changed: false,
            } => history.get(*execution).is_some_and(|told| told.has_ended),
            Acknowledged::Redriven { execution } => {
                has_request(execution, kind::EXECUTION_REDRIVEN)
            }
            Acknowledged::Catalog {
                flow,
                changed: true,
            } => self.catalog.get(request_id) == Some(flow),
            Acknowledged::Schedule {
                flow,
                changed: true,
            } => self.schedules.get(request_id) == Some(flow),
            Acknowledged::Catalog { changed: false, .. }
            | Acknowledged::Schedule { changed: false, .. } => true,
        };
        if holds {
            return Ok(());
        }
        Err(Violation::new(
            NAME,
            format!(
                "request {request_id} was acknowledged as {what:?}, the journal does not tell of it"
            ),
        ))
    }

    /// A client was told that its request is refused.
    ///
    /// # Errors
    /// When the reason cannot be.
    pub fn on_rejected(&self, request_id: &str, op: &str, rejection: &Rejection) -> Checked {
        // No client uses a request id twice with another meaning, and all documents are valid.
        match rejection {
            Rejection::RequestIdReused(_)
            | Rejection::InvalidDocument(_)
            | Rejection::Quarantined(_) => Err(Violation::new(
                NAME,
                format!("request {request_id} ({op}) was refused: {rejection}"),
            )),
            _ => Ok(()),
        }
    }

    /// Every execution that was acknowledged in this partition is there, or was retired.
    ///
    /// # Errors
    /// When one is not.
    pub fn whole(&self, partition: PartitionId, rows: &MemoryRows, history: &History) -> Checked {
        for id in self.started.iter().filter(|id| id.partition() == partition) {
            let row: Option<ExecutionRow> = view::row(rows, &execution_key(*id))?;
            if row.is_none() && !history.is_retired(*id) {
                return Err(Violation::new(
                    NAME,
                    format!("{id} was acknowledged and is gone without being retired"),
                ));
            }
        }
        Ok(())
    }
}
