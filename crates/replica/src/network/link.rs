//! One connection per peer, and who speaks on it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tidemill_proto::peer::v1::peer_service_client::PeerServiceClient;
use tidemill_types::NodeId;
use tokio::sync::mpsc;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataMap, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use super::heartbeat::{Due, Hub};
use crate::{
    PeerStats,
    limits::{CONNECT_TIMEOUT, HEARTBEATS_WAITING_MAX, KEEP_ALIVE, PEER_MESSAGE_BYTES_MAX},
    tasks::Tasks,
};

const CLUSTER: &str = "tidemill-cluster";
const NODE: &str = "tidemill-node";
const TO: &str = "tidemill-to";

/// A connection to a peer that says who calls: use it as the channel of any gRPC client.
pub type PeerChannel = InterceptedService<Channel, PeerIdentity>;

pub(crate) type PeerClient = PeerServiceClient<PeerChannel>;

/// Says, in each call, which cluster and node calls, and which node is meant; refuses calls that come
/// from elsewhere or are meant for another.
#[derive(Clone)]
pub struct PeerIdentity {
    cluster: MetadataValue<Ascii>,
    node: MetadataValue<Ascii>,
    to: Option<MetadataValue<Ascii>>,
}

impl PeerIdentity {
    /// This node, to its peers. None when the cluster's name is not printable ASCII.
    #[must_use]
    pub fn new(cluster: &str, node: NodeId) -> Option<Self> {
        Some(Self {
            cluster: MetadataValue::try_from(cluster).ok()?,
            node: MetadataValue::from(node.0),
            to: None,
        })
    }

    fn to(&self, node: u64) -> Self {
        Self {
            to: Some(MetadataValue::from(node)),
            ..self.clone()
        }
    }

    fn check(&self, metadata: &MetadataMap) -> Result<(), Status> {
        match metadata.get(CLUSTER) {
            None => {
                return Err(Status::unauthenticated(
                    "this port is for nodes of the cluster: metadata tidemill-cluster is missing",
                ));
            }
            Some(cluster) if cluster != self.cluster => {
                return Err(Status::permission_denied("this node is of another cluster"));
            }
            Some(_) => {}
        }
        if metadata.get(NODE).is_none() {
            return Err(Status::unauthenticated("metadata tidemill-node is missing"));
        }
        match metadata.get(TO) {
            Some(to) if to != self.node => Err(Status::permission_denied(format!(
                "this is node {}",
                self.node.to_str().unwrap_or("?")
            ))),
            _ => Ok(()),
        }
    }

    /// For the peer port: refuses what is not of this cluster, or not for this node.
    pub(crate) fn guard(
        self,
    ) -> impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static {
        move |request| {
            self.check(request.metadata())?;
            Ok(request)
        }
    }
}

impl fmt::Debug for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerIdentity")
            .field("cluster", &self.cluster)
            .field("node", &self.node)
            .field("to", &self.to)
            .finish()
    }
}

impl Interceptor for PeerIdentity {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert(CLUSTER, self.cluster.clone());
        metadata.insert(NODE, self.node.clone());
        if let Some(to) = &self.to {
            metadata.insert(TO, to.clone());
        }
        Ok(request)
    }
}

/// What was sent to a peer.
#[derive(Default)]
pub(crate) struct LinkCounters {
    pub appends: AtomicU64,
    pub heartbeats: AtomicU64,
    pub failures: AtomicU64,
}

/// The connection to one peer.
pub(crate) struct Link {
    pub target: u64,
    address: String,
    pub channel: PeerChannel,
    /// One message takes the heartbeats of many groups.
    pub heartbeats: mpsc::Sender<Due>,
    pub counters: Arc<LinkCounters>,
}

impl Link {
    pub fn client(&self) -> PeerClient {
        member_client(self.channel.clone())
    }
}

/// A client for this crate's own service.
pub(crate) fn member_client(channel: PeerChannel) -> PeerClient {
    PeerServiceClient::new(channel)
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX)
}

/// The connections to all peers, made when they are first used.
pub(crate) struct Peers {
    node: NodeId,
    identity: PeerIdentity,
    heartbeat: Duration,
    tasks: Tasks,
    links: Mutex<BTreeMap<u64, Arc<Link>>>,
}

impl Peers {
    pub fn new(node: NodeId, identity: PeerIdentity, heartbeat: Duration, tasks: Tasks) -> Self {
        Self {
            node,
            identity,
            heartbeat,
            tasks,
            links: Mutex::new(BTreeMap::new()),
        }
    }

    pub fn node(&self) -> u64 {
        self.node.0
    }

    /// A connection to whichever node listens at `address`.
    pub fn channel_to_address(
        &self,
        address: &str,
    ) -> Result<PeerChannel, tonic::transport::Error> {
        Ok(InterceptedService::new(
            connect_lazily(address)?,
            self.identity.clone(),
        ))
    }

    /// The connection to a peer, which is at `address`.
    pub fn link(&self, target: u64, address: &str) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(&target)
            && link.address == address
        {
            return Arc::clone(link);
        }
        // An address that cannot be parsed was refused when the member was added; should one come
        // from elsewhere, calls to this one fail as if nobody listened.
        let channel = connect_lazily(address)
            .unwrap_or_else(|_| Endpoint::from_static("http://127.0.0.1:0").connect_lazy());
        let channel = InterceptedService::new(channel, self.identity.to(target));
        let (heartbeats, due) = mpsc::channel(HEARTBEATS_WAITING_MAX);
        let counters = Arc::new(LinkCounters::default());
        let hub = Hub::new(
            member_client(channel.clone()),
            due,
            self.heartbeat,
            Arc::clone(&counters),
        );
        self.tasks.spawn(hub.run());
        let link = Arc::new(Link {
            target,
            address: address.to_owned(),
            channel,
            heartbeats,
            counters,
        });
        links.insert(target, Arc::clone(&link));
        link
    }

    /// Lets all connections go, once whoever still uses one has ended.
    pub fn clear(&self) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.clear();
    }

    pub fn stats(&self) -> Vec<PeerStats> {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links
            .values()
            .map(|link| PeerStats {
                id: NodeId(link.target),
                appends_sent: link.counters.appends.load(Relaxed),
                heartbeats_sent: link.counters.heartbeats.load(Relaxed),
                failures: link.counters.failures.load(Relaxed),
            })
            .collect()
    }
}

/// HTTP/2 windows: a message of the largest size flows without waiting for the other side.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

fn connect_lazily(address: &str) -> Result<Channel, tonic::transport::Error> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        // A cut connection shows only in that nothing comes any more.
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect_lazy())
}
