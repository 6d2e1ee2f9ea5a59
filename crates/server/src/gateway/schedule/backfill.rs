//! `BackfillSchedule`: decided by the flow's home partition, and run by its leader in slices.

use tidemill_core::{
    Partition,
    command::{Backfill, PartitionCommand, PartitionReply},
    schedule::Occurrence,
};
use tidemill_proto::{
    convert::{timestamp, timestamp_from},
    v1::{self, BackfillScheduleRequest, BackfillScheduleResponse},
};
use tidemill_rows::table::{BackfillRow, BackfillState};
use tidemill_types::{FlowId, Timestamp};
use tonic::Status;

use super::{client, home_of};
use crate::{
    actor::GroupHandle,
    gateway::{
        Checks, Kind, Open, Origin,
        check::{CheckResult, invalid},
        forwarded, status,
    },
};

pub(super) async fn backfill(
    open: &Open,
    origin: Origin,
    mut request: BackfillScheduleRequest,
) -> Result<BackfillScheduleResponse, Status> {
    let instant = |field: &str, at: Option<&prost_types::Timestamp>| {
        at.map(timestamp_from)
            .ok_or_else(|| status(invalid(field, "must be an instant")))
    };
    let from = instant("from", request.from.as_ref())?;
    let to = instant("to", request.to.as_ref())?;
    request.request_id = Checks::request_id(request.request_id).map_err(status)?;
    let (id, home) = home_of(open, origin, &request.flow).await?;
    request.flow = id.to_string();
    open.node
        .on_leader(
            origin,
            Kind::Write,
            home,
            |home| local(home, id, (from, to), request.clone()),
            |channel| {
                let request = request.clone();
                async move { forwarded(client(channel).backfill_schedule(request).await) }
            },
        )
        .await
}

async fn local(
    home: GroupHandle<Partition>,
    flow: FlowId,
    (from, to): (Timestamp, Timestamp),
    request: BackfillScheduleRequest,
) -> CheckResult<BackfillScheduleResponse> {
    let command = PartitionCommand::Backfill(Backfill {
        flow,
        from,
        to,
        only_missed: request.only_missed,
        dry_run: request.dry_run,
        request_id: request.request_id.clone(),
    });
    let PartitionReply::Backfill {
        backfill,
        created,
        occurrences,
    } = home.ask(command).await?
    else {
        unreachable!("a backfill is answered as one");
    };
    Ok(BackfillScheduleResponse {
        backfill: Some(message(request.request_id, backfill)),
        created,
        occurrences: occurrences.iter().map(occurrence).collect(),
    })
}

/// A backfill, as clients see it.
pub(super) fn message(request_id: String, row: BackfillRow) -> v1::Backfill {
    let state = match row.state {
        BackfillState::Running => v1::BackfillState::Running,
        BackfillState::Done => v1::BackfillState::Done,
        BackfillState::Stopped => v1::BackfillState::Stopped,
    };
    v1::Backfill {
        request_id,
        from: Some(timestamp(row.from)),
        to: Some(timestamp(row.to)),
        only_missed: row.only_missed,
        total: row.total,
        decided: row.decided,
        started: row.started,
        state: state.into(),
        requested_at: Some(timestamp(row.requested_at)),
    }
}

/// An occurrence that the schedule has, as clients see it.
pub(super) fn occurrence(occurrence: &Occurrence) -> v1::Occurrence {
    v1::Occurrence {
        nominal: occurrence.nominal_text(),
        at: Some(timestamp(Timestamp::from_millis(occurrence.at_ms))),
        note: occurrence.note_text(),
        fires: occurrence.fires,
        ..v1::Occurrence::default()
    }
}
