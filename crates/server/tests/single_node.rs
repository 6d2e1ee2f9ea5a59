//! One node in this process: what it serves, how it starts and stops.

use std::{net::SocketAddr, time::Duration};

use tidemill_proto::v1::{
    AddMemberRequest, GetStatusRequest, RemoveMemberRequest, TransferLeadershipRequest,
    cluster_service_client::ClusterServiceClient,
};
use tidemill_server::{
    Config,
    boot::{Running, start, start_unless},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

const WAIT: Duration = Duration::from_secs(30);

fn config(dir: &tempfile::TempDir) -> Config {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    Config {
        grpc: free,
        http: free,
        peer: free,
        ..Config::dev(dir.path().join("data"))
    }
}

async fn ready(config: Config) -> Running {
    let running = timeout(WAIT, start(config))
        .await
        .expect("in time")
        .expect("starts");
    timeout(WAIT, running.ready()).await.expect("ready in time");
    running
}

async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect().await.expect("it listens")
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it reads");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .expect("it answers");
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status.expect("a status"), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_health_reflection_status_and_monitoring() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = ready(config(&dir)).await;
    let channel = channel(running.grpc).await;

    let mut health = HealthClient::new(channel.clone());
    let answer = health
        .check(HealthCheckRequest::default())
        .await
        .expect("health");
    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);

    let mut reflection = ServerReflectionClient::new(channel.clone());
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = reflection
        .server_reflection_info(tokio_stream::once(list))
        .await
        .expect("reflection")
        .into_inner();
    let answer = answers.next().await.expect("an answer").expect("no error");
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("expected a list, got {answer:?}");
    };
    let names: Vec<_> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    assert!(
        names
            .iter()
            .any(|name| name == "tidemill.v1.ClusterService"),
        "{names:?}"
    );

    let mut cluster = ClusterServiceClient::new(channel);
    let status = cluster
        .get_status(GetStatusRequest {})
        .await
        .expect("status")
        .into_inner();
    assert_eq!((status.cluster.as_str(), status.node_id), ("dev", 1));
    assert_eq!(status.members.len(), 1);
    assert!(status.members[0].voter && status.members[0].reachable);
    assert_eq!(status.members[0].grpc, running.grpc.to_string());
    let leaders: Vec<_> = status
        .partitions
        .iter()
        .map(|group| (group.id, group.leader))
        .collect();
    assert_eq!(leaders, [(0, 1), (1, 1)]);

    assert_eq!(get(running.http, "/live").await.0, 200);
    let (code, body) = get(running.http, "/ready").await;
    assert_eq!(
        (code, body.as_str()),
        (200, r#"{"ready":true,"reasons":[]}"#)
    );
    let (code, body) = get(running.http, "/metrics").await;
    assert_eq!(code, 200);
    for metric in [
        "tidemill_actor_epochs_total{partition=\"1\"} ",
        "tidemill_request_total{rpc=\"ClusterService/GetStatus\",status=\"OK\"} 1",
        "tidemill_raft_leader_state{partition=\"0\"} 1",
        "tidemill_build_info{version=",
        "process_resident_memory_bytes ",
    ] {
        assert!(body.contains(metric), "{metric} is not in\n{body}");
    }
    assert_eq!(get(running.http, "/other").await.0, 404);
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_wrong_changes_of_the_cluster() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = ready(config(&dir)).await;
    let mut cluster = ClusterServiceClient::new(channel(running.grpc).await);
    let code = |status: tonic::Status| status.code();
    let error = cluster
        .add_member(AddMemberRequest::default())
        .await
        .map_err(code);
    assert_eq!(error.err(), Some(Code::InvalidArgument));
    let error = cluster
        .remove_member(RemoveMemberRequest { id: 9 })
        .await
        .map_err(code);
    assert_eq!(error.err(), Some(Code::InvalidArgument), "not a member");
    let error = cluster
        .remove_member(RemoveMemberRequest { id: 1 })
        .await
        .map_err(code);
    assert_eq!(error.err(), Some(Code::InvalidArgument), "the last voter");
    for (partition, to) in [(Some(9), 1), (Some(70_000), 1), (None, 9)] {
        let request = TransferLeadershipRequest { partition, to };
        let error = cluster.transfer_leadership(request).await.map_err(code);
        assert_eq!(
            error.err(),
            Some(Code::InvalidArgument),
            "{partition:?} to {to}"
        );
    }
    let request = TransferLeadershipRequest {
        partition: None,
        to: 1,
    };
    assert!(
        cluster.transfer_leadership(request).await.is_ok(),
        "it leads already"
    );
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_ports_harms_nobody() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = ready(config(&dir)).await;
    for port in [running.grpc, running.peer, running.http] {
        let mut stream = TcpStream::connect(port).await.expect("it listens");
        let garbage: Vec<u8> = (0..4096_u32).map(|n| (n * 31 % 251) as u8).collect();
        // It may be closed in the middle.
        let _ = stream.write_all(&garbage).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = timeout(WAIT, stream.read_to_end(&mut answer))
            .await
            .expect("it is closed");
    }
    assert_eq!(get(running.http, "/ready").await.0, 200);
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_belongs_to_one_node_of_one_cluster() {
    let dir = tempfile::tempdir().expect("a folder");
    let good = config(&dir);
    ready(good.clone()).await.drain().await;
    let refused = |config: Config| async move {
        match timeout(WAIT, start(config)).await.expect("in time") {
            Ok(_) => panic!("started on foreign data"),
            Err(error) => format!("{error:#}"),
        }
    };
    let other = Config {
        cluster_name: "other".into(),
        ..good.clone()
    };
    let error = refused(other).await;
    assert!(
        error.contains("belongs to node 1 of cluster \"dev\""),
        "{error}"
    );
    let other = Config {
        partitions: 3,
        partitions_chosen: true,
        ..good.clone()
    };
    let error = refused(other).await;
    assert!(
        error.contains("the data directory has 1, the configuration says 3"),
        "{error}"
    );
    let identity = good.data_dir.join("IDENTITY");
    let text = std::fs::read_to_string(&identity).expect("an identity");
    std::fs::write(&identity, text.replace("\"format\": 1", "\"format\": 99")).expect("written");
    let error = refused(good.clone()).await;
    assert!(error.contains("format 99"), "{error}");
    std::fs::write(&identity, text).expect("written");
    // What is right still starts, and knows what it was.
    let running = ready(good).await;
    assert_eq!(running.node.partitions.len(), 1);
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let config = Config {
        grpc: address,
        ..config(&dir)
    };
    let error = start(config).await.err().expect("the port is taken");
    assert!(format!("{error:#}").contains(&format!("cannot listen for gRPC on {address}")));
    assert!(!dir.path().join("data").exists(), "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_waits_for_its_peers_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    // Held until the node takes them, so that no other test of this process gets the same.
    let ports: Vec<_> = (0..3)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"))
        .collect();
    let [grpc, http, away] = [0, 1, 2].map(|n: usize| ports[n].local_addr().expect("an address"));
    let config = Config {
        cluster: tidemill_server::config::ClusterStart::Join(away.to_string()),
        grpc,
        http,
        ..config(&dir)
    };
    drop(ports);
    let give_up = CancellationToken::new();
    let until = give_up.clone();
    let starting = tokio::spawn(async move { start_unless(config, &until).await });
    let wait = async {
        while TcpStream::connect(http).await.is_err() || TcpStream::connect(grpc).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await; // between two looks at the ports
        }
    };
    timeout(WAIT, wait).await.expect("the ports are served");
    assert_eq!(get(http, "/live").await.0, 200);
    let (code, body) = get(http, "/ready").await;
    assert_eq!(code, 503);
    assert!(
        body.contains("the node is not part of its cluster yet"),
        "{body}"
    );
    let channel = channel(grpc).await;
    let answer = HealthClient::new(channel.clone())
        .check(HealthCheckRequest::default())
        .await;
    let answer = answer.expect("health").into_inner();
    assert_eq!(answer.status(), ServingStatus::NotServing);
    let mut flows = tidemill_proto::v1::flow_service_client::FlowServiceClient::new(channel);
    let error = flows
        .list_flows(tidemill_proto::v1::ListFlowsRequest::default())
        .await
        .expect_err("not yet");
    assert_eq!(error.code(), Code::Unavailable);
    give_up.cancel();
    let started = timeout(WAIT, starting).await.expect("it gives up");
    let started = started.expect("no panic").expect("no error");
    assert!(started.is_none(), "it was told to stop");
}
