//! What is stored, and its bytes: keys, rows, journal records, batches and the fence.
//!
//! Pure, so that the core, the store and the simulator share one definition of every byte.
//! Rows are protobuf messages, written and read by prost's primitives straight from and to our
//! own types (`docs/adr/0002-rows.md`). Nothing here decides anything but the fence.

pub mod batch;
pub mod fence;
pub mod journal;
pub mod key;
pub mod table;
pub mod wire;

pub use batch::{
    AsChange, Batch, BatchError, BatchWriter, Change, CheckedBatch, EncodedBatch, Mutation,
};
pub use fence::{Epoch, Fence, FenceRefusal};
pub use key::{Key, Table};
pub use wire::{Hash, RowError, Stored};
