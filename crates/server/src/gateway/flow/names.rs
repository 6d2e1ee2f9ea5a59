//! Ids of flows by the names that were asked for lately: a start names its flow, and to look the name up in rows
//! costs as much as a tenth of the start.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use tidemill_types::{FlowId, limits::FLOW_NAMES_KNOWN_MAX};

/// Of a node. See the module.
#[derive(Default)]
pub(in crate::gateway) struct FlowNames(RwLock<Known>);

#[derive(Default)]
struct Known {
    /// The catalog's index that these were read at, or before: whatever it applies may rename a flow.
    applied: u64,
    ids: HashMap<String, FlowId>,
}

impl FlowNames {
    /// The flow with this name, if it is known and the catalog has applied nothing since.
    pub(super) fn get(&self, name: &str, applied: u64) -> Option<FlowId> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let id = known.ids.get(name)?;
        (known.applied == applied).then_some(*id)
    }

    /// A name was looked up in rows; `applied` is the catalog's index from before that.
    pub(super) fn note(&self, name: &str, id: FlowId, applied: u64) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.applied != applied || known.ids.len() >= FLOW_NAMES_KNOWN_MAX {
            known.ids.clear();
            known.applied = applied;
        }
        known.ids.insert(name.to_owned(), id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_until_the_catalog_changes() {
        let names = FlowNames::default();
        let (one, other) = (FlowId([1; 16]), FlowId([2; 16]));
        assert_eq!(names.get("a", 0), None);
        names.note("a", one, 7);
        assert_eq!(names.get("a", 7), Some(one));
        assert_eq!(names.get("b", 7), None);
        assert_eq!(names.get("a", 8), None);
        names.note("a", other, 8);
        assert_eq!(names.get("a", 8), Some(other));
        // A slow one that looked before is not believed.
        names.note("b", one, 7);
        assert_eq!(names.get("b", 8), None);
    }

    #[test]
    fn so_many_names_are_known() {
        let names = FlowNames::default();
        for number in 0..=FLOW_NAMES_KNOWN_MAX {
            names.note(&number.to_string(), FlowId::default(), 1);
        }
        let known = names.0.read().expect("not poisoned");
        assert_eq!(known.ids.len(), 1);
        drop(known);
        assert!(names.get("0", 1).is_none());
        assert!(names.get(&FLOW_NAMES_KNOWN_MAX.to_string(), 1).is_some());
    }
}
