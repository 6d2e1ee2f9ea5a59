//! A worker that comes too late: its lease has expired and another worker has the step. What it says is
//! answered `LEASE_LOST` and changes nothing.

use anyhow::{Context as _, Result, ensure};
use tidemill_sdk::api::{
    Completion, CompletionResult, CompletionStatus, ComponentFunction, Hello, Message,
    OutputMessage, PollTasksRequest, StartExecutionRequest, Success, Task, WaitExecutionRequest,
    completion, worker_service_client::WorkerServiceClient,
};
use tidemill_tests::{Cluster, journal, until};
use tonic::transport::Channel;

/// The shortest lease that there is.
const LEASE_MS: u32 = 1_000;
const FLOW: &str =
    "name: one\ngraph: {nodes: [{id: a, componentId: shop, function: buy}], edges: []}";

type Client = WorkerServiceClient<Channel>;

fn hello(worker: &str) -> Hello {
    Hello {
        worker: worker.into(),
        serves: vec![ComponentFunction {
            component: "shop".into(),
            function: String::new(),
        }],
        lease_ms: LEASE_MS,
        ..Hello::default()
    }
}

async fn take(client: &mut Client, worker: &str) -> Result<Task> {
    until(&format!("a task for {worker}"), async || {
        let request = PollTasksRequest {
            hello: Some(hello(worker)),
            max_tasks: 1,
            wait_ms: LEASE_MS,
            ..PollTasksRequest::default()
        };
        let answer = client.clone().poll_tasks(request).await.ok()?.into_inner();
        answer.tasks.into_iter().next()
    })
    .await
}

async fn complete(
    client: &mut Client,
    worker: &str,
    task: &Task,
    data: &'static str,
) -> Result<CompletionResult> {
    let success = Success {
        messages: vec![OutputMessage {
            message: Some(Message {
                data: data.into(),
                ..Message::default()
            }),
            ..OutputMessage::default()
        }],
        node_state: None,
    };
    let request = PollTasksRequest {
        hello: Some(hello(worker)),
        completions: vec![Completion {
            task_id: task.id.clone(),
            outcome: Some(completion::Outcome::Success(success)),
        }],
        ..PollTasksRequest::default()
    };
    let answer = client.poll_tasks(request).await?.into_inner();
    ensure!(answer.results.len() == 1, "{answer:?}");
    answer.results.into_iter().next().context("one result")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_completion_is_refused_and_changes_nothing() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let client = cluster.client().await?;
    let mut workers = WorkerServiceClient::connect(cluster.node(1).endpoint()).await?;
    client.apply(FLOW).await?;
    client.publish("one").await?;
    cluster
        .cli()
        .run(&["flow", "start", "one", "--without-workers"])
        .await?
        .success()?;
    let request = StartExecutionRequest {
        flow: "one".into(),
        ..StartExecutionRequest::default()
    };
    let execution = client.start_execution(request).await?.execution_id;

    let first = take(&mut workers, "slow").await?;
    // It does not renew: the step is given to another one, as another attempt.
    let second = take(&mut workers, "fast").await?;
    ensure!(
        first.id != second.id && first.id.rsplit_once('/') != second.id.rsplit_once('/'),
        "{} and {}",
        first.id,
        second.id
    );
    let step = |task: &Task| task.id.rsplit_once('/').map(|(step, _)| step.to_owned());
    ensure!(step(&first) == step(&second), "the same step");

    let late = complete(&mut workers, "slow", &first, "\"late\"").await?;
    ensure!(late.status() == CompletionStatus::LeaseLost, "{late:?}");
    let good = complete(&mut workers, "fast", &second, "\"good\"").await?;
    ensure!(good.status() == CompletionStatus::Accepted, "{good:?}");
    let again = complete(&mut workers, "fast", &second, "\"again\"").await?;
    ensure!(again.status() == CompletionStatus::Already, "{again:?}");
    let late = complete(&mut workers, "slow", &first, "\"late\"").await?;
    ensure!(late.status() == CompletionStatus::LeaseLost, "{late:?}");

    let request = WaitExecutionRequest {
        execution_id: execution,
        timeout_ms: 20_000,
        with_output: true,
        ..WaitExecutionRequest::default()
    };
    let ended = client.wait_execution(request).await?;
    ensure!(
        ended.ended && format!("{:?}", ended.output).contains("good"),
        "{ended:?}"
    );
    let chains = cluster.verified_journal().await?;
    let stories = journal::executions(&chains)?;
    ensure!(stories.len() == 1, "{stories:?}");
    for story in stories.values() {
        ensure!(
            story.completions.values().eq([&1]) && story.ends == ["execution.succeeded"],
            "one completion in the journal: {story:?}"
        );
    }
    Ok(())
}
