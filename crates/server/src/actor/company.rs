//! Whether a flow that asks for little waits beside one that floods.
//!
//! Turns take the flood's queue out of the other's way, but not its batches: those that are on their way are
//! written first. While both are there batches are kept short (`pace`), which costs the flood some of its rate
//! and nobody else anything: who has work left when a batch is full has more than its share.

use std::{collections::BTreeMap, time::Duration};

use tidemill_types::FlowId;
use tokio::time::Instant;

/// Judged over so long: one start in it is enough to be seen.
const WINDOW: Duration = Duration::from_secs(1);
/// The quiet ones have at most this part of what is decided: where they have more, short batches would cost them rate.
const QUIET_DIVISOR: u64 = 4;

/// See the module.
pub(super) struct Company {
    /// New work in the batch that is being made, by owner.
    batch: BTreeMap<FlowId, u64>,
    since: Instant,
    /// Within the window: work of owners with nothing left when its batch left, and of the others.
    seen: Seen,
    is_mixed: bool,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    quiet: u64,
    loud: u64,
}

impl Seen {
    const fn is_mixed(self) -> bool {
        self.quiet > 0 && self.loud > 0 && self.quiet * QUIET_DIVISOR <= self.quiet + self.loud
    }
}

impl Company {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            batch: BTreeMap::new(),
            since: now,
            seen: Seen::default(),
            is_mixed: false,
        }
    }

    /// New work of an owner goes into the batch.
    pub(super) fn joins(&mut self, owner: FlowId) {
        *self.batch.entry(owner).or_default() += 1;
    }

    /// The batch leaves; `has_left` says who has more work waiting. True while a quiet flow's work is beside a flood's.
    pub(super) fn leaves(&mut self, now: Instant, has_left: impl Fn(&FlowId) -> bool) -> bool {
        let mut batch = Seen::default();
        while let Some((owner, count)) = self.batch.pop_first() {
            match has_left(&owner) {
                true => batch.loud += count,
                false => batch.quiet += count,
            }
        }
        self.seen.quiet += batch.quiet;
        self.seen.loud += batch.loud;
        if now.saturating_duration_since(self.since) >= WINDOW {
            self.is_mixed = self.seen.is_mixed();
            (self.since, self.seen) = (now, Seen::default());
        }
        // The first one is helped at once.
        self.is_mixed |= batch.is_mixed();
        self.is_mixed
    }
}

#[cfg(test)]
mod tests {
    use tidemill_types::PartitionId;

    use super::*;

    fn flow(number: u64) -> FlowId {
        FlowId::new(0, PartitionId(1), number)
    }

    /// A batch with so much work of each flow, of which some have more.
    fn batch(company: &mut Company, now: Instant, work: &[(u64, u64)], left: &[u64]) -> bool {
        for (owner, count) in work {
            (0..*count).for_each(|_| company.joins(flow(*owner)));
        }
        let left: Vec<_> = left.iter().map(|owner| flow(*owner)).collect();
        company.leaves(now, |owner| left.contains(owner))
    }

    #[test]
    fn a_quiet_flow_beside_a_flood_is_seen_at_once_and_for_a_while() {
        let begun = Instant::now();
        let mut company = Company::new(begun);
        assert!(!batch(&mut company, begun, &[(1, 100)], &[1]), "a flood");
        let mixed = batch(&mut company, begun, &[(1, 20), (2, 1)], &[1]);
        assert!(mixed);
        assert!(batch(&mut company, begun, &[(1, 20)], &[1]));
        let next = begun + WINDOW;
        assert!(batch(&mut company, next, &[(1, 20)], &[1]), "judged anew");
        let after = next + WINDOW;
        assert!(!batch(&mut company, after, &[(1, 20)], &[1]), "it has gone");
    }

    #[test]
    fn flows_that_have_all_they_ask_for_are_no_flood() {
        let begun = Instant::now();
        let mut company = Company::new(begun);
        for second in 0..3 {
            let now = begun + WINDOW * second;
            assert!(!batch(&mut company, now, &[(1, 60), (2, 1)], &[]));
        }
    }

    #[test]
    fn where_the_quiet_ones_are_many_batches_stay_large() {
        let begun = Instant::now();
        let mut company = Company::new(begun);
        for second in 0..3 {
            let now = begun + WINDOW * second;
            let work: Vec<_> = (1..20).map(|owner| (owner, 5)).collect();
            assert!(!batch(&mut company, now, &work, &[1, 2]));
        }
        // Floods alone are no company either.
        assert!(!batch(&mut company, begun, &[(1, 10), (2, 10)], &[1, 2]));
    }
}
