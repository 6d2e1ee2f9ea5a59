//! What was refused as overloaded a moment ago, by flow: more of it is sent away without asking again.
//!
//! To ask costs several microseconds, to remember a tenth of one; at several times the rate that a leader can
//! take, most are to be sent away. An overloaded leader has work for much longer than an answer is remembered, so
//! it misses nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tidemill_proto::v1::StartError;
use tokio::time::Instant;

/// How long starts of a flow are sent away like the last one that was.
pub(super) const REFUSAL_KEPT: Duration = Duration::from_millis(10);
/// Flows whose refusals are remembered; others are asked for.
const REFUSALS_KEPT_MAX: usize = 1_024;

/// Of a node. See the module.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<HashMap<String, Arc<Refusal>>>);

/// What a start of a flow was told.
#[derive(Debug)]
pub(super) struct Refusal {
    at: Instant,
    pub(super) error: StartError,
}

impl Refusals {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Refusal>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, flow: String, error: StartError, now: Instant) {
        let mut flows = self.lock();
        if flows.len() >= REFUSALS_KEPT_MAX && !flows.contains_key(&flow) {
            flows.retain(|_, refusal| refusal.holds(now));
            if flows.len() >= REFUSALS_KEPT_MAX {
                return;
            }
        }
        flows.insert(flow, Arc::new(Refusal { at: now, error }));
    }

    /// What starts of the flow are told at present, if they are sent away.
    pub(super) fn of(&self, flow: &str, now: Instant) -> Option<Arc<Refusal>> {
        let flows = self.lock();
        // A flow may be asked for by several names; each is remembered by itself.
        let refusal = flows.get(flow)?;
        refusal.holds(now).then(|| Arc::clone(refusal))
    }
}

impl Refusal {
    fn holds(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < REFUSAL_KEPT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_holds_for_its_flow_for_a_moment() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        assert!(refusals.of("flood", now).is_none());
        let error = StartError {
            message: "overloaded".to_owned(),
            ..StartError::default()
        };
        refusals.note("flood".into(), error.clone(), now);
        let refusal = refusals.of("flood", now).expect("it holds");
        assert_eq!(refusal.error, error);
        assert!(refusals.of("quiet", now).is_none());
        assert!(refusals.of("flood", now + REFUSAL_KEPT).is_none());
    }

    #[test]
    fn however_many_flows_there_are_only_so_many_are_remembered() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        for flow in 0..2 * REFUSALS_KEPT_MAX {
            refusals.note(flow.to_string(), StartError::default(), now);
        }
        assert_eq!(refusals.lock().len(), REFUSALS_KEPT_MAX);
        let later = now + REFUSAL_KEPT;
        refusals.note("late".into(), StartError::default(), later);
        assert_eq!(refusals.lock().len(), 1, "old ones make room");
        assert!(refusals.of("late", later).is_some());
    }
}
