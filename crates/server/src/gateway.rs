//! The public gRPC services. (S2's; this file only names the seam.)

use std::sync::Arc;

use tonic::service::Routes;

use crate::node::Node;

/// The services that clients and workers use.
pub fn public_routes(_: Arc<Node>) -> Routes {
    Routes::default()
}

/// The same, for requests that another node has forwarded.
pub fn peer_routes(_: Arc<Node>) -> Routes {
    Routes::default()
}
