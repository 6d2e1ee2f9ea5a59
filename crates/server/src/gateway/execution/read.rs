//! Executions and steps from their rows.

use std::collections::BTreeSet;

use bytes::Bytes;
use tidemill_core::{Rejection, Rows};
use tidemill_proto::{convert, v1};
use tidemill_rows::{
    Stored,
    key::PREFIX_LEN,
    table::{
        ExecutionRow, MessageRow, StepRow, execution_key, execution_of_key, message_key, step_key,
        step_of_key, steps_prefix,
    },
};
use tidemill_types::{ExecutionId, StepId, limits::PAGE_BYTES_MAX};

use super::nodes::{Names, NodeNames};
use crate::{
    actor::AskError,
    gateway::{
        SHORT_BYTES,
        check::{CheckResult, invalid},
    },
    rows::{after, damaged, prefix_range, scan, stored},
};

/// Steps looked at in one go.
const PART: usize = 1_000;

/// An execution's row.
pub(super) fn execution(rows: &dyn Rows, id: ExecutionId) -> CheckResult<ExecutionRow> {
    stored(rows, &execution_key(id))?.ok_or(AskError::Rejected(Rejection::ExecutionNotFound(id)))
}

/// The execution whose id begins so.
pub(super) fn execution_of_short(
    rows: &dyn Rows,
    short: [u8; SHORT_BYTES],
) -> CheckResult<ExecutionId> {
    let mut first = ExecutionId::default();
    first.0[..SHORT_BYTES].copy_from_slice(&short);
    let prefix = execution_key(first);
    let (from, to) = prefix_range(&prefix[..PREFIX_LEN + SHORT_BYTES]);
    let found = scan(rows, &from, &to, 2, false)?;
    match found.as_slice() {
        [] => Err(AskError::Rejected(Rejection::ExecutionNotFound(first))),
        [(key, _)] => execution_of_key(key)
            .ok_or_else(|| damaged(format!("the key of execution {first} is damaged"))),
        _ => Err(invalid(
            "execution_id",
            "two executions have ids that begin so: use the whole id",
        )),
    }
}

/// At most `limit` steps with numbers from `from` on, as they are stored.
pub(super) fn stored_steps(
    rows: &dyn Rows,
    id: ExecutionId,
    from: u32,
    limit: usize,
) -> CheckResult<Vec<(u32, Bytes)>> {
    let first = step_key(StepId {
        execution: id,
        step: from,
    });
    let (_, to) = prefix_range(&steps_prefix(id));
    scan(rows, &first, &to, limit, false)?
        .into_iter()
        .map(|(key, value)| {
            let step = step_of_key(&key)
                .ok_or_else(|| damaged(format!("a step's key of {id} is damaged")))?;
            Ok((step.step, value))
        })
        .collect()
}

/// Reads steps' rows.
pub(super) fn step_row(bytes: Bytes) -> CheckResult<StepRow> {
    StepRow::from_bytes(bytes).map_err(damaged)
}

/// The ids of the nodes of an execution's version.
pub(super) fn names(
    nodes: &NodeNames,
    rows: &dyn Rows,
    execution: &ExecutionRow,
) -> CheckResult<Names> {
    nodes.of(rows, execution.flow, execution.version)
}

/// A step, to the wire, without messages.
pub(super) fn step(number: u32, row: StepRow, names: &Names) -> CheckResult<v1::Step> {
    let at = usize::try_from(row.node).expect("32 bits fit");
    let node = names
        .get(at)
        .ok_or_else(|| damaged(format!("step {number} is of node {at}, which is not there")))?;
    Ok(convert::step(number, node, row))
}

/// A message of an execution.
pub(super) fn message(rows: &dyn Rows, id: ExecutionId, number: u32) -> CheckResult<MessageRow> {
    stored(rows, &message_key(id, number))?
        .ok_or_else(|| damaged(format!("message {number} of {id} is missing")))
}

/// What the paths of an execution ended with: messages that no step took. At most what one answer holds.
pub(super) fn output(rows: &dyn Rows, id: ExecutionId) -> CheckResult<Vec<v1::Message>> {
    let mut given = BTreeSet::new();
    let mut taken = BTreeSet::new();
    let (mut from, to) = prefix_range(&steps_prefix(id));
    loop {
        let part = scan(rows, &from, &to, PART, false)?;
        let is_last = part.len() < PART;
        for (key, value) in part {
            from = after(&key);
            let row = step_row(value)?;
            given.extend(row.first_output..row.first_output.saturating_add(row.outputs));
            taken.extend(row.inputs.iter().map(|input| input.message));
        }
        if is_last {
            break;
        }
    }
    page(
        given
            .difference(&taken)
            .map(|number| message(rows, id, *number)),
    )
}

/// Messages, to the wire: as many as one answer holds.
pub(super) fn page(
    rows: impl Iterator<Item = CheckResult<MessageRow>>,
) -> CheckResult<Vec<v1::Message>> {
    let mut messages = Vec::new();
    let mut bytes = 0;
    for row in rows {
        let row = row?;
        bytes += row.payload_len();
        if bytes > PAGE_BYTES_MAX && !messages.is_empty() {
            break;
        }
        messages.push(convert::message(row));
    }
    Ok(messages)
}
