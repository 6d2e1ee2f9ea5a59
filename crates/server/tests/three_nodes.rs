//! Three nodes in this process: any node takes any call, and a leader that leaves takes nothing with it.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use bytes::Bytes;
use futures::future::join_all;
use tidemill_proto::v1::{
    execution_service_client::ExecutionServiceClient, flow_service_client::FlowServiceClient,
    worker_service_client::WorkerServiceClient, *,
};
use tidemill_replica::Member;
use tidemill_server::{
    Config,
    boot::{Running, start},
    config::ClusterStart,
};
use tidemill_types::NodeId;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, transport::Channel};

const WAIT: Duration = Duration::from_secs(60);
const PARTITIONS: u16 = 2;
const EXECUTIONS: usize = 60;

const FLOW: &str = "
name: two
graph:
  nodes:
    - {id: a, componentId: shop, function: get}
    - {id: b, componentId: shop, function: put}
  edges: [{source: a, target: b}]
";

async fn three(dirs: &[tempfile::TempDir]) -> Vec<Running> {
    // Held until all three are known, so that the system gives three different ones.
    let held: Vec<TcpListener> = dirs
        .iter()
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .collect();
    let peers: Vec<SocketAddr> = held
        .iter()
        .map(|listener| listener.local_addr().expect("an address"))
        .collect();
    drop(held);
    let members: Vec<Member> = (1..)
        .zip(&peers)
        .map(|(id, peer)| Member {
            id: NodeId(id),
            peer: peer.to_string(),
            voter: true,
            ..Member::default()
        })
        .collect();
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let started = members.iter().zip(dirs).map(|(member, dir)| {
        start(Config {
            node_id: member.id,
            grpc: free,
            http: free,
            peer: member.peer.parse().expect("an address"),
            partitions: PARTITIONS,
            cluster: ClusterStart::Bootstrap(members.clone()),
            ..Config::dev(dir.path().join("data"))
        })
    });
    let nodes = timeout(WAIT, join_all(started)).await.expect("in time");
    let nodes: Vec<Running> = nodes
        .into_iter()
        .map(|node| node.expect("starts"))
        .collect();
    timeout(WAIT, join_all(nodes.iter().map(Running::ready)))
        .await
        .expect("ready in time");
    nodes
}

async fn channel(node: &Running) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{}", node.grpc)).expect("an address");
    endpoint.connect().await.expect("it listens")
}

/// Completes whatever it is given, until its node goes; gives how often each step took effect.
async fn work(channel: Channel) -> HashMap<String, u32> {
    let (sender, receiver) = mpsc::channel(16);
    let hello = WorkRequest {
        hello: Some(Hello {
            worker: "test".into(),
            serves: vec![ComponentFunction {
                component: "shop".into(),
                function: String::new(),
            }],
            lease_ms: 2_000,
            ..Hello::default()
        }),
        credits: Some(8),
        ..WorkRequest::default()
    };
    sender.send(hello).await.expect("room");
    let mut client = WorkerServiceClient::new(channel);
    let answers = client.work(ReceiverStream::new(receiver)).await;
    let mut answers = answers.expect("taken").into_inner();
    let mut accepted = HashMap::new();
    while let Some(Ok(answer)) = answers.next().await {
        let mut request = WorkRequest::default();
        for result in &answer.results {
            match result.status() {
                CompletionStatus::Accepted => {
                    let step = result.task_id.rsplit_once('/').expect("a task id").0;
                    *accepted.entry(step.to_owned()).or_default() += 1;
                }
                CompletionStatus::Retry => request.completions.push(success(&result.task_id)),
                CompletionStatus::Already | CompletionStatus::LeaseLost => {}
                CompletionStatus::Invalid | CompletionStatus::Unspecified => {
                    panic!("{result:?}")
                }
            }
        }
        let done = answer.tasks.iter().map(|task| success(&task.id));
        request.completions.extend(done);
        if !request.completions.is_empty() && sender.send(request).await.is_err() {
            break;
        }
    }
    accepted
}

fn success(task_id: &str) -> Completion {
    Completion {
        task_id: task_id.into(),
        outcome: Some(completion::Outcome::Success(Success {
            messages: vec![OutputMessage {
                message: Some(Message {
                    data: Bytes::from_static(b"1"),
                    ..Message::default()
                }),
                ..OutputMessage::default()
            }],
            node_state: None,
        })),
    }
}

/// Starts an execution, with the same request id until it is answered.
async fn run(channel: Channel, request_id: String) -> String {
    let mut client = ExecutionServiceClient::new(channel);
    loop {
        let request = StartExecutionRequest {
            flow: "two".into(),
            request_id: request_id.clone(),
            ..StartExecutionRequest::default()
        };
        match client.start_execution(request).await {
            Ok(answer) => return answer.into_inner().execution_id,
            Err(status) => assert!(
                matches!(status.code(), Code::Unavailable | Code::Unknown),
                "{status:?}"
            ),
        }
    }
}

async fn wait(channel: Channel, execution_id: String) -> ExecutionState {
    let mut client = ExecutionServiceClient::new(channel);
    loop {
        let request = WaitExecutionRequest {
            execution_id: execution_id.clone(),
            timeout_ms: 20_000,
            with_output: true,
            or_reply: false,
        };
        match client.wait_execution(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                if answer.ended {
                    assert_eq!(answer.output.len(), 1);
                    return answer.execution.expect("an execution").state();
                }
            }
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_node_takes_any_call_and_a_leaving_leader_takes_nothing_with_it() {
    let dirs: Vec<_> = (0..3)
        .map(|_| tempfile::tempdir().expect("a folder"))
        .collect();
    let mut nodes = three(&dirs).await;
    let channels = join_all(nodes.iter().map(channel)).await;
    let workers: Vec<_> = channels
        .iter()
        .map(|channel| tokio::spawn(work(channel.clone())))
        .collect();

    // Each call at another node: at least two of the three do not lead the catalog.
    let flow = |at: usize| FlowServiceClient::new(channels[at].clone());
    let apply = ApplyFlowRequest {
        document: FLOW.into(),
        ..ApplyFlowRequest::default()
    };
    let applied = flow(0).apply_flow(apply).await.expect("applied");
    let home = applied.into_inner().flow.expect("a flow").partition;
    let publish = PublishFlowRequest {
        flow: "two".into(),
        ..PublishFlowRequest::default()
    };
    flow(1).publish_flow(publish).await.expect("published");
    let begin = StartFlowRequest {
        flow: "two".into(),
        ..StartFlowRequest::default()
    };
    let started = flow(2).start_flow(begin).await.expect("started");
    let started = started.into_inner().flow.expect("a flow");
    assert_eq!(started.status(), FlowStatus::Active);
    for at in 0..3 {
        let get = GetFlowRequest { flow: "two".into() };
        let got = flow(at).get_flow(get).await.expect("found").into_inner();
        assert_eq!(got.flow.expect("a flow").status(), FlowStatus::Active);
    }

    // One through each node; watched at the next one.
    for at in 0..3 {
        let id = run(channels[at].clone(), format!("first-{at}")).await;
        let mut client = ExecutionServiceClient::new(channels[(at + 1) % 3].clone());
        let request = WatchExecutionRequest { execution_id: id };
        let watch = client.watch_execution(request).await.expect("watched");
        let mut watch = watch.into_inner();
        let mut last = None;
        while let Some(news) = timeout(WAIT, watch.next()).await.expect("in time") {
            last = news.expect("no error").execution;
        }
        let last = last.expect("news");
        assert_eq!(last.state(), ExecutionState::Succeeded);
        assert_eq!(last.steps, 2);
    }

    // The home partition's leader leaves while executions run.
    let home = usize::try_from(home).expect("fits") - 1;
    let leader = nodes
        .iter()
        .position(|node| node.node.partitions[home].leadership().borrow().is_self)
        .expect("a leader");
    let others: Vec<Channel> = (0..3)
        .filter(|at| *at != leader)
        .map(|at| channels[at].clone())
        .collect();
    let running = others
        .iter()
        .cycle()
        .zip(0..EXECUTIONS)
        .map(|(channel, at)| {
            let (channel, request_id) = (channel.clone(), format!("second-{at}"));
            tokio::spawn(async move {
                let id = run(channel.clone(), request_id).await;
                (id.clone(), wait(channel, id).await)
            })
        });
    let running: Vec<_> = running.collect();
    let leaving = nodes.remove(leader);
    timeout(WAIT, leaving.drain())
        .await
        .expect("drained in time");
    let ended = timeout(WAIT, join_all(running)).await.expect("in time");
    let mut ids: Vec<String> = Vec::new();
    for one in ended {
        let (id, state) = one.expect("no panic");
        assert_eq!(state, ExecutionState::Succeeded, "{id}");
        ids.push(id);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), EXECUTIONS, "one execution for each request id");

    for node in nodes {
        node.drain().await;
    }
    let mut accepted: HashMap<String, u32> = HashMap::new();
    for worker in join_all(workers).await {
        for (step, times) in worker.expect("no panic") {
            *accepted.entry(step).or_default() += times;
        }
    }
    for (step, times) in accepted {
        assert_eq!(times, 1, "{step} took effect more than once");
    }
}

const HOOK: &str = "{name: hook, graph: {nodes: [{id: a, componentId: log, function: write}]}}";

/// Posts to the flow `hook`; gives the status line and the rest.
async fn post(node: &Running, request_id: &str) -> (String, String) {
    let mut stream = TcpStream::connect(node.http).await.expect("it listens");
    let request = format!(
        "POST /hook/hook HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
         X-Request-Id: {request_id}\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let (status, rest) = answer.split_once("\r\n").expect("a status line");
    (status.to_owned(), rest.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn webhooks_are_taken_by_any_node_from_the_moment_that_the_flow_is_active() {
    let dirs: Vec<_> = (0..3)
        .map(|_| tempfile::tempdir().expect("a folder"))
        .collect();
    let nodes = three(&dirs).await;
    let mut flows = FlowServiceClient::new(channel(&nodes[0]).await);
    let apply = ApplyFlowRequest {
        document: HOOK.into(),
        ..ApplyFlowRequest::default()
    };
    flows.apply_flow(apply).await.expect("applied");
    let publish = PublishFlowRequest {
        flow: "hook".into(),
        ..PublishFlowRequest::default()
    };
    flows.publish_flow(publish).await.expect("published");
    let start = StartFlowRequest {
        flow: "hook".into(),
        ..StartFlowRequest::default()
    };
    flows.start_flow(start).await.expect("started");
    // At once, at all three: some may not have heard of it yet.
    let first = nodes
        .iter()
        .zip(0..)
        .map(|(node, at)| async move { post(node, &format!("first-{at}")).await });
    for (status, rest) in timeout(WAIT, join_all(first)).await.expect("in time") {
        assert!(status.contains("200"), "{status} {rest}");
    }
    let same = nodes
        .iter()
        .cycle()
        .take(50)
        .map(|node| async move { post(node, "same").await });
    let answers = timeout(WAIT, join_all(same)).await.expect("in time");
    let bodies: Vec<&str> = answers
        .iter()
        .map(|(_, rest)| rest.split_once("\r\n\r\n").expect("a body").1)
        .collect();
    assert!(bodies[0].contains("exe_"), "{}", bodies[0]);
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    for node in nodes {
        node.drain().await;
    }
}
