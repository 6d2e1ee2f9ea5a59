//! One node in this process: webhooks by its HTTP port, schedules by its API.

use std::{net::SocketAddr, time::Duration};

use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tidemill_proto::v1::{
    execution_service_client::ExecutionServiceClient, flow_service_client::FlowServiceClient,
    schedule_service_client::ScheduleServiceClient, *,
};
use tidemill_server::{
    Config,
    boot::{Running, start},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, transport::Channel};

const WAIT: Duration = Duration::from_secs(30);
/// Between two looks for something that takes its time.
const LOOK: Duration = Duration::from_millis(20);
/// A variable that is set wherever cargo runs tests, for a secret: setting one is not safe in a program
/// with threads.
const SECRET_ENV: &str = "CARGO_PKG_NAME";
const SECRET: &[u8] = env!("CARGO_PKG_NAME").as_bytes();

struct Server {
    running: Running,
    channel: Channel,
    _dir: tempfile::TempDir,
}

struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Server {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = Config {
            grpc: free,
            http: free,
            peer: free,
            partitions: 2,
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

    fn schedules(&self) -> ScheduleServiceClient<Channel> {
        ScheduleServiceClient::new(self.channel.clone())
    }

    /// Makes a flow run; gives its id.
    async fn activate(&self, trigger: &str) -> String {
        let name = format!("flow-{}", rand::random::<u64>());
        let document = format!(
            "name: {name}\n{trigger}\ngraph: {{nodes: [{{id: a, componentId: log, function: write}}]}}"
        );
        let apply = ApplyFlowRequest {
            document,
            ..ApplyFlowRequest::default()
        };
        let applied = self.flows().apply_flow(apply).await.expect("applied");
        let id = applied.into_inner().flow.expect("a flow").id;
        let publish = PublishFlowRequest {
            flow: id.clone(),
            ..PublishFlowRequest::default()
        };
        self.flows().publish_flow(publish).await.expect("published");
        let start = StartFlowRequest {
            flow: id.clone(),
            ..StartFlowRequest::default()
        };
        let started = timeout(WAIT, self.flows().start_flow(start)).await;
        started.expect("in time").expect("started");
        id
    }

    async fn send(&self, head: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.running.http)
            .await
            .expect("it listens");
        let mut request = format!("{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        // A server that refuses a body may close before all of it is sent.
        let _ = stream.write_all(&bytes).await;
        let mut answer = String::new();
        let _ = timeout(WAIT, stream.read_to_string(&mut answer))
            .await
            .expect("in time");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Answer {
            status: status.expect("a status"),
            head: head.to_ascii_lowercase(),
            body: serde_json::from_str(body).unwrap_or_default(),
        }
    }

    /// The message that an execution began with.
    async fn message(&self, execution_id: &str) -> Message {
        let mut executions = ExecutionServiceClient::new(self.channel.clone())
            .max_decoding_message_size(64 * 1024 * 1024);
        let wait = WaitExecutionRequest {
            execution_id: execution_id.into(),
            timeout_ms: 20_000,
            with_output: true,
            or_reply: false,
        };
        let answer = executions.wait_execution(wait).await.expect("waited");
        // `log` gives what it got.
        answer.into_inner().output.remove(0)
    }
}

fn execution_of(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let id = answer.body["data"]["executionId"].as_str();
    id.expect("an execution").to_owned()
}

fn signature(signed: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).expect("any length");
    mac.update(signed);
    let digest = mac.finalize().into_bytes();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[tokio::test(flavor = "multi_thread")]
async fn a_request_becomes_an_execution() {
    let server = Server::start().await;
    let flow = server.activate("").await;
    let post = server
        .send(
            &format!("POST /hook/{flow}/orders?x=1"),
            &[
                JSON,
                ("X-Request-Id", "mine"),
                ("Authorization", "Bearer t"),
            ],
            b"{\"n\": 1}",
        )
        .await;
    assert_eq!(post.body["data"]["requestId"], "mine");
    assert_eq!(post.body["data"]["message"], "thank you");
    let message = server.message(&execution_of(&post)).await;
    assert_eq!(message.data, "{\"n\": 1}");
    assert_eq!(message.headers["x-request-id"], "mine");
    assert!(!message.headers.contains_key("authorization"));
    let metadata: Value = serde_json::from_slice(&message.metadata).expect("JSON");
    assert_eq!(metadata["pathSuffix"], "orders");
    assert_eq!(metadata["query"], json!({"x": "1"}));

    let get = server
        .send(&format!("GET /hook/{flow}?a[b]=1&c=2&c=3"), &[], b"")
        .await;
    let message = server.message(&execution_of(&get)).await;
    let data: Value = serde_json::from_slice(&message.data).expect("JSON");
    assert_eq!(data, json!({"a": {"b": "1"}, "c": ["2", "3"]}));
    assert_ne!(get.body["data"]["requestId"], "mine");

    let head = server.send(&format!("HEAD /hook/{flow}"), &[], b"").await;
    assert_eq!((head.status, head.body), (200, Value::Null));

    let file: Vec<u8> = (0..=255).cycle().take(4 * 1024 * 1024).collect();
    let posted = server
        .send(
            &format!("POST /hook/{flow}"),
            &[("Content-Type", "image/png")],
            &file,
        )
        .await;
    let message = server.message(&execution_of(&posted)).await;
    assert!(message.attachments["payload"] == file, "not byte for byte");
    server.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_has_its_status() {
    let server = Server::start().await;
    let flow = server.activate("").await;
    let scheduled = server.activate("cron: '0 0 1 1 *'").await;
    let path = format!("/hook/{flow}");
    let large = vec![b'x'; 4 * 1024 * 1024 + 1];
    let long = "x".repeat(129);
    for (head, headers, body, status) in [
        (format!("POST {path}"), vec![JSON], &b"{"[..], 400),
        (format!("GET {path}?a=%ff"), vec![], b"", 400),
        (
            format!("POST {path}"),
            vec![JSON, ("X-Request-Id", &long)],
            b"{}",
            400,
        ),
        ("GET /hook/nobody".into(), vec![], b"", 404),
        ("HEAD /hook/nobody".into(), vec![], b"", 404),
        (
            "GET /hook/flw_00000000000000000000000000".into(),
            vec![],
            b"",
            404,
        ),
        (format!("GET /hook/{scheduled}"), vec![], b"", 404),
        (format!("GET {path}/a/b"), vec![], b"", 404),
        (format!("PUT {path}"), vec![JSON], b"{}", 405),
        (format!("DELETE {path}"), vec![], b"", 405),
        (format!("POST {path}"), vec![JSON], &large, 413),
        (format!("POST {path}"), vec![], b"{}", 415),
    ] {
        let answer = server.send(&head, &headers, body).await;
        assert_eq!(answer.status, status, "{head}: {}", answer.body);
        if !head.starts_with("HEAD") && !head.ends_with("/a/b") {
            assert!(answer.body["error"].is_string(), "{head}: {}", answer.body);
        }
        if status == 405 {
            assert!(
                answer.head.contains("allow: get, head, post"),
                "{}",
                answer.head
            );
        }
    }
    let stop = StopFlowRequest {
        flow: flow.clone(),
        ..StopFlowRequest::default()
    };
    server.flows().stop_flow(stop).await.expect("stopped");
    let answer = server.send(&format!("GET {path}"), &[], b"").await;
    assert_eq!(answer.status, 404);
    server.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_id_gives_one_execution() {
    let server = Server::start().await;
    let flow = server.activate("").await;
    let other = server.activate("").await;
    let send = |number: usize| {
        let (server, head) = (&server, format!("POST /hook/{flow}"));
        async move {
            // Who repeats a request sends other headers with it.
            let date = number.to_string();
            let headers = [JSON, ("Idempotency-Key", "order-7"), ("X-Attempt", &date)];
            execution_of(&server.send(&head, &headers, b"{\"n\": 1}").await)
        }
    };
    let answers = futures::future::join_all((0..50).map(send)).await;
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    let headers = [JSON, ("Idempotency-Key", "order-7")];
    let head = format!("POST /hook/{other}");
    let answer = server.send(&head, &headers, b"{\"n\": 1}").await;
    assert_ne!(
        execution_of(&answer),
        answers[0],
        "another flow's ids are its own"
    );
    server.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_checked_on_get_and_post() {
    let server = Server::start().await;
    let trigger = |env: &str| {
        format!("trigger: {{webhook: {{signature: {{scheme: github, secretEnv: {env}}}}}}}")
    };
    let flow = server.activate(&trigger(SECRET_ENV)).await;
    let header = "X-Hub-Signature-256";
    let get = format!("GET /hook/{flow}?a=1");
    let post = format!("POST /hook/{flow}");
    let (right, query) = (signature(b"{}"), signature(b"a=1"));
    for (head, headers, body, status) in [
        (&post, vec![JSON, (header, &*right)], &b"{}"[..], 200),
        (&post, vec![JSON, (header, &*right)], b"{ }", 403),
        (&post, vec![JSON], b"{}", 403),
        (&get, vec![(header, &*query)], b"", 200),
        (&get, vec![(header, &*right)], b"", 403),
        (&get, vec![], b"", 403),
    ] {
        let answer = server.send(head, &headers, body).await;
        assert_eq!(answer.status, status, "{head} {headers:?}: {}", answer.body);
    }
    // Without its secret a server lets nothing pass.
    let unset = server
        .activate(&trigger("TIDEMILL_TEST_NO_SUCH_SECRET"))
        .await;
    let answer = server
        .send(
            &format!("POST /hook/{unset}"),
            &[JSON, (header, &*right)],
            b"{}",
        )
        .await;
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("retry-after: "), "{}", answer.head);
    server.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_fire_and_say_so() {
    let server = Server::start().await;
    let flow = server.activate("trigger: {schedule: {every: 100ms}}").await;
    let list = |page_size, page_token| ListOccurrencesRequest {
        flow: flow.clone(),
        page_size,
        page_token,
        ..ListOccurrencesRequest::default()
    };
    let fired = async {
        loop {
            let answer = server
                .schedules()
                .list_occurrences(list(0, String::new()))
                .await;
            let occurrences = answer.expect("listed").into_inner().occurrences;
            if occurrences.len() >= 3 {
                return occurrences;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let occurrences = timeout(WAIT, fired).await.expect("it fires");
    for occurrence in &occurrences {
        assert!(matches!(
            occurrence.outcome(),
            OccurrenceOutcome::Fired | OccurrenceOutcome::Late | OccurrenceOutcome::Skipped
        ));
        let started = occurrence.outcome() != OccurrenceOutcome::Skipped;
        assert_eq!(
            occurrence.execution_id.starts_with("exe_"),
            started,
            "{occurrence:?}"
        );
    }
    let first = server
        .schedules()
        .list_occurrences(list(2, String::new()))
        .await;
    let first = first.expect("listed").into_inner();
    assert_eq!(first.occurrences, occurrences[..2]);
    let second = server
        .schedules()
        .list_occurrences(list(1, first.next_token))
        .await;
    assert_eq!(
        second.expect("listed").into_inner().occurrences,
        occurrences[2..3]
    );

    let get = GetScheduleRequest { flow: flow.clone() };
    let schedule = server
        .schedules()
        .get_schedule(get)
        .await
        .expect("there")
        .into_inner();
    assert!(schedule.next_at.is_some() && schedule.fired > 0);
    let preview = PreviewScheduleRequest {
        flow: flow.clone(),
        count: 5,
        ..PreviewScheduleRequest::default()
    };
    let preview = server.schedules().preview_schedule(preview).await;
    assert_eq!(
        preview.expect("previewed").into_inner().occurrences.len(),
        5
    );

    let unscheduled = server.activate("").await;
    for (flow, code) in [
        (unscheduled.as_str(), Code::NotFound),
        ("nobody", Code::NotFound),
        ("", Code::InvalidArgument),
    ] {
        let get = GetScheduleRequest { flow: flow.into() };
        let error = server
            .schedules()
            .get_schedule(get)
            .await
            .expect_err("has none");
        assert_eq!(error.code(), code, "{flow}");
    }
    let error = server
        .schedules()
        .list_occurrences(ListOccurrencesRequest {
            flow: "nobody".into(),
            ..Default::default()
        })
        .await
        .expect_err("there is none");
    assert_eq!(error.code(), Code::NotFound);
    server.running.drain().await;
}
