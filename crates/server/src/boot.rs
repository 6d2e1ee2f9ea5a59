//! How a node starts: store, replica, membership, actors, ports.
//!
//! The order matters. Ports are taken first, so that a mistake shows before anything is written. The
//! peer port is served before the node knows its groups, since its peers may wait for it; so are health and
//! the cluster's status. All other requests are answered `UNAVAILABLE` until the node is a member.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use anyhow::Context as _;
use axum::http::HeaderValue;
use tidemill_core::{Catalog, Partition};
use tidemill_proto::v1::cluster_service_server::ClusterServiceServer;
use tidemill_replica::{ChangeError, Member, Replica, StartError};
use tidemill_store::{NodeStore, OpenError, StoreIdentity, StoreOptions};
use tidemill_types::{
    ErrorClass, NodeId, PartitionId,
    limits::{REQUEST_HEADERS_BYTES_MAX, STREAMS_PER_CONNECTION_MAX},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};
use tonic_health::{pb::health_server::HealthServer, server::HealthReporter};

use crate::{
    activator::{self, CatalogSink},
    actor::{self, ActorOptions, EffectSink, GroupHandle, GroupLog, ReplicaLog, Supervised},
    clock,
    cluster_service::Cluster,
    config::{ClusterStart, Config},
    door::Door,
    engine::Engine,
    files, gateway,
    http::{self, Monitor},
    late::LateRoutes,
    listen,
    metrics::Metrics,
    node::{Node, PartitionEffects},
    request::Observer,
    services::{LateServices, Port, Services},
    work::PartitionSink,
};

/// Between two tries to become part of the cluster.
const CLUSTER_RETRY: Duration = Duration::from_millis(200);
/// How long the catalog may take to say what is stored.
const STORED_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks at the disk's free space.
const SPACE_INTERVAL: Duration = Duration::from_millis(500);
/// A peer or client that does not answer pings for this time is gone.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// For the headers of an HTTP request, and between two requests on one connection.
const HTTP_HEADERS_TIMEOUT: Duration = Duration::from_secs(30);
/// What one stream may send ahead of its reader: a few messages of the usual size.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// `EX_SOFTWARE`: the store cannot go on, a restart reads what is really on the disk.
const EXIT_FAIL_STOP: i32 = 70;

/// A node that serves requests. Must be drained, or its ports stay open.
pub struct Running {
    /// The node.
    pub node: Arc<Node>,
    /// Where the public gRPC port listens.
    pub grpc: SocketAddr,
    /// Where the HTTP port listens.
    pub http: SocketAddr,
    /// Where the peer port listens.
    pub peer: SocketAddr,
    pub(crate) monitor: Arc<Monitor>,
    pub(crate) health: HealthReporter,
    pub(crate) ports: Vec<JoinHandle<()>>,
    /// Ends the ports.
    pub(crate) close: CancellationToken,
    pub(crate) actors: Vec<JoinHandle<()>>,
    /// Stops the actors.
    pub(crate) stop: CancellationToken,
    pub(crate) engine: Engine,
}

/// Starts a node; returns when it is part of its cluster and serves requests.
///
/// # Errors
/// What is wrong with the ports, the data directory or the cluster.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let never = CancellationToken::new();
    let running = start_unless(config, &never).await?;
    running.context("nobody told the node to stop")
}

/// Starts a node, unless it is told to stop before it is part of its cluster, which takes as long as
/// the other nodes of a new cluster are away. Nothing runs any more when it returns `None`. Must be awaited
/// to its end: RocksDB's threads end the process by a signal when it exits while they run.
///
/// # Errors
/// What is wrong with the ports, the data directory or the cluster.
pub async fn start_unless(
    config: Config,
    give_up: &CancellationToken,
) -> anyhow::Result<Option<Running>> {
    let grpc = bind(config.grpc, "gRPC").await?;
    let http = bind(config.http, "HTTP").await?;
    let (grpc_address, http_address) = (grpc.local_addr()?, http.local_addr()?);
    let engine = Engine::start().context("cannot start threads")?;
    let store = open_store(&config).await?;
    let metrics = Arc::new(Metrics::new());
    let started = clock::now();
    #[allow(clippy::cast_precision_loss)] // microseconds since 1970 fit an f64 until the year 2255
    let seconds = started.0 as f64 / 1e6;
    metrics
        .sources
        .set_build(env!("CARGO_PKG_VERSION"), seconds);
    let peer_routes = LateRoutes::default();
    let (health, health_service) = tonic_health::server::health_reporter();
    health
        .set_service_status("", tonic_health::ServingStatus::NotServing)
        .await;
    let on_peer_port = Routes::from(peer_routes.router()).add_service(health_service.clone());
    let replica = engine
        .raft()
        .spawn(Replica::start(config.replica(), store, on_peer_port))
        .await
        .context("the replica panicked")?
        .map_err(|error| {
            let is_damaged = matches!(error, StartError::Damaged { .. });
            or_replace(error.into(), is_damaged)
        })?;
    let shutdown = CancellationToken::new();
    let (close, stop) = (CancellationToken::new(), CancellationToken::new());
    let monitor = Arc::new(Monitor {
        replica: Arc::clone(&replica),
        metrics: Arc::clone(&metrics),
        node: Arc::new(OnceLock::new()),
        shutdown: shutdown.clone(),
    });
    let public_services = LateServices::default();
    let connections = files::allow_connections();
    let mut ports = vec![serve_http(http, &monitor, connections.http, close.clone())];
    ports.push(serve_grpc(
        grpc,
        Port {
            observer: Observer::new(Arc::clone(&metrics), addresses(&replica)),
            door: Door::new(&metrics),
            early: early_services(health_service, &config, &replica)?,
            late: Arc::clone(&public_services),
        },
        connections.grpc,
        close.clone(),
    ));
    let own = own_member(&config, &replica, grpc_address, http_address);
    let member = tokio::select! {
        member = become_member(&config, &engine, &replica, &own) => member.map(|()| true),
        () = give_up.cancelled() => Ok(false),
    };
    if !matches!(member, Ok(true)) {
        // The data directory must be free again for whoever corrects the mistake.
        close.cancel();
        futures::future::join_all(ports).await;
        replica.stop().await;
        drop((replica, monitor));
        engine.stop().await;
        return member.map(|_| None);
    }

    let disk_low = Arc::new(AtomicBool::new(false));
    ports.push(watch_space(&replica, &disk_low, close.clone()));
    let logs = logs(&replica);
    let effects = Arc::new(PartitionEffects {
        catalog: Arc::new(CatalogSink::new()),
        partitions: logs
            .keys()
            .filter(|id| !id.is_catalog())
            .map(|id| Arc::new(PartitionSink::new(*id)))
            .collect(),
    });
    let mut actors = Actors {
        metrics: &metrics,
        disk_low: &disk_low,
        stop: &stop,
        engine: &engine,
        tasks: Vec::new(),
    };
    let catalog = logs
        .get(&PartitionId::CATALOG)
        .context("the catalog is not there")?;
    let sink = Arc::clone(&effects.catalog);
    let catalog = actors.spawn::<Catalog>(Arc::clone(catalog), config.catalog(), sink as _);
    let mut partitions = Vec::new();
    for (id, log) in logs.into_iter().filter(|(id, _)| !id.is_catalog()) {
        let sink = effects
            .of(id)
            .context("partitions are numbered from 1 without a gap")?;
        let sink = Arc::clone(sink);
        partitions.push(actors.spawn::<Partition>(log, config.partition(), sink as _));
    }
    let actors = actors.tasks;
    let node = Arc::new(Node {
        config,
        replica: Arc::clone(&replica),
        catalog,
        partitions,
        metrics,
        effects,
        clock: clock::system(),
        shutdown,
    });
    peer_routes.set(gateway::peer_routes(Arc::clone(&node)));
    activator::spawn(Arc::clone(&node));
    // The only one that sets them.
    let _ = public_services.set(gateway::public_services(Arc::clone(&node)));
    health
        .set_service_status("", tonic_health::ServingStatus::Serving)
        .await;
    // The only one that sets it.
    let _ = monitor.node.set(Arc::clone(&node));
    Ok(Some(Running {
        grpc: grpc_address,
        http: http_address,
        peer: replica.peer_address(),
        node,
        monitor,
        health,
        ports,
        close,
        actors,
        stop,
        engine,
    }))
}

impl Running {
    /// Waits until every group has a leader and this node has applied what is committed.
    pub async fn ready(&self) {
        while !self.monitor.not_ready().await.is_empty() {
            tokio::time::sleep(CLUSTER_RETRY / 10).await;
        }
    }
}

async fn bind(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen for {what} on {address}"))
}

async fn open_store(config: &Config) -> anyhow::Result<NodeStore> {
    let identity = StoreIdentity::new(config.cluster_name.clone(), config.node_id);
    let options = StoreOptions {
        reserve_bytes: config.reserve_bytes,
        block_cache_bytes: config.block_cache_bytes,
        state_memory_bytes: config.state_memory_bytes,
        on_fail_stop: Some(Arc::new(|why: &str| {
            tracing::error!(
                why,
                "the store has stopped, so the process ends; free or repair the disk and start it again"
            );
            crate::telemetry::finish_lines();
            std::process::exit(EXIT_FAIL_STOP);
        })),
        ..StoreOptions::default()
    };
    let dir = config.data_dir.clone();
    let opened =
        tokio::task::spawn_blocking(move || NodeStore::open(&dir, &identity, options)).await;
    let opened = opened.context("opening the store panicked")?;
    opened.map_err(|error| {
        let is_damaged = matches!(&error, OpenError::Store { error, .. } if error.class() == ErrorClass::Corrupt);
        or_replace(error.into(), is_damaged)
    })
}

/// Damage is for a person, who should read there what to do.
fn or_replace(error: anyhow::Error, is_damaged: bool) -> anyhow::Error {
    if is_damaged {
        anyhow::anyhow!(
            "{error:#}; keep the directory for analysis and replace this node under a new id: \
             docs/operations.md, \"A damaged store\""
        )
    } else {
        error
    }
}

/// This node as others reach it: where it listens.
fn own_member(config: &Config, replica: &Replica, grpc: SocketAddr, http: SocketAddr) -> Member {
    Member {
        id: config.node_id,
        peer: replica.peer_address().to_string(),
        grpc: grpc.to_string(),
        http: http.to_string(),
        voter: true,
    }
}

/// Bootstraps or joins, until this node has all groups.
async fn become_member(
    config: &Config,
    engine: &Engine,
    replica: &Arc<Replica>,
    own: &Member,
) -> anyhow::Result<()> {
    let stored = stored_partitions(replica).await;
    if stored > 0 && config.partitions_chosen && stored != config.partitions {
        anyhow::bail!(
            "partitions: the data directory has {stored}, the configuration says {}; their number cannot be changed",
            config.partitions
        );
    }
    let mut said = String::new();
    loop {
        let (replica_, own, start) = (Arc::clone(replica), own.clone(), config.cluster.clone());
        let partitions = if stored > 0 {
            stored
        } else {
            config.partitions
        };
        // What the replica spawns belongs on its own runtime.
        let change = engine.raft().spawn(async move {
            match start {
                ClusterStart::Alone => replica_.bootstrap(&[own], partitions).await,
                // As it is written, the same on all nodes: it becomes the first entry of each log.
                ClusterStart::Bootstrap(members) => replica_.bootstrap(&members, partitions).await,
                // With data it is a member already; what it misses comes from the leaders.
                ClusterStart::Join(_)
                    if replica_.partitions() > 0 && is_member(&replica_, &own) =>
                {
                    Ok(())
                }
                ClusterStart::Join(via) => replica_.await_adding(&via).await,
            }
        });
        match change.await.context("the replica panicked")? {
            Ok(()) => {}
            Err(ChangeError::Unavailable(reason) | ChangeError::Unknown(reason)) => {
                if said != reason {
                    tracing::info!(reason, "not part of the cluster yet, trying again");
                    said = reason;
                }
            }
            Err(error @ (ChangeError::Invalid(_) | ChangeError::Conflict(_))) => {
                return Err(error).context("cannot become part of the cluster");
            }
        }
        let partitions = replica.partitions();
        let known = logs(replica);
        let all = (0..=partitions).all(|id| known.contains_key(&PartitionId(id)));
        if partitions > 0 && all {
            return Ok(());
        }
        tokio::time::sleep(CLUSTER_RETRY).await;
    }
}

/// The number of partitions in the data directory; 0 when it is new.
async fn stored_partitions(replica: &Replica) -> u16 {
    if logs(replica).keys().all(|id| id.is_catalog()) {
        return 0;
    }
    // With data the number is known as soon as the catalog has read its own; without it for long, the
    // bootstrap was cut short, and is done again.
    let known = async {
        while replica.partitions() == 0 {
            tokio::time::sleep(CLUSTER_RETRY / 20).await;
        }
    };
    let _ = tokio::time::timeout(STORED_TIMEOUT, known).await;
    replica.partitions()
}

/// The groups of this node: those that it opened, and those that it could not.
fn logs(replica: &Replica) -> BTreeMap<PartitionId, Arc<dyn GroupLog>> {
    let opened = replica.groups().into_iter().map(|group| {
        let log: Arc<dyn GroupLog> = Arc::new(ReplicaLog::new(group));
        (log.id(), log)
    });
    let stopped = replica.stopped_groups().into_iter().map(|group| {
        let log: Arc<dyn GroupLog> = Arc::new(group);
        (log.id(), log)
    });
    opened.chain(stopped).collect()
}

fn is_member(replica: &Replica, own: &Member) -> bool {
    replica.members().iter().any(|m| m.id == own.id && m.voter)
}

/// Starts the groups' actors.
struct Actors<'a> {
    metrics: &'a Arc<Metrics>,
    disk_low: &'a Arc<AtomicBool>,
    stop: &'a CancellationToken,
    engine: &'a Engine,
    tasks: Vec<JoinHandle<()>>,
}

impl Actors<'_> {
    fn spawn<D: Supervised>(
        &mut self,
        log: Arc<dyn GroupLog>,
        config: D::Config,
        sink: Arc<dyn EffectSink<D::Effect>>,
    ) -> GroupHandle<D> {
        let number = usize::from(log.id().0);
        let options = ActorOptions {
            config,
            sink,
            metrics: Arc::clone(self.metrics),
            clock: clock::system(),
            disk_low: Arc::clone(self.disk_low),
            stop: self.stop.clone(),
        };
        let (handle, task) = actor::spawn(log, options, self.engine.actor(number));
        self.tasks.push(task);
        handle
    }
}

fn serve_http(
    listener: TcpListener,
    monitor: &Arc<Monitor>,
    most: usize,
    close: CancellationToken,
) -> JoinHandle<()> {
    let router = http::router(Arc::clone(monitor));
    let serve = http::serve(listener, router, HTTP_HEADERS_TIMEOUT, most, close);
    tokio::spawn(serve)
}

/// Where nodes serve clients.
fn addresses(replica: &Arc<Replica>) -> impl Fn(NodeId) -> Option<HeaderValue> + use<> {
    let replica = Arc::clone(replica);
    move |node| HeaderValue::from_str(&replica.member(node)?.grpc).ok()
}

/// What is served before the node is part of its cluster.
fn early_services<H: tonic_health::pb::health_server::Health>(
    health: HealthServer<H>,
    config: &Config,
    replica: &Arc<Replica>,
) -> anyhow::Result<Arc<Services>> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(tidemill_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("descriptors are made by the build")?;
    let cluster = Cluster {
        name: config.cluster_name.clone(),
        replica: Arc::clone(replica),
    };
    let services = Services::default()
        .with(ClusterServiceServer::new(cluster))
        .with(health)
        .with(reflection);
    Ok(Arc::new(services))
}

fn serve_grpc(
    listener: TcpListener,
    port: Port,
    most: usize,
    close: CancellationToken,
) -> JoinHandle<()> {
    let serve = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .http2_max_header_list_size(REQUEST_HEADERS_BYTES_MAX)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .serve_with_incoming_shutdown(
            port,
            listen::connections(listener, most),
            close.cancelled_owned(),
        );
    tokio::spawn(async move {
        if let Err(error) = serve.await {
            tracing::error!(%error, "gRPC port ended");
        }
    })
}

/// Keeps the flag up to date, and says when it changes.
fn watch_space(
    replica: &Arc<Replica>,
    low: &Arc<AtomicBool>,
    close: CancellationToken,
) -> JoinHandle<()> {
    let (replica, low) = (Arc::clone(replica), Arc::clone(low));
    let watch = async move {
        loop {
            if let Some(space) = replica.space() {
                let was = low.swap(space.low, std::sync::atomic::Ordering::Relaxed);
                if space.low && !was {
                    tracing::warn!(free = space.free, "disk nearly full, new work is refused");
                } else if was && !space.low {
                    tracing::info!(
                        free = space.free,
                        "disk has room again, new work is accepted"
                    );
                }
            }
            tokio::time::sleep(SPACE_INTERVAL).await;
        }
    };
    tokio::spawn(async move {
        close.run_until_cancelled(watch).await;
    })
}
