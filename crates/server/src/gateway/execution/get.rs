//! `GetExecution`.

use tidemill_core::{Partition, Rejection};
use tidemill_proto::{
    convert,
    v1::{GetExecutionRequest, GetExecutionResponse},
};
use tidemill_types::ExecutionId;
use tonic::Status;

use super::{client, read};
use crate::{
    actor::{AskError, GroupHandle},
    gateway::{
        Checks, Open, Origin, SHORT_BYTES, check::CheckResult, forwarded, of_short, route::Kind,
        status,
    },
    node::Node,
};

/// Which execution.
#[derive(Clone, Copy)]
enum Wanted {
    Id(ExecutionId),
    /// The one whose id begins so, which is how clients of the Open Integration Hub write it.
    Short([u8; SHORT_BYTES]),
}

/// The execution whose id begins so, and the partition that this names with it.
fn at(short: [u8; SHORT_BYTES], node: &Node) -> CheckResult<(Wanted, &GroupHandle<Partition>)> {
    let mut id = ExecutionId::default();
    id.0[..SHORT_BYTES].copy_from_slice(&short);
    let home = node.partition(id.partition());
    home.map(|home| (Wanted::Short(short), home))
        .ok_or(AskError::Rejected(Rejection::ExecutionNotFound(id)))
}

pub(in crate::gateway) async fn get(
    open: &Open,
    origin: Origin,
    request: GetExecutionRequest,
) -> Result<GetExecutionResponse, Status> {
    let node = &open.node;
    let (wanted, home) = match of_short(&request.execution_id) {
        Some(short) => at(short, node).map_err(status)?,
        None => {
            let (id, home) = Checks::execution(&request.execution_id, node).map_err(status)?;
            (Wanted::Id(id), home)
        }
    };
    node.on_leader(
        origin,
        Kind::Read,
        home,
        |home| async move {
            let rows = home.read().await?;
            let id = match wanted {
                Wanted::Id(id) => id,
                Wanted::Short(short) => read::execution_of_short(&rows, short)?,
            };
            let row = read::execution(&rows, id)?;
            Ok(GetExecutionResponse {
                execution: Some(convert::execution(id, row)),
            })
        },
        |channel| {
            let request = request.clone();
            async move { forwarded(client(channel).get_execution(request).await) }
        },
    )
    .await
}
