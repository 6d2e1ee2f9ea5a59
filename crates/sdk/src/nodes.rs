//! The nodes that a client knows, and which of them it asks.
//!
//! Seeds are what the caller named; members are what the cluster said. One node is the present one;
//! a failure moves on to the next. Never decides whether a call is tried again: that is the call's.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use thiserror::Error;
use tonic::transport::{Channel, Endpoint};

use crate::client::Starts;
use crate::limits::{KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, NODES_MAX};

/// Why a text is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is not an endpoint: {reason}; expected http://HOST:PORT or HOST:PORT")]
pub struct InvalidEndpoint {
    text: String,
    reason: String,
}

/// A node to ask.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) address: Arc<str>,
    pub(crate) channel: Channel,
    pub(crate) starts: Arc<Starts>,
    seed: bool,
}

#[derive(Debug)]
struct State {
    nodes: Vec<Node>,
    current: usize,
}

/// All nodes that are known.
#[derive(Debug)]
pub(crate) struct Nodes {
    state: Mutex<State>,
    connect_timeout: Duration,
}

impl Nodes {
    /// Knows the seeds, in their order. Connects to none yet.
    pub(crate) fn new(
        seeds: &[String],
        connect_timeout: Duration,
    ) -> Result<Self, InvalidEndpoint> {
        let mut nodes: Vec<Node> = Vec::new();
        for seed in seeds {
            let node = open(seed, connect_timeout, true)?;
            if nodes.iter().all(|known| known.address != node.address) {
                nodes.push(node);
            }
        }
        if nodes.is_empty() || nodes.len() > NODES_MAX {
            return Err(InvalidEndpoint {
                text: seeds.join(","),
                reason: format!("1 to {NODES_MAX} endpoints are needed"),
            });
        }
        Ok(Self {
            state: Mutex::new(State { nodes, current: 0 }),
            connect_timeout,
        })
    }

    /// The node to ask now.
    pub(crate) fn current(&self) -> Node {
        let state = self.lock();
        state.nodes[state.current].clone()
    }

    /// The node with this address, if it is known.
    pub(crate) fn at(&self, address: &str) -> Option<Node> {
        let state = self.lock();
        let node = state.nodes.iter().find(|node| *node.address == *address);
        node.cloned()
    }

    /// How many are known.
    pub(crate) fn len(&self) -> usize {
        self.lock().nodes.len()
    }

    /// Moves on from a node that failed, unless another call did so already.
    pub(crate) fn leave(&self, address: &str) {
        let mut state = self.lock();
        if *state.nodes[state.current].address == *address {
            state.current = (state.current + 1) % state.nodes.len();
        }
    }

    /// Keeps the seeds and these members, and the connections to those of them that were known.
    pub(crate) fn set_members(&self, members: &[String]) {
        let mut state = self.lock();
        let current = state.nodes[state.current].address.clone();
        let mut nodes = Vec::new();
        for member in members {
            // A member without an address, or with one that this side cannot use, is left out: the
            // others are enough to find the cluster.
            let Ok(address) = normalise(member) else {
                continue;
            };
            let known = state.nodes.iter().find(|known| *known.address == *address);
            match known {
                Some(known) => nodes.push(known.clone()),
                None => nodes.extend(open(member, self.connect_timeout, false)),
            }
        }
        for seed in &state.nodes {
            if seed.seed && nodes.iter().all(|node| node.address != seed.address) {
                nodes.push(seed.clone());
            }
        }
        nodes.truncate(NODES_MAX);
        state.current = nodes
            .iter()
            .position(|node| node.address == current)
            .unwrap_or(0);
        state.nodes = nodes;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing below the lock leaves the list half changed, so a panic elsewhere spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn normalise(text: &str) -> Result<String, InvalidEndpoint> {
    let invalid = |reason: &str| InvalidEndpoint {
        text: text.to_owned(),
        reason: reason.to_owned(),
    };
    let text = text.trim().trim_end_matches('/');
    if text.starts_with("https://") {
        return Err(invalid("TLS is not supported yet"));
    }
    let host_and_port = text.strip_prefix("http://").unwrap_or(text);
    if host_and_port.is_empty() || host_and_port.contains(['/', ' ']) {
        return Err(invalid("the host is missing or wrong"));
    }
    let port = host_and_port.rsplit_once(':').map(|(_, port)| port);
    if !port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port != 0)) {
        return Err(invalid(
            "the port is missing or not a number from 1 to 65535",
        ));
    }
    Ok(format!("http://{host_and_port}"))
}

fn open(text: &str, connect_timeout: Duration, seed: bool) -> Result<Node, InvalidEndpoint> {
    let address = normalise(text)?;
    let endpoint = Endpoint::from_shared(address.clone()).map_err(|error| InvalidEndpoint {
        text: text.to_owned(),
        reason: error.to_string(),
    })?;
    let channel = endpoint
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .connect_lazy();
    Ok(Node {
        address: address.into(),
        channel,
        starts: Arc::default(),
        seed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(seeds: &[&str]) -> Result<Nodes, InvalidEndpoint> {
        let seeds: Vec<String> = seeds.iter().map(|&seed| seed.to_owned()).collect();
        Nodes::new(&seeds, Duration::from_secs(1))
    }

    #[tokio::test]
    async fn refuses_what_is_no_endpoint() {
        for bad in [
            "",
            "host",
            "host:0",
            "host:99999",
            "https://host:1",
            "http://a:1/x",
            "a b:1",
        ] {
            let error = nodes(&[bad]).expect_err(bad).to_string();
            assert!(error.contains("HOST:PORT"), "{error}");
        }
        assert!(nodes(&[]).is_err());
    }

    #[tokio::test]
    async fn leaves_only_the_node_that_failed() {
        let nodes = nodes(&["a:1", "http://b:1/", "a:1"]).unwrap();
        assert_eq!(nodes.len(), 2);
        nodes.leave("http://b:1");
        assert_eq!(&*nodes.current().address, "http://a:1");
        nodes.leave("http://a:1");
        nodes.leave("http://a:1");
        assert_eq!(&*nodes.current().address, "http://b:1");
    }

    #[tokio::test]
    async fn members_come_and_go_and_seeds_stay() {
        let nodes = nodes(&["a:1"]).unwrap();
        nodes.set_members(&["b:1".to_owned(), "c:1".to_owned(), String::new()]);
        assert_eq!(nodes.len(), 3);
        assert_eq!(&*nodes.current().address, "http://a:1");
        nodes.set_members(&["b:1".to_owned()]);
        assert_eq!(nodes.len(), 2);
    }
}
