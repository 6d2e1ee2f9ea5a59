//! The fence, as the shared state machine finds it: the real one, unless a bug is planted in it.

use bytes::Bytes;
use tidemill_types::Timestamp;

use crate::{
    Epoch, FenceRefusal,
    options::Planted,
    run::{self},
};

/// See `rows::Fence`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fence(rows::Fence);

impl Fence {
    pub fn begin(self, epoch: Epoch) -> Self {
        Self(self.0.begin(epoch))
    }

    pub fn admit(self, epoch: Epoch, seq: u64, time: Timestamp) -> Result<Self, FenceRefusal> {
        match self.0.admit(epoch, seq, time) {
            Err(_) if run::planted(Planted::FenceIgnored) => Ok(self),
            admitted => admitted.map(Self),
        }
    }

    pub fn encode(self) -> Bytes {
        self.0.encode()
    }

    pub fn decode(value: &[u8]) -> Option<Self> {
        rows::Fence::decode(value).map(Self)
    }
}
