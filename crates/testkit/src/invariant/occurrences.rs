//! I3: one ledger row per occurrence, none missing.
//!
//! **Not checked yet**: the simulated flows have no schedules. What is needed: flows with a schedule
//! in `simulation/flows.rs` (and a stop of each when faults end, or nothing ever comes to rest), and
//! here, for every flow that was armed, the nominal times between arming and disarming, computed from
//! the schedule alone, which must be exactly the rows of the ledger.
