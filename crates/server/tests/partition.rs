//! A partition's actor over the real replica and store: no gateways.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use tidemill_core::{
    Rejection, Rows as _,
    command::{ArmFlow, PartitionCommand, PartitionReply, StartExecution, TellEnd},
};
use tidemill_rows::{
    Hash, Stored as _,
    table::{ExecutionRow, ExecutionState, MessageRow, execution_key},
};
use tidemill_server::{
    Config,
    actor::AskError,
    boot::{Running, start},
};
use tidemill_types::{ExecutionId, FlowId, PartitionId};
use tokio::time::timeout;

const WAIT: Duration = Duration::from_secs(60);
const HOME: PartitionId = PartitionId(1);
const EXECUTIONS: u64 = 300;

async fn running(dir: &tempfile::TempDir) -> Running {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config {
        grpc: free,
        http: free,
        peer: free,
        ..Config::dev(dir.path())
    };
    let running = timeout(WAIT, start(config))
        .await
        .expect("in time")
        .expect("starts");
    timeout(WAIT, running.ready()).await.expect("ready in time");
    running
}

async fn arm(running: &Running) -> FlowId {
    let text = r#"{"name": "f", "graph": {"nodes": [{"id": "a", "componentId": "transform",
        "function": "jsonata", "fields": {"expression": "$"}}], "edges": []}}"#;
    let documents = tidemill_core::flow::parse(text).expect("a valid document");
    let flow = FlowId::new(1_800_000_000_000, HOME, 1);
    let arm = PartitionCommand::Arm(ArmFlow {
        flow,
        name: "f".into(),
        version: 1,
        document: Bytes::from(tidemill_core::flow::canonical_json(&documents[0])),
        content_hash: Hash([1; 32]),
        activation: 1,
        without_workers: true,
    });
    let reply = running.node.partitions[0].ask(arm).await;
    assert_eq!(reply, Ok(PartitionReply::Done { changed: true }));
    flow
}

fn start_of(flow: FlowId, n: u64) -> PartitionCommand {
    PartitionCommand::Start(StartExecution {
        flow,
        message: MessageRow {
            data: Bytes::from(format!("{{\"n\":{n}}}")),
            ..MessageRow::default()
        },
        request_id: format!("r{n}"),
        traceparent: String::new(),
        tracestate: String::new(),
        entropy: n,
        request_id_only: false,
        by_hand: false,
        tell_end: TellEnd::No,
    })
}

async fn started(running: &Running, flow: FlowId, n: u64) -> (ExecutionId, bool) {
    match running.node.partitions[0].ask(start_of(flow, n)).await {
        Ok(PartitionReply::Started { execution, created }) => (execution, created),
        other => panic!("not started: {other:?}"),
    }
}

async fn state(running: &Running, execution: ExecutionId) -> Option<ExecutionState> {
    let rows = running.node.partitions[0].read().await.expect("it leads");
    let row = rows.get(&execution_key(execution)).expect("readable")?;
    Some(ExecutionRow::from_bytes(row).expect("a row").state)
}

#[tokio::test(flavor = "multi_thread")]
async fn executions_run_share_batches_and_survive_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = running(&dir).await;
    let flow = arm(&node).await;
    let starts = (0..EXECUTIONS).map(|n| started(&node, flow, n));
    let all = futures::future::join_all(starts).await;
    assert!(all.iter().all(|(_, created)| *created));
    let wait_for_end = async {
        for (execution, _) in &all {
            while state(&node, *execution).await != Some(ExecutionState::Succeeded) {
                tokio::time::sleep(Duration::from_millis(5)).await; // between two looks at the state
            }
        }
    };
    timeout(WAIT, wait_for_end).await.expect("all succeed");
    let metrics = &node.node.metrics;
    assert_eq!(metrics.executions_started.with(&["1"]).get(), EXECUTIONS);
    assert_eq!(
        metrics.executions_ended.with(&["succeeded"]).get(),
        EXECUTIONS
    );
    assert_eq!(metrics.commits_in_sequence.count(), EXECUTIONS);
    let batches = metrics.batches_committed.with(&["1"]).get();
    assert!(
        batches < EXECUTIONS,
        "{batches} batches for {EXECUTIONS} starts at once"
    );
    // The same request again, here and after a restart, is the same execution.
    assert_eq!(started(&node, flow, 7).await, (all[7].0, false));
    node.drain().await;

    let node = running(&dir).await;
    assert_eq!(started(&node, flow, 7).await, (all[7].0, false));
    assert_eq!(
        state(&node, all[7].0).await,
        Some(ExecutionState::Succeeded)
    );
    let unknown = FlowId::new(1, HOME, 9);
    let error = node.node.partitions[0].ask(start_of(unknown, 1_000)).await;
    assert!(
        matches!(
            error,
            Err(AskError::Rejected(
                Rejection::FlowNotActive(_) | Rejection::FlowNotFound(_)
            ))
        ),
        "{error:?}"
    );
    node.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_has_answered_everything() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = running(&dir).await;
    let flow = arm(&node).await;
    let partition = node.node.partitions[0].clone();
    let asks: Vec<_> = (0..EXECUTIONS)
        .map(|n| {
            let partition = partition.clone();
            tokio::spawn(async move { partition.ask(start_of(flow, n)).await })
        })
        .collect();
    node.drain().await;
    drop(partition);
    let mut known = Vec::new();
    for (n, ask) in (0..).zip(asks) {
        match timeout(WAIT, ask)
            .await
            .expect("answered")
            .expect("no panic")
        {
            Ok(PartitionReply::Started { execution, .. }) => known.push((n, execution)),
            Err(AskError::Unavailable(_) | AskError::NotLeader { .. } | AskError::Unknown) => {}
            other => panic!("{other:?}"),
        }
    }
    // What was acknowledged is there.
    let node = running(&dir).await;
    for (n, execution) in known {
        assert_eq!(started(&node, flow, n).await, (execution, false));
    }
    node.drain().await;
}
