//! Traces go from the caller through the node to a collector.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, http::Uri};
use tidemill_proto::v1::{GetStatusRequest, cluster_service_client::ClusterServiceClient};
use tidemill_server::{Config, boot::start, telemetry};
use tokio::{net::TcpListener, time::timeout};
use tonic::{Request, transport::Channel};

const WAIT: Duration = Duration::from_secs(30);
const TRACE: [u8; 16] = [
    0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36,
];

/// Takes whatever comes by gRPC; gives its address and what came: the path and the message.
async fn collector() -> (SocketAddr, Arc<Mutex<Vec<(String, Bytes)>>>) {
    let received = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let into = Arc::clone(&received);
    let router = Router::new().fallback(move |uri: Uri, body: Bytes| async move {
        into.lock()
            .expect("not poisoned")
            .push((uri.path().to_owned(), body));
        (
            [("content-type", "application/grpc"), ("grpc-status", "0")],
            "",
        )
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, received)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_a_span_of_the_callers_trace() {
    let (address, received) = collector().await;
    let dir = tempfile::tempdir().expect("a folder");
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config {
        grpc: free,
        http: free,
        peer: free,
        otlp_endpoint: Some(format!("http://{address}")),
        ..Config::dev(dir.path())
    };
    let telemetry = telemetry::init(&config).expect("telemetry");
    let running = timeout(WAIT, start(config))
        .await
        .expect("in time")
        .expect("starts");
    let channel = Channel::from_shared(format!("http://{}", running.grpc)).expect("an address");
    let mut cluster = ClusterServiceClient::new(channel.connect().await.expect("it listens"));
    let mut request = Request::new(GetStatusRequest {});
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    request
        .metadata_mut()
        .insert("traceparent", parent.parse().expect("ASCII"));
    cluster.get_status(request).await.expect("status");
    running.drain().await;
    // Sends what it holds.
    timeout(WAIT, telemetry.stop()).await.expect("in time");
    let received = received.lock().expect("not poisoned");
    let sent = received.iter().any(|(path, body)| {
        path.ends_with("TraceService/Export")
            && contains(body, &TRACE)
            && contains(body, b"ClusterService/GetStatus")
    });
    assert!(
        sent,
        "{} message(s) came, none of them with the span",
        received.len()
    );
}
