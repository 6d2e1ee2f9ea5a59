//! Finding the cluster, failing over, and sending a mutation again with its own request id only.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tidemill_sdk::limits::{START_SHARED_BYTES_MAX, STARTS_UNDER_WAY_MAX};
use tidemill_sdk::{
    Client, ClientError, ErrorKind,
    api::{
        AddMemberRequest, Execution, ExecutionState, GetExecutionRequest, Message,
        StartExecutionRequest, WatchExecutionRequest, WatchExecutionResponse,
    },
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::mock::{Answer, Node, StreamsOfStarts, nobody};

async fn connect(endpoints: &[String]) -> Client {
    Client::builder(endpoints)
        .timeout(Duration::from_secs(5))
        .attempt_timeout(Duration::from_millis(300))
        .connect()
        .await
        .expect("connected")
}

async fn read(client: &Client) -> Result<(), ClientError> {
    let request = GetExecutionRequest::default();
    client.get_execution(request).await.map(|_| ())
}

#[tokio::test]
async fn a_mutation_is_sent_again_with_the_request_id_that_it_had() {
    let node = Node::start();
    node.answer([
        Answer::Status(Status::unavailable("no leader")),
        Answer::Status(Status::unknown("the leader changed")),
        Answer::Hang,
    ]);
    let client = connect(&[node.endpoint()]).await;
    let started = client.start("flow", &json!({})).await.expect("started");
    let calls = node.calls();
    assert_eq!(calls.len(), 4);
    assert!(calls[0].starts_with("req_"), "{calls:?}");
    assert!(
        calls.iter().all(|id| *id == started.request_id),
        "{calls:?}"
    );
}

#[tokio::test]
async fn the_callers_request_id_is_kept_and_each_call_has_its_own() {
    let node = Node::start();
    let client = connect(&[node.endpoint()]).await;
    let request = StartExecutionRequest {
        request_id: "mine".to_owned(),
        ..StartExecutionRequest::default()
    };
    client.start_execution(request).await.expect("started");
    client.start("flow", &json!({})).await.expect("started");
    client.start("flow", &json!({})).await.expect("started");
    let calls = node.calls();
    assert_eq!(calls[0], "mine");
    assert_ne!(calls[1], calls[2]);
}

#[tokio::test]
async fn a_lost_answer_that_is_never_made_good_is_unknown_and_names_its_request_id() {
    let node = Node::start();
    node.answer([Answer::Hang]);
    let client = Client::builder([node.endpoint()])
        .timeout(Duration::from_millis(900))
        .attempt_timeout(Duration::from_millis(200))
        .connect()
        .await
        .expect("connected");
    node.answer((0..100).map(|_| Answer::Status(Status::unavailable("no leader"))));
    let error = client
        .start("flow", &json!({}))
        .await
        .expect_err("no answer");
    assert_eq!(error.kind, ErrorKind::Unknown);
    assert_eq!(error.request_id, node.calls()[0]);
}

#[tokio::test]
async fn refusals_that_stand_are_final() {
    let node = Node::start();
    let client = connect(&[node.endpoint()]).await;
    for (status, kind) in [
        (Status::not_found("x"), ErrorKind::NotFound),
        (Status::failed_precondition("x"), ErrorKind::Rejected),
        (
            Status::invalid_argument("x"),
            ErrorKind::Invalid { problems: vec![] },
        ),
        (Status::internal("x"), ErrorKind::Broken),
        (
            Status::resource_exhausted("x"),
            ErrorKind::Overloaded { retry_after: None },
        ),
    ] {
        let before = node.calls().len();
        node.answer([Answer::Status(status)]);
        let error = read(&client).await.expect_err("refused");
        assert_eq!(error.kind, kind);
        assert_eq!(error.message, "x");
        assert_eq!(node.calls().len(), before + 1);
    }
}

#[tokio::test]
async fn shed_load_comes_back_when_the_server_said() {
    let node = Node::start();
    let client = connect(&[node.endpoint()]).await;
    let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(150)));
    let status = Status::with_error_details(Code::ResourceExhausted, "busy", details);
    node.answer([Answer::Status(status)]);
    let begun = std::time::Instant::now();
    read(&client).await.expect("taken the second time");
    assert!(begun.elapsed() >= Duration::from_millis(150));
    assert_eq!(node.calls().len(), 2);
}

#[tokio::test]
async fn finds_the_cluster_through_any_node_and_fails_over_to_a_learned_one() {
    let (first, second) = (Node::start(), Node::start());
    let members = vec![first.endpoint(), second.address.to_string()];
    first.mock.members.lock().unwrap().clone_from(&members);
    second.mock.members.lock().unwrap().clone_from(&members);
    // Knows one node that is dead and one that lives; learns of the second from the first.
    let client = connect(&[nobody(), first.endpoint()]).await;
    read(&client).await.expect("the first answers");
    assert_eq!(first.calls().len(), 1);
    drop(first);
    client
        .start("flow", &json!({}))
        .await
        .expect("the second answers");
    assert_eq!(second.calls().len(), 1);
}

#[tokio::test]
async fn a_node_that_dies_during_a_call_is_left_and_the_call_made_again() {
    let (first, second) = (Node::start(), Node::start());
    first.answer([Answer::Hang]);
    let client = Client::builder([first.endpoint(), second.endpoint()])
        .discover(false)
        .connect()
        .await
        .expect("connected");
    let call = tokio::spawn(async move { client.start("flow", &json!({})).await });
    while first.calls().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = first.calls();
    drop(first);
    call.await.unwrap().expect("the second answers");
    assert_eq!(second.calls(), before, "the same request id");
}

#[tokio::test]
async fn a_mutation_without_a_request_id_is_not_sent_again_when_its_outcome_is_not_known() {
    let node = Node::start();
    let client = connect(&[node.endpoint()]).await;
    node.answer([
        Answer::Status(Status::unavailable("no leader")),
        Answer::Status(Status::unknown("the leader changed")),
    ]);
    let error = client
        .add_member(AddMemberRequest::default())
        .await
        .expect_err("not known");
    assert_eq!(error.kind, ErrorKind::Unknown);
    assert_eq!(
        node.calls().len(),
        2,
        "again after UNAVAILABLE, not after UNKNOWN"
    );
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let (a, b) = (nobody(), nobody());
    let error = Client::connect([&a, &b]).await.expect_err("nobody");
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(error.message.contains("refused"), "{}", error.message);

    let node = Node::start();
    let client = Client::builder([node.endpoint()])
        .timeout(Duration::from_millis(500))
        .connect()
        .await
        .expect("connected");
    drop(node);
    let error = client
        .start("flow", &json!({}))
        .await
        .expect_err("nobody any more");
    assert!(
        matches!(error.kind, ErrorKind::Unreachable | ErrorKind::Unknown),
        "{error:?}"
    );
    let error = read(&client).await.expect_err("nobody any more");
    assert_eq!(error.kind, ErrorKind::Unreachable);
}

#[tokio::test]
async fn a_watch_goes_on_after_a_loss_until_the_execution_has_ended() {
    let node = Node::start();
    let client = connect(&[node.endpoint()]).await;
    let at = |revision, state: ExecutionState| WatchExecutionResponse {
        execution: Some(Execution {
            revision,
            state: state as i32,
            ..Execution::default()
        }),
        steps: vec![],
    };
    node.mock.watches.lock().unwrap().extend([
        vec![
            Ok(at(1, ExecutionState::Running)),
            Err(Status::unavailable("no leader")),
        ],
        vec![
            Ok(at(2, ExecutionState::Running)),
            Ok(at(3, ExecutionState::Succeeded)),
        ],
    ]);
    let mut watch = client.watch_execution(WatchExecutionRequest::default());
    let mut revisions = Vec::new();
    while let Some(change) = watch.next().await.expect("goes on") {
        revisions.push(change.execution.expect("an execution").revision);
    }
    assert_eq!(revisions, [1, 2, 3]);

    let mut unknown = client.watch_execution(WatchExecutionRequest::default());
    let error = unknown.next().await.expect_err("there is none");
    assert_eq!(error.kind, ErrorKind::NotFound);
}

fn start_of(bytes: usize) -> StartExecutionRequest {
    StartExecutionRequest {
        message: Some(Message {
            data: vec![b'1'; bytes].into(),
            ..Message::default()
        }),
        ..StartExecutionRequest::default()
    }
}

#[tokio::test]
async fn starts_at_the_same_time_share_messages() {
    let node = Node::start();
    let client = connect(&[node.endpoint()]).await;
    let starts = (0..100).map(|_| client.start_execution(start_of(1)));
    for started in join_all(starts).await {
        started.expect("started");
    }
    assert_eq!(node.calls().len(), 100);
    let messages = node.mock.starts.lock().unwrap().clone();
    assert_eq!(messages.iter().sum::<usize>(), 100, "{messages:?}");
    assert!(messages.len() < 100, "{messages:?}");
}

#[tokio::test]
async fn a_large_start_is_a_call_of_its_own() {
    let node = Node::start();
    let client = connect(&[node.endpoint()]).await;
    let large = start_of(START_SHARED_BYTES_MAX);
    client.start_execution(large).await.expect("started");
    assert_eq!(*node.mock.starts.lock().unwrap(), [0]);
}

#[tokio::test]
async fn a_start_without_a_place_on_the_stream_is_a_call_of_its_own() {
    let node = Node::start();
    node.answer((0..STARTS_UNDER_WAY_MAX).map(|_| Answer::Hang));
    let client = connect(&[node.endpoint()]).await;
    let hanging: Vec<_> = (0..STARTS_UNDER_WAY_MAX)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.start_execution(start_of(1)).await })
        })
        .collect();
    while node.calls().len() < STARTS_UNDER_WAY_MAX {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client.start_execution(start_of(1)).await.expect("started");
    assert_eq!(node.mock.starts.lock().unwrap().last(), Some(&0));
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_node_of_an_older_version_gets_calls() {
    let node = Node::start();
    *node.mock.streams_of_starts.lock().unwrap() = StreamsOfStarts::Unknown;
    let client = connect(&[node.endpoint()]).await;
    client.start_execution(start_of(1)).await.expect("started");
    client.start_execution(start_of(1)).await.expect("started");
    assert_eq!(*node.mock.starts.lock().unwrap(), [0, 0]);
}

#[tokio::test]
async fn a_start_on_a_stream_that_ended_is_asked_again_or_not_known() {
    let node = Node::start();
    let ended = Client::builder([node.endpoint()]).retry(false);
    let ended = ended.connect().await.expect("connected");
    *node.mock.streams_of_starts.lock().unwrap() = StreamsOfStarts::Ended;
    let error = ended
        .start_execution(start_of(1))
        .await
        .expect_err("no answer");
    assert_eq!(error.kind, ErrorKind::Unknown, "{error}");
    assert!(error.message.contains("ended the stream"), "{error}");

    let client = connect(&[node.endpoint()]).await;
    let start = tokio::spawn(async move { client.start_execution(start_of(1)).await });
    while node.mock.starts.lock().unwrap().len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    *node.mock.streams_of_starts.lock().unwrap() = StreamsOfStarts::Answered;
    start.await.unwrap().expect("started at last");
    assert_eq!(
        node.calls().len(),
        1,
        "no call of an ended stream was taken"
    );
}
