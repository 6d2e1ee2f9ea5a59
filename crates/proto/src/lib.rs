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

/// A gRPC code as the standard writes it.
#[must_use]
pub const fn code_name(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

impl From<&tonic::Status> for v1::StartError {
    fn from(status: &tonic::Status) -> Self {
        Self {
            code: status.code().into(),
            message: status.message().to_owned(),
            details: bytes::Bytes::copy_from_slice(status.details()),
        }
    }
}

impl From<v1::StartError> for tonic::Status {
    fn from(error: v1::StartError) -> Self {
        Self::with_details(error.code.into(), error.message, error.details)
    }
}

/// All descriptors, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
