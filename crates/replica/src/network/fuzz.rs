//! What peers and the log's disk can give us, for the fuzzer (`tests/fuzz`), which sees public items only.
//!
//! Not an API: it may change at any time. What is read is written and read again, and must be the same.

use bytes::Bytes;
use prost::Message;
use tidemill_proto::peer::v1 as peer;

use super::wire;
use crate::codec;

/// A message from another node, by number; numbers beyond the last are none. True when it is one.
#[must_use]
pub fn peer_message(kind: u8, bytes: &[u8]) -> bool {
    match kind {
        0 => append(bytes),
        1 => appended(bytes),
        2 => vote_response(bytes),
        3 => peer::VoteRequest::decode(bytes)
            .is_ok_and(|request| wire::vote_request_from_wire(&request).is_ok()),
        4 => peer::Node::decode(bytes).is_ok_and(|node| codec::node_from_wire(node).is_ok()),
        _ => false,
    }
}

/// What the replica keeps on disk, by number; numbers beyond the last are none. True when it is one.
#[must_use]
pub fn stored(kind: u8, bytes: &[u8]) -> bool {
    match kind {
        0 => log_entry(bytes),
        1 => codec::decode_log_id(bytes).is_ok_and(|id| {
            assert_eq!(codec::decode_log_id(&codec::encode_log_id(id)), Ok(id));
            true
        }),
        2 => codec::decode_vote(bytes).is_ok_and(|vote| {
            assert_eq!(codec::decode_vote(&codec::encode_vote(&vote)), Ok(vote));
            true
        }),
        3 => codec::decode_stored_membership(bytes).is_ok_and(|stored| {
            let again = codec::decode_stored_membership(&codec::encode_stored_membership(&stored));
            assert_eq!(again, Ok(stored));
            true
        }),
        _ => false,
    }
}

fn append(bytes: &[u8]) -> bool {
    let Ok(request) = peer::AppendRequest::decode(bytes) else {
        return false;
    };
    let Ok(request) = wire::append_from_wire(request) else {
        return false;
    };
    let written = wire::append_to_wire(request);
    let again = wire::append_from_wire(written.clone()).expect("we wrote it");
    assert_eq!(wire::append_to_wire(again), written);
    true
}

fn appended(bytes: &[u8]) -> bool {
    let Ok(response) = peer::AppendResponse::decode(bytes) else {
        return false;
    };
    let Ok(response) = wire::appended_from_wire(response) else {
        return false;
    };
    let written = wire::appended_to_wire(response);
    let again = wire::appended_from_wire(written).expect("we wrote it");
    assert_eq!(wire::appended_to_wire(again), written);
    true
}

fn vote_response(bytes: &[u8]) -> bool {
    let Ok(response) = peer::VoteResponse::decode(bytes) else {
        return false;
    };
    let Ok(response) = wire::vote_response_from_wire(response) else {
        return false;
    };
    let written = wire::vote_response_to_wire(&response);
    let again = wire::vote_response_from_wire(written).expect("we wrote it");
    assert_eq!(wire::vote_response_to_wire(&again), written);
    true
}

fn log_entry(bytes: &[u8]) -> bool {
    let Ok(entry) = codec::decode_entry(Bytes::copy_from_slice(bytes)) else {
        return false;
    };
    let written = codec::encode_entry(&entry);
    let again = codec::decode_entry(written.clone()).expect("we wrote it");
    assert_eq!(codec::encode_entry(&again), written);
    true
}
