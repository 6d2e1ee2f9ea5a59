//! What the pure `rows` crate writes is what prost generates from the public protos, to the byte: an
//! auditor can read an exported journal with any protobuf library.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use tidemill_proto::v1;
use tidemill_rows::{
    Hash, Stored,
    journal::{JournalEntry, JournalRecord},
    table::MessageRow,
};
use tidemill_types::{ExecutionId, FlowId, Timestamp};

#[test]
fn journal_records() {
    let full = JournalRecord {
        seq: 7,
        at: Timestamp(1_795_229_999_123_456),
        partition: 2,
        kind: "step.succeeded".into(),
        actor: "worker:w1".into(),
        request_id: "r".into(),
        flow: Some(FlowId([1; 16])),
        execution: Some(ExecutionId([2; 16])),
        step: 3,
        attempt: 4,
        node: "push".into(),
        version: 5,
        payload_hash: Some(Hash([6; 32])),
        detail: "BROKEN".into(),
        number: u64::MAX,
    };
    for record in [
        full,
        JournalRecord {
            seq: 1,
            ..JournalRecord::default()
        },
    ] {
        let stored = record.to_bytes();
        let public = v1::JournalRecord {
            seq: record.seq,
            at_us: record.at.0,
            partition: record.partition,
            kind: record.kind.clone(),
            actor: record.actor.clone(),
            request_id: record.request_id.clone(),
            flow_id: record
                .flow
                .map(|id| Bytes::copy_from_slice(&id.0))
                .unwrap_or_default(),
            execution_id: record
                .execution
                .map(|id| Bytes::copy_from_slice(&id.0))
                .unwrap_or_default(),
            step: record.step,
            attempt: record.attempt,
            node: record.node.clone(),
            version: record.version,
            payload_hash: record
                .payload_hash
                .map(|h| Bytes::copy_from_slice(&h.0))
                .unwrap_or_default(),
            detail: record.detail.clone(),
            number: record.number,
        };
        assert_eq!(stored, public.encode_to_vec());
        let entry = JournalEntry {
            record: stored.clone(),
            hash: Hash([9; 32]),
        };
        let public = v1::JournalEntry {
            record: stored,
            hash: Bytes::copy_from_slice(&[9; 32]),
        };
        assert_eq!(entry.to_bytes(), public.encode_to_vec());
    }
}

#[test]
fn messages() {
    // One entry a map: protobuf leaves the order of more to the implementation.
    let row = MessageRow {
        data: Bytes::from_static(b"{\"a\":1}"),
        headers: BTreeMap::from([("h".to_owned(), "v".to_owned())]),
        attachments: BTreeMap::from([("f".to_owned(), Bytes::from_static(&[0, 255]))]),
        metadata: Bytes::from_static(b"{}"),
    };
    let public = v1::Message {
        data: row.data.clone(),
        headers: row.headers.clone().into_iter().collect(),
        attachments: row.attachments.clone().into_iter().collect(),
        metadata: row.metadata.clone(),
    };
    assert_eq!(row.to_bytes(), public.encode_to_vec());
}
