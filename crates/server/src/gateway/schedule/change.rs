//! `PauseSchedule` and `ResumeSchedule`: decided by the flow's home partition.

use std::future::Future;

use tidemill_core::{
    Partition,
    command::{ChangeSchedule, PartitionCommand, PartitionReply},
};
use tidemill_proto::v1::{
    PauseScheduleRequest, PauseScheduleResponse, ResumeScheduleRequest, ResumeScheduleResponse,
};
use tidemill_replica::PeerChannel;
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
    let (flow, home) = home_of(open, origin, &request.flow).await?;
    request.flow = flow.to_string();
    let request_id = request.request_id.clone();
    let command = &ChangeSchedule {
        flow,
        change: ScheduleChange::Pause,
        reason: request.reason.clone(),
        request_id: request_id.clone(),
    };
    let answer = |changed| PauseScheduleResponse {
        changed,
        request_id: request_id.clone(),
    };
    decided(open, origin, home, command, answer, |channel| {
        let request = request.clone();
        async move { forwarded(client(channel).pause_schedule(request).await) }
    })
    .await
}

pub(super) async fn resume(
    open: &Open,
    origin: Origin,
    mut request: ResumeScheduleRequest,
) -> Result<ResumeScheduleResponse, Status> {
    request.request_id = Checks::request_id(request.request_id).map_err(status)?;
    let (flow, home) = home_of(open, origin, &request.flow).await?;
    request.flow = flow.to_string();
    let request_id = request.request_id.clone();
    let command = &ChangeSchedule {
        flow,
        change: ScheduleChange::Resume,
        reason: String::new(),
        request_id: request_id.clone(),
    };
    let answer = |changed| ResumeScheduleResponse {
        changed,
        request_id: request_id.clone(),
    };
    decided(open, origin, home, command, answer, |channel| {
        let request = request.clone();
        async move { forwarded(client(channel).resume_schedule(request).await) }
    })
    .await
}

/// Has it decided by the leader, here or by way of `forward`.
async fn decided<T, F>(
    open: &Open,
    origin: Origin,
    home: &GroupHandle<Partition>,
    command: &ChangeSchedule,
    answer: impl Fn(bool) -> T,
    forward: impl Fn(PeerChannel) -> F,
) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let local = |home| {
        let answer = &answer;
        async move { Ok(answer(change(home, command.clone()).await?)) }
    };
    open.node
        .on_leader(origin, Kind::Write, home, local, forward)
        .await
}

async fn change(home: GroupHandle<Partition>, command: ChangeSchedule) -> CheckResult<bool> {
    let reply = home.ask(PartitionCommand::ChangeSchedule(command)).await?;
    let PartitionReply::Done { changed } = reply else {
        unreachable!("a change is answered as one");
    };
    Ok(changed)
}
