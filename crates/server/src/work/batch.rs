//! Many small things in one message, within bounds: the larger the load, the fuller the messages.

use std::collections::VecDeque;

use prost::Message;

/// A message gets nothing more once it has so many bytes; a single thing may be larger.
const BYTES: usize = 1024 * 1024;
/// Most things in one message.
const ITEMS: usize = 512;

/// How full a message is.
#[derive(Default)]
pub(super) struct Batch {
    bytes: usize,
    items: usize,
}

impl Batch {
    /// Whether there is room for one more; counts it.
    pub fn admits(&mut self, bytes: usize) -> bool {
        let has_room =
            self.items == 0 || (self.items < ITEMS && self.bytes.saturating_add(bytes) <= BYTES);
        if has_room {
            self.bytes = self.bytes.saturating_add(bytes);
            self.items += 1;
        }
        has_room
    }

    /// Whether nothing more fits.
    pub fn is_full(&self) -> bool {
        self.items >= ITEMS || self.bytes >= BYTES
    }

    /// Takes from the front what fits.
    pub fn take<T: Size>(&mut self, queue: &mut VecDeque<T>) -> Vec<T> {
        let mut taken = Vec::new();
        while let Some(next) = queue.front() {
            if !self.admits(next.size()) {
                break;
            }
            taken.extend(queue.pop_front());
        }
        taken
    }
}

/// About how many bytes it takes in a message.
pub(super) trait Size {
    fn size(&self) -> usize;
}

impl Size for String {
    fn size(&self) -> usize {
        self.len()
    }
}

macro_rules! encoded {
    ($($type:ty),*) => {
        $(impl Size for $type {
            fn size(&self) -> usize {
                self.encoded_len()
            }
        })*
    };
}

encoded!(
    tidemill_proto::v1::Task,
    tidemill_proto::v1::CompletionResult,
    tidemill_proto::v1::Renewal
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_bounded_by_count_and_bytes() {
        let mut small: VecDeque<String> = (0..ITEMS + 1).map(|n| n.to_string()).collect();
        assert_eq!(Batch::default().take(&mut small).len(), ITEMS);
        let mut large: VecDeque<String> =
            [BYTES / 2, BYTES / 2, 1].map(|len| "x".repeat(len)).into();
        assert_eq!(Batch::default().take(&mut large).len(), 2);
    }

    #[test]
    fn what_is_larger_than_a_message_goes_alone() {
        let mut huge: VecDeque<String> = [2 * BYTES, 1].map(|len| "x".repeat(len)).into();
        assert_eq!(Batch::default().take(&mut huge).len(), 1);
    }
}
