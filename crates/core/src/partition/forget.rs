//! `Forget`: a flow was deleted, and its rows go: node states, plans, its schedule's ledger, and at last what is known of its
//! activations.
//!
//! Executions of it need their plan as long as they are kept, so nothing goes before the last of them
//! has retired. Then rows go in slices; a timer in the rows stands for the next one, so a new leader goes
//! on where the old one was. The flow's own row stays for a while: a late arm is refused by it.

use tidemill_rows::{
    journal::{NewRecord, kind},
    key::after_prefix,
    table::{
        ArmedFlowRow, Timer, TimerKind, armed_flow_key, backfills_prefix,
        executions_of_flow_prefix, node_states_prefix, occurrences_prefix, plan_versions_prefix,
        schedule_control_key,
    },
};
use tidemill_types::{ExecutionId, FlowId, StepId, Timestamp};

use super::{Partition, SYSTEM, armed::ArmedFlow};
use crate::{
    command::PartitionReply,
    ledger::{Damage, Rows},
};

/// Between two slices: others get their turn.
const PAUSE_MS: u64 = 1;

impl Partition {
    /// The catalog has deleted the flow.
    pub(super) fn forget(
        &mut self,
        flow: FlowId,
        rows: &dyn Rows,
    ) -> Result<PartitionReply, Damage> {
        // One that was never armed here leaves a row too: its arm may still be on its way.
        let known = self.armed_flow(flow, rows)?.map(|known| known.row);
        let mut row = known.unwrap_or_default();
        if row.deleted_at.is_some() {
            return Ok(PartitionReply::Done { changed: false });
        }
        // The catalog deletes inactive flows only: this one was disarmed.
        self.disarm_schedule(flow, rows)?;
        row.armed = false;
        row.activation = u64::MAX;
        row.deleted_at = Some(self.ledger.now());
        self.put_armed(flow, row);
        self.forget_if_unused(flow, rows)?;
        Ok(PartitionReply::Done { changed: true })
    }

    /// An execution has retired, or the flow was deleted: with nothing left its rows begin to go.
    pub(super) fn forget_if_unused(&mut self, flow: FlowId, rows: &dyn Rows) -> Result<(), Damage> {
        let Some(ArmedFlow { row }) = self.armed_flow(flow, rows)? else {
            return Ok(());
        };
        let waits = row.deleted_at.is_some() && row.forget_at.is_none();
        if waits && !self.has_executions(flow, rows)? {
            self.forget_later(flow, row, PAUSE_MS);
        }
        Ok(())
    }

    fn has_executions(&mut self, flow: FlowId, rows: &dyn Rows) -> Result<bool, Damage> {
        // What this batch has started is not in the index before.
        self.flush();
        let from = executions_of_flow_prefix(flow);
        let to = after_prefix(&from).expect("a table's prefix is not all 0xff");
        Ok(!self.ledger.scan(rows, &from, &to, 1)?.is_empty())
    }

    fn forget_later(&mut self, flow: FlowId, mut row: ArmedFlowRow, ms: u64) {
        let due = self.ledger.now().plus_millis(ms);
        row.forget_at = Some(due);
        self.put_armed(flow, row);
        self.add_timer(forget_timer(flow, due));
    }

    /// The timer's time has come: some rows go.
    pub(super) fn forget_slice(&mut self, flow: FlowId, rows: &dyn Rows) -> Result<(), Damage> {
        let Some(ArmedFlow { row }) = self.armed_flow(flow, rows)? else {
            return Ok(());
        };
        let Some(deleted_at) = row.deleted_at else {
            return Ok(());
        };
        let mut left = self.config.rows_forgotten_per_turn;
        for prefix in [
            node_states_prefix(flow),
            plan_versions_prefix(flow),
            // A backfill's row speaks of occurrences, so it goes first.
            backfills_prefix(flow),
            occurrences_prefix(flow),
        ] {
            let to = after_prefix(&prefix).expect("a table's prefix is not all 0xff");
            for (key, _) in self.ledger.scan(rows, &prefix, &to, left)? {
                self.ledger.delete(key);
                left -= 1;
            }
            if left == 0 {
                self.forget_later(flow, row, PAUSE_MS);
                return Ok(());
            }
        }
        let first = (flow, 0);
        let last = (flow, u32::MAX);
        let plans: Vec<_> = self.plans.range(first..=last).map(|(k, _)| *k).collect();
        for plan in plans {
            self.plans.remove(&plan);
        }
        let kept_ms = self.config.deleted_flow_kept_ms;
        let kept_for = self.ledger.now().millis_since(deleted_at);
        if kept_for < kept_ms {
            self.forget_later(flow, row, kept_ms - kept_for);
            return Ok(());
        }
        self.ledger.delete(schedule_control_key(flow));
        self.ledger.delete(armed_flow_key(flow));
        self.flows.remove(&flow);
        self.ledger.record(&NewRecord {
            kind: kind::FLOW_FORGOTTEN,
            actor: SYSTEM,
            flow: Some(flow),
            ..NewRecord::default()
        });
        Ok(())
    }
}

fn forget_timer(flow: FlowId, due: Timestamp) -> Timer {
    Timer {
        due,
        step: StepId {
            execution: ExecutionId(flow.0),
            step: 0,
        },
        kind: TimerKind::Forget,
    }
}
