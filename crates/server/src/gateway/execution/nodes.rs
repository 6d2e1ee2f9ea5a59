//! The ids of a plan's nodes: a step's row has only the node's index.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tidemill_core::{Rows, flow};
use tidemill_rows::table::{PlanVersionRow, plan_version_key};
use tidemill_types::{FlowId, limits::NODE_NAMES_CACHED_MAX};

use crate::{
    actor::AskError,
    rows::{damaged, stored},
};

/// Ids of nodes by index, of one version.
pub(crate) type Names = Arc<[Arc<str>]>;

/// The ids of the nodes of versions that were read lately. Versions never change.
#[derive(Default)]
pub(crate) struct NodeNames {
    known: Mutex<BTreeMap<(FlowId, u32), Names>>,
}

impl NodeNames {
    /// The ids of the nodes of a version that executions run in the partition of `rows`.
    pub fn of(&self, rows: &dyn Rows, flow: FlowId, version: u32) -> Result<Names, AskError> {
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(names) = lock().get(&(flow, version)) {
            return Ok(Arc::clone(names));
        }
        let row: PlanVersionRow = stored(rows, &plan_version_key(flow, version))?
            .ok_or_else(|| damaged(format!("version {version} of {flow} is missing")))?;
        let document = serde_json::from_slice(&row.document).map_err(damaged)?;
        let refused = |problems: Vec<flow::Problem>| {
            let first = problems.first().map(|problem| &problem.message);
            damaged(format!(
                "version {version} of {flow} does not compile: {first:?}"
            ))
        };
        let document = flow::parse_value(&document).map_err(refused)?;
        let plan = flow::compile(&document).map_err(refused)?;
        let names: Names = plan.nodes.iter().map(|node| node.id.clone()).collect();
        let mut known = lock();
        while known.len() >= NODE_NAMES_CACHED_MAX {
            known.pop_first();
        }
        known.insert((flow, version), Arc::clone(&names));
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::memory::MemoryRows;
    use tidemill_rows::{Mutation, Stored as _};
    use tidemill_types::PartitionId;

    use super::*;

    #[test]
    fn so_many_versions_are_kept_and_others_read_again() {
        let flow = FlowId::new(0, PartitionId(1), 1);
        let mut rows = MemoryRows::default();
        let most = u32::try_from(NODE_NAMES_CACHED_MAX).expect("a few hundred");
        for version in 1..=most + 1 {
            let document = format!(
                r#"{{"name": "x", "graph": {{"nodes": [{{"id": "n{version}", "componentId": "c", "function": "f"}}], "edges": []}}}}"#
            );
            let row = PlanVersionRow {
                document: document.into(),
                ..PlanVersionRow::default()
            };
            rows.apply(&[Mutation::Put {
                key: plan_version_key(flow, version),
                value: row.to_bytes(),
            }]);
        }
        let names = NodeNames::default();
        let kept = || names.known.lock().expect("whole").len();
        for version in 1..=most + 1 {
            let found = names.of(&rows, flow, version).expect("a version");
            assert_eq!(*found[0], *format!("n{version}"));
            assert_eq!(kept(), most.min(version) as usize);
        }
        // The one that made room.
        let found = names.of(&rows, flow, 1).expect("a version");
        assert_eq!((&*found[0], kept()), ("n1", NODE_NAMES_CACHED_MAX));
    }
}
