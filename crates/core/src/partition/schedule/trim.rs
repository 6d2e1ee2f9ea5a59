//! Retention of ledger rows: a schedule of every second has 86,400 a day. The journal keeps what they said.

use tidemill_rows::{
    journal::{NewRecord, kind},
    table::{ScheduleRow, occurrence_key, occurrences_prefix},
};
use tidemill_types::{FlowId, Timestamp, limits::LEDGER_ROWS_TRIMMED_PER_TURN_MAX};

use crate::{
    ledger::{Damage, Rows},
    partition::{Partition, SYSTEM},
};

/// Between two looks at one ledger: a look reads rows, and a firing should not.
const LOOK_MS: u64 = 60 * 60 * 1_000;

impl Partition {
    /// Removes some rows that are older than they are kept, when it is time to look. Goes with a
    /// firing: a schedule that never fires gets no rows either.
    pub(super) fn trim_ledger(
        &mut self,
        flow: FlowId,
        row: &mut ScheduleRow,
        rows: &dyn Rows,
    ) -> Result<(), Damage> {
        let now = self.ledger.now();
        if now < row.trim_at {
            return Ok(());
        }
        let kept_ms = i64::try_from(self.config.ledger_kept_ms).unwrap_or(i64::MAX);
        let before = Timestamp::from_millis(now.as_millis().saturating_sub(kept_ms));
        let from = occurrences_prefix(flow);
        let to = occurrence_key(flow, before, Timestamp(i64::MIN));
        let old = self
            .ledger
            .scan(rows, &from, &to, LEDGER_ROWS_TRIMMED_PER_TURN_MAX)?;
        let gone = old.len();
        for (key, _) in old {
            self.ledger.delete(key);
        }
        if gone < LEDGER_ROWS_TRIMMED_PER_TURN_MAX {
            row.trim_at = now.plus_millis(LOOK_MS);
        }
        if gone > 0 {
            self.ledger.record(&NewRecord {
                kind: kind::LEDGER_TRIMMED,
                actor: SYSTEM,
                flow: Some(flow),
                number: gone as u64,
                ..NewRecord::default()
            });
        }
        Ok(())
    }
}
