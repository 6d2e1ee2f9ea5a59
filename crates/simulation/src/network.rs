//! In the place of `crates/replica/src/network.rs` and its files: the same calls and streams between
//! peers, in the same protobuf messages, over links that are simulated.
//!
//! A link keeps the order of one append stream and of nothing else. It delays, loses (a call then fails
//! when its connection is given up, as by keep-alive), and can be cut in one direction or both.

mod append;
mod client;
mod links;
mod serve;
#[path = "../../replica/src/network/session.rs"]
mod session;
#[allow(dead_code)]
#[path = "../../replica/src/network/wire.rs"]
mod wire;

use std::sync::Arc;

use openraft::RaftNetworkFactory;
use tidemill_types::PartitionId;

use self::client::{Client, Use};
pub(crate) use self::{
    links::{Body, Links},
    serve::Server,
};
use crate::{
    raft::{Peer, Types},
    shared::Shared,
};

/// Makes one group's clients.
#[derive(Clone)]
pub(crate) struct Network {
    group: PartitionId,
    node: u64,
    links: Arc<Links>,
    shared: Arc<Shared>,
}

impl Network {
    pub fn new(group: PartitionId, node: u64, links: Arc<Links>, shared: Arc<Shared>) -> Self {
        Self {
            group,
            node,
            links,
            shared,
        }
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn client(&self, target: u64, purpose: Use) -> Client {
        Client {
            group: self.group,
            node: self.node,
            target,
            purpose,
            links: Arc::clone(&self.links),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, _: &Peer) -> Client {
        self.client(target, Use::Append)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _: &Peer) -> Client {
        self.client(target, Use::Heartbeat)
    }
}
