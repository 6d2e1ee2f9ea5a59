//! An execution that somebody starts by hand, on a flow with a schedule: an occurrence of its own,
//! beside the regular ones. It neither replaces nor shifts one of those, and does not count for `end`
//! or `overlap`.

use tidemill_rows::table::{OccurrenceKind, OccurrenceOutcome};
use tidemill_types::{ExecutionId, FlowId, Timestamp};

use super::{Named, firing::Decision};
use crate::{
    ledger::{Damage, Rows},
    partition::Partition,
};

impl Partition {
    /// Writes the ledger row of an execution that was started by hand, if its flow has a schedule.
    pub(in crate::partition) fn note_manual(
        &mut self,
        flow: FlowId,
        version: u32,
        execution: ExecutionId,
        request_id: &str,
        rows: &dyn Rows,
    ) -> Result<(), Damage> {
        let plan = self.plan(flow, version, rows)?;
        let Some(schedule) = &plan.schedule else {
            return Ok(());
        };
        let at = self.ledger.now();
        let named = Named {
            at,
            nominal: Timestamp::from_millis(schedule.nominal_ms(at.as_millis())),
            kind: OccurrenceKind::Manual,
        };
        let decision = Decision {
            outcome: OccurrenceOutcome::Fired,
            reason: "",
            execution: Some(execution),
            request_id,
        };
        self.write_occurrence(flow, named, decision);
        Ok(())
    }
}
