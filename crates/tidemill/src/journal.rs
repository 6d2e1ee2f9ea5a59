//! The journal as a chain, and as a file that proves itself.
//!
//! Written against `docs/journal.md` and the public proto alone, not with the server's code: a verifier
//! that shares the code that it checks would share its mistakes.

pub mod chain;
pub mod file;
pub mod record;
