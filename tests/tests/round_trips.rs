//! What is written is read the same by everybody who reads it: here the journal, which the engine writes, the
//! public API gives out, and anybody can verify years later. (Documents: crates/core/tests/flow_properties.rs;
//! rows: crates/rows/src/table/tests.rs and, all of them, the fuzz target `stored`.)

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use prost::Message as _;
use tidemill::journal::file;
use tidemill_proto::v1 as api;
use tidemill_rows::{
    Hash, Stored,
    journal::{JournalEntry, JournalHead, JournalRecord},
};
use tidemill_types::{ExecutionId, FlowId, PartitionId, Timestamp};

const HOME: PartitionId = PartitionId(3);

/// Any record but for what the chain sets: its number and partition. Times ascend, as a leader's do.
fn record() -> impl Strategy<Value = JournalRecord> {
    let texts = any::<(String, String, String, String, String)>();
    let ids = any::<(Option<[u8; 16]>, Option<[u8; 16]>, Option<[u8; 32]>)>();
    let numbers = any::<(u32, u32, u32, u64)>();
    (texts, ids, numbers).prop_map(|(texts, ids, numbers)| JournalRecord {
        kind: texts.0,
        actor: texts.1,
        request_id: texts.2,
        node: texts.3,
        detail: texts.4,
        flow: ids.0.map(FlowId),
        execution: ids.1.map(ExecutionId),
        payload_hash: ids.2.map(Hash),
        step: numbers.0,
        attempt: numbers.1,
        version: numbers.2,
        number: numbers.3,
        ..JournalRecord::default()
    })
}

/// The records as a chain: what is stored, and what the public API gives out.
fn chain(records: Vec<JournalRecord>) -> (Vec<api::JournalEntry>, JournalHead) {
    let mut head = JournalHead::default();
    let mut entries = Vec::new();
    for (second, record) in (1_800_000_000..).zip(records) {
        let at = Timestamp::from_millis(second * 1_000);
        let (_, row, next) = head.append(&record.as_new(), at, HOME);
        head = next;
        let row = JournalEntry::from_bytes(row).expect("we wrote it");
        entries.push(api::JournalEntry {
            record: row.record,
            hash: Bytes::copy_from_slice(&row.hash.0),
        });
    }
    (entries, head)
}

/// An export as `tidemill journal export` writes it.
fn export(entries: &[api::JournalEntry], head: JournalHead) -> String {
    let heads = [api::Head {
        partition: u32::from(HOME.0),
        seq: head.seq,
        hash: Bytes::copy_from_slice(&head.hash.0),
    }];
    let mut text = file::header("c", 1, "2027-01-15T08:00:00Z", &heads).to_string();
    for entry in entries {
        let record = api::JournalRecord::decode(entry.record.clone()).expect("a record");
        text.push('\n');
        text.push_str(&file::line(&record, entry).to_string());
    }
    text
}

proptest! {
    #[test]
    fn a_stored_record_is_the_public_one(record in record()) {
        let bytes = record.to_bytes();
        prop_assert_eq!(&JournalRecord::from_bytes(bytes.clone()).expect("we wrote it"), &record);
        let public = api::JournalRecord::decode(bytes.clone()).expect("the same fields");
        // Byte for byte: what is hashed can be made anew from what is shown.
        prop_assert_eq!(public.encode_to_vec(), bytes);
        prop_assert_eq!(public.kind, record.kind);
        prop_assert_eq!(public.detail, record.detail);
        prop_assert_eq!(public.number, record.number);
        prop_assert_eq!(public.flow_id.to_vec(), record.flow.map_or(Vec::new(), |id| id.0.to_vec()));
        let hash = record.payload_hash.map_or(Vec::new(), |hash| hash.0.to_vec());
        prop_assert_eq!(public.payload_hash.to_vec(), hash);
    }

    #[test]
    fn an_export_verifies_and_no_changed_byte_of_it_does(
        records in vec(record(), 1..6),
        (which, at, bit) in (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..8_u8),
    ) {
        let (mut entries, head) = chain(records);
        let sound = file::verify(export(&entries, head).as_bytes()).expect("memory");
        prop_assert_eq!(&sound.problems, &[]);
        prop_assert_eq!(sound.records, entries.len() as u64);

        let entry = &mut entries[which.index(head.seq as usize)];
        let mut record = entry.record.to_vec();
        let at = at.index(record.len());
        record[at] ^= 1 << bit;
        // The line shows the fields of the record, so one that cannot be read has no line.
        if api::JournalRecord::decode(record.as_slice()).is_ok() {
            entry.record = record.into();
            let changed = file::verify(export(&entries, head).as_bytes()).expect("memory");
            prop_assert!(!changed.problems.is_empty(), "a changed record is taken for sound");
        }
    }
}
