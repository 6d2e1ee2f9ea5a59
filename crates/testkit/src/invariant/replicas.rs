//! I7: replicas at the same index are byte-identical. After every entry a replica's digest is compared
//! with that of the committed log; at the end all rows are compared, byte by byte.

use tidemill_core::memory::MemoryRows;
use tidemill_types::PartitionId;

use super::{Checked, Violation};

const NAME: &str = "I7 replicas are identical";

/// See the module.
#[derive(Debug, Default)]
pub struct Replicas;

impl Replicas {
    /// A replica has applied an entry.
    ///
    /// # Errors
    /// When its rows are not what the log says.
    pub fn on_applied(
        &self,
        partition: PartitionId,
        node: usize,
        index: usize,
        own: u64,
        truth: u64,
    ) -> Checked {
        if own == truth {
            return Ok(());
        }
        Err(Violation::new(
            NAME,
            format!("partition {partition}: the replica on node {node} differs at index {index}"),
        ))
    }
}

/// All replicas have the rows that the log says, all entries being applied.
///
/// # Errors
/// When one differs.
pub fn equal<'a>(
    groups: impl Iterator<Item = (PartitionId, &'a MemoryRows, Vec<&'a MemoryRows>)>,
) -> Checked {
    for (partition, truth, replicas) in groups {
        for (node, rows) in replicas.into_iter().enumerate() {
            if rows != truth {
                return Err(Violation::new(
                    NAME,
                    format!("partition {partition}: the replica on node {node} differs at the end"),
                ));
            }
        }
    }
    Ok(())
}
