//! A start that holds its answer: one call from request to final answer, through any node.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use tidemill_sdk::{
    Client, Outcome, TaskContext, Worker,
    api::{ExecutionState, StartExecutionRequest, StartFlowRequest},
};
use tidemill_tests::Cluster;
use tokio::sync::oneshot;

const FLOW: &str = "
name: held
graph:
  nodes:
    - {id: quick, componentId: load, function: echo}
";
const SLEEPER: &str = "
name: sleeper
graph:
  nodes:
    - {id: rest, componentId: wait, function: delay, fields: {duration: 1h}}
";
const PATIENCE: Duration = Duration::from_secs(60);

async fn activate(client: &Client, document: &str, name: &str) -> Result<()> {
    client.apply(document).await?;
    client.publish(name).await?;
    client
        .start_flow(StartFlowRequest {
            flow: name.into(),
            ..StartFlowRequest::default()
        })
        .await?;
    Ok(())
}

fn request(flow: &str, request_id: &str) -> StartExecutionRequest {
    StartExecutionRequest {
        flow: flow.into(),
        request_id: request_id.into(),
        message: Some(tidemill_sdk::api::Message {
            data: r#"{"n":7}"#.into(),
            ..Default::default()
        }),
        ..StartExecutionRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_waits_is_answered_with_the_end_by_any_node() -> Result<()> {
    let cluster = Cluster::start(3).await?;
    let client = cluster.client().await?;
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = Worker::builder(cluster.endpoints())
        .function("load", "echo", async |task: TaskContext| {
            Ok(Outcome::message(task.message()))
        })
        .run_until(async { _ = stopped.await });
    let worker = tokio::spawn(worker);
    activate(&client, FLOW, "held").await?;
    activate(&client, SLEEPER, "sleeper").await?;

    // Each node is asked by itself, so at least two of the three must ask the leader.
    let each = cluster.endpoints().into_iter().enumerate();
    let answers = try_join_all(each.map(async |(number, endpoint)| {
        let client = Client::builder([endpoint]).connect().await?;
        client
            .run(request("held", &format!("r{number}")), PATIENCE)
            .await
            .context("a start that waits")
    }))
    .await?;
    for answer in &answers {
        ensure!(answer.ended && answer.created, "{answer:?}");
        let execution = answer.execution.as_ref().context("an execution")?;
        ensure!(execution.id == answer.execution_id, "{answer:?}");
        ensure!(execution.state() == ExecutionState::Succeeded, "{answer:?}");
        ensure!(answer.output.len() == 1, "{answer:?}");
        ensure!(answer.output[0].data == r#"{"n":7}"#, "{answer:?}");
    }

    // The same request again finds the same execution and its end.
    let again = client.run(request("held", "r0"), PATIENCE).await?;
    ensure!(again.execution_id == answers[0].execution_id && !again.created);
    ensure!(
        again.ended && again.output == answers[0].output,
        "{again:?}"
    );

    // The time is up long before this one ends: it is started all the same, and says how it stands.
    let held = StartExecutionRequest {
        wait_ms: 50,
        ..request("sleeper", "")
    };
    let answer = client.start_execution(held).await?;
    ensure!(answer.created && !answer.ended, "{answer:?}");
    let state = answer.execution.context("an execution")?.state();
    ensure!(state == ExecutionState::Running, "{state:?}");

    // Longer than allowed is refused by its name, and starts nothing.
    let too_long = StartExecutionRequest {
        wait_ms: 300_001,
        ..request("held", "never")
    };
    let refused = client.start_execution(too_long).await;
    let refused = format!("{:?}", refused.expect_err("too long"));
    ensure!(refused.contains("wait_ms"), "{refused}");
    let fresh = client.run(request("held", "never"), PATIENCE).await?;
    ensure!(fresh.created, "the refused start left something behind");

    drop(stop);
    worker.await??;
    cluster.verified_journal().await?;
    Ok(())
}
