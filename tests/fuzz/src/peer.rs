//! What one node tells another, as the bytes of one protobuf message.

use tidemill_proto::peer::v1 as peer;
use tidemill_replica::fuzz as raft;
use tidemill_server::work::fuzz;

use super::grpc::read;

/// A byte for the type, then the message. Accepted: read, and turned into what the node works with.
pub fn peer(bytes: &[u8]) -> bool {
    let Some((kind, message)) = bytes.split_first() else {
        return false;
    };
    match kind {
        // Raft's own: see the replica.
        0..=9 => raft::peer_message(*kind, message),
        10 => read::<peer::HeartbeatRequest>(message).is_some(),
        11 => read::<peer::HeartbeatResponse>(message).is_some(),
        12 => read::<peer::TransferLeaderRequest>(message).is_some(),
        13 => read::<peer::TransferLeaderResponse>(message).is_some(),
        14 => read::<peer::SnapshotPart>(message).is_some(),
        15 => read::<peer::SnapshotResponse>(message).is_some(),
        16 => read::<peer::StatusResponse>(message).is_some(),
        17 => read::<peer::ChangeMemberRequest>(message).is_some(),
        18 => read::<peer::ArmRequest>(message).is_some(),
        19 => read::<peer::DisarmRequest>(message).is_some(),
        20 => read::<peer::ForgetRequest>(message).is_some(),
        21 => read::<peer::AttachRequest>(message).is_some(),
        22 => read::<peer::AttachResponse>(message).is_some(),
        23 => read::<peer::Session>(message).map(fuzz::session).is_some(),
        _ => false,
    }
}
