//! `Arm` and `Disarm`: the partition's side of starting and stopping a flow; and the plans.

use std::sync::Arc;

use tidemill_rows::{
    Stored,
    journal::{NewRecord, kind},
    key::after_prefix,
    table::{
        ArmedFlowRow, ExecutionState, PlanVersionRow, armed_flow_key, execution_of_by_flow_key,
        executions_of_flow_prefix, plan_version_key,
    },
};
use tidemill_types::{FlowId, limits::PLANS_CACHED_MAX};

use super::{Partition, SYSTEM};
use crate::{
    Rejection,
    command::{ArmFlow, DisarmFlow, PartitionReply},
    flow::{self, Plan},
    ledger::{Damage, Rows},
};

/// A flow that is or was armed here.
#[derive(Clone, Debug)]
pub(super) struct ArmedFlow {
    pub row: ArmedFlowRow,
}

impl Partition {
    /// The flow's row, from memory or from its row.
    pub(super) fn armed_flow(
        &mut self,
        id: FlowId,
        rows: &dyn Rows,
    ) -> Result<Option<ArmedFlow>, Damage> {
        if let Some(flow) = self.flows.get(&id) {
            return Ok(Some(flow.clone()));
        }
        let Some(row) = self
            .ledger
            .read::<ArmedFlowRow>(rows, &armed_flow_key(id))?
        else {
            return Ok(None);
        };
        self.keep_armed(id, row.clone());
        Ok(Some(ArmedFlow { row }))
    }

    fn keep_armed(&mut self, id: FlowId, row: ArmedFlowRow) {
        while self.flows.len() >= PLANS_CACHED_MAX && !self.flows.contains_key(&id) {
            self.flows.pop_first();
        }
        self.flows.insert(id, ArmedFlow { row });
    }

    /// Writes a flow's row, and keeps it in memory.
    pub(super) fn put_armed(&mut self, id: FlowId, row: ArmedFlowRow) {
        self.ledger.put(armed_flow_key(id), row.to_bytes());
        self.keep_armed(id, row);
    }

    /// The compiled plan of a version that executions run here.
    pub(super) fn plan(
        &mut self,
        id: FlowId,
        version: u32,
        rows: &dyn Rows,
    ) -> Result<Arc<Plan>, Damage> {
        if let Some(plan) = self.plans.get(&(id, version)) {
            return Ok(plan.clone());
        }
        let row = self
            .ledger
            .read::<PlanVersionRow>(rows, &plan_version_key(id, version))?
            .ok_or_else(|| Damage::Missing(format!("version {version} of {id}")))?;
        let plan = compile(&row.document).map_err(|reason| Damage::Plan {
            flow: id,
            version,
            reason,
        })?;
        Ok(self.cache_plan(id, version, plan))
    }

    fn cache_plan(&mut self, id: FlowId, version: u32, plan: Plan) -> Arc<Plan> {
        while self.plans.len() >= PLANS_CACHED_MAX {
            self.plans.pop_first();
        }
        let plan = Arc::new(plan);
        self.plans.insert((id, version), plan.clone());
        plan
    }

    pub(super) fn arm(
        &mut self,
        command: ArmFlow,
        rows: &dyn Rows,
    ) -> Result<Result<PartitionReply, Rejection>, Damage> {
        let id = command.flow;
        if let Some(ArmedFlow { row }) = self.armed_flow(id, rows)? {
            if row.activation > command.activation
                || (row.activation == command.activation && !row.armed)
            {
                return Ok(Err(Rejection::StaleActivation {
                    flow: id,
                    got: command.activation,
                    current: row.activation,
                }));
            }
            if row.activation == command.activation {
                return Ok(Ok(PartitionReply::Done { changed: false }));
            }
        }
        let plan = match compile(&command.document) {
            Ok(plan) => plan,
            Err(reason) => return Ok(Err(Rejection::invalid("document", reason))),
        };
        if let Some(rejection) = self.unserved(&plan, command.without_workers) {
            return Ok(Err(rejection));
        }
        // Of an activation whose disarm never came: as the version says that was armed until now.
        if !self.disarm_schedule(id, rows)? {
            return Ok(Err(Rejection::ScheduleBehind(id)));
        }
        let plan = self.cache_plan(id, command.version, plan);
        if let Some(schedule) = &plan.schedule {
            self.arm_schedule(id, command.activation, schedule, rows)?;
        }
        let row = ArmedFlowRow {
            version: command.version,
            activation: command.activation,
            armed_at: self.ledger.now(),
            armed: true,
            name: command.name,
            ..ArmedFlowRow::default()
        };
        self.put_armed(id, row);
        let version = PlanVersionRow {
            document: command.document,
            content_hash: command.content_hash,
        };
        self.ledger
            .put(plan_version_key(id, command.version), version.to_bytes());
        self.ledger.record(&NewRecord {
            kind: kind::FLOW_ARMED,
            actor: SYSTEM,
            flow: Some(id),
            version: command.version,
            payload_hash: Some(command.content_hash),
            number: command.activation,
            ..NewRecord::default()
        });
        Ok(Ok(PartitionReply::Done { changed: true }))
    }

    /// Why the plan's components stand against a start.
    fn unserved(&self, plan: &Plan, without_workers: bool) -> Option<Rejection> {
        let mut missing = Vec::new();
        for node in &plan.nodes {
            match node.builtin {
                Some(builtin) if !builtin.is_served() => {
                    return Some(Rejection::BuiltinNotServed(node.component.to_string()));
                }
                Some(_) => {}
                None if without_workers => {}
                None => {
                    let name = format!("{}/{}", node.component, node.function);
                    if !self.work.is_served(&node.component, &node.function)
                        && !missing.contains(&name)
                    {
                        missing.push(name);
                    }
                }
            }
        }
        (!missing.is_empty()).then_some(Rejection::NotServed(missing))
    }

    pub(super) fn disarm(
        &mut self,
        command: DisarmFlow,
        rows: &dyn Rows,
    ) -> Result<Result<PartitionReply, Rejection>, Damage> {
        let id = command.flow;
        let known = self.armed_flow(id, rows)?;
        if let Some(ArmedFlow { row }) = &known
            && row.activation > command.activation
        {
            return Ok(Err(Rejection::StaleActivation {
                flow: id,
                got: command.activation,
                current: row.activation,
            }));
        }
        let was_armed = known.as_ref().is_some_and(|flow| flow.row.armed);
        let mut row = known.map(|flow| flow.row).unwrap_or_default();
        // While it is still armed, or nothing would be decided any more.
        if was_armed && !self.disarm_schedule(id, rows)? {
            return Ok(Err(Rejection::ScheduleBehind(id)));
        }
        // Written even when the arm never came: it may still be on its way, and is stale from now on.
        let changed = was_armed || row.activation != command.activation;
        row.activation = command.activation;
        row.armed = false;
        if changed {
            let version = row.version;
            self.put_armed(id, row);
            self.ledger.record(&NewRecord {
                kind: kind::FLOW_DISARMED,
                actor: SYSTEM,
                flow: Some(id),
                version,
                number: command.activation,
                ..NewRecord::default()
            });
        }
        if command.cancel_running {
            self.cancel_running_of(id, rows)?;
        }
        Ok(Ok(PartitionReply::Done { changed }))
    }

    fn cancel_running_of(&mut self, flow: FlowId, rows: &dyn Rows) -> Result<(), Damage> {
        // The index of what this batch has started is to be seen by the scan.
        self.flush();
        let prefix = executions_of_flow_prefix(flow);
        let to = after_prefix(&prefix).expect("a table's prefix is not all 0xff");
        let mut from = prefix.to_vec();
        const PART: usize = 10_000;
        loop {
            let part = self.ledger.scan(rows, &from, &to, PART)?;
            let last = part.len() < PART;
            if let Some((key, _)) = part.last() {
                from = key.to_vec();
                from.push(0);
            }
            for (key, state) in part {
                let is_running =
                    state.first().copied() == Some(ExecutionState::Running as u32 as u8);
                if let Some(id) = execution_of_by_flow_key(&key).filter(|_| is_running)
                    && self.hydrate(id, rows)?
                {
                    self.end_early(
                        id,
                        ExecutionState::Cancelled,
                        "the flow was stopped",
                        SYSTEM,
                        "",
                    );
                }
            }
            if last {
                return Ok(());
            }
        }
    }
}

fn compile(document: &[u8]) -> Result<Plan, String> {
    let first = |problems: Vec<flow::Problem>| {
        problems
            .first()
            .map_or_else(String::new, |p| format!("{}: {}", p.pointer, p.message))
    };
    let value = serde_json::from_slice(document).map_err(|e| e.to_string())?;
    flow::compile(&flow::parse_value(&value).map_err(first)?).map_err(first)
}
