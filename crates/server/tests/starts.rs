//! Streams of starts, on one node in this process.

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use tidemill_proto::v1::{
    execution_service_client::ExecutionServiceClient, flow_service_client::FlowServiceClient,
    numbered_answer::Outcome, *,
};
use tidemill_server::{
    Config,
    boot::{Running, start},
};
use tidemill_types::limits::{
    STARTS_ANSWER_BYTES, STARTS_PER_MESSAGE_MAX, STARTS_UNDER_WAY_BYTES, STARTS_UNDER_WAY_MAX,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt as _;

const WAIT: Duration = Duration::from_secs(60);
/// Longer than any of these tests: it does not end by itself.
const SLEEPER: &str = "
name: sleeper
graph:
  nodes: [{id: rest, componentId: wait, function: delay, fields: {duration: 1h}}]
";

struct Node {
    running: Running,
    channel: Channel,
    _dir: tempfile::TempDir,
}

/// It ends when those who wait for it are all there.
const NAP: &str = "
name: nap
graph:
  nodes: [{id: rest, componentId: wait, function: delay, fields: {duration: 1s}}]
";

/// A stream of starts in the test's hands.
struct Starts {
    sender: mpsc::Sender<StartExecutionsRequest>,
    answers: Streaming<StartExecutionsResponse>,
}

impl Node {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = Config {
            grpc: free,
            http: free,
            peer: free,
            ..Config::dev(dir.path().join("data"))
        };
        let running = timeout(WAIT, start(config)).await.expect("in time");
        let running = running.expect("starts");
        timeout(WAIT, running.ready()).await.expect("ready in time");
        let endpoint = Channel::from_shared(format!("http://{}", running.grpc));
        let node = Self {
            channel: endpoint
                .expect("an address")
                .connect()
                .await
                .expect("it listens"),
            running,
            _dir: dir,
        };
        node.activate("sleeper", SLEEPER).await;
        node
    }

    async fn activate(&self, flow: &str, document: &str) {
        let mut flows = FlowServiceClient::new(self.channel.clone());
        let document = ApplyFlowRequest {
            document: document.into(),
            ..ApplyFlowRequest::default()
        };
        flows.apply_flow(document).await.expect("applied");
        let flow = flow.to_owned();
        let publish = PublishFlowRequest {
            flow: flow.clone(),
            ..PublishFlowRequest::default()
        };
        flows.publish_flow(publish).await.expect("published");
        let start = StartFlowRequest {
            flow,
            ..StartFlowRequest::default()
        };
        flows.start_flow(start).await.expect("started");
    }

    async fn starts(&self) -> Starts {
        let (sender, receiver) = mpsc::channel(64);
        let mut client = ExecutionServiceClient::new(self.channel.clone());
        let answers = client.start_executions(ReceiverStream::new(receiver));
        Starts {
            sender,
            answers: answers.await.expect("taken").into_inner(),
        }
    }
}

impl Starts {
    async fn send(&self, starts: Vec<NumberedStart>) {
        let message = StartExecutionsRequest { starts };
        self.sender.send(message).await.expect("room");
    }

    /// The answers of the next message, those that were refused alike too.
    async fn next(&mut self) -> Result<Vec<NumberedAnswer>, Status> {
        let next = timeout(WAIT, self.answers.message())
            .await
            .expect("in time");
        let message = next?.unwrap_or_default();
        let refused = message.refused.into_iter().flat_map(|refused| {
            let outcome = refused.error.map(Outcome::Error);
            let numbers = refused.numbers.into_iter();
            numbers.map(move |number| NumberedAnswer {
                number,
                outcome: outcome.clone(),
                leader: String::new(),
            })
        });
        Ok(message.answers.into_iter().chain(refused).collect())
    }

    /// How many answers come before the one with this number.
    async fn answers_before(&mut self, number: u64) -> usize {
        let mut before = 0;
        loop {
            let answers = self.next().await.expect("answers");
            assert!(!answers.is_empty(), "the stream has ended");
            match answers.iter().position(|answer| answer.number == number) {
                Some(at) => return before + at,
                None => before += answers.len(),
            }
        }
    }
}

fn numbered(number: u64, request: StartExecutionRequest) -> NumberedStart {
    NumberedStart {
        number,
        request: Some(request),
    }
}

fn request(request_id: &str) -> StartExecutionRequest {
    StartExecutionRequest {
        flow: "sleeper".into(),
        request_id: request_id.into(),
        ..StartExecutionRequest::default()
    }
}

/// Held until its time is up.
fn held(number: u64, data: Vec<u8>) -> NumberedStart {
    let request = StartExecutionRequest {
        wait_ms: 2_000,
        message: Some(Message {
            data: data.into(),
            ..Message::default()
        }),
        ..request("")
    };
    numbered(number, request)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_start_has_its_own_answer() {
    let node = Node::start().await;
    let mut starts = node.starts().await;
    let unknown = StartExecutionRequest {
        flow: "nobody".into(),
        ..request("b")
    };
    let too_long = request(&"c".repeat(129));
    starts
        .send(vec![
            numbered(7, request("a")),
            numbered(8, unknown),
            numbered(9, too_long),
            NumberedStart {
                number: 10,
                request: None,
            },
        ])
        .await;
    let mut answers = Vec::new();
    while answers.len() < 4 {
        answers.extend(starts.next().await.expect("answers"));
    }
    answers.sort_by_key(|answer| answer.number);
    let numbers: Vec<_> = answers.iter().map(|answer| answer.number).collect();
    assert_eq!(numbers, [7, 8, 9, 10]);
    let mut answers = answers.into_iter();
    let Some(Outcome::Started(started)) = answers.next().expect("first").outcome else {
        panic!("not started");
    };
    assert!(started.created && started.request_id == "a");
    let errors = [
        (Code::NotFound, ""),
        (Code::InvalidArgument, "request_id"),
        (Code::InvalidArgument, "flow"),
    ];
    for (answer, (code, field)) in answers.zip(errors) {
        let Some(Outcome::Error(error)) = answer.outcome else {
            panic!("expected an error, got {answer:?}");
        };
        assert_eq!(Code::from_i32(error.code), code);
        let status = Status::with_details(code, error.message, error.details);
        let details = status.get_details_bad_request();
        let named = details.map(|details| details.field_violations[0].field.clone());
        assert_eq!(named.unwrap_or_default(), field);
    }
    // The same request id, on the stream or by a call, is the same execution.
    starts.send(vec![numbered(11, request("a"))]).await;
    let again = starts.next().await.expect("an answer").remove(0);
    let mut client = ExecutionServiceClient::new(node.channel.clone());
    let call = client.start_execution(request("a")).await.expect("started");
    let call = call.into_inner();
    assert_eq!(call.execution_id, started.execution_id);
    assert_eq!(again.outcome, Some(Outcome::Started(call)));
    // Who says no more gets an end.
    drop(starts.sender);
    let end = timeout(WAIT, starts.answers.message())
        .await
        .expect("in time");
    assert!(end.expect("in order").is_none());
    node.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_with_too_many_starts_ends_the_stream() {
    let node = Node::start().await;
    let mut starts = node.starts().await;
    let most = |number| numbered(number as u64, request("the same"));
    starts
        .send((0..STARTS_PER_MESSAGE_MAX).map(most).collect())
        .await;
    let mut answered = 0;
    while answered < STARTS_PER_MESSAGE_MAX {
        answered += starts.next().await.expect("answers").len();
    }
    starts
        .send((0..=STARTS_PER_MESSAGE_MAX).map(most).collect())
        .await;
    let refused = starts.next().await.expect_err("too many");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().starts_with("starts: "), "{refused}");
    node.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_read_while_too_many_starts_are_under_way() {
    let node = Node::start().await;
    let mut starts = node.starts().await;
    // The last of these messages goes over the limit, and is taken whole.
    let most = STARTS_UNDER_WAY_MAX.next_multiple_of(1_000) as u64;
    for first in (0..most).step_by(1_000) {
        let message = (first..first + 1_000).map(|number| held(number, Vec::new()));
        starts.send(message.collect()).await;
    }
    starts.send(vec![numbered(most, request(""))]).await;
    let before = starts.answers_before(most).await;
    assert!(
        before as u64 > most - STARTS_UNDER_WAY_MAX as u64,
        "{before}"
    );
    node.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_read_while_too_many_bytes_are_under_way() {
    let node = Node::start().await;
    let mut starts = node.starts().await;
    let large = vec![b'1'; 1024 * 1024 - 2];
    let most = (STARTS_UNDER_WAY_BYTES / large.len() + 1) as u64;
    for number in 0..most {
        starts.send(vec![held(number, large.clone())]).await;
    }
    starts.send(vec![numbered(most, request(""))]).await;
    assert!(starts.answers_before(most).await > 0);
    node.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_gets_no_more_answers_once_it_has_so_many_bytes() {
    const STARTS: u64 = 24;
    let node = Node::start().await;
    node.activate("nap", NAP).await;
    let mut starts = node.starts().await;
    // All wait for the end of one execution, so all are to be answered at the same time.
    let start = |number| {
        let large = vec![b'1'; STARTS_ANSWER_BYTES / 4];
        let request = StartExecutionRequest {
            flow: "nap".into(),
            wait_ms: 300_000,
            with_output: true,
            message: Some(Message {
                data: large.into(),
                ..Message::default()
            }),
            ..request("the same")
        };
        numbered(number, request)
    };
    starts.send((0..STARTS).map(start).collect()).await;
    let mut answered = 0;
    let mut fullest = 0;
    while answered < STARTS {
        let answers = starts.next().await.expect("not too large for a client");
        answered += answers.len() as u64;
        let bytes = |answers: &[NumberedAnswer]| -> usize {
            answers.iter().map(prost::Message::encoded_len).sum()
        };
        let (_, others) = answers.split_last().expect("an answer");
        assert!(bytes(others) < STARTS_ANSWER_BYTES, "{}", bytes(others));
        fullest = fullest.max(bytes(&answers));
    }
    assert!(fullest >= STARTS_ANSWER_BYTES, "{fullest}: not reached");
    node.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_answers_what_it_took_and_ends_the_stream() {
    let node = Node::start().await;
    let mut starts = node.starts().await;
    let hold = StartExecutionRequest {
        wait_ms: 300_000,
        ..request("held")
    };
    starts.send(vec![numbered(1, hold)]).await;
    let mut other = node.starts().await;
    // Once this one is answered, the held one may be; either way it must not be lost.
    other.send(vec![numbered(2, request("held"))]).await;
    other.next().await.expect("an answer");
    let stop = tokio::spawn(node.running.drain());
    let mut seen = HashSet::new();
    loop {
        let answers = starts.next().await.expect("in order");
        if answers.is_empty() {
            break;
        }
        for answer in answers {
            let Some(Outcome::Started(started)) = answer.outcome else {
                panic!("expected it started, got {answer:?}");
            };
            assert!(!started.ended);
            seen.insert(answer.number);
        }
    }
    assert_eq!(seen, HashSet::from([1]));
    stop.await.expect("no panic");
}
