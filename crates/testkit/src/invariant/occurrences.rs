//! I3: one ledger row per occurrence, none missing.
//!
//! **Not checked yet.** It comes with triggers: no schedule actor exists, so there is no ledger of
//! occurrences to look at. When it does, this file gets the checker: for every flow that was armed
//! with a schedule, the nominal times between arming and disarming, computed from the schedule alone,
//! must be exactly the rows of the ledger.
