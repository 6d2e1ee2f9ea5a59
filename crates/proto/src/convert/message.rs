//! Messages.

use tidemill_rows::table::MessageRow;

use crate::v1;

/// To the wire; bytes are shared.
#[must_use]
pub fn message(row: MessageRow) -> v1::Message {
    v1::Message {
        data: row.data,
        headers: row.headers.into_iter().collect(),
        attachments: row.attachments.into_iter().collect(),
        metadata: row.metadata,
    }
}

/// From the wire; bytes are shared. What is in it is not looked at.
#[must_use]
pub fn message_row(message: v1::Message) -> MessageRow {
    MessageRow {
        data: message.data,
        headers: message.headers.into_iter().collect(),
        attachments: message.attachments.into_iter().collect(),
        metadata: message.metadata,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::{collection::btree_map, prelude::*};

    use super::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        any::<Vec<u8>>().prop_map(Bytes::from)
    }

    proptest! {
        #[test]
        fn round_trips(
            data in bytes(),
            headers in btree_map(any::<String>(), any::<String>(), 0..4),
            attachments in btree_map(any::<String>(), bytes(), 0..4),
            metadata in bytes(),
        ) {
            let row = MessageRow { data, headers, attachments, metadata };
            prop_assert_eq!(message_row(message(row.clone())), row);
        }
    }
}
