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

use super::{client, read};
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
            let mut answer = answer(open, &home.read().await?, id, request, page)?;
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
    open: &Open,
    rows: &dyn Rows,
    id: ExecutionId,
    request: &ListStepsRequest,
    page: &Page,
) -> CheckResult<ListStepsResponse> {
    let execution = read::execution(rows, id)?;
    let names = read::names(&open.nodes, rows, &execution)?;
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
