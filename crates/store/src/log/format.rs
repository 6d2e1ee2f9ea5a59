//! The log's keys and values. Entries have a column family per group, so that a group's table files
//! hold nothing but a run of its indexes and leave whole when it is purged; vote, committed and purged
//! positions of all groups share the default one.
//!
//! ```text
//! key of an entry:    group (2 bytes) | 0x00 | index (8 bytes), big-endian
//! key of a position:  group (2 bytes) | 0x01 vote, 0x02 committed, 0x03 purged
//! value:              CRC32C of key and bytes (4 bytes, big-endian) | bytes
//! bytes of purged:    index (8 bytes, big-endian) | marker
//! ```

use bytes::{Buf, BufMut, Bytes};
use tidemill_types::PartitionId;

use crate::StoreError;

const KIND_ENTRY: u8 = 0;
const CRC_LEN: usize = 4;
const INDEX_LEN: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Position {
    Vote = 1,
    Committed = 2,
    Purged = 3,
}

pub type EntryKey = [u8; 11];
pub type PositionKey = [u8; 3];

pub fn entry_key(group: PartitionId, index: u64) -> EntryKey {
    let mut key = EntryKey::default();
    key[..2].copy_from_slice(&group.0.to_be_bytes());
    key[2] = KIND_ENTRY;
    key[3..].copy_from_slice(&index.to_be_bytes());
    key
}

pub fn entry_index(group: PartitionId, key: &[u8]) -> Result<u64, StoreError> {
    let index = key
        .strip_prefix(&entry_key(group, 0)[..3])
        .and_then(|rest| rest.try_into().ok())
        .map(u64::from_be_bytes);
    index.ok_or_else(|| {
        StoreError::corrupt(format!(
            "log of partition {group}: {key:02x?} is no key of an entry"
        ))
    })
}

pub fn position_key(group: PartitionId, position: Position) -> PositionKey {
    let [high, low] = group.0.to_be_bytes();
    [high, low, position as u8]
}

pub fn parse_position(key: &[u8]) -> Result<(PartitionId, Position), StoreError> {
    let position = |kind| {
        [Position::Vote, Position::Committed, Position::Purged]
            .into_iter()
            .find(|position| *position as u8 == kind)
    };
    match *key {
        [high, low, kind] if position(kind).is_some() => Ok((
            PartitionId(u16::from_be_bytes([high, low])),
            position(kind).expect("just checked"),
        )),
        _ => Err(StoreError::corrupt(format!(
            "log: {key:02x?} is no key of a position"
        ))),
    }
}

pub fn seal(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), bytes);
    let mut value = Vec::with_capacity(CRC_LEN + bytes.len());
    value.put_u32(crc);
    value.put_slice(bytes);
    value
}

pub fn unseal(key: &[u8], value: &[u8]) -> Result<Bytes, StoreError> {
    let damaged = || StoreError::corrupt(format!("log: checksum of key {key:02x?} does not match"));
    let (mut crc, bytes) = value.split_at_checked(CRC_LEN).ok_or_else(damaged)?;
    if crc32c::crc32c_append(crc32c::crc32c(key), bytes) != crc.get_u32() {
        return Err(damaged());
    }
    Ok(Bytes::copy_from_slice(bytes))
}

pub fn purged(index: u64, marker: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(INDEX_LEN + marker.len());
    bytes.put_u64(index);
    bytes.put_slice(marker);
    bytes
}

pub fn parse_purged(mut bytes: Bytes) -> Result<(u64, Bytes), StoreError> {
    if bytes.len() < INDEX_LEN {
        return Err(StoreError::corrupt("log: a purged position is too short"));
    }
    let index = bytes.get_u64();
    Ok((index, bytes))
}

/// Name of the column family of a group's entries.
pub fn family(group: PartitionId) -> String {
    format!("group-{group}")
}

pub fn parse_family(name: &str) -> Result<PartitionId, StoreError> {
    name.strip_prefix("group-")
        .and_then(|id| id.parse().ok())
        .map(PartitionId)
        .ok_or_else(|| StoreError::corrupt(format!("log: unknown column family {name:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip_and_sort() {
        let group = PartitionId(258);
        assert_eq!(entry_index(group, &entry_key(group, 77)), Ok(77));
        assert!(entry_index(PartitionId(1), &entry_key(group, 77)).is_err());
        assert!(entry_key(group, 255) < entry_key(group, 256));
        let key = position_key(group, Position::Committed);
        assert_eq!(parse_position(&key), Ok((group, Position::Committed)));
        assert!(parse_position(&[0, 1, 9]).is_err());
        assert_eq!(parse_family(&family(group)), Ok(group));
    }

    #[test]
    fn a_changed_byte_of_key_or_value_is_found() {
        let value = seal(b"key", b"bytes");
        assert_eq!(unseal(b"key", &value), Ok(Bytes::from_static(b"bytes")));
        assert!(unseal(b"kez", &value).is_err());
        assert!(unseal(b"key", &value[..3]).is_err());
        for at in 0..value.len() {
            let mut damaged = value.clone();
            damaged[at] ^= 4;
            assert!(unseal(b"key", &damaged).is_err());
        }
    }
}
