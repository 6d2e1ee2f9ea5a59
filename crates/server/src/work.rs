//! Workers' streams. (S2's; this file only names the seam.)

use tidemill_core::command::PartitionEffect;
use tidemill_types::PartitionId;

use crate::actor::EffectSink;

/// Where a partition's effects go.
pub struct PartitionSink {}

impl PartitionSink {
    /// For a partition.
    #[must_use]
    pub fn new(_: PartitionId) -> Self {
        Self {}
    }
}

impl EffectSink<PartitionEffect> for PartitionSink {
    fn deliver(&self, _: Vec<PartitionEffect>) {}
    fn epoch_ended(&self) {}
    fn epoch_began(&self) {}
}
