//! The nouns of Tidemill: ids, timestamps, limits, messages, flow documents.
//!
//! Everything else depends on this crate, so it depends on nothing that acts: no runtime, no
//! clock, no randomness, no wire format.

pub mod duration;
pub mod error;
pub mod flow;
pub mod id;
pub mod limits;
pub mod schedule;
pub mod time;

pub use error::ErrorClass;
pub use id::{ExecutionId, FlowId, IdError, NodeId, PartitionId, StepId, TaskId};
pub use time::Timestamp;
