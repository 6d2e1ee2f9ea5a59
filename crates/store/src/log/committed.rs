//! Committed positions that wait to be written.
//!
//! Raft may forget them: they only say how far a node may apply its log before it hears of its leader. So none
//! wakes the writer: it goes along with the next write, or is written when nothing has come for a while. But none may
//! be in the database before the entries that it speaks of.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tidemill_types::PartitionId;

use super::tail::Group;

/// When nothing else has come for so long, positions are written by themselves.
pub const COMMITTED_AFTER: Duration = Duration::from_millis(50);

/// The newest of each group.
#[derive(Default)]
pub struct WaitingPositions(Mutex<BTreeMap<PartitionId, Waiting>>);

struct Waiting {
    group: Arc<Group>,
    /// The group's last append when this was saved.
    after: u64,
    position: Bytes,
}

impl WaitingPositions {
    /// Instead of what the group had; `after` is the number of its last append.
    pub fn put(&self, group: &Arc<Group>, after: u64, position: Bytes) {
        let waiting = Waiting {
            group: Arc::clone(group),
            after,
            position,
        };
        let mut positions = self.0.lock().expect("nothing panics while it is held");
        positions.insert(group.id, waiting);
    }

    /// Takes those whose entries are written, or are about to be in the same write: up to this number of a group.
    pub fn take(&self, about_to_be: &BTreeMap<PartitionId, u64>) -> Vec<(PartitionId, Bytes)> {
        let mut taken = Vec::new();
        let mut positions = self.0.lock().expect("nothing panics while it is held");
        positions.retain(|id, waiting| {
            let about_to_be = about_to_be.get(id).copied().unwrap_or_default();
            let is_ahead = waiting.after > about_to_be.max(waiting.group.is_written_up_to());
            if !is_ahead {
                taken.push((*id, waiting.position.clone()));
            }
            is_ahead
        });
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn none_goes_before_its_entries() {
        let id = PartitionId(3);
        let group = Arc::new(Group::new(id, Arc::new(AtomicUsize::new(0))));
        let positions = WaitingPositions::default();
        let none = BTreeMap::new();
        positions.put(&group, 1, Bytes::from_static(b"one"));
        positions.put(&group, 2, Bytes::from_static(b"two"));
        assert_eq!(positions.take(&none), []);
        assert_eq!(positions.take(&BTreeMap::from([(id, 1)])), []);
        let two = (id, Bytes::from_static(b"two"));
        assert_eq!(positions.take(&BTreeMap::from([(id, 2)])), [two]);
        assert_eq!(
            positions.take(&BTreeMap::from([(id, 9)])),
            [],
            "it is taken"
        );
        group.written(5);
        positions.put(&group, 5, Bytes::from_static(b"five"));
        assert_eq!(positions.take(&none).len(), 1);
    }
}
