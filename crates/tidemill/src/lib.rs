//! What others use of the command by itself: the reader of exported journals, for the fuzzer
//! (`tests/fuzz`). Everything else is the binary's own.

pub mod journal;
pub mod table;
pub mod views;
