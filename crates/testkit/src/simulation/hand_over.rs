//! The activator: tells a flow's home partition that it starts or stops, again and again until that
//! has answered, and the catalog what was answered.

use tidemill_core::{
    Rejection, Rows as _,
    command::{ArmFlow, CatalogCommand, DisarmFlow, PartitionCommand},
    memory::MemoryRows,
};
use tidemill_rows::{
    Stored,
    table::{FlowRow, FlowStatus, FlowVersionRow, flow_deletion_key, flow_key, flow_version_key},
};
use tidemill_types::FlowId;

use super::env::{Answer, Command, Envelope, Origin};

/// What is to be said to the home partition now; none when the flow is at rest.
#[must_use]
pub fn command(flow: FlowId, rows: &MemoryRows) -> Option<Envelope> {
    let Some(row) = rows.get(&flow_key(flow)).expect("rows in memory") else {
        // Deleted: said until the catalog knows that the home partition knows.
        let key = flow_deletion_key(flow);
        rows.get(&key).expect("rows in memory")?;
        return Some(Envelope {
            command: Command::Partition(PartitionCommand::Forget { flow }),
            origin: Origin::Forget { flow },
        });
    };
    let row = FlowRow::from_bytes(row).expect("a flow's row");
    let (command, arm) = match row.status {
        FlowStatus::Starting => {
            let key = flow_version_key(flow, row.active_version);
            let version = rows.get(&key).expect("rows in memory")?;
            let version = FlowVersionRow::from_bytes(version).expect("a version's row");
            let arm = ArmFlow {
                flow,
                name: row.name,
                version: row.active_version,
                document: version.document,
                content_hash: version.content_hash,
                activation: row.activation,
                without_workers: row.without_workers,
            };
            (PartitionCommand::Arm(arm), true)
        }
        FlowStatus::Stopping => {
            let disarm = DisarmFlow {
                flow,
                activation: row.activation,
                cancel_running: row.cancel_running,
            };
            (PartitionCommand::Disarm(disarm), false)
        }
        FlowStatus::Inactive | FlowStatus::Active => return None,
    };
    let activation = row.activation;
    Some(Envelope {
        command: Command::Partition(command),
        origin: Origin::HandOver {
            flow,
            activation,
            arm,
        },
    })
}

/// What the catalog is told when the home partition has answered.
#[must_use]
pub fn answered(flow: FlowId, activation: u64, arm: bool, answer: &Answer) -> Option<Envelope> {
    let command = match (answer, arm) {
        (Answer::Done(_), true) => CatalogCommand::Armed { flow, activation },
        (Answer::Done(_), false) => CatalogCommand::Disarmed { flow, activation },
        // The flow is further than this hand-over: nothing to say about it any more.
        (Answer::Rejected(Rejection::StaleActivation { .. }), _) => return None,
        (Answer::Rejected(rejection), true) => CatalogCommand::ArmRefused {
            flow,
            activation,
            reason: rejection.to_string(),
        },
        _ => return None,
    };
    Some(Envelope {
        command: Command::Catalog(command),
        origin: Origin::Nobody,
    })
}
