//! One node in this process, by its public API: flows, executions, workers and the journal.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use tidemill_proto::v1::{
    execution_service_client::ExecutionServiceClient, flow_service_client::FlowServiceClient,
    journal_service_client::JournalServiceClient, worker_service_client::WorkerServiceClient, *,
};
use tidemill_server::{
    Config,
    boot::{Running, start},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt as _;

const WAIT: Duration = Duration::from_secs(30);

struct Cluster {
    running: Running,
    channel: Channel,
    _dir: tempfile::TempDir,
}

impl Cluster {
    async fn start(partitions: u16) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = Config {
            grpc: free,
            http: free,
            peer: free,
            partitions,
            ..Config::dev(dir.path().join("data"))
        };
        let running = timeout(WAIT, start(config))
            .await
            .expect("in time")
            .expect("starts");
        timeout(WAIT, running.ready()).await.expect("ready in time");
        let endpoint =
            Channel::from_shared(format!("http://{}", running.grpc)).expect("an address");
        Self {
            channel: endpoint.connect().await.expect("it listens"),
            running,
            _dir: dir,
        }
    }

    fn flows(&self) -> FlowServiceClient<Channel> {
        FlowServiceClient::new(self.channel.clone())
    }

    fn executions(&self) -> ExecutionServiceClient<Channel> {
        ExecutionServiceClient::new(self.channel.clone())
    }

    async fn apply(&self, document: &str) -> Flow {
        let request = ApplyFlowRequest {
            document: document.into(),
            ..ApplyFlowRequest::default()
        };
        let answer = self.flows().apply_flow(request).await.expect("applied");
        answer.into_inner().flow.expect("a flow")
    }

    async fn activate(&self, document: &str) -> Flow {
        let flow = self.apply(document).await;
        let publish = PublishFlowRequest {
            flow: flow.id.clone(),
            ..PublishFlowRequest::default()
        };
        self.flows().publish_flow(publish).await.expect("published");
        let start = StartFlowRequest {
            flow: flow.name.clone(),
            ..StartFlowRequest::default()
        };
        let answer = timeout(WAIT, self.flows().start_flow(start)).await;
        let answer = answer.expect("in time").expect("started").into_inner();
        assert!(answer.changed);
        let flow = answer.flow.expect("a flow");
        assert_eq!(flow.status(), FlowStatus::Active);
        flow
    }

    async fn run(&self, flow: &str, request_id: &str) -> StartExecutionResponse {
        let request = StartExecutionRequest {
            flow: flow.into(),
            message: Some(message("{\"n\":1}")),
            request_id: request_id.into(),
            trace: Some(TraceContext {
                traceparent: TRACE.into(),
                tracestate: String::new(),
            }),
            ..StartExecutionRequest::default()
        };
        let answer = self.executions().start_execution(request).await;
        answer.expect("started").into_inner()
    }

    async fn wait(&self, execution_id: &str) -> WaitExecutionResponse {
        let request = WaitExecutionRequest {
            execution_id: execution_id.into(),
            timeout_ms: 20_000,
            with_output: true,
            or_reply: false,
        };
        let answer = self.executions().wait_execution(request).await;
        answer.expect("waited").into_inner()
    }

    async fn worker(&self, credits: u32, lease_ms: u32) -> Worker {
        let (sender, receiver) = mpsc::channel(16);
        let hello = WorkRequest {
            hello: Some(hello(lease_ms)),
            credits: Some(credits),
            ..WorkRequest::default()
        };
        sender.send(hello).await.expect("room");
        let mut client = WorkerServiceClient::new(self.channel.clone());
        let answers = client.work(ReceiverStream::new(receiver)).await;
        Worker {
            sender,
            answers: answers.expect("taken").into_inner(),
            seen: WorkResponse::default(),
        }
    }
}

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

const ONE_STEP: &str = "
name: one
graph:
  nodes: [{id: a, componentId: shop, function: get, retry: {maxAttempts: 1}}]
";

fn message(data: &'static str) -> Message {
    Message {
        data: Bytes::from_static(data.as_bytes()),
        ..Message::default()
    }
}

fn hello(lease_ms: u32) -> Hello {
    Hello {
        worker: "test".into(),
        serves: vec![ComponentFunction {
            component: "shop".into(),
            function: String::new(),
        }],
        lease_ms,
        ..Hello::default()
    }
}

fn success(task_id: &str, data: &'static str) -> Completion {
    Completion {
        task_id: task_id.into(),
        outcome: Some(completion::Outcome::Success(Success {
            messages: vec![OutputMessage {
                message: Some(message(data)),
                ..OutputMessage::default()
            }],
            node_state: None,
        })),
    }
}

/// A worker by hand: a raw stream.
struct Worker {
    sender: mpsc::Sender<WorkRequest>,
    answers: Streaming<WorkResponse>,
    seen: WorkResponse,
}

impl Worker {
    async fn more(&mut self) {
        let answer = timeout(WAIT, self.answers.message()).await;
        let answer = answer.expect("in time").expect("no error").expect("open");
        self.seen.tasks.extend(answer.tasks);
        self.seen.results.extend(answer.results);
        self.seen.lost_leases.extend(answer.lost_leases);
        self.seen.draining |= answer.draining;
    }

    async fn task(&mut self) -> Task {
        while self.seen.tasks.is_empty() {
            self.more().await;
        }
        self.seen.tasks.remove(0)
    }

    async fn lost(&mut self) -> String {
        while self.seen.lost_leases.is_empty() {
            self.more().await;
        }
        self.seen.lost_leases.remove(0)
    }

    async fn complete(&mut self, completion: Completion) -> CompletionResult {
        let request = WorkRequest {
            completions: vec![completion],
            ..WorkRequest::default()
        };
        self.sender.send(request).await.expect("open");
        while self.seen.results.is_empty() {
            self.more().await;
        }
        self.seen.results.remove(0)
    }
}

fn code(status: &Status) -> String {
    let info = status.get_details_error_info().expect("ErrorInfo");
    assert_eq!(info.domain, "tidemill");
    info.reason
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_runs_from_its_document_to_its_journal() {
    let cluster = Cluster::start(2).await;
    let mut worker = cluster.worker(4, 0).await;
    let flow = cluster.activate(ONE_STEP).await;
    let started = cluster.run("one", "r1").await;
    assert!(started.created);
    let again = cluster.run(&flow.id, "r1").await;
    assert_eq!(
        (again.execution_id.as_str(), again.created),
        (started.execution_id.as_str(), false)
    );

    let mut watch = cluster
        .executions()
        .watch_execution(WatchExecutionRequest {
            execution_id: started.execution_id.clone(),
        })
        .await
        .expect("watched")
        .into_inner();
    let task = worker.task().await;
    assert_eq!((task.node.as_str(), task.attempt), ("a", 1));
    assert_eq!(task.trace.as_ref().expect("a trace").traceparent, TRACE);
    assert_eq!(task.input[0].data.as_ref(), b"{\"n\":1}");
    let result = worker.complete(success(&task.id, "{\"m\":2}")).await;
    assert_eq!(result.status(), CompletionStatus::Accepted);
    let result = worker.complete(success(&task.id, "{\"m\":2}")).await;
    assert_eq!(result.status(), CompletionStatus::Already);

    let ended = cluster.wait(&started.execution_id).await;
    assert!(ended.ended);
    assert_eq!(ended.output, [message("{\"m\":2}")]);
    let execution = ended.execution.expect("an execution");
    assert_eq!(execution.state(), ExecutionState::Succeeded);
    assert_eq!(execution.request_id, "r1");

    let mut last = WatchExecutionResponse::default();
    while let Some(news) = timeout(WAIT, watch.next()).await.expect("in time") {
        last = news.expect("no error");
    }
    assert_eq!(
        last.execution.expect("an execution").state(),
        ExecutionState::Succeeded
    );

    let steps = cluster
        .executions()
        .list_steps(ListStepsRequest {
            execution_id: started.execution_id.clone(),
            with_messages: true,
            ..ListStepsRequest::default()
        })
        .await
        .expect("listed")
        .into_inner()
        .steps;
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].state(), StepState::Succeeded);
    assert_eq!(steps[0].output, [message("{\"m\":2}")]);

    let list = cluster
        .executions()
        .list_executions(ListExecutionsRequest {
            flow: "one".into(),
            ..ListExecutionsRequest::default()
        })
        .await
        .expect("listed")
        .into_inner();
    assert_eq!(list.executions.len(), 1);

    let mut journal = JournalServiceClient::new(cluster.channel.clone());
    let heads = journal.get_heads(GetHeadsRequest {}).await.expect("heads");
    let heads = heads.into_inner().heads;
    let home = &heads[flow.partition as usize];
    let mut records = journal
        .read_journal(ReadJournalRequest {
            partition: flow.partition,
            follow: true,
            limit: home.seq,
            ..ReadJournalRequest::default()
        })
        .await
        .expect("read")
        .into_inner();
    let mut hash = None;
    let mut count = 0;
    while let Some(answer) = timeout(WAIT, records.next()).await.expect("in time") {
        for entry in answer.expect("no error").entries {
            count += 1;
            hash = Some(entry.hash);
        }
    }
    assert_eq!((count, hash.as_ref()), (home.seq, Some(&home.hash)));

    let stop = StopFlowRequest {
        flow: "one".into(),
        ..StopFlowRequest::default()
    };
    let stopped = cluster.flows().stop_flow(stop).await.expect("stopped");
    let stopped = stopped.into_inner().flow.expect("a flow");
    assert_eq!(stopped.status(), FlowStatus::Inactive);
    cluster.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_lost_is_told_and_its_completion_changes_nothing() {
    let cluster = Cluster::start(1).await;
    let mut worker = cluster.worker(1, 1_000).await;
    cluster.activate(ONE_STEP).await;
    let started = cluster.run("one", "").await;
    let first = worker.task().await;
    // Nobody renews it: after a second it is somebody's else. The place is free again, so that the
    // worker gets the next attempt too.
    assert_eq!(worker.lost().await, first.id);
    let second = worker.task().await;
    assert_eq!((first.attempt, second.attempt), (1, 2));
    assert_eq!(first.idempotency_key, second.idempotency_key);
    let late = worker.complete(success(&first.id, "1")).await;
    assert_eq!(late.status(), CompletionStatus::LeaseLost);
    let result = worker.complete(success(&second.id, "2")).await;
    assert_eq!(result.status(), CompletionStatus::Accepted);
    assert_eq!(
        cluster.wait(&started.execution_id).await.output,
        [message("2")]
    );
    cluster.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_completion_may_not_hold_fails_the_step() {
    let cluster = Cluster::start(1).await;
    let mut worker = cluster.worker(1, 0).await;
    cluster.activate(ONE_STEP).await;
    let started = cluster.run("one", "").await;
    let task = worker.task().await;
    let result = worker.complete(success(&task.id, "{")).await;
    assert_eq!(result.status(), CompletionStatus::Invalid);
    assert!(
        result.message.starts_with("messages[0].data: "),
        "{result:?}"
    );
    let ended = cluster.wait(&started.execution_id).await;
    let execution = ended.execution.expect("an execution");
    assert_eq!(execution.state(), ExecutionState::Failed);
    let result = worker.complete(success("not a task", "1")).await;
    assert_eq!(result.status(), CompletionStatus::Invalid);

    let redrive = RedriveExecutionRequest {
        execution_id: started.execution_id.clone(),
        ..RedriveExecutionRequest::default()
    };
    let redriven = cluster.executions().redrive_execution(redrive).await;
    assert_eq!(redriven.expect("redriven").into_inner().redriven, 1);
    let task = worker.task().await;
    worker.complete(success(&task.id, "1")).await;
    assert!(cluster.wait(&started.execution_id).await.ended);
    cluster.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn polling_takes_what_it_asked_for_and_leaves_the_rest() {
    let cluster = Cluster::start(2).await;
    // Keeps the flow served while it is started.
    let idle = cluster.worker(0, 0).await;
    cluster.activate(ONE_STEP).await;
    for _ in 0..3 {
        cluster.run("one", "").await;
    }
    drop(idle);
    let mut client = WorkerServiceClient::new(cluster.channel.clone());
    let mut done = Vec::new();
    let mut completions = Vec::new();
    while done.len() < 3 {
        let request = PollTasksRequest {
            hello: Some(hello(0)),
            max_tasks: 1,
            wait_ms: 10_000,
            completions: std::mem::take(&mut completions),
            renewals: Vec::new(),
        };
        let answer = client.poll_tasks(request).await.expect("polled");
        let answer = answer.into_inner();
        assert_eq!(answer.tasks.len(), 1);
        for result in answer.results {
            assert_eq!(result.status(), CompletionStatus::Accepted);
        }
        completions = vec![success(&answer.tasks[0].id, "1")];
        done.push(answer.tasks[0].id.clone());
    }
    done.dedup();
    assert_eq!(done.len(), 3, "no task was given twice");
    let request = PollTasksRequest {
        hello: Some(hello(0)),
        completions,
        wait_ms: 1,
        max_tasks: 5,
        ..PollTasksRequest::default()
    };
    let answer = client.poll_tasks(request).await.expect("polled");
    let answer = answer.into_inner();
    assert_eq!((answer.tasks.len(), answer.results.len()), (0, 1));
    cluster.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_nobody_serves_is_refused_with_the_reason() {
    let cluster = Cluster::start(1).await;
    let flow = cluster.apply(ONE_STEP).await;
    let start = StartFlowRequest {
        flow: flow.id.clone(),
        ..StartFlowRequest::default()
    };
    let refused = cluster.flows().start_flow(start.clone()).await;
    assert_eq!(code(&refused.expect_err("nothing is published")), "TM0113");
    let publish = PublishFlowRequest {
        flow: flow.id.clone(),
        ..PublishFlowRequest::default()
    };
    cluster
        .flows()
        .publish_flow(publish)
        .await
        .expect("published");
    let refused = cluster.flows().start_flow(start.clone()).await;
    let refused = refused.expect_err("nobody serves it");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(code(&refused), "TM0107");
    assert!(refused.message().contains("shop/get"), "{refused}");
    let without = StartFlowRequest {
        without_workers: true,
        ..start
    };
    let started = cluster.flows().start_flow(without).await.expect("started");
    let started = started.into_inner().flow.expect("a flow");
    assert_eq!(started.status(), FlowStatus::Active);

    let run = cluster.run("one", "").await;
    let cancel = CancelExecutionRequest {
        execution_id: run.execution_id,
        reason: "not needed".into(),
        ..CancelExecutionRequest::default()
    };
    let cancelled = cluster.executions().cancel_execution(cancel.clone()).await;
    let cancelled = cancelled.expect("cancelled").into_inner();
    assert!(cancelled.changed);
    let again = cluster.executions().cancel_execution(cancel).await;
    assert!(!again.expect("no error").into_inner().changed);
    cluster.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_names_what_is_wrong_and_leaves_nothing_behind() {
    let cluster = Cluster::start(1).await;
    let violation = |status: &Status| {
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let bad = status.get_details_bad_request().expect("BadRequest");
        bad.field_violations[0].field.clone()
    };

    let document = "name: a\nnmae: b\ngraph: {nodes: [{id: n}]}";
    let apply = ApplyFlowRequest {
        document: document.into(),
        ..ApplyFlowRequest::default()
    };
    let refused = cluster.flows().apply_flow(apply).await.expect_err("bad");
    assert_eq!(code(&refused), "TM0002");
    let problems = refused.get_details_bad_request().expect("BadRequest");
    assert!(problems.field_violations.len() >= 3, "{problems:?}");
    let list = cluster
        .flows()
        .list_flows(ListFlowsRequest::default())
        .await;
    assert!(list.expect("listed").into_inner().flows.is_empty());

    let get = |execution_id: &str| GetExecutionRequest {
        execution_id: execution_id.into(),
    };
    let mut executions = cluster.executions();
    let refused = executions.get_execution(get("exe_no")).await;
    assert_eq!(violation(&refused.expect_err("no id")), "execution_id");
    for (partition, what) in [(1, "unknown"), (9, "of no partition")] {
        let id = tidemill_types::ExecutionId::new(1, tidemill_types::PartitionId(partition), 1);
        let refused = executions.get_execution(get(&id.to_string())).await;
        let refused = refused.expect_err(what);
        assert_eq!(
            (refused.code(), code(&refused).as_str()),
            (Code::NotFound, "TM0104")
        );
    }

    let start = |flow: &str, data: Vec<u8>, request_id: &str| StartExecutionRequest {
        flow: flow.into(),
        message: Some(Message {
            data: data.into(),
            ..Message::default()
        }),
        request_id: request_id.into(),
        ..StartExecutionRequest::default()
    };
    let none = tidemill_types::FlowId::new(1, tidemill_types::PartitionId(1), 1).to_string();
    for flow in [none.as_str(), "nothing"] {
        let refused = executions.start_execution(start(flow, vec![], "")).await;
        let refused = refused.expect_err("no such flow");
        assert_eq!(
            (refused.code(), code(&refused).as_str()),
            (Code::NotFound, "TM0101")
        );
    }
    let flow = cluster.apply(ONE_STEP).await;
    let refused = executions.start_execution(start("one", vec![], "")).await;
    assert_eq!(code(&refused.expect_err("not active")), "TM0102");
    let refused = executions
        .start_execution(start(&flow.id, b"{".to_vec(), ""))
        .await;
    assert_eq!(violation(&refused.expect_err("no JSON")), "message.data");
    let too_large = format!("\"{}\"", "x".repeat(4 * 1024 * 1024)).into_bytes();
    let refused = executions
        .start_execution(start("one", too_large, ""))
        .await;
    assert_eq!(violation(&refused.expect_err("too large")), "message");
    let refused = executions
        .start_execution(start("one", vec![], "a\nb"))
        .await;
    assert_eq!(
        violation(&refused.expect_err("not printable")),
        "request_id"
    );

    let (sender, receiver) = mpsc::channel(1);
    sender.send(WorkRequest::default()).await.expect("room");
    let mut workers = WorkerServiceClient::new(cluster.channel.clone());
    let refused = workers.work(ReceiverStream::new(receiver)).await;
    assert_eq!(violation(&refused.expect_err("no hello")), "hello");

    let mut journal = JournalServiceClient::new(cluster.channel.clone());
    let read = ReadJournalRequest {
        partition: 2,
        ..ReadJournalRequest::default()
    };
    let refused = journal.read_journal(read).await;
    assert_eq!(violation(&refused.expect_err("no partition")), "partition");
    cluster.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_node_sends_its_workers_away() {
    let cluster = Cluster::start(1).await;
    let mut worker = cluster.worker(1, 0).await;
    let drained = tokio::spawn(cluster.running.drain());
    while !worker.seen.draining {
        worker.more().await;
    }
    drop(worker);
    timeout(WAIT, drained)
        .await
        .expect("in time")
        .expect("no panic");
}
