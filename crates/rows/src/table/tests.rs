//! Rows survive their bytes, and their keys sort as what they name.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use tidemill_types::{ExecutionId, FlowId, PartitionId, StepId, Timestamp};

use super::*;
use crate::wire::Stored;

fn round_trip<T: Stored + PartialEq + std::fmt::Debug>(row: &T) {
    assert_eq!(T::from_bytes(row.to_bytes()).as_ref(), Ok(row));
}

fn input() -> impl Strategy<Value = InputRow> {
    any::<(u32, u32, u32)>().prop_map(|(message, from_step, edge)| InputRow {
        message,
        from_step,
        edge,
    })
}

proptest! {
    #[test]
    fn step_rows(
        numbers: [u32; 8],
        (worker, code) in any::<(String, String)>(),
        times in any::<(i64, Option<i64>, Option<i64>)>(),
        state in 1..=8_u32,
        inputs in vec(input(), 0..4),
        details: Vec<u8>,
    ) {
        round_trip(&StepRow {
            node: numbers[0],
            state: StepState::from_number(state).expect("a state"),
            attempt: numbers[1],
            failures: numbers[2],
            lost: numbers[3],
            rebounds: numbers[4],
            worker,
            created_at: Timestamp(times.0),
            started_at: times.1.map(Timestamp),
            ended_at: times.2.map(Timestamp),
            due_at: times.1.map(Timestamp),
            error: Some(ErrorRow { code, message: String::new(), details: details.into(), fatal: true }),
            inputs,
            first_output: numbers[5],
            outputs: numbers[6],
            completed_attempt: numbers[7],
        });
    }

    #[test]
    fn message_rows(
        data: Vec<u8>,
        headers: BTreeMap<String, String>,
        attachments: BTreeMap<String, Vec<u8>>,
    ) {
        round_trip(&MessageRow {
            data: data.into(),
            headers,
            attachments: attachments.into_iter().map(|(k, v)| (k, Bytes::from(v))).collect(),
            metadata: Bytes::new(),
        });
    }

    #[test]
    fn execution_rows(flow: [u8; 16], loops in vec(any::<(u32, u32)>(), 0..3), request_id: String, n: u64) {
        round_trip(&ExecutionRow {
            flow: FlowId(flow),
            state: ExecutionState::TimedOut,
            request_id,
            revision: n,
            loops: loops.into_iter().map(|(node, count)| LoopCount { node, count }).collect(),
            deadline: Some(Timestamp(0)),
            ..ExecutionRow::default()
        });
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..120)) {
        let bytes = Bytes::from(bytes);
        let _ = StepRow::from_bytes(bytes.clone());
        let _ = MessageRow::from_bytes(bytes.clone());
        let _ = ExecutionRow::from_bytes(bytes.clone());
        let _ = FlowRow::from_bytes(bytes.clone());
        let _ = LeaseRow::from_bytes(bytes);
    }

    #[test]
    fn step_keys_sort_as_steps(a in any::<([u8; 6], u64, u32)>(), b in any::<([u8; 6], u64, u32)>()) {
        let id = |(time, entropy, step): ([u8; 6], u64, u32)| {
            let mut ms = [0; 8];
            ms[2..].copy_from_slice(&time);
            StepId { execution: ExecutionId::new(i64::from_be_bytes(ms), PartitionId(1), entropy), step }
        };
        let (a, b) = (id(a), id(b));
        prop_assert_eq!(step_key(a).cmp(&step_key(b)), a.cmp(&b));
        prop_assert_eq!(step_of_key(&step_key(a)), Some(a));
        prop_assert_eq!(step_of_key(&queue_key(a)), Some(a));
    }

    #[test]
    fn request_expiry_keys(at in 0..i64::MAX, id: String) {
        let key = catalog_request_expiry_key(Timestamp(at), &id);
        prop_assert_eq!(catalog_request_expiry_of_key(&key), Some((Timestamp(at), id)));
    }
}

#[test]
fn a_lease_row_keeps_its_queue_row() {
    let queue = QueueRow {
        component: "shop".into(),
        function: "get".into(),
        node: 3,
        ..QueueRow::default()
    };
    round_trip(&LeaseRow {
        queue: Some(queue),
        attempt: 2,
        lease_ms: 30_000,
        ..LeaseRow::default()
    });
}

#[test]
fn unknown_fields_are_skipped() {
    // Field 100 as a varint and as bytes: what a newer version might add.
    let mut bytes = StepRow {
        node: 5,
        ..StepRow::default()
    }
    .to_bytes()
    .to_vec();
    bytes.extend([0xa0, 0x06, 0x07, 0xa2, 0x06, 0x02, 1, 2]);
    assert_eq!(StepRow::from_bytes(bytes.into()).expect("row").node, 5);
}
