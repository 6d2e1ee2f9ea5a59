//! `WaitExecution`: answered when the execution has ended, or with its state when the time is up.

use std::time::Duration;

use tidemill_core::Partition;
use tidemill_proto::{
    convert,
    v1::{WaitExecutionRequest, WaitExecutionResponse},
};
use tidemill_types::{
    ExecutionId,
    limits::{EXECUTION_WAIT_MS_DEFAULT, EXECUTION_WAIT_MS_MAX},
};
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::{client, read};
use crate::{
    actor::{AskError, GroupHandle},
    gateway::{
        Checks, Open, Origin,
        check::{CheckResult, invalid},
        forwarded,
        route::Kind,
        status,
    },
    work::{ExpectedEnd, too_many_watchers},
};

pub(in crate::gateway) async fn wait(
    open: &Open,
    origin: Origin,
    request: WaitExecutionRequest,
) -> Result<WaitExecutionResponse, Status> {
    let node = &open.node;
    let (id, home) = Checks::execution(&request.execution_id, node).map_err(status)?;
    let timeout_ms = timeout_ms(&request).map_err(status)?;
    let deadline = Instant::now() + Duration::from_millis(timeout_ms.into());
    let request = &request;
    node.on_leader(
        origin,
        Kind::Read,
        home,
        |home| until_ended(open, home, id, deadline, request, Since::Unknown),
        |channel| {
            let request = WaitExecutionRequest {
                timeout_ms: left_ms(deadline),
                ..request.clone()
            };
            async move { forwarded(client(channel).wait_execution(request).await) }
        },
    )
    .await
}

/// How long a call waits.
fn timeout_ms(request: &WaitExecutionRequest) -> CheckResult<u32> {
    Ok(match at_most("timeout_ms", request.timeout_ms)? {
        0 => EXECUTION_WAIT_MS_DEFAULT,
        ms => ms,
    })
}

/// A time to wait, checked.
pub(super) fn at_most(field: &str, ms: u32) -> CheckResult<u32> {
    if ms <= EXECUTION_WAIT_MS_MAX {
        return Ok(ms);
    }
    let reason = format!("must be at most {EXECUTION_WAIT_MS_MAX}");
    Err(invalid(field, reason))
}

/// What is left to wait, for another node to be told: at least 1, for 0 has a meaning of its own.
pub(super) fn left_ms(deadline: Instant) -> u32 {
    let left = deadline.saturating_duration_since(Instant::now());
    u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// What the leader that waits has applied already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// Perhaps not all that was committed before the request.
    Unknown,
    /// The start of the execution, which is what the request began with.
    Start,
}

/// How an execution that was just started has ended, as its leader tells it. None when that has to be read: it was
/// not told, or not in time.
pub(super) async fn told_end(
    open: &Open,
    id: ExecutionId,
    deadline: Instant,
    mut expected: ExpectedEnd,
) -> Option<WaitExecutionResponse> {
    let ended = tokio::select! {
        ended = timeout_at(deadline, expected.of(id)) => ended.ok()??,
        () = open.node.shutdown.cancelled() => return None,
    };
    Some(WaitExecutionResponse {
        execution: Some(convert::execution(id, ended.row)),
        ended: true,
        output: read::page(ended.output.into_iter().map(Ok)).ok()?,
        reply: None,
    })
}

/// The execution once it has ended, or as it is when the time is up. On the leader only.
pub(super) async fn until_ended(
    open: &Open,
    home: GroupHandle<Partition>,
    id: ExecutionId,
    deadline: Instant,
    request: &WaitExecutionRequest,
    since: Since,
) -> CheckResult<WaitExecutionResponse> {
    let sink = open
        .node
        .effects
        .of(id.partition())
        .ok_or_else(|| AskError::Unavailable("the partition is not open".into()))?;
    // A step's end is nothing to who waits for the execution's.
    let changes = match request.or_reply {
        true => sink.watch(id),
        false => sink.watch_end(id),
    };
    let mut changes = changes.ok_or_else(too_many_watchers)?;
    let mut is_late = false;
    let mut is_known = since == Since::Start;
    loop {
        changes.seen();
        // One barrier, a round among the nodes, is enough: what is applied later happened meanwhile.
        // The last look is for how it is now, so a leader that was deposed must not answer it.
        let rows = if is_known && !is_late {
            home.read_on()?
        } else {
            home.read().await?
        };
        is_known = true;
        let row = read::execution(&rows, id)?;
        let ended = row.state.is_ended();
        let reply = match row.reply.filter(|_| request.or_reply) {
            Some(number) => Some(convert::message(read::message(&rows, id, number)?)),
            None => None,
        };
        if ended || is_late || reply.is_some() {
            let output = if ended && request.with_output && reply.is_none() {
                read::output(&rows, id)?
            } else {
                Vec::new()
            };
            return Ok(WaitExecutionResponse {
                execution: Some(convert::execution(id, row)),
                ended,
                output,
                reply,
            });
        }
        drop(rows);
        tokio::select! {
            changed = timeout_at(deadline, changes.changed()) => is_late = changed.is_err(),
            () = open.node.shutdown.cancelled() => {
                return Err(AskError::Unavailable("the node is shutting down".into()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_say_how_long_waits_as_long_as_the_default() {
        let of = |timeout_ms| {
            self::timeout_ms(&WaitExecutionRequest {
                timeout_ms,
                ..WaitExecutionRequest::default()
            })
        };
        assert_eq!(of(0).expect("allowed"), EXECUTION_WAIT_MS_DEFAULT);
        assert_eq!(of(1).expect("allowed"), 1);
        let most = EXECUTION_WAIT_MS_MAX;
        assert_eq!(of(most).expect("allowed"), most);
        assert!(of(most + 1).is_err());
    }
}
