//! I10: counters and indexes equal what a scan counts.

use std::collections::BTreeSet;

use tidemill_core::memory::MemoryRows;
use tidemill_rows::{
    key::{PREFIX_LEN, Table},
    table::{
        ArmedFlowRow, CatalogRequestRow, ExecutionRow, FlowRow, FlowStatus, FlowVersionRow,
        RequestRow, StepRow, StepState, Timer, TimerKind, catalog_request_expiry_key,
        catalog_request_expiry_of_key, catalog_request_key, execution_by_flow_key, execution_key,
        execution_of_by_flow_key, execution_of_key, executions_of_flow_prefix, flow_by_name_key,
        flow_key, flow_of_key, flow_transition_key, flow_version_by_hash_key, messages_prefix,
        plan_version_key, start_request_key, step_of_key, steps_prefix, timer_key, version_of_key,
    },
};
use tidemill_types::{ExecutionId, FlowId, PartitionId, StepId};

use super::{Checked, Violation, view};

const NAME: &str = "I10 counters and indexes";

fn violation(what: String) -> Checked {
    Err(Violation::new(NAME, what))
}

/// The counters and timers of one execution.
///
/// # Errors
/// When a scan counts something else.
pub fn of_execution(id: ExecutionId, rows: &MemoryRows) -> Checked {
    let row: Option<ExecutionRow> = view::row(rows, &execution_key(id))?;
    let Some(row) = row else {
        return Ok(());
    };
    let mut counted = (0_u32, 0_u32, 0_u32);
    for (key, value) in view::with_prefix(rows, &steps_prefix(id)) {
        let step: StepRow = view::decode(&key, value)?;
        if step_of_key(&key).map(|id| id.step) != Some(counted.0) {
            return violation(format!("{id} has no step {}", counted.0));
        }
        counted.0 += 1;
        counted.1 += u32::from(step.state.is_live());
        counted.2 += u32::from(step.state == StepState::Dead);
    }
    if counted != (row.steps, row.live, row.dead) {
        return violation(format!(
            "{id}: (steps, live, dead) are {counted:?}, its row says {:?}",
            (row.steps, row.live, row.dead)
        ));
    }
    let messages = view::with_prefix(rows, &messages_prefix(id)).len();
    if messages != row.messages as usize {
        return violation(format!(
            "{id} has {messages} messages, its row says {}",
            row.messages
        ));
    }
    let by_flow = execution_by_flow_key(row.flow, id);
    let indexed = tidemill_core::Rows::get(rows, &by_flow).expect("rows in memory");
    if indexed.as_deref() != Some(&[row.state as u32 as u8]) {
        return violation(format!(
            "{id} is {}, its flow's index says {indexed:?}",
            row.state
        ));
    }
    let timer = |due, kind| {
        let step = StepId {
            execution: id,
            step: 0,
        };
        view::has(rows, &timer_key(&Timer { due, step, kind }))
    };
    let timed = match (row.state.is_ended(), row.retire_at, row.deadline) {
        (true, Some(due), _) => timer(due, TimerKind::Retire),
        (true, None, _) => false,
        (false, Some(_), _) => false,
        (false, None, Some(due)) => timer(due, TimerKind::ExecutionTimeout),
        (false, None, None) => true,
    };
    let ends = row.ending.as_ref().map(|ending| ending.next_at);
    if ends.is_some_and(|due| row.state.is_ended() || !timer(due, TimerKind::Ending)) {
        return violation(format!(
            "{id} is {} and being ended at {ends:?}: nobody goes on with it",
            row.state
        ));
    }
    if !timed {
        return violation(format!(
            "{id} is {}, retires at {:?}, times out at {:?}: a timer is missing",
            row.state, row.retire_at, row.deadline
        ));
    }
    Ok(())
}

/// A partition's indexes.
///
/// # Errors
/// When one does not fit what it is an index of.
pub fn partition(partition: PartitionId, rows: &MemoryRows) -> Checked {
    let mut executions = BTreeSet::new();
    for (key, value) in view::table(rows, partition, Table::Execution) {
        let Some(id) = execution_of_key(&key) else {
            return violation(format!("key {key:?} names no execution"));
        };
        executions.insert(id);
        let row: ExecutionRow = view::decode(&key, value)?;
        let request: Option<RequestRow> =
            view::row(rows, &start_request_key(partition, &row.request_id))?;
        if request.is_none_or(|request| request.execution != id) {
            return violation(format!("{id}: its request id is not kept"));
        }
    }
    let indexed: BTreeSet<ExecutionId> = view::table(rows, partition, Table::ExecutionByFlow)
        .iter()
        .filter_map(|(key, _)| execution_of_by_flow_key(key))
        .collect();
    if indexed != executions {
        return violation(format!(
            "partition {partition} has {} executions, their flows' index {}",
            executions.len(),
            indexed.len()
        ));
    }
    for table in [Table::Step, Table::Message] {
        for (key, _) in view::table(rows, partition, table) {
            let id = step_of_key(&key).map(|id| id.execution);
            if id.is_none_or(|id| !executions.contains(&id)) {
                return violation(format!("{table:?} row of {id:?}, which is gone"));
            }
        }
    }
    flows(partition, &executions, rows)?;
    for (key, value) in view::table(rows, partition, Table::Request) {
        let request: RequestRow = view::decode(&key, value)?;
        if !executions.contains(&request.execution) {
            return violation(format!(
                "a request id of {} is kept, which is gone",
                request.execution
            ));
        }
    }
    Ok(())
}

/// Plans and node states are of flows that are known, and of a deleted flow they go when nobody needs them.
fn flows(partition: PartitionId, executions: &BTreeSet<ExecutionId>, rows: &MemoryRows) -> Checked {
    let mut known = BTreeSet::new();
    for (key, value) in view::table(rows, partition, Table::ArmedFlow) {
        let Some(id) = flow_of_key(&key) else {
            return violation(format!("key {key:?} names no flow"));
        };
        known.insert(id);
        let row: ArmedFlowRow = view::decode(&key, value)?;
        let is_used = view::with_prefix(rows, &executions_of_flow_prefix(id));
        if row.deleted_at.is_some() && is_used.is_empty() {
            let step = StepId {
                execution: ExecutionId(id.0),
                step: 0,
            };
            let kind = TimerKind::Forget;
            let goes = |due| view::has(rows, &timer_key(&Timer { due, step, kind }));
            if !row.forget_at.is_some_and(goes) {
                return violation(format!("{id} is deleted, and nobody removes its rows"));
            }
        }
    }
    for table in [Table::PlanVersion, Table::NodeState] {
        for (key, _) in view::table(rows, partition, table) {
            let id = flow_of_key(&key);
            if id.is_none_or(|id| !known.contains(&id)) {
                return violation(format!("{table:?} row of flow {id:?}, which is gone"));
            }
        }
    }
    for id in executions {
        let row: Option<ExecutionRow> = view::row(rows, &execution_key(*id))?;
        let version = row.map(|row| plan_version_key(row.flow, row.version));
        if !version.is_some_and(|key| view::has(rows, &key)) {
            return violation(format!("{id} has lost its plan"));
        }
    }
    Ok(())
}

/// The catalog's indexes.
///
/// # Errors
/// When one does not fit what it is an index of.
pub fn catalog(rows: &MemoryRows) -> Checked {
    let all = |table| view::table(rows, PartitionId::CATALOG, table);
    let mut flows = BTreeSet::new();
    for (key, value) in all(Table::Flow) {
        let Some(id) = flow_of_key(&key) else {
            return violation(format!("key {key:?} names no flow"));
        };
        flows.insert(id);
        let row: FlowRow = view::decode(&key, value)?;
        let by_name = tidemill_core::Rows::get(rows, &flow_by_name_key(&row.name));
        if by_name.expect("rows in memory").as_deref() != Some(&id.0) {
            return violation(format!("flow {id} is not found by its name {:?}", row.name));
        }
        let moves = matches!(row.status, FlowStatus::Starting | FlowStatus::Stopping);
        if view::has(rows, &flow_transition_key(id)) != moves {
            return violation(format!(
                "flow {id} is {}, in transition: {}",
                row.status, !moves
            ));
        }
        let versions = view::with_prefix(rows, &tidemill_rows::table::flow_versions_prefix(id));
        if versions.len() != row.latest_version as usize {
            return violation(format!(
                "flow {id} has {} versions, its newest is {}",
                versions.len(),
                row.latest_version
            ));
        }
        for (key, value) in versions {
            let version: FlowVersionRow = view::decode(&key, value)?;
            let by_hash = flow_version_by_hash_key(id, version.content_hash);
            let found = tidemill_core::Rows::get(rows, &by_hash).expect("rows in memory");
            let number = version_of_key(&key).unwrap_or_default();
            if found.as_deref() != Some(&number.to_be_bytes()) {
                return violation(format!(
                    "version {number} of flow {id} is not found by hash"
                ));
            }
        }
    }
    for (key, _) in all(Table::FlowDeletion) {
        if flow_of_key(&key).is_none_or(|id| flows.contains(&id)) {
            return violation(format!(
                "{key:?} says that a flow is deleted, which is there"
            ));
        }
    }
    for table in [
        Table::FlowVersion,
        Table::FlowVersionByHash,
        Table::FlowTransition,
    ] {
        for (key, _) in all(table) {
            let id = flow_of_key(&key);
            if id.is_none_or(|id| !flows.contains(&id)) {
                return violation(format!("{table:?} row of flow {id:?}, which is gone"));
            }
        }
    }
    for (key, value) in all(Table::FlowByName) {
        let id = value.as_ref().try_into().ok().map(FlowId);
        if id.is_none_or(|id| !view::has(rows, &flow_key(id))) {
            return violation(format!("name {:?} leads to {id:?}", &key[PREFIX_LEN..]));
        }
    }
    requests(&all(Table::Request), &all(Table::RequestExpiry), rows)
}

type Found = [(tidemill_rows::Key, bytes::Bytes)];

fn requests(kept: &Found, expiries: &Found, rows: &MemoryRows) -> Checked {
    if kept.len() != expiries.len() {
        return violation(format!(
            "{} request ids are kept, {} are to be forgotten",
            kept.len(),
            expiries.len()
        ));
    }
    for (key, _) in expiries {
        let Some((at, request_id)) = catalog_request_expiry_of_key(key) else {
            return violation(format!("key {key:?} names no request id"));
        };
        let row: Option<CatalogRequestRow> = view::row(rows, &catalog_request_key(&request_id))?;
        if row.is_none_or(|row| row.expires_at != at)
            || !view::has(rows, &catalog_request_expiry_key(at, &request_id))
        {
            return violation(format!("request id {request_id} is not kept"));
        }
    }
    Ok(())
}
