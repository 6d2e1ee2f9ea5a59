//! The simulator of the pure core, and the invariants that it checks.
//!
//! Owns a deterministic world around the real deciders, the real rows, the real batch encoding and
//! the real fence: replicas, an abstract replicated log with Raft's guarantees and no more, clients,
//! workers, clocks and faults. Must never read a clock, use threads of its own within a run, or be a
//! normal dependency of anything. `docs/simulator.md` explains it.

pub mod invariant;
pub mod simulation;

pub use invariant::Violation;
pub use simulation::{Deposed, Options, Outcome, Planted, Simulation, TRANSITION_MOMENTS};
