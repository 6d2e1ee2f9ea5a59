//! `GetSchedule`: answered by the leader of the flow's home partition.

use tidemill_core::{Rejection, Rows};
use tidemill_proto::{
    convert::timestamp,
    v1::{GetScheduleRequest, GetScheduleResponse},
};
use tidemill_rows::{
    Stored as _,
    table::{
        BackfillRow, ScheduleControlRow, ScheduleRow, backfills_prefix, request_of_backfill_key,
        schedule_control_key, schedule_key,
    },
};
use tidemill_types::{FlowId, limits::BACKFILLS_KEPT_MAX};
use tonic::{Code, Status};

use super::client;
use crate::{
    actor::AskError,
    gateway::{Checks, Kind, Open, Origin, check::CheckResult, flow::resolve, forwarded, status},
    rows::{damaged, prefix_range, scan, stored},
};

pub(super) async fn get(
    open: &Open,
    origin: Origin,
    request: GetScheduleRequest,
) -> Result<GetScheduleResponse, Status> {
    let flow = Checks::flow("flow", &request.flow).map_err(status)?;
    let id = resolve(open, &flow, false).await?;
    let node = &open.node;
    let not_found = || AskError::Rejected(Rejection::FlowNotFound(request.flow.clone()));
    let Some(home) = node.partition(id.partition()) else {
        return Err(status(not_found()));
    };
    let answer = node
        .on_leader(
            origin,
            Kind::Read,
            home,
            |home| async move { read(&home.read().await?, id) },
            |channel| {
                let request = GetScheduleRequest {
                    flow: id.to_string(),
                };
                async move {
                    match forwarded(client(channel).get_schedule(request).await) {
                        Ok(answer) => Ok(Some(answer)),
                        Err(error) if error.code() == Code::NotFound => Ok(None),
                        Err(error) => Err(error),
                    }
                }
            },
        )
        .await?;
    if let Some(answer) = answer {
        return Ok(answer);
    }
    if origin == Origin::Client {
        // Says so when there is no such flow at all.
        resolve(open, &flow, true).await?;
    }
    Err(Status::not_found(format!(
        "flow {flow} has no schedule under way: it is not active, or has none"
    )))
}

/// The schedule of a flow; none when it is not armed, or has none.
fn read(rows: &dyn Rows, flow: FlowId) -> CheckResult<Option<GetScheduleResponse>> {
    let Some(row) = stored::<ScheduleRow>(rows, &schedule_key(flow))? else {
        return Ok(None);
    };
    let control: Option<ScheduleControlRow> = stored(rows, &schedule_control_key(flow))?;
    let control = control.unwrap_or_default();
    let (from, to) = prefix_range(&backfills_prefix(flow));
    let mut backfills = Vec::new();
    for (key, value) in scan(rows, &from, &to, BACKFILLS_KEPT_MAX, false)? {
        let request_id = request_of_backfill_key(&key)
            .ok_or_else(|| damaged(format!("a backfill's key of {flow} is damaged")))?;
        let row = BackfillRow::from_bytes(value).map_err(damaged)?;
        backfills.push((row.requested_at, super::backfill::message(request_id, row)));
    }
    backfills.sort_by_key(|(requested_at, _)| *requested_at);
    Ok(Some(GetScheduleResponse {
        next_at: row.next_at.map(timestamp),
        fired: row.fired,
        last_execution_id: row
            .last_execution
            .map(|execution| execution.to_string())
            .unwrap_or_default(),
        paused_at: control.paused_at.map(timestamp),
        paused_reason: control.reason,
        backfills: backfills.into_iter().map(|(_, message)| message).collect(),
    }))
}
