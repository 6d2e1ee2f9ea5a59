//! A worker's half of the promise, over real streams.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tidemill_sdk::{
    MessageJson as _, Outcome, TaskContext, TaskError, Worker, WorkerBuilder, WorkerReport,
    api::{
        Completion, CompletionResult, CompletionStatus, Hello, Message, Task, WorkRequest,
        WorkResponse, completion,
    },
    limits,
};
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinHandle,
    time::timeout,
};

use crate::mock::{Node, WorkStream};

const PATIENCE: Duration = Duration::from_secs(20);

async fn echo(task: TaskContext) -> Result<Outcome, TaskError> {
    Ok(Outcome::json(task.data::<Value>()?))
}

fn task(id: &str, function: &str) -> Task {
    Task {
        id: id.to_owned(),
        component: "test".to_owned(),
        function: function.to_owned(),
        input: vec![Message::from_json(&json!({"id": id}))],
        attempt: 1,
        lease_ms: 30_000,
        ..Task::default()
    }
}

fn push(tasks: Vec<Task>) -> WorkResponse {
    WorkResponse {
        tasks,
        ..WorkResponse::default()
    }
}

fn results(completions: &[Completion], status: CompletionStatus) -> WorkResponse {
    let results = completions.iter().map(|completion| CompletionResult {
        task_id: completion.task_id.clone(),
        status: status as i32,
        message: String::new(),
    });
    WorkResponse {
        results: results.collect(),
        ..WorkResponse::default()
    }
}

impl Node {
    async fn stream(&mut self) -> WorkStream {
        timeout(PATIENCE, self.streams.recv())
            .await
            .expect("a worker connects in time")
            .expect("a stream")
    }
}

impl WorkStream {
    async fn say(&self, response: WorkResponse) {
        self.responses
            .send(Ok(response))
            .await
            .expect("the worker listens");
    }

    /// The next message that the predicate likes.
    async fn until(&mut self, mut likes: impl FnMut(&WorkRequest) -> bool) -> WorkRequest {
        timeout(PATIENCE, async {
            loop {
                let message = self
                    .requests
                    .message()
                    .await
                    .expect("no loss")
                    .expect("no end");
                if likes(&message) {
                    return message;
                }
            }
        })
        .await
        .expect("the worker says it in time")
    }

    /// The first message.
    async fn hello(&mut self) -> Hello {
        let first = self.until(|_| true).await;
        first.hello.expect("the first message has it")
    }

    async fn credits(&mut self) -> u32 {
        let message = self.until(|message| message.credits.is_some_and(|c| c > 0));
        message.await.credits.expect("credits")
    }

    /// So many completions, in as many messages as they come in.
    async fn completions(&mut self, count: usize) -> Vec<Completion> {
        let mut got = Vec::new();
        while got.len() < count {
            let message = self.until(|message| !message.completions.is_empty()).await;
            got.extend(message.completions);
        }
        got
    }
}

fn start(builder: WorkerBuilder) -> (oneshot::Sender<()>, JoinHandle<WorkerReport>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = builder.build().expect("a worker");
    let running = tokio::spawn(worker.run_until(async { drop(stopped.await) }));
    (stop, running)
}

fn builder(nodes: &[&Node]) -> WorkerBuilder {
    Worker::builder(nodes.iter().map(|node| node.endpoint()))
        .name("tester")
        .function("test", "echo", echo)
        .concurrency(4)
}

async fn ended(running: JoinHandle<WorkerReport>) -> WorkerReport {
    timeout(PATIENCE, running)
        .await
        .expect("the worker ends in time")
        .expect("no panic")
}

#[tokio::test]
async fn says_hello_serves_and_stops_in_order() {
    let mut node = Node::start();
    let (stop, running) = start(builder(&[&node]).lease(Duration::from_secs(7)));
    let mut stream = node.stream().await;
    let hello = stream.hello().await;
    assert_eq!(hello.worker, "tester");
    assert_eq!(hello.lease_ms, 7_000);
    assert_eq!(hello.serves[0].function, "echo");
    assert_eq!(stream.credits().await, 4);

    stream
        .say(push(vec![task("t/1", "echo"), task("t/2", "echo")]))
        .await;
    let completions = stream.completions(2).await;
    let Some(completion::Outcome::Success(success)) = &completions[0].outcome else {
        panic!("{completions:?}");
    };
    let data: Value = success.messages[0]
        .message
        .as_ref()
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(data["id"], completions[0].task_id);
    stream
        .say(results(&completions, CompletionStatus::Accepted))
        .await;

    stop.send(()).unwrap();
    stream.until(|message| message.credits == Some(0)).await;
    let end = timeout(PATIENCE, stream.requests.message())
        .await
        .expect("ends")
        .expect("in order");
    assert_eq!(end, None);
    let report = ended(running).await;
    assert_eq!(
        (report.taken, report.accepted, report.unanswered),
        (2, 2, 0)
    );
}

#[tokio::test]
async fn many_completions_share_a_message() {
    let mut node = Node::start();
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let wait = move |_| {
        let gate = opened.clone();
        async move {
            gate.acquire().await?.forget();
            Ok(Outcome::none())
        }
    };
    let (stop, running) = start(
        builder(&[&node])
            .function("test", "wait", wait)
            .concurrency(64),
    );
    let mut stream = node.stream().await;
    stream.credits().await;
    stream
        .say(push(
            (0..64).map(|i| task(&format!("t/{i}"), "wait")).collect(),
        ))
        .await;
    gate.add_permits(64);
    let mut messages = 0;
    let mut got = Vec::new();
    while got.len() < 64 {
        let message = stream
            .until(|message| !message.completions.is_empty())
            .await;
        messages += 1;
        stream
            .say(results(&message.completions, CompletionStatus::Accepted))
            .await;
        got.extend(message.completions);
    }
    assert!(messages <= 16, "{messages} messages for 64 completions");
    drop(stop);
    assert_eq!(ended(running).await.accepted, 64);
}

#[tokio::test]
async fn a_completion_is_sent_until_it_is_answered_also_to_another_node() {
    let (mut first, mut second) = (Node::start(), Node::start());
    let (stop, running) = start(builder(&[&first, &second]).discover(false));
    let mut stream = first.stream().await;
    stream.credits().await;
    stream.say(push(vec![task("t/1", "echo")])).await;
    let sent = stream.completions(1).await;
    stream.say(results(&sent, CompletionStatus::Retry)).await;
    let again = stream.completions(1).await;
    assert_eq!(sent, again);
    drop(stream);
    drop(first);

    let mut stream = second.stream().await;
    let connected = std::time::Instant::now();
    assert_eq!(stream.hello().await.holds, ["t/1"], "its lease is needed");
    assert_eq!(stream.completions(1).await, sent, "it was never answered");
    // At once, because the stream is new; not only when the answer is overdue.
    assert!(connected.elapsed() < limits::RESEND_AFTER / 2);
    stream.say(results(&sent, CompletionStatus::Already)).await;
    drop(stop);
    let report = ended(running).await;
    assert_eq!((report.already, report.connections), (1, 2));
}

#[tokio::test]
async fn a_draining_node_is_left_while_handlers_go_on() {
    let (mut first, mut second) = (Node::start(), Node::start());
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let wait = move |_| {
        let gate = opened.clone();
        async move {
            gate.acquire().await?.forget();
            Ok(Outcome::none())
        }
    };
    let (stop, running) = start(
        builder(&[&first, &second])
            .discover(false)
            .function("test", "wait", wait),
    );
    let mut stream = first.stream().await;
    let before = stream.hello().await;
    assert_eq!((before.session, before.holds.len()), (1, 0));
    stream.credits().await;
    stream
        .say(push(vec![task("t/1", "wait"), task("t/2", "wait")]))
        .await;
    let lost = WorkResponse {
        lost_leases: vec!["t/2".to_owned()],
        ..WorkResponse::default()
    };
    stream.say(lost).await;
    let draining = WorkResponse {
        draining: true,
        ..WorkResponse::default()
    };
    stream.say(draining).await;
    let mut stream = second.stream().await;
    let hello = stream.hello().await;
    assert_eq!((hello.session, &hello.instance), (2, &before.instance));
    assert!(!hello.instance.is_empty());
    assert_eq!(
        hello.holds,
        ["t/1"],
        "but nothing of which the lease is lost"
    );
    // Two of four places are still taken by the tasks of the first node.
    assert_eq!(stream.credits().await, 2);
    gate.add_permits(2);
    let mut credits = 2;
    let completed = stream
        .until(|message| {
            credits = message.credits.unwrap_or(credits);
            !message.completions.is_empty()
        })
        .await;
    if credits != 4 {
        assert_eq!(stream.credits().await, 4, "the place is free again");
    }
    stream
        .say(results(&completed.completions, CompletionStatus::Accepted))
        .await;
    drop(stop);
    assert_eq!(ended(running).await.accepted, 1);
}

#[tokio::test]
async fn a_panic_is_one_tasks_retryable_error() {
    let mut node = Node::start();
    async fn bad(task: TaskContext) -> Result<Outcome, TaskError> {
        assert!(task.attempt() > 1, "the first attempt of {}", task.id());
        Ok(Outcome::none())
    }
    let (stop, running) = start(builder(&[&node]).function("test", "bad", bad));
    let mut stream = node.stream().await;
    stream.credits().await;
    stream
        .say(push(vec![task("t/1", "bad"), task("t/2", "missing")]))
        .await;
    let mut completions = stream.completions(2).await;
    completions.sort_by(|a, b| a.task_id.cmp(&b.task_id));
    let errors: Vec<_> = completions
        .iter()
        .map(|completion| match &completion.outcome {
            Some(completion::Outcome::Error(error)) => error,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(errors[0].code, "HANDLER_PANIC");
    assert_eq!(errors[0].message, "the first attempt of t/1");
    assert!(!errors[0].fatal);
    assert_eq!(errors[1].code, "FUNCTION_NOT_SERVED");
    stream
        .say(results(&completions, CompletionStatus::Accepted))
        .await;
    // The worker lives on.
    stream.say(push(vec![task("t/3", "echo")])).await;
    let completions = stream.completions(1).await;
    stream
        .say(results(&completions, CompletionStatus::Accepted))
        .await;
    drop(stop);
    let report = ended(running).await;
    assert_eq!((report.panics, report.accepted), (1, 3));
}

#[tokio::test]
async fn leases_are_renewed_in_time_and_progress_is_shown() {
    let mut node = Node::start();
    async fn slow(task: TaskContext) -> Result<Outcome, TaskError> {
        task.progress("half way");
        task.lease_lost().await;
        Ok(Outcome::none())
    }
    let (stop, running) = start(builder(&[&node]).function("test", "slow", slow));
    let mut stream = node.stream().await;
    stream.credits().await;
    let short = Task {
        lease_ms: 900,
        ..task("t/1", "slow")
    };
    stream.say(push(vec![short])).await;
    let first = stream.until(|message| !message.renewals.is_empty()).await;
    assert_eq!(first.renewals[0].progress, "half way");
    let begun = std::time::Instant::now();
    for _ in 0..2 {
        let next = stream.until(|message| !message.renewals.is_empty()).await;
        assert_eq!(next.renewals[0].task_id, "t/1");
    }
    let elapsed = begun.elapsed();
    assert!(
        elapsed >= Duration::from_millis(400),
        "every third of the lease: {elapsed:?}"
    );

    // The server says that it is lost: the handler is told, its place is its own until it ends, and
    // no completion is sent.
    let lost = WorkResponse {
        lost_leases: vec!["t/1".to_owned()],
        ..WorkResponse::default()
    };
    stream.say(lost).await;
    drop(stop);
    let report = ended(running).await;
    assert_eq!(
        (report.lost, report.unanswered, report.abandoned),
        (1, 0, 0)
    );
}

#[tokio::test]
async fn a_graceful_stop_waits_for_handlers_but_not_for_ever() {
    let mut node = Node::start();
    let begun = Arc::new(AtomicUsize::new(0));
    let (short, stuck) = (begun.clone(), begun.clone());
    let short = move |_| {
        short.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            Ok(Outcome::none())
        }
    };
    let stuck = move |_| {
        stuck.fetch_add(1, Ordering::SeqCst);
        std::future::pending()
    };
    let builder = builder(&[&node])
        .function("test", "short", short)
        .function("test", "stuck", stuck)
        .drain_timeout(Duration::from_secs(1));
    let (stop, running) = start(builder);
    let mut stream = node.stream().await;
    stream.credits().await;
    stream
        .say(push(vec![task("t/1", "short"), task("t/2", "stuck")]))
        .await;
    while begun.load(Ordering::SeqCst) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.send(()).unwrap();
    let completions = stream.completions(1).await;
    assert_eq!(completions[0].task_id, "t/1");
    stream
        .say(results(&completions, CompletionStatus::Accepted))
        .await;
    let report = ended(running).await;
    assert_eq!((report.accepted, report.abandoned), (1, 1));
}

#[tokio::test]
async fn a_task_that_is_pushed_twice_runs_once() {
    let mut node = Node::start();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let count = move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Ok(Outcome::none()) }
    };
    let (stop, running) = start(builder(&[&node]).function("test", "count", count));
    let mut stream = node.stream().await;
    stream.credits().await;
    stream
        .say(push(vec![task("t/1", "count"), task("t/1", "count")]))
        .await;
    let first = stream.completions(1).await;
    // Pushed again before the completion was answered: sent again, not run again.
    stream.say(push(vec![task("t/1", "count")])).await;
    let again = stream.completions(1).await;
    assert_eq!(first, again);
    stream
        .say(results(&again, CompletionStatus::Accepted))
        .await;
    drop(stop);
    assert_eq!(ended(running).await.taken, 1);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_stop_without_any_node_ends() {
    let (stop, running) =
        start(Worker::builder([crate::mock::nobody()]).function("test", "echo", echo));
    drop(stop);
    let report = ended(running).await;
    assert_eq!(report, WorkerReport::default());
}
