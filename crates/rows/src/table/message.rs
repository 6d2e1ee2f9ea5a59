//! Table 0x22: messages. Key: execution id, message number (4 bytes, big-endian).
//!
//! The field numbers are those of `tidemill.v1.Message`.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidemill_types::{ExecutionId, limits::MESSAGE_HEAD_BYTES_MAX};

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
    /// Whether a message that comes from outside is small enough: so many bytes of data and attachments,
    /// and as many beside them as headers need. A file as large as the limit is to fit, whatever the
    /// headers that come with it.
    #[must_use]
    pub fn is_within(&self, bytes_max: usize) -> bool {
        let attachments: usize = self.attachments.values().map(Bytes::len).sum();
        // Without data a message has `{}`, which is not the sender's.
        let data = if self.data.len() > 2 {
            self.data.len()
        } else {
            0
        };
        let content = data + attachments;
        content <= bytes_max && self.payload_len() - content <= MESSAGE_HEAD_BYTES_MAX
    }

    /// Bytes of payload.
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
