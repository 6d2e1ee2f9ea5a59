//! The catalog: flows that clients create, publish, start and stop there, and the activator, which hands what starts
//! or stops over to its home partition until that has answered, as `crates/server/src/activator.rs` does.

use std::{collections::BTreeSet, sync::Arc};

use rows::{
    Stored as _,
    table::{
        ArmedFlowRow, FlowRow, FlowStatus, FlowVersionRow, armed_flow_key, flow_key,
        flow_version_key,
    },
};
use tidemill_core::{
    Rejection, Rows as _,
    command::{
        ArmFlow, CatalogCommand, CatalogEffect, DisarmFlow, PartitionCommand, PartitionReply,
    },
    memory::MemoryRows,
};
use tidemill_server::actor::{AskError, EffectSink};
use tidemill_types::{FlowId, PartitionId};

use super::{Event, Said, World, node::Sink, truth::Truth};
use crate::{Violation, options::Planted, run};

/// See the module.
#[derive(Default)]
pub(super) struct Activators {
    /// Nodes, and which process of each, that lead the catalog as far as they know.
    leading: BTreeSet<(u64, u64)>,
}

/// A hand-over of one start or stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct HandOver {
    flow: FlowId,
    activation: u64,
    arms: bool,
}

/// Milliseconds before a hand-over begins, and before it is tried again.
const BEGIN_MS: (u64, u64) = (0, 10);
const AGAIN_MS: (u64, u64) = (150, 800);

impl EffectSink<CatalogEffect> for Sink {
    fn deliver(&self, effects: Vec<CatalogEffect>) {
        for effect in effects {
            match effect {
                CatalogEffect::HandOver(flow) => self.say(Said::HandOver(flow)),
                CatalogEffect::StatusChanged(_) => {}
            }
        }
    }

    fn epoch_ended(&self) {
        self.say(Said::EpochEnded);
    }

    fn epoch_began(&self) {
        self.say(Said::EpochBegan);
    }
}

/// What is to be said to the home partition, by the catalog's rows on the node that leads it.
fn next(flow: FlowId, rows: &MemoryRows) -> Option<(HandOver, PartitionCommand)> {
    let row = FlowRow::from_bytes(rows.get(&flow_key(flow)).ok()??).ok()?;
    let activation = row.activation;
    let (arms, command) = match row.status {
        FlowStatus::Active | FlowStatus::Inactive => return None,
        FlowStatus::Stopping => {
            let disarm = DisarmFlow {
                flow,
                activation,
                cancel_running: row.cancel_running,
            };
            (false, PartitionCommand::Disarm(disarm))
        }
        FlowStatus::Starting => {
            let key = flow_version_key(flow, row.active_version);
            let version = FlowVersionRow::from_bytes(rows.get(&key).ok()??).ok()?;
            let arm = ArmFlow {
                flow,
                name: row.name,
                version: row.active_version,
                document: version.document,
                content_hash: version.content_hash,
                activation,
                without_workers: row.without_workers,
            };
            (true, PartitionCommand::Arm(arm))
        }
    };
    let hand_over = HandOver {
        flow,
        activation,
        arms,
    };
    Some((hand_over, command))
}

impl World {
    pub(super) fn catalog_led(&mut self, node: u64, process: u64) {
        self.activators.leading.insert((node, process));
    }

    pub(super) fn catalog_left(&mut self, node: u64, process: u64) {
        self.activators.leading.remove(&(node, process));
    }

    pub(super) fn hand_over_soon(&mut self, node: u64, process: u64, flow: FlowId) {
        let ms = run::between(BEGIN_MS.0, BEGIN_MS.1);
        self.after(
            ms,
            Event::HandOver {
                node,
                process,
                flow,
            },
        );
    }

    /// One try; the next one follows, until the catalog knows of the answer or is led by somebody else.
    pub(super) fn hand_over(&mut self, node: u64, process: u64, flow: FlowId) {
        let at = &self.nodes[node as usize - 1];
        if at.process != process || !self.activators.leading.contains(&(node, process)) {
            return;
        }
        let disk = Arc::clone(&at.disk);
        let Some((hand_over, command)) =
            disk.read_rows(PartitionId::CATALOG, |rows, _| next(flow, rows))
        else {
            return;
        };
        run::count("hand-overs of flows");
        if run::planted(Planted::HandOverBelieved) {
            self.handed_over(hand_over, &Ok(PartitionReply::Done { changed: true }));
        } else {
            let home = flow.partition();
            let leader = self.target(home);
            self.ask(leader, home, command, move |answer| Said::HandedOver {
                hand_over,
                answer,
            });
        }
        let ms = run::between(AGAIN_MS.0, AGAIN_MS.1);
        self.after(
            ms,
            Event::HandOver {
                node,
                process,
                flow,
            },
        );
    }

    /// The catalog is told what the home partition has answered.
    pub(super) fn handed_over(
        &mut self,
        hand_over: HandOver,
        answer: &Result<PartitionReply, AskError>,
    ) {
        let HandOver {
            flow,
            activation,
            arms,
        } = hand_over;
        let told = match (answer, arms) {
            (Ok(_), true) => CatalogCommand::Armed { flow, activation },
            (Ok(_), false) => CatalogCommand::Disarmed { flow, activation },
            // It is further than this hand-over.
            (Err(AskError::Rejected(Rejection::StaleActivation { .. })), _) => return,
            (Err(AskError::Rejected(rejection)), true) => CatalogCommand::ArmRefused {
                flow,
                activation,
                reason: rejection.to_string(),
            },
            (Err(AskError::NotLeader { leader }), _) => {
                match leader {
                    Some(leader) => self.clients.leaders.insert(flow.partition(), leader.0),
                    None => self.clients.leaders.remove(&flow.partition()),
                };
                return;
            }
            (Err(_), _) => return,
        };
        let node = self.target(PartitionId::CATALOG);
        let outbox = Arc::clone(&self.outbox);
        self.nodes[node as usize - 1].ask_catalog(told, &outbox, |_| Said::Nothing);
    }

    /// At rest a flow is active in the catalog exactly when its home has armed it, by the same start.
    pub(super) fn compare_catalog(&self) -> Result<u64, Violation> {
        let mut active = 0;
        for (flow, row) in self.truths[&PartitionId::CATALOG].flows() {
            let home: &Truth = &self.truths[&flow.partition()];
            let armed: Option<ArmedFlowRow> = home.row(&armed_flow_key(flow));
            let armed = armed
                .filter(|armed| armed.armed)
                .map(|armed| armed.activation);
            let expected = (row.status == FlowStatus::Active).then_some(row.activation);
            active += u64::from(expected.is_some());
            if armed != expected {
                return Err(Violation::new(
                    "the catalog and the partitions agree",
                    format!(
                        "flow {} is {} by start {}, its home has armed it by {armed:?}",
                        row.name, row.status, row.activation
                    ),
                ));
            }
        }
        Ok(active)
    }
}
