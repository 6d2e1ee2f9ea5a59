//! Rows as the checkers read them.

use bytes::Bytes;
use tidemill_core::{Rows as _, memory::MemoryRows};
use tidemill_rows::{
    Key, Stored,
    key::{self, Table, after_prefix},
};
use tidemill_types::PartitionId;

use super::Violation;

/// A row, decoded.
pub fn row<T: Stored>(rows: &MemoryRows, key: &[u8]) -> Result<Option<T>, Violation> {
    let value = rows.get(key).expect("rows in memory can be read");
    value.map(|value| decode(key, value)).transpose()
}

/// Whether there is such a row.
pub fn has(rows: &MemoryRows, key: &[u8]) -> bool {
    rows.get(key).expect("rows in memory can be read").is_some()
}

/// A row's value.
pub fn decode<T: Stored>(key: &[u8], value: Bytes) -> Result<T, Violation> {
    T::from_bytes(value)
        .map_err(|e| Violation::new("rows can be read", format!("row {key:?}: {e}")))
}

/// All rows that begin with a prefix.
pub fn with_prefix(rows: &MemoryRows, prefix: &[u8]) -> Vec<(Key, Bytes)> {
    let to = after_prefix(prefix).expect("a table's prefix is not all 0xff");
    rows.scan(prefix, &to, usize::MAX, false)
        .expect("rows in memory can be read")
}

/// All rows of a table.
pub fn table(rows: &MemoryRows, partition: PartitionId, table: Table) -> Vec<(Key, Bytes)> {
    with_prefix(rows, &key::prefix(partition, table))
}
