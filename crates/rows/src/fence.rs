//! The fence: a batch is applied to the state that it was decided on, or not at all.
//!
//! A batch was decided on state that only its leader's memory held. `with_leader(term)` of openraft
//! fails fast but is no fence: it was seen to refuse batches 58 to 62 and then to commit 63 to 133 in
//! the same term. So every batch names its epoch and its place in it, and apply accepts it only when
//! the epoch is the current one and the number is the last plus one. Every replica decides alike.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;
use tidemill_types::Timestamp;

/// Who decides: the log id of the `EpochStart` entry that began the epoch. Never repeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// Raft term of the entry.
    pub term: u64,
    /// Raft log index of the entry.
    pub index: u64,
}

/// The fence row: what was last let through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    /// The current epoch.
    pub epoch: Epoch,
    /// The last sequence number accepted in it; 0 when none was yet.
    pub seq: u64,
    /// The leader's time in the last batch of any epoch: decisions never use an earlier one.
    pub time: Timestamp,
}

/// Why a batch was dropped whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FenceRefusal {
    /// Another leader has begun an epoch since the batch was decided.
    #[error("the batch is of epoch {got:?}, the current epoch is {current:?}")]
    OtherEpoch {
        /// The epoch in the batch.
        got: Epoch,
        /// The epoch in the fence.
        current: Epoch,
    },
    /// A batch before this one is missing, or this one was applied already.
    #[error("the batch has number {got}, expected {expected}")]
    OutOfSequence {
        /// The number in the batch.
        got: u64,
        /// The number that would have been accepted.
        expected: u64,
    },
}

impl Fence {
    /// Bytes of a fence row.
    pub const ENCODED_LEN: usize = 32;

    /// The fence after an `EpochStart` entry was applied.
    #[must_use]
    pub fn begin(self, epoch: Epoch) -> Self {
        assert!(
            epoch > self.epoch,
            "epoch {epoch:?} began after {:?}",
            self.epoch
        );
        Self {
            epoch,
            seq: 0,
            time: self.time,
        }
    }

    /// The fence after a batch, or why the batch must be dropped.
    ///
    /// # Errors
    /// [`FenceRefusal`] when the batch was decided on other state than this.
    pub fn admit(self, epoch: Epoch, seq: u64, time: Timestamp) -> Result<Self, FenceRefusal> {
        if epoch != self.epoch {
            return Err(FenceRefusal::OtherEpoch {
                got: epoch,
                current: self.epoch,
            });
        }
        if seq != self.seq + 1 {
            return Err(FenceRefusal::OutOfSequence {
                got: seq,
                expected: self.seq + 1,
            });
        }
        Ok(Self {
            epoch,
            seq,
            time: time.max(self.time),
        })
    }

    /// The row's value.
    #[must_use]
    pub fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(Self::ENCODED_LEN);
        out.put_u64(self.epoch.term);
        out.put_u64(self.epoch.index);
        out.put_u64(self.seq);
        out.put_i64(self.time.0);
        out.freeze()
    }

    /// Reads a row's value; none when it is not one.
    #[must_use]
    pub fn decode(mut value: &[u8]) -> Option<Self> {
        (value.len() == Self::ENCODED_LEN).then(|| Self {
            epoch: Epoch {
                term: value.get_u64(),
                index: value.get_u64(),
            },
            seq: value.get_u64(),
            time: Timestamp(value.get_i64()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Epoch = Epoch { term: 1, index: 4 };
    const SECOND: Epoch = Epoch { term: 1, index: 9 };

    #[test]
    fn lets_through_only_the_next_batch_of_the_current_epoch() {
        let fence = Fence::default().begin(FIRST);
        let fence = fence.admit(FIRST, 1, Timestamp(10)).expect("first batch");
        assert_eq!(
            fence.admit(FIRST, 1, Timestamp(11)),
            Err(FenceRefusal::OutOfSequence {
                got: 1,
                expected: 2
            }),
            "a repeated batch"
        );
        assert_eq!(
            fence.admit(FIRST, 3, Timestamp(11)),
            Err(FenceRefusal::OutOfSequence {
                got: 3,
                expected: 2
            }),
            "a batch after a lost one"
        );
        let fence = fence.begin(SECOND);
        assert_eq!(
            fence.admit(FIRST, 2, Timestamp(11)),
            Err(FenceRefusal::OtherEpoch {
                got: FIRST,
                current: SECOND
            }),
            "a batch of the leader before"
        );
        assert!(fence.admit(SECOND, 1, Timestamp(11)).is_ok());
    }

    #[test]
    fn time_never_goes_back() {
        let fence = Fence::default()
            .begin(FIRST)
            .admit(FIRST, 1, Timestamp(10))
            .expect("first");
        let fence = fence
            .begin(SECOND)
            .admit(SECOND, 1, Timestamp(3))
            .expect("second");
        assert_eq!(fence.time, Timestamp(10));
    }

    #[test]
    fn row_round_trips() {
        let fence = Fence {
            epoch: SECOND,
            seq: 7,
            time: Timestamp(-3),
        };
        assert_eq!(Fence::decode(&fence.encode()), Some(fence));
        assert_eq!(Fence::decode(b"short"), None);
    }
}
