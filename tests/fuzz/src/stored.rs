//! What is read from the disk. The store guards it with checksums; a fault of memory, or another version,
//! can still give any bytes.

use std::fmt::Debug;

use bytes::Bytes;
use tidemill_replica::fuzz as replica;
use tidemill_rows::{
    Batch, Fence, Stored,
    journal::{JournalEntry, JournalRecord},
    table::{
        ArmedFlowRow, BackfillRow, CatalogRequestRow, EndingRow, ErrorRow, ExecutionRow, FlowRow,
        FlowVersionRow, InputRow, LeaseRow, LoopCount, MessageRow, NodeStateRow, OccurrenceRow,
        PlanVersionRow, QuarantineRow, QueueRow, QueuedOccurrence, RequestRow, ScheduleControlRow,
        ScheduleRequest, ScheduleRow, StepRow, catalog_request_expiry_key,
        catalog_request_expiry_of_key, execution_of_key, flow_of_key, join_of_key,
        occurrence_of_key, step_key, step_of_key, timer_key, timer_of_key, version_of_key,
    },
};

type Read = fn(&[u8]) -> bool;

/// Reads a row; what was read is written, and read again is the same, byte for byte.
fn row<R: Stored + PartialEq + Debug>(bytes: &[u8]) -> bool {
    let Ok(row) = R::from_bytes(Bytes::copy_from_slice(bytes)) else {
        return false;
    };
    let written = row.to_bytes();
    let again = R::from_bytes(written.clone()).expect("we wrote it");
    assert_eq!(again, row);
    assert_eq!(again.to_bytes(), written);
    true
}

macro_rules! rows {
    ($($name:ident)*) => { &[$((stringify!($name), row::<$name> as Read)),*] };
}

/// Every row. The place in the list is the byte in the seeds: add at the end.
pub const ROWS: &[(&str, Read)] = rows!(
    ArmedFlowRow PlanVersionRow NodeStateRow RequestRow QuarantineRow LoopCount EndingRow ExecutionRow
    FlowRow FlowVersionRow CatalogRequestRow MessageRow QueuedOccurrence ScheduleRow ScheduleRequest
    ScheduleControlRow BackfillRow OccurrenceRow ErrorRow InputRow StepRow QueueRow LeaseRow
    JournalRecord JournalEntry
);

/// A byte for the type, then its bytes. Accepted: read.
pub fn stored(bytes: &[u8]) -> bool {
    let Some((kind, value)) = bytes.split_first() else {
        return false;
    };
    match kind {
        // The replica's own rows and log entries.
        100..=109 => replica::stored(kind - 100, value),
        110 => batch(value),
        111 => fence(value),
        112 => keys(value),
        _ => ROWS
            .get(usize::from(*kind))
            .is_some_and(|(_, read)| read(value)),
    }
}

/// The seeds have no checksum: a fuzzer would never find one that fits.
fn batch(bytes: &[u8]) -> bool {
    let _ = Batch::decode(Bytes::copy_from_slice(bytes));
    let mut guarded = bytes.to_vec();
    guarded.extend(crc32c::crc32c(bytes).to_be_bytes());
    let Ok(batch) = Batch::decode(guarded.into()) else {
        return false;
    };
    let written = batch.encode();
    assert_eq!(Batch::decode(written).as_ref(), Ok(&batch));
    true
}

fn fence(bytes: &[u8]) -> bool {
    let Some(fence) = Fence::decode(bytes) else {
        return false;
    };
    assert_eq!(Fence::decode(&fence.encode()), Some(fence));
    true
}

fn keys(key: &[u8]) -> bool {
    let mut read = false;
    if let Some(step) = step_of_key(key) {
        read = true;
        assert_eq!(step_of_key(&step_key(step)), Some(step));
    }
    if let Some(timer) = timer_of_key(key) {
        read = true;
        assert_eq!(timer_of_key(&timer_key(&timer)), Some(timer));
    }
    if let Some((at, id)) = catalog_request_expiry_of_key(key) {
        read = true;
        let written = catalog_request_expiry_key(at, &id);
        assert_eq!(catalog_request_expiry_of_key(&written), Some((at, id)));
    }
    read |= execution_of_key(key).is_some();
    read |= flow_of_key(key).is_some();
    read |= join_of_key(key).is_some();
    read |= occurrence_of_key(key).is_some();
    read |= version_of_key(key).is_some();
    read
}
