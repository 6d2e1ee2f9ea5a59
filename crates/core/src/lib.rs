//! The pure core of Tidemill: takes a command, the time and the rows, and gives a decision.
//!
//! It never reads a clock, draws a random number, does I/O, awaits, or iterates a `HashMap`.

pub mod flow;
pub mod schedule;
