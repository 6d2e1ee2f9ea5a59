//! `GetSchedule`: answered by the leader of the flow's home partition.

use tidemill_core::Rejection;
use tidemill_proto::{
    convert::timestamp,
    v1::{GetScheduleRequest, GetScheduleResponse},
};
use tidemill_rows::table::{ScheduleRow, schedule_key};
use tonic::{Code, Status};

use super::client;
use crate::{
    actor::AskError,
    gateway::{Checks, Kind, Open, Origin, check::CheckResult, flow::resolve, forwarded, status},
    rows::stored,
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
            |home| async move {
                let row: Option<ScheduleRow> = stored(&home.read().await?, &schedule_key(id))?;
                CheckResult::Ok(row.map(|row| {
                    GetScheduleResponse {
                        next_at: row.next_at.map(timestamp),
                        fired: row.fired,
                        last_execution_id: row
                            .last_execution
                            .map(|execution| execution.to_string())
                            .unwrap_or_default(),
                    }
                }))
            },
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
