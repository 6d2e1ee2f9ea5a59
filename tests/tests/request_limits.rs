//! Limits of requests, documents and configuration, each reached: at the limit a value is taken, one more is
//! refused by the field's name. `docs/limits.md` lists all limits, and which test reaches each.

use std::fmt::Debug;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use prost::Message as _;
use serde_json::{Value, json};
use tidemill_core::flow;
use tidemill_proto::v1::{
    self as api, execution_service_client::ExecutionServiceClient,
    flow_service_client::FlowServiceClient, schedule_service_client::ScheduleServiceClient,
    worker_service_client::WorkerServiceClient,
};
use tidemill_server::{Config, Overrides};
use tidemill_tests::{Cluster, http};
use tidemill_types::{ExecutionId, PartitionId, StepId, TaskId, limits::*};
use tonic::{Code, Response, Status, transport::Channel};

/// Whether a call was refused for this field. What else becomes of it does not matter here.
fn names<T: Debug>(result: &Result<Response<T>, Status>, field: &str) -> bool {
    result.as_ref().is_err_and(|status| {
        status.code() == Code::InvalidArgument && status.message().starts_with(field)
    })
}

/// Sends what is at the limit, then what is over it.
macro_rules! reach {
    ($client:expr, $call:ident, $field:literal, $most:expr, $over:expr) => {{
        let most = $client.$call($most).await;
        ensure!(!names(&most, $field), "{}: at the limit: {most:?}", $field);
        let over = $client.$call($over).await;
        ensure!(names(&over, $field), "{}: over the limit: {over:?}", $field);
    }};
}

fn execution() -> ExecutionId {
    ExecutionId::new(1_800_000_000_000, PartitionId(1), 1)
}

async fn channel(cluster: &Cluster) -> Result<Channel> {
    let endpoint = cluster.endpoints().first().context("a node")?.clone();
    Ok(Channel::from_shared(endpoint)?.connect().await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_clients() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let mut executions = ExecutionServiceClient::new(channel(&cluster).await?);
    let id = execution().to_string();
    let cancel = |chars| api::CancelExecutionRequest {
        execution_id: id.clone(),
        reason: "é".repeat(chars),
        ..api::CancelExecutionRequest::default()
    };
    reach!(
        executions,
        cancel_execution,
        "reason",
        cancel(REASON_CHARS_MAX),
        cancel(REASON_CHARS_MAX + 1)
    );
    let wait = |timeout_ms| api::WaitExecutionRequest {
        execution_id: id.clone(),
        timeout_ms,
        ..api::WaitExecutionRequest::default()
    };
    reach!(
        executions,
        wait_execution,
        "timeout_ms",
        wait(EXECUTION_WAIT_MS_MAX),
        wait(EXECUTION_WAIT_MS_MAX + 1)
    );
    let start = |chars, message| api::StartExecutionRequest {
        flow: "nobody".into(),
        request_id: "r".repeat(chars),
        message: Some(message),
        ..api::StartExecutionRequest::default()
    };
    let empty = api::Message::default;
    reach!(
        executions,
        start_execution,
        "request_id",
        start(REQUEST_ID_CHARS_MAX, empty()),
        start(REQUEST_ID_CHARS_MAX + 1, empty())
    );
    // A header's name and its value are beside the message; its data has a limit of its own.
    let head = |bytes: usize| api::Message {
        headers: [("a".to_owned(), "x".repeat(bytes - 1))].into(),
        ..empty()
    };
    reach!(
        executions,
        start_execution,
        "message",
        start(1, head(MESSAGE_HEAD_BYTES_MAX)),
        start(1, head(MESSAGE_HEAD_BYTES_MAX + 1))
    );
    let data = |bytes: usize| api::Message {
        data: Bytes::from(format!("\"{}\"", "x".repeat(bytes - 2))),
        ..empty()
    };
    reach!(
        executions,
        start_execution,
        "message",
        start(1, data(MESSAGE_BYTES_DEFAULT)),
        start(1, data(MESSAGE_BYTES_DEFAULT + 1))
    );
    let mut schedules = ScheduleServiceClient::new(channel(&cluster).await?);
    let preview = |count| api::PreviewScheduleRequest {
        schedule: json!({"cron": "@daily"}).to_string(),
        count,
        ..api::PreviewScheduleRequest::default()
    };
    reach!(
        schedules,
        preview_schedule,
        "count",
        preview(PAGE_SIZE_MAX),
        preview(PAGE_SIZE_MAX + 1)
    );
    pages(&cluster).await?;
    sizes(&cluster).await
}

async fn pages(cluster: &Cluster) -> Result<()> {
    let mut flows = FlowServiceClient::new(channel(cluster).await?);
    let list = |size| api::ListFlowsRequest {
        page: Some(api::PageRequest {
            size,
            token: String::new(),
        }),
        ..api::ListFlowsRequest::default()
    };
    reach!(
        flows,
        list_flows,
        "page.size",
        list(PAGE_SIZE_MAX),
        list(PAGE_SIZE_MAX + 1)
    );
    for number in 0..=PAGE_SIZE_DEFAULT {
        let document = format!(
            "name: flow{number}\ngraph: {{nodes: [{{id: a, componentId: c, function: f}}], edges: []}}"
        );
        let request = api::ApplyFlowRequest {
            document,
            ..api::ApplyFlowRequest::default()
        };
        flows.apply_flow(request).await?;
    }
    let page = flows.list_flows(list(0)).await?.into_inner();
    ensure!(
        page.flows.len() == PAGE_SIZE_DEFAULT as usize && !page.next_token.is_empty(),
        "{} flows on the first page",
        page.flows.len()
    );
    Ok(())
}

/// What is refused before it is read.
async fn sizes(cluster: &Cluster) -> Result<()> {
    let mut flows = FlowServiceClient::new(channel(cluster).await?);
    let apply = |bytes: usize| api::ApplyFlowRequest {
        // The field's number and length take five bytes.
        document: "#".repeat(bytes - 5),
        ..api::ApplyFlowRequest::default()
    };
    let most = flows.apply_flow(apply(GRPC_REQUEST_BYTES_MAX)).await;
    let refusal = most.expect_err("the document has a limit of its own");
    ensure!(refusal.code() == Code::InvalidArgument, "{refusal:?}");
    let over = flows.apply_flow(apply(GRPC_REQUEST_BYTES_MAX + 1)).await;
    let refusal = over.expect_err("too many bytes");
    ensure!(refusal.code() == Code::OutOfRange, "{refusal:?}");

    // The names and lengths of headers count too, so this is not to the byte.
    let mut headed = async |bytes: usize| {
        let mut request = tonic::Request::new(api::ListFlowsRequest::default());
        let value = "x".repeat(bytes).parse().expect("a header's value");
        request.metadata_mut().insert("x-large", value);
        flows.list_flows(request).await
    };
    let most = REQUEST_HEADERS_BYTES_MAX as usize;
    headed(most - 2_048).await?;
    let over = headed(most + 1).await;
    ensure!(over.is_err(), "{over:?}");

    let node = cluster.node(1);
    let list = |count: usize| json!(vec!["5f0000000000000000000000"; count]).to_string();
    let json_type = [("content-type", "application/json")];
    let stop = async |body: String| {
        http::send(
            &node.http,
            "POST /flows/multiple/stop",
            &json_type,
            body.as_bytes(),
        )
        .await
    };
    let most = stop(list(REST_FLOWS_SWITCHED_MAX)).await?;
    ensure!(most.status != 400, "{}", most.head);
    let over = stop(list(REST_FLOWS_SWITCHED_MAX + 1)).await?;
    let text = String::from_utf8_lossy(&over.body).into_owned();
    ensure!(over.status == 400 && text.contains("1000"), "{text}");
    let fill = |bytes: usize| format!("[{}]", " ".repeat(bytes - 2));
    let most = stop(fill(REST_BODY_BYTES_MAX)).await?;
    ensure!(most.status == 200, "{}", most.head);
    let over = stop(fill(REST_BODY_BYTES_MAX + 1)).await?;
    ensure!(over.status == 413, "{}", over.head);
    let page = async |number: usize| {
        let size = PAGE_SIZE_MAX;
        let path = format!(
            "/executions?filter[flowId]=5f0000000000000000000000&page[size]={size}&page[number]={number}"
        );
        http::get(&node.http, &path).await
    };
    let pages = REST_EXECUTIONS_LISTED_MAX / PAGE_SIZE_MAX as usize;
    let (status, text) = page(pages).await?;
    ensure!(status == 200, "{status}: {text}");
    let (status, text) = page(pages + 1).await?;
    ensure!(
        status == 400 && text.contains("page[number]"),
        "{status}: {text}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_workers() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let mut workers =
        WorkerServiceClient::new(channel(&cluster).await?).max_encoding_message_size(usize::MAX);
    let function = |name: String| api::ComponentFunction {
        component: "c".into(),
        function: name,
    };
    let hello = api::Hello {
        worker: "w".into(),
        serves: vec![function("f".into())],
        ..api::Hello::default()
    };
    // With no task wanted it answers at once.
    let poll = |hello| api::PollTasksRequest {
        hello: Some(hello),
        ..api::PollTasksRequest::default()
    };
    let worker = |chars| {
        poll(api::Hello {
            worker: "é".repeat(chars),
            ..hello.clone()
        })
    };
    reach!(
        workers,
        poll_tasks,
        "hello.worker",
        worker(WORKER_NAME_CHARS_MAX),
        worker(WORKER_NAME_CHARS_MAX + 1)
    );
    let serves = |count| {
        poll(api::Hello {
            serves: (0..count).map(|n| function(format!("f{n}"))).collect(),
            ..hello.clone()
        })
    };
    reach!(
        workers,
        poll_tasks,
        "hello.serves",
        serves(WORKER_FUNCTIONS_MAX),
        serves(WORKER_FUNCTIONS_MAX + 1)
    );
    let lease = |lease_ms| {
        poll(api::Hello {
            lease_ms,
            ..hello.clone()
        })
    };
    reach!(
        workers,
        poll_tasks,
        "hello.lease_ms",
        lease(LEASE_MS_MAX),
        lease(LEASE_MS_MAX + 1)
    );
    reach!(
        workers,
        poll_tasks,
        "hello.lease_ms",
        lease(LEASE_MS_MIN),
        lease(LEASE_MS_MIN - 1)
    );
    let instance = |chars: usize, holds: usize| {
        let step = StepId {
            execution: execution(),
            step: 1,
        };
        let task = TaskId { step, attempt: 1 }.to_string();
        poll(api::Hello {
            instance: "i".repeat(chars),
            session: 1,
            holds: vec![task; holds],
            ..hello.clone()
        })
    };
    reach!(
        workers,
        poll_tasks,
        "hello.instance",
        instance(WORKER_INSTANCE_CHARS_MAX, 0),
        instance(WORKER_INSTANCE_CHARS_MAX + 1, 0)
    );
    reach!(
        workers,
        poll_tasks,
        "hello.holds",
        instance(1, WORKER_HOLDS_MAX),
        instance(1, WORKER_HOLDS_MAX + 1)
    );
    let tasks = |max_tasks| api::PollTasksRequest {
        max_tasks,
        wait_ms: 1,
        ..poll(hello.clone())
    };
    reach!(
        workers,
        poll_tasks,
        "max_tasks",
        tasks(POLL_TASKS_MAX),
        tasks(POLL_TASKS_MAX + 1)
    );
    let wait = |wait_ms| api::PollTasksRequest {
        wait_ms,
        ..poll(hello.clone())
    };
    reach!(
        workers,
        poll_tasks,
        "wait_ms",
        wait(POLL_WAIT_MS_MAX),
        wait(POLL_WAIT_MS_MAX + 1)
    );
    let mut large = async |bytes: usize| {
        let mut request = poll(hello.clone());
        let with = |message: String| api::Completion {
            outcome: Some(api::completion::Outcome::Error(api::StepError {
                message,
                ..api::StepError::default()
            })),
            ..api::Completion::default()
        };
        // Nobody's task. Its text is as long as there is room; lengths are of the same size then.
        request.completions = vec![with("m".repeat(bytes - 1_024))];
        let room = bytes - request.encoded_len();
        request.completions = vec![with("m".repeat(bytes - 1_024 + room))];
        assert_eq!(request.encoded_len(), bytes);
        workers.poll_tasks(request).await
    };
    let most = large(WORK_MESSAGE_BYTES_MAX).await?.into_inner();
    ensure!(most.results.len() == 1, "{most:?}");
    let over = large(WORK_MESSAGE_BYTES_MAX + 1).await;
    let refusal = over.expect_err("too many bytes");
    ensure!(refusal.code() == Code::OutOfRange, "{refusal:?}");
    Ok(())
}

/// A trigger whose value at `pointer` is taken at `most` and refused there at `over`.
fn trigger(pointer: &str, trigger: &Value, most: Value, over: Value) {
    let problems = |value: Value| {
        let mut document = json!({
            "name": "x",
            "trigger": trigger,
            "graph": {"nodes": [{"id": "a", "componentId": "c", "function": "f"}], "edges": []},
        });
        let place = pointer
            .trim_start_matches('/')
            .split('/')
            .fold(&mut document["trigger"], |at, key| &mut at[key]);
        *place = value;
        let pointer = format!("/trigger{pointer}");
        let found = match flow::parse_value(&document) {
            Ok(read) => flow::validate(&read),
            Err(found) => found,
        };
        found.into_iter().any(|problem| problem.pointer == pointer)
    };
    assert!(!problems(most.clone()), "{pointer}: {most} is refused");
    assert!(problems(over.clone()), "{pointer}: {over} is taken");
}

#[test]
fn triggers() {
    let ms = |ms: u64| json!(format!("{ms}ms"));
    let every = json!({"schedule": {"every": "5m"}});
    let place = "/schedule/every";
    trigger(
        place,
        &every,
        ms(SCHEDULE_EVERY_MS_MIN),
        ms(SCHEDULE_EVERY_MS_MIN - 1),
    );
    trigger(
        place,
        &every,
        ms(SCHEDULE_EVERY_MS_MAX),
        ms(SCHEDULE_EVERY_MS_MAX + 1),
    );
    let (most, over) = (SCHEDULE_JITTER_MS_MAX, SCHEDULE_JITTER_MS_MAX + 1);
    trigger("/schedule/jitter", &every, ms(most), ms(over));
    let most = SCHEDULE_CATCH_UP_WINDOW_MS_MAX;
    trigger("/schedule/catchUp/window", &every, ms(most), ms(most + 1));

    let hook = json!({"webhook": {
        "reply": "wait",
        "rateLimit": {"requests": 1},
        "signature": {"scheme": "stripe", "secret": "s"},
    }});
    let place = "/webhook/timeout";
    trigger(
        place,
        &hook,
        ms(WEBHOOK_REPLY_MS_MAX),
        ms(WEBHOOK_REPLY_MS_MAX + 1),
    );
    trigger(
        place,
        &hook,
        ms(WEBHOOK_REPLY_MS_MIN),
        ms(WEBHOOK_REPLY_MS_MIN - 1),
    );
    for place in ["/webhook/rateLimit/requests", "/webhook/rateLimit/burst"] {
        trigger(
            place,
            &hook,
            json!(WEBHOOK_RATE_MAX),
            json!(WEBHOOK_RATE_MAX + 1),
        );
    }
    let (most, over) = (WEBHOOK_RATE_PER_MS_MAX, WEBHOOK_RATE_PER_MS_MAX + 1);
    trigger("/webhook/rateLimit/per", &hook, ms(most), ms(over));
    let (most, over) = (WEBHOOK_TOLERANCE_MS_MAX, WEBHOOK_TOLERANCE_MS_MAX + 1);
    trigger("/webhook/signature/tolerance", &hook, ms(most), ms(over));
    let name = |chars| json!("n".repeat(chars));
    for place in ["/webhook/signature/secret", "/webhook/signature/header"] {
        trigger(
            place,
            &hook,
            name(WEBHOOK_NAME_CHARS_MAX),
            name(WEBHOOK_NAME_CHARS_MAX + 1),
        );
    }
}

/// Many wrong signatures before the right one: as many as are looked at, and one more.
#[test]
fn signatures() {
    use hmac::{Hmac, Mac as _};
    use tidemill_core::webhook::{Headers, Method, Request, Secret, verify};
    use tidemill_types::{
        Timestamp,
        flow::{SignatureScheme, WebhookSignature},
    };

    const SECONDS: i64 = 1_800_000_000;
    let scheme = SignatureScheme::Stripe;
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"secret").expect("any length");
    mac.update(format!("{SECONDS}.{{}}").as_bytes());
    let right: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let is_taken = |wrong: usize| {
        let wrong = format!("v1={},", "0".repeat(64)).repeat(wrong);
        let header = format!("t={SECONDS},{wrong}v1={right}");
        let request = Request {
            method: Method::Post,
            suffix: String::new(),
            query: String::new(),
            headers: Headers::from_iter([("stripe-signature", header)]),
            body: Bytes::from_static(b"{}"),
        };
        let signature = WebhookSignature {
            scheme,
            ..WebhookSignature::default()
        };
        let secret = Secret::new(scheme, "secret").expect("a secret");
        let now = Timestamp::from_millis(SECONDS * 1_000);
        verify(&signature, &secret, &request, now).is_ok()
    };
    assert!(is_taken(WEBHOOK_SIGNATURES_MAX - 1));
    assert!(!is_taken(WEBHOOK_SIGNATURES_MAX));
}

#[test]
fn configuration() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("node.toml");
    let refused = |text: &str| -> Result<String> {
        std::fs::write(&file, format!("node_id = 1\n{text}"))?;
        Ok(match Config::load(Some(&file), &Overrides::default()) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        })
    };
    let name = |chars: usize| format!("cluster_name = \"{}\"\n", "c".repeat(chars));
    let members = |count: usize| {
        let member = |n: usize| {
            let port = 7_000 + n;
            format!(
                "{{id = {}, peer = \"127.0.0.1:{port}\", grpc = \"127.0.0.2:{port}\"}}",
                n + 1
            )
        };
        let members: Vec<String> = (0..count).map(member).collect();
        format!(
            "{}[cluster]\nbootstrap = [{}]\n",
            name(1),
            members.join(", ")
        )
    };
    let partitions = |count: u16| format!("{}partitions = {count}\n", name(1));
    let message = |bytes: usize| format!("{}[limits]\nmessage = \"{bytes}B\"\n", name(1));
    let snapshot = |entries: u64| format!("{}[raft]\nsnapshot_entries = {entries}\n", name(1));
    for (key, most, over) in [
        (
            "raft.snapshot_entries",
            snapshot(SNAPSHOT_ENTRIES_MAX),
            snapshot(SNAPSHOT_ENTRIES_MAX + 1),
        ),
        (
            "cluster_name",
            name(CLUSTER_NAME_CHARS_MAX),
            name(CLUSTER_NAME_CHARS_MAX + 1),
        ),
        (
            "bootstrap: must have 1 to 64",
            members(BOOTSTRAP_MEMBERS_MAX),
            members(BOOTSTRAP_MEMBERS_MAX + 1),
        ),
        (
            "partitions",
            partitions(PARTITIONS_MAX),
            partitions(PARTITIONS_MAX + 1),
        ),
        (
            "limits.message",
            message(MESSAGE_BYTES_MAX),
            message(MESSAGE_BYTES_MAX + 1),
        ),
    ] {
        let problem = refused(&most)?;
        ensure!(problem.is_empty(), "{key}: at the limit: {problem}");
        let problem = refused(&over)?;
        ensure!(problem.contains(key), "{key}: over the limit: {problem:?}");
    }
    Ok(())
}
