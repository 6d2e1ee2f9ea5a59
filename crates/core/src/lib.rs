//! The pure core: it takes a command, the time and the rows, and gives a decision.
//!
//! No clock, no randomness, no I/O, no async, no iteration over hash maps: what it needs of those is
//! a field of the command. So it is tested in microseconds and simulated for simulated years.
//!
//! A decision is a reply, rows and journal records (gathered in a [`Ledger`]) and
//! effects for the shell. [`Decider`] is how a shell drives it; [`Catalog`] decides for group 0,
//! [`Partition`] for the groups where flows run.

pub mod catalog;
pub mod command;
pub mod decider;
pub mod flow;
pub mod ledger;
pub mod memory;
pub mod partition;
mod quarantine;
pub mod rejection;
pub mod schedule;
mod turns;
pub mod webhook;

pub use catalog::Catalog;
pub use decider::Decider;
pub use ledger::{Damage, Ledger, Rows, RowsError};
pub use partition::Partition;
pub use rejection::Rejection;
pub use turns::Turns;
