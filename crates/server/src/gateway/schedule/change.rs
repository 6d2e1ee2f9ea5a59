//! `PauseSchedule` and `ResumeSchedule`: decided by the flow's home partition.

use tidemill_core::{
    Partition,
    command::{ChangeSchedule, PartitionCommand, PartitionReply},
};
use tidemill_proto::v1::{
    PauseScheduleRequest, PauseScheduleResponse, ResumeScheduleRequest, ResumeScheduleResponse,
};
use tidemill_rows::table::ScheduleChange;
use tonic::Status;

use super::{client, home_of};
use crate::{
    actor::GroupHandle,
    gateway::{Checks, Kind, Open, Origin, check::CheckResult, forwarded, status},
};

pub(super) async fn pause(
    open: &Open,
    origin: Origin,
    mut request: PauseScheduleRequest,
) -> Result<PauseScheduleResponse, Status> {
    Checks::reason(&request.reason).map_err(status)?;
    request.request_id = Checks::request_id(request.request_id).map_err(status)?;
    let (id, home) = home_of(open, origin, &request.flow).await?;
    request.flow = id.to_string();
    open.node
        .on_leader(
            origin,
            Kind::Write,
            home,
            |home| {
                let command = ChangeSchedule {
                    flow: id,
                    change: ScheduleChange::Pause,
                    reason: request.reason.clone(),
                    request_id: request.request_id.clone(),
                };
                async move {
                    let request_id = command.request_id.clone();
                    let changed = change(home, command).await?;
                    Ok(PauseScheduleResponse {
                        changed,
                        request_id,
                    })
                }
            },
            |channel| {
                let request = request.clone();
                async move { forwarded(client(channel).pause_schedule(request).await) }
            },
        )
        .await
}

pub(super) async fn resume(
    open: &Open,
    origin: Origin,
    mut request: ResumeScheduleRequest,
) -> Result<ResumeScheduleResponse, Status> {
    request.request_id = Checks::request_id(request.request_id).map_err(status)?;
    let (id, home) = home_of(open, origin, &request.flow).await?;
    request.flow = id.to_string();
    open.node
        .on_leader(
            origin,
            Kind::Write,
            home,
            |home| {
                let command = ChangeSchedule {
                    flow: id,
                    change: ScheduleChange::Resume,
                    reason: String::new(),
                    request_id: request.request_id.clone(),
                };
                async move {
                    let request_id = command.request_id.clone();
                    let changed = change(home, command).await?;
                    Ok(ResumeScheduleResponse {
                        changed,
                        request_id,
                    })
                }
            },
            |channel| {
                let request = request.clone();
                async move { forwarded(client(channel).resume_schedule(request).await) }
            },
        )
        .await
}

async fn change(home: GroupHandle<Partition>, command: ChangeSchedule) -> CheckResult<bool> {
    let reply = home.ask(PartitionCommand::ChangeSchedule(command)).await?;
    let PartitionReply::Done { changed } = reply else {
        unreachable!("a change is answered as one");
    };
    Ok(changed)
}
