//! The row tables, one file for each or for a few small ones that belong together: key, value, and
//! how both are read.

pub mod armed;
pub mod execution;
pub mod flow;
pub mod message;
pub mod schedule;
pub mod step;
pub mod timer;
pub mod work;

pub use armed::*;
pub use execution::*;
pub use flow::*;
pub use message::*;
pub use schedule::*;
pub use step::*;
pub use timer::*;
pub use work::*;

#[cfg(test)]
mod tests;
