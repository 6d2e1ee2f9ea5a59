//! Hands flows over to their home partitions: the catalog's leader repeats until each has answered.
//!
//! Owns the hand-overs under way, on the catalog's leader only. Both sides are idempotent, so it may
//! repeat at will; a deadline in the catalog ends a start that gets no answer. Must never: decide
//! whether a flow may start (the partition does), or go on once the epoch has ended.

mod sink;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tidemill_core::command::{ArmFlow, CatalogCommand, DisarmFlow, PartitionCommand};
use tidemill_proto::peer::v1::{ArmRequest, DisarmRequest, ForgetRequest};
use tidemill_rows::table::{
    FlowRow, FlowStatus, FlowVersionRow, flow_deletion_key, flow_key, flow_version_key,
};
use tidemill_types::{FlowId, limits::HAND_OVERS_MAX};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::{Code, Status};

pub use self::sink::CatalogSink;
use crate::{
    actor::AskError,
    gateway::{Kind, Origin, code_of, forwarded},
    node::Node,
    rows::{self, stored},
    work::control_client,
};

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long "nobody serves it" is not believed: after a change of leader the gateways must say their
/// workers again first.
const SERVED_WAIT: Duration = Duration::from_secs(3);
const SERVED_PAUSE: Duration = Duration::from_millis(200);

/// Starts the task that hands flows over whenever this node leads the catalog.
pub fn spawn(node: Arc<Node>) {
    let stop = node.shutdown.clone();
    tokio::spawn(stop.run_until_cancelled_owned(run(node)));
}

async fn run(node: Arc<Node>) {
    let sink = Arc::clone(&node.effects.catalog);
    let mut epoch = None;
    let mut due: BTreeSet<FlowId> = BTreeSet::new();
    let mut tasks: JoinSet<()> = JoinSet::new();
    let mut running: HashMap<tokio::task::Id, FlowId> = HashMap::new();
    loop {
        tokio::select! {
            (now, flows) = sink.next() => {
                if now != epoch {
                    // Dropping the set aborts what runs: it was of another epoch.
                    (tasks, running) = Default::default();
                    due.clear();
                    epoch = now;
                }
                due.extend(flows);
            }
            Some(ended) = tasks.join_next_with_id() => {
                let id = match ended {
                    Ok((id, ())) => id,
                    Err(error) => {
                        tracing::error!(%error, "hand-over of a flow failed");
                        error.id()
                    }
                };
                running.remove(&id);
            }
        }
        let busy: HashSet<FlowId> = running.values().copied().collect();
        for flow in take_next(&mut due, &busy) {
            let task = tasks.spawn(hand_over(Arc::clone(&node), flow));
            running.insert(task.id(), flow);
        }
    }
}

/// Takes the flows whose turn it is, as many as there are places left. One that is handed over already, and again
/// due, has to wait: its status has changed since.
fn take_next(due: &mut BTreeSet<FlowId>, busy: &HashSet<FlowId>) -> Vec<FlowId> {
    let free = HAND_OVERS_MAX.saturating_sub(busy.len());
    let next: Vec<FlowId> = due
        .iter()
        .filter(|flow| !busy.contains(flow))
        .take(free)
        .copied()
        .collect();
    for flow in &next {
        due.remove(flow);
    }
    next
}

/// What became of one try.
enum Tried {
    /// The partition has done it.
    Done,
    /// The partition will not do it, for this reason.
    Refused(String),
    /// Nobody serves what the flow needs, as far as the partition knows.
    NotServed(String),
    /// Another try may have an answer.
    Again(String),
}

/// Repeats until the catalog knows the partition's answer, or this node does not lead it any more.
async fn hand_over(node: Arc<Node>, flow: FlowId) {
    let mut pause = PAUSE_MIN;
    let mut not_served_since: Option<(u64, Instant)> = None;
    loop {
        match turn(&node, flow, &mut not_served_since).await {
            Ok(None) | Err(AskError::NotLeader { .. }) => return,
            Ok(Some(wait)) => sleep(wait).await,
            Err(error) => {
                tracing::warn!(flow_id = %flow, %error, "flow is not handed over yet");
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

/// One turn: none when nothing is left to do, or how long to wait before the next one.
async fn turn(
    node: &Node,
    flow: FlowId,
    not_served_since: &mut Option<(u64, Instant)>,
) -> Result<Option<Duration>, AskError> {
    let applied = node.catalog.read().await?;
    let Some(row) = stored::<FlowRow>(&applied, &flow_key(flow))? else {
        let key = flow_deletion_key(flow);
        if rows::get(&applied, &key)?.is_none() {
            return Ok(None);
        }
        // Deleted: its home partition is to know it, too.
        return match forget(node, flow).await {
            Tried::Done | Tried::Refused(_) | Tried::NotServed(_) => {
                let told = CatalogCommand::Forgotten { flow };
                node.catalog.ask(told).await.map(|_| None)
            }
            Tried::Again(reason) => Err(AskError::Unavailable(reason)),
        };
    };
    let activation = row.activation;
    let answer = match row.status {
        FlowStatus::Active | FlowStatus::Inactive => return Ok(None),
        FlowStatus::Stopping => match disarm(node, flow, &row).await {
            Tried::Done | Tried::Refused(_) | Tried::NotServed(_) => {
                CatalogCommand::Disarmed { flow, activation }
            }
            Tried::Again(reason) => return Err(AskError::Unavailable(reason)),
        },
        FlowStatus::Starting => {
            let key = flow_version_key(flow, row.active_version);
            let version = stored::<FlowVersionRow>(&applied, &key)?.ok_or_else(|| {
                AskError::Corrupt(format!(
                    "version {} of {flow} is missing",
                    row.active_version
                ))
            })?;
            match arm(node, flow, row, version).await {
                Tried::Done => CatalogCommand::Armed { flow, activation },
                Tried::Refused(reason) => CatalogCommand::ArmRefused {
                    flow,
                    activation,
                    reason,
                },
                Tried::NotServed(reason) => {
                    let since = match *not_served_since {
                        Some((of, since)) if of == activation => since,
                        Some(_) | None => Instant::now(),
                    };
                    *not_served_since = Some((activation, since));
                    if since.elapsed() < SERVED_WAIT {
                        return Ok(Some(SERVED_PAUSE));
                    }
                    CatalogCommand::ArmRefused {
                        flow,
                        activation,
                        reason,
                    }
                }
                Tried::Again(reason) => return Err(AskError::Unavailable(reason)),
            }
        }
    };
    match node.catalog.ask(answer).await {
        Ok(_) => Ok(None),
        // The flow has gone on meanwhile (its deadline, a stop): look again.
        Err(AskError::Rejected(_)) => Ok(Some(PAUSE_MIN)),
        Err(error) => Err(error),
    }
}

async fn arm(node: &Node, flow: FlowId, row: FlowRow, version: FlowVersionRow) -> Tried {
    let Some(home) = node.partition(flow.partition()) else {
        return Tried::Again(format!("partition {} is not open", flow.partition()));
    };
    let answer = node
        .on_leader(
            Origin::Client,
            Kind::Write,
            home,
            |home| {
                let command = PartitionCommand::Arm(ArmFlow {
                    flow,
                    name: row.name.clone(),
                    version: row.active_version,
                    document: version.document.clone(),
                    content_hash: version.content_hash,
                    activation: row.activation,
                    without_workers: row.without_workers,
                });
                async move { home.ask(command).await.map(|_| ()) }
            },
            |channel| {
                let request = ArmRequest {
                    flow_id: flow.to_string(),
                    name: row.name.clone(),
                    version: row.active_version,
                    document: version.document.clone(),
                    content_hash: bytes::Bytes::copy_from_slice(&version.content_hash.0),
                    activation: row.activation,
                    without_workers: row.without_workers,
                };
                async move { forwarded(control_client(channel).arm(request).await).map(|_| ()) }
            },
        )
        .await;
    tried(answer)
}

async fn disarm(node: &Node, flow: FlowId, row: &FlowRow) -> Tried {
    let Some(home) = node.partition(flow.partition()) else {
        return Tried::Again(format!("partition {} is not open", flow.partition()));
    };
    let (activation, cancel_running) = (row.activation, row.cancel_running);
    let answer = node
        .on_leader(
            Origin::Client,
            Kind::Write,
            home,
            |home| async move {
                let command = DisarmFlow {
                    flow,
                    activation,
                    cancel_running,
                };
                let reply = home.ask(PartitionCommand::Disarm(command)).await;
                reply.map(|_| ())
            },
            |channel| {
                let request = DisarmRequest {
                    flow_id: flow.to_string(),
                    activation,
                    cancel_running,
                };
                async move { forwarded(control_client(channel).disarm(request).await).map(|_| ()) }
            },
        )
        .await;
    tried(answer)
}

async fn forget(node: &Node, flow: FlowId) -> Tried {
    let Some(home) = node.partition(flow.partition()) else {
        return Tried::Again(format!("partition {} is not open", flow.partition()));
    };
    let answer = node
        .on_leader(
            Origin::Client,
            Kind::Write,
            home,
            |home| async move {
                let reply = home.ask(PartitionCommand::Forget { flow }).await;
                reply.map(|_| ())
            },
            |channel| async move {
                let request = ForgetRequest {
                    flow_id: flow.to_string(),
                };
                forwarded(control_client(channel).forget(request).await).map(|_| ())
            },
        )
        .await;
    tried(answer)
}

fn tried(answer: Result<(), Status>) -> Tried {
    let Err(error) = answer else {
        return Tried::Done;
    };
    let text = error.message().to_owned();
    match (error.code(), code_of(&error).as_deref()) {
        // A newer start or stop: the catalog knows more by now.
        (_, Some("TM0109")) => Tried::Again(text),
        (_, Some("TM0107")) => Tried::NotServed(format!("TM0107: {text}")),
        (Code::FailedPrecondition | Code::InvalidArgument | Code::NotFound, Some(code)) => {
            Tried::Refused(format!("{code}: {text}"))
        }
        _ => Tried::Again(text),
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::Rejection;
    use tidemill_types::PartitionId;

    use super::*;
    use crate::gateway::status;

    #[test]
    fn so_many_flows_are_handed_over_at_once_and_each_once() {
        let flow = |number| FlowId::new(0, PartitionId(1), number);
        let mut due: BTreeSet<_> = (0..HAND_OVERS_MAX as u64 + 2).map(flow).collect();
        let first = take_next(&mut due, &HashSet::new());
        assert_eq!((first.len(), due.len()), (HAND_OVERS_MAX, 2));
        let mut busy: HashSet<_> = first.into_iter().collect();
        assert_eq!(take_next(&mut due, &busy), []);
        busy.remove(&flow(0));
        busy.remove(&flow(1));
        // Due again while it is handed over.
        due.insert(flow(2));
        let next = take_next(&mut due, &busy);
        assert_eq!(next, [256, 257].map(flow));
        assert_eq!(due, BTreeSet::from([flow(2)]));
    }

    #[test]
    fn only_facts_end_a_hand_over() {
        let of = |error| tried(Err(status(error)));
        let not_served = Rejection::NotServed(vec!["shop".into()]);
        assert!(matches!(
            of(AskError::Rejected(not_served)),
            Tried::NotServed(reason) if reason.starts_with("TM0107: no worker serves shop")
        ));
        let builtin = Rejection::BuiltinNotServed("code".into());
        assert!(matches!(
            of(AskError::Rejected(builtin)),
            Tried::Refused(reason) if reason.starts_with("TM0108: ")
        ));
        let stale = Rejection::StaleActivation {
            flow: FlowId::default(),
            got: 1,
            current: 2,
        };
        for again in [
            AskError::Rejected(stale),
            AskError::NotLeader { leader: None },
            AskError::Unavailable("x".into()),
            AskError::Overloaded { retry_after_ms: 1 },
            AskError::Unknown,
            AskError::Corrupt("x".into()),
        ] {
            assert!(matches!(of(again), Tried::Again(_)));
        }
        let transport = Status::invalid_argument("not ours");
        assert!(matches!(tried(Err(transport)), Tried::Again(_)));
        assert!(matches!(tried(Ok(())), Tried::Done));
    }
}
