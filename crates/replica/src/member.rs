//! A node of the cluster, as every node knows it.

use serde::{Deserialize, Serialize};
use tidemill_types::NodeId;

use crate::limits::NAME_CHARS_MAX;

/// A member of the cluster and where it is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    pub id: NodeId,
    /// `host:port` of its peer port.
    pub peer: String,
    /// `host:port` of its gRPC port for clients; empty when not known.
    pub grpc: String,
    /// `host:port` of its HTTP port; empty when not known.
    pub http: String,
    /// It votes; a learner only follows.
    pub voter: bool,
}

impl Member {
    /// What is wrong with it: a field and what is allowed.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.id.0 == 0 {
            return Err("member id must be 1 or more".into());
        }
        if self.peer.is_empty() {
            return Err(format!("member {}: peer must be host:port", self.id));
        }
        for (field, address) in [
            ("peer", &self.peer),
            ("grpc", &self.grpc),
            ("http", &self.http),
        ] {
            if address.is_empty() {
                continue;
            }
            let port = address
                .rsplit_once(':')
                .map(|(_, port)| port.parse::<u16>());
            if address.len() > NAME_CHARS_MAX || !matches!(port, Some(Ok(1..))) {
                return Err(format!(
                    "member {}: {field} {address:?} must be host:port, at most {NAME_CHARS_MAX} characters",
                    self.id
                ));
            }
        }
        Ok(())
    }
}
