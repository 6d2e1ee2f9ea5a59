//! `ListExecutions`: of one flow, newest first.

use tidemill_core::{Rejection, Rows};
use tidemill_proto::{
    convert,
    v1::{ListExecutionsRequest, ListExecutionsResponse},
};
use tidemill_rows::table::{
    ExecutionRow, ExecutionState, execution_by_flow_key, execution_key, execution_of_by_flow_key,
    executions_of_flow_prefix,
};
use tidemill_types::{ExecutionId, FlowId, limits::LISTED_ROWS_MAX};
use tonic::Status;

use super::client;
use crate::{
    actor::AskError,
    gateway::{
        Checks, Open, Origin,
        check::{CheckResult, invalid},
        flow::resolve,
        forwarded,
        page::{self, Page},
        route::Kind,
        status,
    },
    rows::{damaged, prefix_range, scan, stored},
};

/// Rows looked at in one go.
const PART: usize = 1_000;

pub(in crate::gateway) async fn list(
    open: &Open,
    origin: Origin,
    mut request: ListExecutionsRequest,
) -> Result<ListExecutionsResponse, Status> {
    let flow = Checks::flow("flow", &request.flow).map_err(status)?;
    let page = &Page::check(request.page.clone()).map_err(status)?;
    let state = convert::execution_state_filter(request.state)
        .map_err(|number| status(invalid("state", format!("{number} is not a state"))))?;
    // Of an id as well: a flow that does not exist is not one without executions. Executions of a
    // deleted flow can still be listed by its id.
    let id = resolve(open, &flow, false).await?;
    let node = &open.node;
    let Some(home) = node.partition(id.partition()) else {
        return Err(status(AskError::Rejected(Rejection::FlowNotFound(
            request.flow,
        ))));
    };
    request.flow = id.to_string();
    let answer = node
        .on_leader(
            origin,
            Kind::Read,
            home,
            |home| async move { read(&home.read().await?, id, state, page) },
            |channel| {
                let request = request.clone();
                async move { forwarded(client(channel).list_executions(request).await) }
            },
        )
        .await?;
    if origin == Origin::Client && answer.executions.is_empty() && page.after.is_none() {
        resolve(open, &flow, true).await?;
    }
    Ok(answer)
}

fn read(
    rows: &dyn Rows,
    flow: FlowId,
    state: Option<ExecutionState>,
    page: &Page,
) -> CheckResult<ListExecutionsResponse> {
    let (from, mut to) = prefix_range(&executions_of_flow_prefix(flow));
    if let Some(id) = page.after_key()? {
        to = execution_by_flow_key(flow, ExecutionId(id)).to_vec();
    }
    let mut answer = ListExecutionsResponse::default();
    let mut looked_at = 0;
    loop {
        let part = scan(rows, &from, &to, PART.min(page.size + 1).max(64), true)?;
        let Some((last, _)) = part.last() else {
            return Ok(answer);
        };
        to = last.to_vec();
        for (key, value) in part {
            let id = execution_of_by_flow_key(&key)
                .ok_or_else(|| damaged(format!("a key of the executions of {flow} is damaged")))?;
            looked_at += 1;
            let stands = value.first().map(|number| u32::from(*number));
            if state.is_some_and(|state| stands != Some(state as u32)) {
                // A page may end early, but a call must not read a million rows.
                if looked_at >= LISTED_ROWS_MAX {
                    answer.next_token = page::token(&id.0);
                    return Ok(answer);
                }
                continue;
            }
            if answer.executions.len() == page.size {
                // The page goes on after its last execution.
                let last: ExecutionId = answer
                    .executions
                    .last()
                    .and_then(|execution| execution.id.parse().ok())
                    .unwrap_or(id);
                answer.next_token = page::token(&last.0);
                return Ok(answer);
            }
            let row: ExecutionRow = stored(rows, &execution_key(id))?
                .ok_or_else(|| damaged(format!("execution {id} is missing")))?;
            answer.executions.push(convert::execution(id, row));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidemill_core::memory::MemoryRows;
    use tidemill_proto::v1::PageRequest;
    use tidemill_rows::{Mutation, Stored};
    use tidemill_types::PartitionId;

    use super::*;

    fn rows(flow: FlowId, count: i64) -> MemoryRows {
        let mut rows = MemoryRows::default();
        for at in 0..count {
            let id = ExecutionId::new(at, PartitionId(1), 1);
            let state = if at % 3 == 0 {
                ExecutionState::Failed
            } else {
                ExecutionState::Succeeded
            };
            let row = ExecutionRow {
                flow,
                state,
                ..ExecutionRow::default()
            };
            rows.apply(&[
                Mutation::Put {
                    key: execution_key(id),
                    value: row.to_bytes(),
                },
                Mutation::Put {
                    key: execution_by_flow_key(flow, id),
                    value: Bytes::from(vec![state as u8]),
                },
            ]);
        }
        rows
    }

    fn all(rows: &MemoryRows, flow: FlowId, state: Option<ExecutionState>) -> Vec<i64> {
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let page = Page::check(Some(PageRequest { size: 7, token })).expect("a page");
            let answer = read(rows, flow, state, &page).expect("no damage");
            assert!(answer.executions.len() <= 7);
            found.extend(answer.executions.iter().map(|execution| {
                let id: ExecutionId = execution.id.parse().expect("an id");
                id.created_ms()
            }));
            token = answer.next_token;
            if token.is_empty() {
                return found;
            }
        }
    }

    #[test]
    fn pages_hold_every_execution_once_newest_first() {
        let flow = FlowId::new(0, PartitionId(1), 1);
        let rows = rows(flow, 100);
        assert_eq!(all(&rows, flow, None), (0..100).rev().collect::<Vec<_>>());
        let failed: Vec<i64> = (0..100).rev().filter(|at| at % 3 == 0).collect();
        assert_eq!(all(&rows, flow, Some(ExecutionState::Failed)), failed);
        assert!(all(&rows, flow, Some(ExecutionState::Running)).is_empty());
        let other = FlowId::new(0, PartitionId(1), 2);
        assert!(all(&rows, other, None).is_empty());
    }

    #[test]
    fn a_filter_looks_at_so_many_executions_for_a_page() {
        let flow = FlowId::new(0, PartitionId(1), 1);
        // The oldest has failed, and is looked at last.
        let rows = rows(flow, LISTED_ROWS_MAX as i64 + 1);
        let find = |state, token| {
            let page = Page::check(Some(PageRequest { size: 7, token })).expect("a page");
            let answer = read(&rows, flow, Some(state), &page).expect("no damage");
            (answer.executions.len(), answer.next_token)
        };
        let (found, token) = find(ExecutionState::Running, String::new());
        assert_eq!(found, 0);
        let last = execution_by_flow_key(flow, ExecutionId::new(1, PartitionId(1), 1));
        let last = execution_of_by_flow_key(&last).expect("an execution's key");
        assert_eq!(token, page::token(&last.0), "all but the oldest");
        assert_eq!(
            find(ExecutionState::Failed, token.clone()),
            (1, String::new())
        );
        assert_eq!(find(ExecutionState::Running, token), (0, String::new()));
    }
}
