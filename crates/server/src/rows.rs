//! Reading rows for answers: what cannot be read is damage, never an empty answer.

use bytes::Bytes;
use tidemill_core::Rows;
use tidemill_rows::{Key, Stored, key::after_prefix};

use crate::actor::AskError;

/// Damage, as an answer.
pub(crate) fn damaged(error: impl std::fmt::Display) -> AskError {
    AskError::Corrupt(error.to_string())
}

/// A row's bytes.
pub(crate) fn get(rows: &dyn Rows, key: &[u8]) -> Result<Option<Bytes>, AskError> {
    rows.get(key).map_err(damaged)
}

/// A row.
pub(crate) fn stored<T: Stored>(rows: &dyn Rows, key: &[u8]) -> Result<Option<T>, AskError> {
    get(rows, key)?
        .map(T::from_bytes)
        .transpose()
        .map_err(damaged)
}

/// Rows in the order of their keys.
pub(crate) fn scan(
    rows: &dyn Rows,
    from: &[u8],
    to: &[u8],
    limit: usize,
    reverse: bool,
) -> Result<Vec<(Key, Bytes)>, AskError> {
    rows.scan(from, to, limit, reverse).map_err(damaged)
}

/// From the first to after the last key with this prefix.
pub(crate) fn prefix_range(prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let to = after_prefix(prefix).expect("a table's prefix is not all 0xff");
    (prefix.to_vec(), to)
}

/// The key just after this one.
pub(crate) fn after(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}
