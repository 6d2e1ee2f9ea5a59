//! A group that could not be opened on this node.

use tidemill_types::{NodeId, PartitionId};
use tokio::sync::watch;

use super::Leadership;
use crate::{GroupStats, StartError};

/// A group whose stored state is damaged. This node neither votes in it, nor takes its entries, nor reads
/// its rows; it only knows who leads it elsewhere. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StoppedGroup {
    id: PartitionId,
    reason: String,
    leadership: watch::Sender<Leadership>,
}

impl StoppedGroup {
    pub(crate) fn new(id: PartitionId, reason: String) -> Self {
        Self {
            id,
            reason,
            leadership: watch::Sender::default(),
        }
    }

    /// The partition.
    #[must_use]
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// What is damaged.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Who leads elsewhere; never this node.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    pub(crate) fn led_by(&self, leader: Option<NodeId>) {
        lead(&self.leadership, leader);
    }

    pub(crate) fn error(&self) -> StartError {
        StartError::Damaged {
            group: self.id,
            reason: self.reason.clone(),
        }
    }

    pub(crate) fn stats(&self) -> GroupStats {
        GroupStats {
            id: self.id,
            leader: self.leadership.borrow().leader,
            fault: Some(self.reason.clone()),
            ..GroupStats::default()
        }
    }
}

/// Tells of a leader on another node, if that is news. Its term is not known.
pub(super) fn lead(tell: &watch::Sender<Leadership>, leader: Option<NodeId>) {
    let now = Leadership {
        leader,
        ..Leadership::default()
    };
    tell.send_if_modified(|told| {
        let modified = *told != now;
        *told = now;
        modified
    });
}
