//! The wire: generated from `/proto`, and the conversions to and from `types`.
//!
//! The only home of generated code. Nothing here decides.

/// The public API (`proto/tidemill/v1`).
#[allow(clippy::all, clippy::pedantic, missing_docs)]
pub mod v1 {
    tonic::include_proto!("tidemill.v1");
}

/// Between the nodes of a cluster (`proto/tidemill/peer`). Not a public API.
pub mod peer {
    /// The only version so far.
    #[allow(clippy::all, clippy::pedantic, missing_docs)]
    pub mod v1 {
        tonic::include_proto!("tidemill.peer.v1");
    }
}

pub mod convert;

/// A header of answers that another node gave: where that node serves clients, as `HOST:PORT`.
pub const LEADER_HEADER: &str = "tidemill-leader";

/// All descriptors, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
