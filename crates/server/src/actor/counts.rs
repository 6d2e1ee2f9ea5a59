//! What an actor counts.

use std::sync::Arc;

use tidemill_types::PartitionId;

use crate::metrics::{Counter, Gauge, Histogram, Metrics};

/// The partition's own series, looked up once.
pub(super) struct Counts {
    pub(super) proposed: Arc<Counter>,
    pub(super) committed: Arc<Counter>,
    pub(super) batch_commands: Arc<Histogram>,
    pub(super) batch_rows: Arc<Histogram>,
    pub(super) batch_bytes: Arc<Histogram>,
    pub(super) commit_seconds: Arc<Histogram>,
    pub(super) mailbox: Arc<Gauge>,
    pub(super) epochs: Arc<Counter>,
    pub(super) epoch_failures: Arc<Counter>,
    pub(super) panics: Arc<Counter>,
    pub(super) quarantined: Arc<Counter>,
    pub(super) faults: Arc<Counter>,
}

impl Counts {
    pub(super) fn new(metrics: &Metrics, partition: PartitionId) -> Self {
        let id = partition.to_string();
        let label = &[id.as_str()];
        Self {
            proposed: metrics.batches_proposed.with(label),
            committed: metrics.batches_committed.with(label),
            batch_commands: metrics.batch_commands.with(label),
            batch_rows: metrics.batch_rows.with(label),
            batch_bytes: metrics.batch_bytes.with(label),
            commit_seconds: metrics.commit_seconds.with(label),
            mailbox: metrics.mailbox_commands.with(label),
            epochs: metrics.epochs.with(label),
            epoch_failures: metrics.epoch_failures.with(label),
            panics: metrics.panics.with(label),
            quarantined: metrics.quarantined.with(label),
            faults: metrics.faults.with(label),
        }
    }
}
