//! openraft's types as this crate uses them.

use std::fmt;

use bytes::Bytes;
use openraft::alias;
use tidemill_rows::FenceRefusal;

use crate::machine::Machine;

/// What a log entry asks for, apart from openraft's own entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// A leader begins to decide; the log id of the entry is the epoch.
    EpochStart,
    /// An encoded `tidemill_rows::Batch`; shared, never copied, from the frame or the log's memory.
    Batch(Bytes),
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EpochStart => f.write_str("epoch start"),
            Self::Batch(bytes) => write!(f, "batch of {} bytes", bytes.len()),
        }
    }
}

/// What became of an entry when it was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Done,
    Refused(FenceRefusal),
}

/// What every member knows of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    pub peer: String,
    pub grpc: String,
    pub http: String,
    /// A fact of the cluster, kept here because the membership is what every node gets first.
    pub partitions: u16,
}

openraft::declare_raft_types!(
    /// One leader per term (`leader_id_std`), so that a log id is (term, index): an epoch names exactly
    /// one entry.
    pub(crate) Types:
        D = Command,
        R = Applied,
        NodeId = u64,
        Node = Peer,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = crate::platform::Runtime,
);

pub(crate) type Raft = openraft::Raft<Types, Machine>;
pub(crate) type LogId = alias::LogIdOf<Types>;
pub(crate) type Vote = alias::VoteOf<Types>;
pub(crate) type Entry = alias::EntryOf<Types>;
pub(crate) type Payload = alias::PayloadOf<Types>;
pub(crate) type Membership = openraft::Membership<u64, Peer>;
pub(crate) type StoredMembership = alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = alias::SnapshotMetaOf<Types>;
pub(crate) type WriteResult = openraft::raft::ClientWriteResult<Types>;
pub(crate) type WriteReceiver = alias::OneshotReceiverOf<Types, WriteResult>;
pub(crate) type WriteResponder = alias::WriteResponderOf<Types>;

/// A log id from its parts.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(term.into(), index)
}
