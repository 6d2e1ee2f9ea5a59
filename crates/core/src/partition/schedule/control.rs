//! `Pause` and `Resume` of a schedule.
//!
//! A pause begins and ends at an instant: what was due before it is decided as if there were none.
//! Occurrences that fall due while it lasts get their rows one by one, when they are due, so that its
//! end has nothing to catch up.

use tidemill_rows::{
    Stored,
    journal::{NewRecord, kind},
    table::{
        ScheduleChange, ScheduleControlRow, ScheduleRequest, ScheduleRow, schedule_control_key,
        schedule_key,
    },
};
use tidemill_types::limits::SCHEDULE_REQUESTS_KEPT_MAX;

use crate::{
    Rejection,
    command::{ChangeSchedule, PartitionReply},
    ledger::{Damage, Rows},
    partition::{CLIENT, Partition},
};

impl Partition {
    pub(in crate::partition) fn change_schedule(
        &mut self,
        command: ChangeSchedule,
        rows: &dyn Rows,
    ) -> Result<Result<PartitionReply, Rejection>, Damage> {
        let flow = command.flow;
        let key = schedule_control_key(flow);
        let mut control = self
            .ledger
            .read::<ScheduleControlRow>(rows, &key)?
            .unwrap_or_default();
        let known = control
            .requests
            .iter()
            .find(|request| request.request_id == command.request_id);
        if let Some(known) = known {
            return Ok(if known.change == command.change {
                Ok(PartitionReply::Done {
                    changed: known.changed,
                })
            } else {
                Err(Rejection::RequestIdReused(command.request_id))
            });
        }
        if let Err(rejection) = self.require_schedule(flow, rows)? {
            return Ok(Err(rejection));
        }
        // Decided as things stood when it fell due.
        if !self.settle_schedule(flow, rows)? {
            return Ok(Err(Rejection::ScheduleBehind(flow)));
        }
        let Some(mut row) = self.ledger.read::<ScheduleRow>(rows, &schedule_key(flow))? else {
            return Err(Damage::Missing(format!("the schedule of {flow}")));
        };
        let now = self.ledger.now();
        let changed = match command.change {
            ScheduleChange::Pause => control.paused_at.is_none(),
            ScheduleChange::Resume => control.paused_at.is_some(),
        };
        if changed {
            let (paused_at, kind) = match command.change {
                ScheduleChange::Pause => (Some(now), kind::SCHEDULE_PAUSED),
                ScheduleChange::Resume => (None, kind::SCHEDULE_RESUMED),
            };
            control.paused_at = paused_at;
            control.reason = match paused_at {
                Some(_) => command.reason.clone(),
                None => String::new(),
            };
            row.paused_at = paused_at;
            self.ledger.put(schedule_key(flow), row.to_bytes());
            self.ledger.record(&NewRecord {
                kind,
                actor: CLIENT,
                request_id: &command.request_id,
                flow: Some(flow),
                detail: &command.reason,
                ..NewRecord::default()
            });
        }
        control.requests.push(ScheduleRequest {
            request_id: command.request_id,
            change: command.change,
            changed,
        });
        if control.requests.len() > SCHEDULE_REQUESTS_KEPT_MAX {
            control.requests.remove(0);
        }
        self.ledger.put(key, control.to_bytes());
        Ok(Ok(PartitionReply::Done { changed }))
    }
}
