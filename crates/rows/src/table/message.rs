//! Table 0x22: messages. Key: execution id, message number (4 bytes, big-endian).
//!
//! The field numbers are those of `tidemill.v1.Message`.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidemill_types::ExecutionId;

use super::step::{numbered, of_execution};
use crate::{
    key::{Key, Table},
    wire::stored,
};

stored! {
    /// What one step gives to the next.
    pub struct MessageRow {
        /// JSON.
        data: Bytes = 1,
        /// Free texts.
        headers: BTreeMap<String, String> = 2,
        /// Named bytes.
        attachments: BTreeMap<String, Bytes> = 3,
        /// JSON object; empty means none.
        metadata: Bytes = 4,
    }
}

impl MessageRow {
    /// Bytes of payload: what the limit on messages counts.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.data.len()
            + self.metadata.len()
            + self
                .headers
                .iter()
                .map(|(k, v)| k.len() + v.len())
                .sum::<usize>()
            + self
                .attachments
                .iter()
                .map(|(k, v)| k.len() + v.len())
                .sum::<usize>()
    }
}

/// The key of a message.
#[must_use]
pub fn message_key(execution: ExecutionId, number: u32) -> Key {
    numbered(execution, Table::Message, number)
}

/// First bytes of the keys of an execution's messages.
#[must_use]
pub fn messages_prefix(execution: ExecutionId) -> Key {
    of_execution(execution, Table::Message)
}
