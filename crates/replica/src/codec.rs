//! Between openraft's types, the wire, and the bytes of the log and of the replica's own rows.
//!
//! A log entry: format (1 byte, 1) | kind (1 byte) | term | index (varints) | body. The store guards
//! the bytes with checksums of its own.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::{EntryPayload, entry::RaftEntry};
use prost::Message;
use thiserror::Error;
use tidemill_proto::peer::v1 as peer;

use crate::raft::{
    Command, Entry, LogId, Membership, Payload, Peer, StoredMembership, Vote, log_id,
};

const FORMAT: u8 = 1;
const KIND_BLANK: u8 = 0;
const KIND_MEMBERSHIP: u8 = 1;
const KIND_EPOCH_START: u8 = 2;
const KIND_BATCH: u8 = 3;
const HEADER_LEN_MAX: usize = 2 + 2 * 10;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum CodecError {
    #[error("log entry format {0} is not known to this version")]
    Format(u8),
    #[error("log entry kind {0} is not known to this version")]
    Kind(u8),
    #[error("{0} is malformed")]
    Malformed(&'static str),
}

impl From<CodecError> for std::io::Error {
    fn from(error: CodecError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

fn malformed(what: &'static str) -> CodecError {
    CodecError::Malformed(what)
}

/// The bytes of an entry in the log. Copies a batch once: its log id stands before it in one piece.
pub(crate) fn encode_entry(entry: &Entry) -> Bytes {
    let (kind, body) = match &entry.payload {
        EntryPayload::Blank => (KIND_BLANK, Bytes::new()),
        EntryPayload::Membership(membership) => (
            KIND_MEMBERSHIP,
            membership_to_wire(membership).encode_to_vec().into(),
        ),
        EntryPayload::Normal(Command::EpochStart) => (KIND_EPOCH_START, Bytes::new()),
        EntryPayload::Normal(Command::Batch(bytes)) => (KIND_BATCH, bytes.clone()),
    };
    let mut out = BytesMut::with_capacity(HEADER_LEN_MAX + body.len());
    out.put_u8(FORMAT);
    out.put_u8(kind);
    prost::encoding::encode_varint(entry.log_id.committed_leader_id().term, &mut out);
    prost::encoding::encode_varint(entry.log_id.index(), &mut out);
    out.put_slice(&body);
    out.freeze()
}

/// Reads an entry; a batch shares the bytes given.
pub(crate) fn decode_entry(mut bytes: Bytes) -> Result<Entry, CodecError> {
    const WHAT: &str = "log entry";
    if bytes.remaining() < 2 {
        return Err(malformed(WHAT));
    }
    let format = bytes.get_u8();
    if format != FORMAT {
        return Err(CodecError::Format(format));
    }
    let kind = bytes.get_u8();
    let mut number = || prost::encoding::decode_varint(&mut bytes).map_err(|_| malformed(WHAT));
    let id = log_id(number()?, number()?);
    let payload = match kind {
        KIND_BLANK => Payload::Blank,
        KIND_MEMBERSHIP => {
            let membership =
                peer::Membership::decode(bytes).map_err(|_| malformed("membership"))?;
            Payload::Membership(membership_from_wire(membership)?)
        }
        KIND_EPOCH_START => Payload::Normal(Command::EpochStart),
        KIND_BATCH => Payload::Normal(Command::Batch(bytes)),
        kind => return Err(CodecError::Kind(kind)),
    };
    Ok(Entry::new(id, payload))
}

pub(crate) fn log_id_to_wire(id: LogId) -> peer::LogId {
    peer::LogId {
        term: id.committed_leader_id().term,
        index: id.index(),
    }
}

pub(crate) fn log_id_from_wire(id: peer::LogId) -> LogId {
    log_id(id.term, id.index)
}

pub(crate) fn encode_log_id(id: LogId) -> Bytes {
    log_id_to_wire(id).encode_to_vec().into()
}

pub(crate) fn decode_log_id(bytes: &[u8]) -> Result<LogId, CodecError> {
    let id = peer::LogId::decode(bytes).map_err(|_| malformed("log id"))?;
    Ok(log_id_from_wire(id))
}

pub(crate) fn vote_to_wire(vote: &Vote) -> peer::Vote {
    peer::Vote {
        term: vote.leader_id.term,
        node: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

pub(crate) fn vote_from_wire(vote: Option<peer::Vote>) -> Result<Vote, CodecError> {
    let vote = vote.ok_or(malformed("vote"))?;
    Ok(if vote.committed {
        Vote::new_committed(vote.term, vote.node)
    } else {
        Vote::new(vote.term, vote.node)
    })
}

pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    vote_to_wire(vote).encode_to_vec().into()
}

pub(crate) fn decode_vote(bytes: &[u8]) -> Result<Vote, CodecError> {
    vote_from_wire(Some(
        peer::Vote::decode(bytes).map_err(|_| malformed("vote"))?,
    ))
}

pub(crate) fn node_to_wire(id: u64, node: &Peer) -> peer::Node {
    peer::Node {
        id,
        peer: node.peer.clone(),
        grpc: node.grpc.clone(),
        http: node.http.clone(),
        partitions: node.partitions.into(),
    }
}

pub(crate) fn node_from_wire(node: peer::Node) -> Result<(u64, Peer), CodecError> {
    let partitions = u16::try_from(node.partitions).map_err(|_| malformed("partitions"))?;
    Ok((
        node.id,
        Peer {
            peer: node.peer,
            grpc: node.grpc,
            http: node.http,
            partitions,
        },
    ))
}

pub(crate) fn membership_to_wire(membership: &Membership) -> peer::Membership {
    peer::Membership {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|config| peer::Voters {
                nodes: config.iter().copied().collect(),
            })
            .collect(),
        nodes: membership
            .nodes()
            .map(|(id, node)| node_to_wire(*id, node))
            .collect(),
    }
}

pub(crate) fn membership_from_wire(membership: peer::Membership) -> Result<Membership, CodecError> {
    let configs = membership
        .configs
        .into_iter()
        .map(|config| config.nodes.into_iter().collect())
        .collect::<Vec<_>>();
    let nodes = membership
        .nodes
        .into_iter()
        .map(node_from_wire)
        .collect::<Result<BTreeMap<_, _>, _>>()?;
    if configs.is_empty() && nodes.is_empty() {
        // Before the first membership entry; openraft refuses to make it from parts.
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|_| malformed("membership"))
}

pub(crate) fn stored_membership_to_wire(stored: &StoredMembership) -> peer::StoredMembership {
    peer::StoredMembership {
        log_id: stored.log_id().map(log_id_to_wire),
        membership: Some(membership_to_wire(stored.membership())),
    }
}

pub(crate) fn stored_membership_from_wire(
    stored: peer::StoredMembership,
) -> Result<StoredMembership, CodecError> {
    Ok(StoredMembership::new(
        stored.log_id.map(log_id_from_wire),
        membership_from_wire(stored.membership.unwrap_or_default())?,
    ))
}

pub(crate) fn encode_stored_membership(stored: &StoredMembership) -> Bytes {
    stored_membership_to_wire(stored).encode_to_vec().into()
}

pub(crate) fn decode_stored_membership(bytes: &[u8]) -> Result<StoredMembership, CodecError> {
    stored_membership_from_wire(
        peer::StoredMembership::decode(bytes).map_err(|_| malformed("membership"))?,
    )
}

pub(crate) fn entry_to_wire(entry: Entry) -> peer::Entry {
    use peer::entry::Payload as Wire;
    peer::Entry {
        term: entry.log_id.committed_leader_id().term,
        index: entry.log_id.index(),
        payload: Some(match entry.payload {
            EntryPayload::Blank => Wire::Blank(true),
            EntryPayload::Membership(membership) => {
                Wire::Membership(membership_to_wire(&membership))
            }
            EntryPayload::Normal(Command::EpochStart) => Wire::EpochStart(true),
            EntryPayload::Normal(Command::Batch(bytes)) => Wire::Batch(bytes),
        }),
    }
}

pub(crate) fn entry_from_wire(entry: peer::Entry) -> Result<Entry, CodecError> {
    use peer::entry::Payload as Wire;
    let payload = match entry.payload.ok_or(malformed("entry"))? {
        Wire::Blank(_) => Payload::Blank,
        Wire::Membership(membership) => Payload::Membership(membership_from_wire(membership)?),
        Wire::EpochStart(_) => Payload::Normal(Command::EpochStart),
        Wire::Batch(bytes) => Payload::Normal(Command::Batch(bytes)),
    };
    Ok(Entry::new(log_id(entry.term, entry.index), payload))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn entries() -> Vec<Entry> {
        let node = |n: u64| Peer {
            peer: format!("127.0.0.1:{n}"),
            partitions: 3,
            ..Peer::default()
        };
        let membership = Membership::new(
            vec![BTreeSet::from([1, 2]), BTreeSet::from([2])],
            BTreeMap::from([(1, node(1)), (2, node(2)), (3, node(3))]),
        )
        .expect("valid");
        [
            Payload::Blank,
            Payload::Membership(membership),
            Payload::Normal(Command::EpochStart),
            Payload::Normal(Command::Batch(Bytes::from_static(b"batch"))),
        ]
        .into_iter()
        .enumerate()
        .map(|(i, payload)| Entry::new(log_id(7, 300 + i as u64), payload))
        .collect()
    }

    #[test]
    fn entries_round_trip() {
        for entry in entries() {
            assert_eq!(decode_entry(encode_entry(&entry)).as_ref(), Ok(&entry));
            assert_eq!(entry_from_wire(entry_to_wire(entry.clone())), Ok(entry));
        }
    }

    #[test]
    fn a_batch_is_not_copied_when_read() {
        let entry = entries().pop().expect("a batch");
        let bytes = encode_entry(&entry);
        let Payload::Normal(Command::Batch(batch)) =
            decode_entry(bytes.clone()).expect("entry").payload
        else {
            panic!("not a batch");
        };
        assert!(bytes.as_ptr_range().contains(&batch.as_ptr()));
    }

    #[test]
    fn unknown_entries_are_refused() {
        assert_eq!(
            decode_entry(Bytes::from_static(&[9, 0, 1, 1])),
            Err(CodecError::Format(9))
        );
        assert_eq!(
            decode_entry(Bytes::from_static(&[1, 9, 1, 1])),
            Err(CodecError::Kind(9))
        );
        for cut in 0..4 {
            assert!(decode_entry(Bytes::from_static(&[1, 0, 1, 1]).slice(..cut)).is_err());
        }
    }

    #[test]
    fn votes_and_memberships_round_trip() {
        for vote in [Vote::new(3, 2), Vote::new_committed(4, 1)] {
            assert_eq!(decode_vote(&encode_vote(&vote)), Ok(vote));
        }
        for stored in [
            StoredMembership::default(),
            StoredMembership::new(Some(log_id(1, 2)), Membership::default()),
        ] {
            assert_eq!(
                decode_stored_membership(&encode_stored_membership(&stored)),
                Ok(stored)
            );
        }
    }
}
