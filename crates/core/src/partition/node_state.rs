//! What a node of a flow keeps between executions.
//!
//! Most nodes never keep anything, and each of their tasks would look for it: so it is remembered which have
//! nothing. Nobody but this leader writes such a row, so that stays true until it does.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use tidemill_rows::{
    Stored,
    table::{NodeStateRow, node_state_key},
};
use tidemill_types::{ExecutionId, FlowId, limits::NODES_WITHOUT_STATE_MAX};

use super::Partition;
use crate::ledger::{Damage, Ledger, Rows};

/// Nodes that are known to have no state.
#[derive(Debug, Default)]
pub(super) struct Stateless {
    nodes: BTreeSet<(FlowId, Arc<str>)>,
}

impl Stateless {
    /// A node's state; empty when it has none.
    pub fn read(
        &mut self,
        flow: FlowId,
        node: &Arc<str>,
        ledger: &Ledger,
        rows: &dyn Rows,
    ) -> Result<Bytes, Damage> {
        let name = (flow, node.clone());
        if self.nodes.contains(&name) {
            return Ok(Bytes::new());
        }
        let row = ledger.read::<NodeStateRow>(rows, &node_state_key(flow, node))?;
        if row.is_none() {
            if self.nodes.len() >= NODES_WITHOUT_STATE_MAX {
                self.nodes.clear();
            }
            self.nodes.insert(name);
        }
        Ok(row.unwrap_or_default().state)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }
}

impl Partition {
    /// A step leaves something for the next of its node.
    pub(super) fn put_node_state(&mut self, by: ExecutionId, node: u32, state: Bytes) {
        let Some(execution) = self.executions.get(&by) else {
            return;
        };
        let (flow, node) = (execution.row.flow, execution.node(node).id.clone());
        let row = NodeStateRow {
            state,
            updated_at: self.ledger.now(),
            by,
        };
        let key = node_state_key(flow, &node);
        self.ledger.put(key, row.to_bytes());
        self.stateless.nodes.remove(&(flow, node));
    }
}
