//! One node in this process, and requests to its HTTP port.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde_json::Value;
use tidemill_proto::v1::{flow_service_client::FlowServiceClient, *};
use tidemill_server::{
    Config,
    boot::{Running, start},
    config::SecretText,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::transport::Channel;

pub const WAIT: Duration = Duration::from_secs(60);
pub const JSON: (&str, &str) = ("Content-Type", "application/json");
/// The secret `hooks` of the node's configuration.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub struct Server {
    pub running: Running,
    channel: Channel,
    _dir: tempfile::TempDir,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Server {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A node whose configuration is changed first.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config {
            grpc: free,
            http: free,
            peer: free,
            partitions: 2,
            webhook_secrets: BTreeMap::from([("hooks".to_owned(), SecretText::new(SECRET))]),
            ..Config::dev(dir.path().join("data"))
        };
        change(&mut config);
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

    pub fn flows(&self) -> FlowServiceClient<Channel> {
        FlowServiceClient::new(self.channel.clone())
    }

    /// Makes a flow of these nodes (and edges) run; gives its id.
    pub async fn activate(&self, trigger: &str, graph: &str) -> String {
        let name = format!("flow-{}", rand::random::<u64>());
        let apply = ApplyFlowRequest {
            document: format!("name: {name}\n{trigger}\ngraph: {{{graph}}}"),
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

    /// `line` is method and path.
    pub async fn send(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        send(self.running.http, line, headers, body).await
    }

    /// The page for Prometheus.
    pub async fn metrics(&self) -> String {
        self.send("GET /metrics", &[], b"").await.text
    }
}

pub async fn send(
    address: SocketAddr,
    line: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let mut request = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
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
    let mut answer = Vec::new();
    let _ = timeout(WAIT, stream.read_to_end(&mut answer))
        .await
        .expect("in time");
    let answer = String::from_utf8_lossy(&answer);
    let (head, text) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Answer {
        status: status.expect("a status"),
        head: head.to_ascii_lowercase(),
        text: text.to_owned(),
    }
}
