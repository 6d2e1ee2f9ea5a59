//! `ListSteps`: in the order in which they were made, with their messages on demand.

use tidemill_core::{Rejection, Rows};
use tidemill_proto::{
    convert,
    v1::{self, ListStepsRequest, ListStepsResponse},
};
use tidemill_rows::table::StepRow;
use tidemill_types::{
    ExecutionId, StepId,
    limits::{PAGE_BYTES_MAX, STEP_FAN_OUT_MAX},
};
use tonic::Status;

use super::{NodeNames, client, read};
use crate::{
    actor::AskError,
    gateway::{
        Checks, Open, Origin,
        check::CheckResult,
        forwarded,
        page::{self, Page},
        route::Kind,
        status,
    },
};

pub(in crate::gateway) async fn list(
    open: &Open,
    origin: Origin,
    request: ListStepsRequest,
) -> Result<ListStepsResponse, Status> {
    let node = &open.node;
    let (id, home) = Checks::execution(&request.execution_id, node).map_err(status)?;
    let page = &Page::check(request.page.clone()).map_err(status)?;
    let request = &request;
    node.on_leader(
        origin,
        Kind::Read,
        home,
        |home| async move {
            let mut answer = answer(&open.nodes, &home.read().await?, id, request, page)?;
            let progress = open.node.effects.of(id.partition());
            for step in &mut answer.steps {
                let id = StepId {
                    execution: id,
                    step: step.number,
                };
                if let Some(text) = progress.as_ref().and_then(|sink| sink.progress(id)) {
                    step.progress = text;
                }
            }
            Ok(answer)
        },
        |channel| {
            let request = request.clone();
            async move { forwarded(client(channel).list_steps(request).await) }
        },
    )
    .await
}

fn answer(
    nodes: &NodeNames,
    rows: &dyn Rows,
    id: ExecutionId,
    request: &ListStepsRequest,
    page: &Page,
) -> CheckResult<ListStepsResponse> {
    let execution = read::execution(rows, id)?;
    let names = read::names(nodes, rows, &execution)?;
    let mut from = page.after_key()?.map_or(0, u32::from_be_bytes);
    let mut limit = page.size;
    if let Some(number) = request.number {
        from = number;
        limit = 1;
    }
    let mut found = read::stored_steps(rows, id, from, limit + 1)?;
    if let Some(number) = request.number {
        found.retain(|(other, _)| *other == number);
        if found.is_empty() {
            return Err(AskError::Rejected(Rejection::invalid(
                "number",
                format!(
                    "execution {id} has no step {number}, only {}",
                    execution.steps
                ),
            )));
        }
    }
    let mut answer = ListStepsResponse::default();
    let mut bytes = 0;
    for (number, value) in found {
        if answer.steps.len() == limit || (bytes >= PAGE_BYTES_MAX && !answer.steps.is_empty()) {
            answer.next_token = page::token(&number.to_be_bytes());
            break;
        }
        bytes += value.len();
        let row = read::step_row(value)?;
        let mut messages = (Vec::new(), Vec::new());
        if request.with_messages {
            messages = read_messages(rows, id, &row, &mut bytes)?;
        }
        let mut step = read::step(number, row, &names)?;
        (step.input, step.output) = messages;
        answer.steps.push(step);
    }
    Ok(answer)
}

/// Inputs and outputs of a step; of a step with more than an answer can hold only the first ones.
fn read_messages(
    rows: &dyn Rows,
    id: ExecutionId,
    row: &StepRow,
    bytes: &mut usize,
) -> CheckResult<(Vec<v1::Message>, Vec<v1::Message>)> {
    let own = *bytes;
    let mut take = |numbers: &mut dyn Iterator<Item = u32>| -> CheckResult<Vec<v1::Message>> {
        let mut messages = Vec::new();
        for number in numbers.take(STEP_FAN_OUT_MAX) {
            if *bytes - own >= PAGE_BYTES_MAX {
                break;
            }
            let message = read::message(rows, id, number)?;
            *bytes += message.payload_len();
            messages.push(convert::message(message));
        }
        Ok(messages)
    };
    let input = take(&mut row.inputs.iter().map(|input| input.message))?;
    let outputs = row.first_output..row.first_output.saturating_add(row.outputs);
    let output = take(&mut outputs.into_iter())?;
    Ok((input, output))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidemill_core::memory::MemoryRows;
    use tidemill_proto::v1::PageRequest;
    use tidemill_rows::{
        Mutation, Stored,
        table::{
            ExecutionRow, MessageRow, PlanVersionRow, execution_key, message_key, plan_version_key,
            step_key,
        },
    };
    use tidemill_types::{FlowId, PartitionId};

    use super::*;

    const MESSAGE_BYTES: usize = 1024 * 1024;
    /// So many messages are all that a page takes.
    const MOST: u32 = (PAGE_BYTES_MAX / MESSAGE_BYTES) as u32;

    fn execution() -> ExecutionId {
        ExecutionId::new(0, PartitionId(1), 1)
    }

    fn put(rows: &mut MemoryRows, key: tidemill_rows::Key, value: &impl Stored) {
        rows.apply(&[Mutation::Put {
            key,
            value: value.to_bytes(),
        }]);
    }

    /// An execution whose steps gave so many messages each.
    fn rows(outputs: &[u32]) -> MemoryRows {
        let mut rows = MemoryRows::default();
        let flow = FlowId::new(0, PartitionId(1), 1);
        let document = r#"{"name": "x", "graph": {"nodes": [{"id": "a", "componentId": "c", "function": "f"}], "edges": []}}"#;
        let version = PlanVersionRow {
            document: Bytes::from_static(document.as_bytes()),
            ..PlanVersionRow::default()
        };
        put(&mut rows, plan_version_key(flow, 1), &version);
        let row = ExecutionRow {
            flow,
            version: 1,
            ..ExecutionRow::default()
        };
        put(&mut rows, execution_key(execution()), &row);
        let mut first_output = 0;
        for (step, outputs) in (0..).zip(outputs.iter().copied()) {
            let row = StepRow {
                first_output,
                outputs,
                ..StepRow::default()
            };
            let execution = execution();
            put(&mut rows, step_key(StepId { execution, step }), &row);
            for number in first_output..first_output + outputs {
                let row = MessageRow {
                    data: vec![b'1'; MESSAGE_BYTES].into(),
                    ..MessageRow::default()
                };
                put(&mut rows, message_key(execution, number), &row);
            }
            first_output += outputs;
        }
        rows
    }

    /// The messages of each step, page by page.
    fn pages(rows: &MemoryRows, with_messages: bool) -> Vec<Vec<usize>> {
        let request = ListStepsRequest {
            with_messages,
            ..ListStepsRequest::default()
        };
        let names = NodeNames::default();
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let page = Page::check(Some(PageRequest { size: 50, token })).expect("a page");
            let answer = answer(&names, rows, execution(), &request, &page).expect("no damage");
            found.push(answer.steps.iter().map(|step| step.output.len()).collect());
            token = answer.next_token;
            if token.is_empty() {
                return found;
            }
        }
    }

    #[test]
    fn a_page_ends_once_it_has_so_many_bytes_of_messages() {
        let most = MOST as usize;
        let rows = rows(&[1; MOST as usize + 1]);
        assert_eq!(pages(&rows, false), [vec![0; most + 1]]);
        assert_eq!(pages(&rows, true), [vec![1; most], vec![1]]);
        // What no step took is the output, and has no pages.
        let output = read::output(&rows, execution()).expect("no damage");
        assert_eq!(output.len(), most);
    }

    #[test]
    fn of_a_step_with_too_many_bytes_the_first_messages_are_shown() {
        let rows = rows(&[0, MOST + 1, 1]);
        assert_eq!(pages(&rows, true), [vec![0, MOST as usize], vec![1]]);
    }
}
