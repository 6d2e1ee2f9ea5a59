//! What a running node is: the handles that gateways, workers' streams and activators use.

use std::sync::Arc;

use tidemill_core::{Catalog, Partition};
use tidemill_replica::Replica;
use tidemill_types::PartitionId;
use tokio_util::sync::CancellationToken;

use crate::{
    activator::CatalogSink, actor::GroupHandle, clock::Clock, config::Config, metrics::Metrics,
    work::PartitionSink,
};

/// A node that is part of its cluster. Gateways hold it in an `Arc`.
pub struct Node {
    /// What the operator chose.
    pub config: Config,
    /// The groups, and the connections to the other nodes.
    pub replica: Arc<Replica>,
    /// Group 0.
    pub catalog: GroupHandle<Catalog>,
    /// Groups 1 to P, in order.
    pub partitions: Vec<GroupHandle<Partition>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where leaders' effects go.
    pub effects: Arc<PartitionEffects>,
    /// What time it is.
    pub clock: Clock,
    /// Cancelled when the node begins to stop: streams end then.
    pub shutdown: CancellationToken,
}

/// The sinks of all groups of the node.
pub struct PartitionEffects {
    /// Of group 0.
    pub catalog: Arc<CatalogSink>,
    /// Of groups 1 to P, in order.
    pub partitions: Vec<Arc<PartitionSink>>,
}

impl PartitionEffects {
    /// The sink of a partition.
    #[must_use]
    pub fn of(&self, partition: PartitionId) -> Option<&Arc<PartitionSink>> {
        self.partitions
            .get(usize::from(partition.0).checked_sub(1)?)
    }
}

impl Node {
    /// The actor of a partition.
    #[must_use]
    pub fn partition(&self, id: PartitionId) -> Option<&GroupHandle<Partition>> {
        self.partitions.get(usize::from(id.0).checked_sub(1)?)
    }
}
