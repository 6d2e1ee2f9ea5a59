//! Gateways: what a node answers to clients. Any node takes any call.
//!
//! Owns the translation between the wire and the core, the checks that need no state, and the way to
//! the leader. Must never: decide anything that depends on state (the core does), answer a write
//! before it is committed, or forward a call that was forwarded before.

mod check;
mod execution;
mod flow;
mod journal;
mod page;
pub(crate) mod rest;
mod route;
mod schedule;
mod status;
pub(crate) mod webhook;

use std::sync::Arc;

use tidemill_proto::{
    peer::v1::{
        partition_control_service_server::PartitionControlServiceServer,
        partition_work_service_server::PartitionWorkServiceServer,
    },
    v1::{
        execution_service_server::ExecutionServiceServer, flow_service_server::FlowServiceServer,
        journal_service_server::JournalServiceServer,
        schedule_service_server::ScheduleServiceServer, worker_service_server::WorkerServiceServer,
    },
};
use tidemill_types::limits::{GRPC_REQUEST_BYTES_MAX, WORK_MESSAGE_BYTES_MAX};
use tonic::service::Routes;

use self::rest::{SHORT_BYTES, of_short};
pub(crate) use self::{
    check::{CheckResult, Checks, invalid},
    route::{Kind, forwarded},
    status::{code_of, is_not_leader, status},
};
use crate::{
    node::Node,
    services::Services,
    work::{AttachService, ControlService, WorkerGateway},
};

/// What the gateways of a node keep besides it.
pub(crate) struct Open {
    pub node: Arc<Node>,
    pub nodes: execution::NodeNames,
    pub refusals: execution::Refusals,
    flows: flow::FlowNames,
}

impl Open {
    fn new(node: Arc<Node>) -> Arc<Self> {
        Arc::new(Self {
            node,
            nodes: execution::NodeNames::default(),
            refusals: execution::Refusals::default(),
            flows: flow::FlowNames::default(),
        })
    }
}

impl Node {
    /// How many partitions there are beside the catalog.
    pub(crate) fn partition_count(&self) -> u16 {
        u16::try_from(self.partitions.len()).expect("a partition's number has two bytes")
    }
}

/// Where a call comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A client: the call goes to the leader, wherever that is.
    Client,
    /// Another node's gateway: served here or not at all.
    Peer,
}

/// A service's implementation: the node, and where its calls come from.
#[derive(Clone)]
pub(crate) struct Gateway {
    open: Arc<Open>,
    pub origin: Origin,
}

/// The services that clients and workers use. Called once, within the runtime: from now on this node
/// is a gateway of workers, attached to the leaders of all partitions.
#[must_use]
pub fn public_services(node: Arc<Node>) -> Services {
    let workers = WorkerServiceServer::new(WorkerGateway::new(Arc::clone(&node)))
        .max_decoding_message_size(WORK_MESSAGE_BYTES_MAX);
    let gateway = Gateway::new(node, Origin::Client);
    let journal = JournalServiceServer::new(gateway.clone());
    Services::default()
        .with(gateway.executions())
        .with(workers)
        .with(gateway.flows())
        .with(gateway.schedules())
        .with(journal)
}

/// The same, for requests that another node has forwarded: served here or not at all. And what only
/// nodes say to each other.
#[must_use]
pub fn peer_routes(node: Arc<Node>) -> Routes {
    let attach = PartitionWorkServiceServer::new(AttachService::new(Arc::clone(&node)))
        .max_decoding_message_size(WORK_MESSAGE_BYTES_MAX);
    let control = PartitionControlServiceServer::new(ControlService::new(Arc::clone(&node)))
        .max_decoding_message_size(GRPC_REQUEST_BYTES_MAX);
    let gateway = Gateway::new(node, Origin::Peer);
    Routes::new(gateway.flows())
        .add_service(gateway.executions())
        .add_service(gateway.schedules())
        .add_service(attach)
        .add_service(control)
}

impl Gateway {
    fn new(node: Arc<Node>, origin: Origin) -> Self {
        let open = Open::new(node);
        Self { open, origin }
    }

    fn flows(&self) -> FlowServiceServer<Self> {
        FlowServiceServer::new(self.clone()).max_decoding_message_size(GRPC_REQUEST_BYTES_MAX)
    }

    fn executions(&self) -> ExecutionServiceServer<Self> {
        ExecutionServiceServer::new(self.clone()).max_decoding_message_size(GRPC_REQUEST_BYTES_MAX)
    }

    fn schedules(&self) -> ScheduleServiceServer<Self> {
        ScheduleServiceServer::new(self.clone()).max_decoding_message_size(GRPC_REQUEST_BYTES_MAX)
    }
}
