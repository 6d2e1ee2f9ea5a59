//! etcd: a durable put, replicated to a majority. The floor for a replicated commit.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use prost::Message;
use serde_json::{Map, Value};
use tonic::{
    Request, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel,
    transport::Endpoint,
};
use tonic_prost::ProstCodec;

use crate::{
    closed_loop::{self, Client},
    process::{READY_POLL, READY_TIMEOUT, Server, free_port},
};

/// What is said beside the figures.
pub const DURABILITY: &str =
    "defaults: the WAL is fsynced on a majority before an answer; puts of 256 bytes";
/// Bytes of one value.
const VALUE_BYTES: usize = 256;
/// How clients reach a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Clients {
    /// How many.
    pub count: usize,
    /// How many share one gRPC connection. The fewer connections, the less CPU a call costs the server.
    pub per_connection: usize,
    /// All ask the leader; otherwise they are spread over the nodes.
    pub ask_leader: bool,
}

/// Puts by clients on a fresh cluster.
///
/// # Errors
/// When anything fails, or a put that was acknowledged is not there.
pub async fn start(
    binary: &Path,
    nodes: usize,
    clients: Clients,
    duration: Duration,
) -> Result<Map<String, Value>> {
    let folder = tempfile::Builder::new().prefix("peers-etcd").tempdir()?;
    let mut servers = Vec::new();
    let mut ports = Vec::new();
    for _ in 0..nodes {
        ports.push((free_port()?, free_port()?));
    }
    let cluster: Vec<String> = ports
        .iter()
        .enumerate()
        .map(|(n, (_, peer))| format!("n{n}=http://127.0.0.1:{peer}"))
        .collect();
    for (n, (client, peer)) in ports.iter().enumerate() {
        let mut command = Command::new(binary);
        let client = format!("http://127.0.0.1:{client}");
        let peer = format!("http://127.0.0.1:{peer}");
        command
            .args(["--name", &format!("n{n}")])
            .arg("--data-dir")
            .arg(folder.path().join(format!("n{n}")))
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &cluster.join(",")])
            .args(["--initial-cluster-state", "new"])
            .args(["--logger", "zap", "--log-level", "error"]);
        // What is set in the tester's shell must not change the server.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(name);
            }
        }
        servers.push(Server::start(&format!("etcd-{n}"), command, folder.path())?);
    }
    let leader = leader(&ports, &mut servers).await?;
    let mut putters = Vec::new();
    let mut connection = None;
    for n in 0..clients.count {
        if n % clients.per_connection == 0 {
            let node = ports[(n / clients.per_connection) % ports.len()].0;
            connection = Some(connect(if clients.ask_leader { leader } else { node })?);
        }
        putters.push(Putter {
            grpc: connection.clone().context("made with the first client")?,
        });
    }
    let measured = closed_loop::run(putters, duration, &servers, 1).await?;
    // Each put wrote a key of its own, so the store must hold exactly as many.
    let held = count(connect(leader)?).await?;
    ensure!(
        held == measured.answered,
        "{} puts were acknowledged, but {held} keys are there",
        measured.answered
    );
    Ok(measured.result)
}

/// The client port of the node that leads, once all nodes know it.
async fn leader(ports: &[(u16, u16)], servers: &mut [Server]) -> Result<u16> {
    let deadline = tokio::time::Instant::now() + READY_TIMEOUT;
    loop {
        let mut of_node = Vec::new();
        for (port, _) in ports {
            if let Ok(status) = status(*port).await {
                let member = status.header.unwrap_or_default().member_id;
                of_node.push((*port, member, status.leader));
            }
        }
        let first = of_node.first().map_or(0, |(_, _, leader)| *leader);
        let agreed = of_node.iter().all(|(_, _, leader)| *leader == first);
        if of_node.len() == ports.len() && agreed && first != 0 {
            let leading = of_node.iter().find(|(_, member, _)| *member == first);
            return Ok(leading.context("the leader is a member")?.0);
        }
        for server in &mut *servers {
            server.still_runs()?;
        }
        if tokio::time::Instant::now() >= deadline {
            bail!("etcd has no leader after {READY_TIMEOUT:?}");
        }
        tokio::time::sleep(READY_POLL).await;
    }
}

fn connect(port: u16) -> Result<Grpc<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?.tcp_nodelay(true);
    Ok(Grpc::new(endpoint.connect_lazy()))
}

async fn call<A, B>(grpc: &mut Grpc<Channel>, path: &'static str, request: A) -> Result<B>
where
    A: Message + Send + Sync + 'static,
    B: Message + Default + Send + Sync + 'static,
{
    grpc.ready().await?;
    let response = grpc
        .unary(
            Request::new(request),
            PathAndQuery::from_static(path),
            ProstCodec::<A, B>::default(),
        )
        .await?;
    Ok(response.into_inner())
}

async fn status(port: u16) -> Result<StatusResponse> {
    call(
        &mut connect(port)?,
        "/etcdserverpb.Maintenance/Status",
        StatusRequest {},
    )
    .await
}

/// How many keys there are, by a linearizable read.
async fn count(mut grpc: Grpc<Channel>) -> Result<u64> {
    let request = RangeRequest {
        key: b"p".to_vec(),
        range_end: b"q".to_vec(),
        count_only: true,
    };
    let response: RangeResponse = call(&mut grpc, "/etcdserverpb.KV/Range", request).await?;
    Ok(u64::try_from(response.count)?)
}

struct Putter {
    grpc: Grpc<Channel>,
}

impl Client for Putter {
    async fn call(&mut self, number: u64) -> Result<()> {
        let request = PutRequest {
            key: format!("p{number:016}").into_bytes(),
            value: vec![b'v'; VALUE_BYTES],
        };
        let response: PutResponse = call(&mut self.grpc, "/etcdserverpb.KV/Put", request).await?;
        ensure!(response.header.is_some(), "a put without a header");
        Ok(())
    }
}

// The few messages of etcd's API that are needed, with the field numbers of its rpc.proto.

#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    range_end: Vec<u8>,
    #[prost(bool, tag = "9")]
    count_only: bool,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(int64, tag = "4")]
    count: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}
