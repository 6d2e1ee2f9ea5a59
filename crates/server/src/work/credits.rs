//! How a worker's places are split between the partitions.
//!
//! A worker says how many tasks it will hold; a partition's leader must know how many of them are
//! its own, for leaders do not ask each other. Each gets an even share, at least 1. When one uses all
//! of its share and others do not, what they do not use is lent to it; it goes back as soon as they
//! fill what is left of theirs. Together that can be more than the worker's places (by the shares of 1,
//! and while a loan goes back), so the gateway holds tasks back until a place is free.

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    limit: u32,
    /// Tasks that its leader has given out and counts.
    held: u32,
    /// Tasks that an earlier leader gave out: the present one does not count them.
    orphans: u32,
    /// What the leader is to be told; changes are noticed by it.
    said: u32,
}

impl Part {
    fn used(self) -> u32 {
        self.held + self.orphans
    }

    fn is_full(self) -> bool {
        self.used() >= self.limit
    }

    fn to_say(self) -> u32 {
        self.limit.saturating_sub(self.orphans)
    }
}

/// The partitions (by index) whose limit is to be said again.
pub(super) type Changes = Vec<usize>;

/// One worker's places.
#[derive(Debug)]
pub(super) struct Credits {
    total: u32,
    parts: Vec<Part>,
    /// Limits are set by hand and never moved.
    is_fixed: bool,
}

impl Credits {
    pub fn new(partitions: usize) -> Self {
        Self {
            total: 0,
            parts: vec![Part::default(); partitions],
            is_fixed: false,
        }
    }

    /// What the worker will hold at once.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// What the partition's leader is to be told.
    pub fn limit(&self, partition: usize) -> u32 {
        self.parts[partition].to_say()
    }

    /// The worker says how many tasks it will hold.
    pub fn set_total(&mut self, total: u32) -> Changes {
        self.total = total;
        let share = self.share();
        for part in &mut self.parts {
            part.limit = share;
        }
        self.rebalance();
        self.changes()
    }

    /// Gives these partitions a place each (as far as `places` reach, evenly) and the others none.
    pub fn fix(&mut self, partitions: &[usize], places: u32) -> Changes {
        self.is_fixed = true;
        self.total = places;
        for part in &mut self.parts {
            part.limit = 0;
        }
        let count = u32::try_from(partitions.len()).unwrap_or(u32::MAX).max(1);
        for (at, partition) in (0..).zip(partitions) {
            let extra = u32::from(at < places % count);
            self.parts[*partition].limit = places / count + extra;
        }
        self.changes()
    }

    /// No partition is to give out more; the worker's places stay.
    pub fn end(&mut self) -> Changes {
        self.is_fixed = true;
        for part in &mut self.parts {
            part.limit = 0;
        }
        self.changes()
    }

    /// A partition's leader has given a task out.
    pub fn take(&mut self, partition: usize) -> Changes {
        self.parts[partition].held += 1;
        self.rebalance();
        self.changes()
    }

    /// A task is completed or lost.
    pub fn free(&mut self, partition: usize, is_orphan: bool) -> Changes {
        let part = &mut self.parts[partition];
        let count = if is_orphan {
            &mut part.orphans
        } else {
            &mut part.held
        };
        *count = count.saturating_sub(1);
        self.rebalance();
        self.changes()
    }

    /// A partition's leader has gone; the next one does not count what it gave out.
    pub fn orphan(&mut self, partition: usize) -> Changes {
        let part = &mut self.parts[partition];
        part.orphans += part.held;
        part.held = 0;
        self.changes()
    }

    fn share(&self) -> u32 {
        let count = u32::try_from(self.parts.len()).unwrap_or(u32::MAX).max(1);
        // At least 1 unless the total is 0.
        self.total.div_ceil(count)
    }

    fn rebalance(&mut self) {
        if self.is_fixed || self.total == 0 {
            return;
        }
        let full = self.parts.iter().filter(|part| part.is_full()).count();
        if full == 0 {
            return;
        }
        let share = self.share();
        // Who does not use its share keeps twice what it uses (so that it can grow without asking) and
        // at least 1 (so that its demand is seen at all).
        let keep = |part: &Part| {
            (2 * part.used())
                .clamp(1, share.max(1))
                .min(part.limit.max(1))
        };
        let kept: u32 = self
            .parts
            .iter()
            .filter(|part| !part.is_full())
            .map(keep)
            .sum();
        let pool = self.total.saturating_sub(kept);
        let full = u32::try_from(full).unwrap_or(u32::MAX);
        let (each, mut rest) = ((pool / full).max(1), pool % full);
        for part in &mut self.parts {
            if part.is_full() {
                part.limit = each + u32::from(rest > 0);
                rest = rest.saturating_sub(1);
            } else {
                part.limit = keep(part);
            }
        }
    }

    fn changes(&mut self) -> Changes {
        let mut changes = Vec::new();
        for (at, part) in self.parts.iter_mut().enumerate() {
            if part.said != part.to_say() {
                part.said = part.to_say();
                changes.push(at);
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(credits: &Credits) -> Vec<u32> {
        (0..credits.parts.len()).map(|p| credits.limit(p)).collect()
    }

    /// A leader gives out as much as it may.
    fn fill(credits: &mut Credits, partition: usize) {
        while credits.parts[partition].held < credits.limit(partition) {
            credits.take(partition);
        }
    }

    #[test]
    fn shares_are_even_and_at_least_one() {
        let mut credits = Credits::new(4);
        assert_eq!(credits.set_total(10), [0, 1, 2, 3]);
        assert_eq!(limits(&credits), [3, 3, 3, 3]);
        credits.set_total(2);
        assert_eq!(limits(&credits), [1, 1, 1, 1]);
        credits.set_total(0);
        assert_eq!(limits(&credits), [0, 0, 0, 0]);
        assert!(credits.set_total(0).is_empty(), "nothing new is to be said");
    }

    #[test]
    fn what_is_not_used_is_lent() {
        let mut credits = Credits::new(2);
        credits.set_total(10);
        fill(&mut credits, 0);
        assert_eq!(limits(&credits), [9, 1]);
        assert_eq!(credits.parts[0].held, 9);
        // In the steady state nothing is said: a place that is free is filled again.
        assert!(credits.free(0, false).is_empty());
        assert!(credits.take(0).is_empty());
    }

    #[test]
    fn a_loan_goes_back_when_it_is_needed() {
        let mut credits = Credits::new(2);
        credits.set_total(10);
        fill(&mut credits, 0);
        credits.take(1);
        assert_eq!(limits(&credits), [5, 5]);
    }

    #[test]
    fn what_an_old_leader_gave_out_still_uses_places() {
        let mut credits = Credits::new(1);
        credits.set_total(10);
        for _ in 0..6 {
            credits.take(0);
        }
        assert_eq!(credits.orphan(0), [0]);
        assert_eq!(credits.limit(0), 4);
        assert_eq!(credits.free(0, true), [0]);
        assert_eq!(credits.limit(0), 5);
        assert!(credits.free(0, false).is_empty(), "nothing to free");
    }

    #[test]
    fn fixed_limits_are_not_moved() {
        let mut credits = Credits::new(3);
        credits.fix(&[1, 2], 5);
        assert_eq!(limits(&credits), [0, 3, 2]);
        fill(&mut credits, 1);
        assert_eq!(limits(&credits), [0, 3, 2]);
        credits.fix(&[], 0);
        assert_eq!(limits(&credits), [0, 0, 0]);
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        #[derive(Clone, Debug)]
        enum Event {
            Total(u32),
            Fill(usize),
            Free(usize),
            Orphan(usize),
        }

        fn event(partitions: usize) -> impl Strategy<Value = Event> {
            prop_oneof![
                (0_u32..50).prop_map(Event::Total),
                (0..partitions).prop_map(Event::Fill),
                (0..partitions).prop_map(Event::Free),
                (0..partitions).prop_map(Event::Orphan),
            ]
        }

        proptest! {
            #[test]
            fn limits_add_up_and_nobody_is_shut_out(
                events in prop::collection::vec(event(3), 0..60),
            ) {
                let mut credits = Credits::new(3);
                for event in events {
                    match event {
                        Event::Total(total) => drop(credits.set_total(total)),
                        Event::Fill(partition) => fill(&mut credits, partition),
                        Event::Free(partition) => drop(credits.free(partition, false)),
                        Event::Orphan(partition) => drop(credits.orphan(partition)),
                    }
                    let sum: u32 = credits.parts.iter().map(|part| part.limit).sum();
                    // One for each partition beyond the total, and what rounding up gives.
                    prop_assert!(sum <= credits.total + 3, "{credits:?}");
                    for part in &credits.parts {
                        prop_assert_eq!(part.limit > 0, credits.total > 0, "{:?}", &credits);
                    }
                }
            }
        }
    }
}
