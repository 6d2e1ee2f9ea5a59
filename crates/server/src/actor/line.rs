//! Who waits for a leader: how much new work there may be, of whom, how long, and in which order it is
//! decided.
//!
//! Fairness is between owners (flows): each takes a part of the places that are left, has a line of its
//! own, and the lines take turns. So a flow that floods fills its own line, is sent away once that is old,
//! and another flow's start is decided in the next turn. What brings work to its end goes before new work,
//! since it frees what it holds, but does not shut it out.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{
            AtomicU32, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Relaxed},
        },
    },
    time::Duration,
};

use tidemill_core::{Decider, Turns};
use tidemill_types::{
    FlowId,
    limits::{MAILBOX_COMMANDS_MAX, MAILBOX_WAIT_MS_MAX},
};
use tokio::time::Instant;

use super::{Envelope, company::Company};

/// New work is shed when the mailbox has less than this part of its places left.
const NEW_WORK_SHED_DIVISOR: usize = 4;
/// Most commands of new work that wait for one leader.
pub(super) const NEW_WORK_MAX: usize =
    MAILBOX_COMMANDS_MAX - MAILBOX_COMMANDS_MAX / NEW_WORK_SHED_DIVISOR;
/// Owners are counted by so many last bits of their ids, which are random: a table of them all would have
/// to be locked. Two that meet in a counter have the places of one.
const OWNER_COUNTERS: usize = 1 << 12;
/// So many commands that end something are decided for one that begins something, when both wait.
const PROGRESS_PER_NEW_WORK: u32 = 4;
/// Where commits take long, waiting for a few of them is no sign of a queue that does not move.
const COMMITS_WAITED: u32 = 3;

/// What everybody sees of the line; written by the actor and by those who enter.
pub(super) struct Line {
    /// New work that waits: of all, and by owner.
    waiting: AtomicUsize,
    by_owner: Box<[AtomicU32]>,
    /// Owners with new work that waits, when the actor last looked.
    owners: AtomicUsize,
    /// Since when the oldest new work waits, in microseconds after `begun`; 0: none waits.
    oldest_us: AtomicU64,
    /// New work is not taken from owners with their share waiting once the oldest waits for so long.
    wait_us_max: AtomicU64,
    begun: Instant,
}

/// A place in the line, until it is dropped.
pub(super) struct Place {
    line: Arc<Line>,
    owner: usize,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// No places are left, or not for this owner.
    Places,
    /// What this owner has waiting has waited for too long already.
    Wait,
}

impl Full {
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Places => "queue",
            Self::Wait => "wait",
        }
    }
}

impl Line {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            waiting: AtomicUsize::new(0),
            by_owner: (0..OWNER_COUNTERS).map(|_| AtomicU32::new(0)).collect(),
            owners: AtomicUsize::new(0),
            oldest_us: AtomicU64::new(0),
            wait_us_max: AtomicU64::new(MAILBOX_WAIT_MS_MAX * 1_000),
            begun: Instant::now(),
        })
    }

    /// A place for new work of an owner. Nobody may hold more places than are left, so one owner has at
    /// most half of them, and two have two thirds: whoever comes next finds one.
    pub(super) fn enter(self: &Arc<Self>, owner: FlowId, now: Instant) -> Result<Place, Full> {
        let counter = counter_of(owner);
        let held = self.by_owner[counter].load(Relaxed) as usize;
        let waiting = self.waiting.load(Relaxed);
        if held >= NEW_WORK_MAX.saturating_sub(waiting) {
            return Err(Full::Places);
        }
        let oldest = self.oldest_us.load(Relaxed);
        let now_us = self.micros(now);
        if oldest == 0 {
            self.oldest_us.store(now_us, Relaxed);
        } else if held > 0 && now_us.saturating_sub(oldest) > self.wait_us_max.load(Relaxed) {
            let share = waiting / self.owners.load(Relaxed).max(1);
            if held >= share {
                return Err(Full::Wait);
            }
        }
        // Others may have come in between: the bounds are held to within the number of threads.
        self.by_owner[counter].fetch_add(1, AcqRel);
        self.waiting.fetch_add(1, AcqRel);
        Ok(Place {
            line: Arc::clone(self),
            owner: counter,
        })
    }

    /// How long the oldest new work has waited.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        match self.oldest_us.load(Relaxed) {
            0 => Duration::ZERO,
            oldest => Duration::from_micros(self.micros(now).saturating_sub(oldest)),
        }
    }

    fn micros(&self, at: Instant) -> u64 {
        // Never 0, which means that nothing waits.
        at.saturating_duration_since(self.begun).as_micros() as u64 + 1
    }

    /// What the actor sees after a turn.
    fn note(&self, oldest: Option<Instant>, owners: usize) {
        let oldest = oldest.map_or(0, |at| self.micros(at));
        self.oldest_us.store(oldest, Relaxed);
        self.owners.store(owners, Relaxed);
    }

    /// A commit took so long; called by the actor alone.
    pub(super) fn committed(&self, took: Duration) {
        let wait = (took * COMMITS_WAITED).as_micros() as u64;
        let average = (self.wait_us_max.load(Relaxed) * 7 + wait) / 8;
        let wait_us_max = average.max(MAILBOX_WAIT_MS_MAX * 1_000);
        self.wait_us_max.store(wait_us_max, Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.line.by_owner[self.owner].fetch_sub(1, AcqRel);
        self.line.waiting.fetch_sub(1, AcqRel);
    }
}

fn counter_of(owner: FlowId) -> usize {
    let [.., high, low] = owner.0;
    usize::from(u16::from_be_bytes([high, low])) % OWNER_COUNTERS
}

/// Commands taken from the mailbox and not decided, in the actor's hands.
pub(super) struct Backlog<D: Decider> {
    line: Arc<Line>,
    progress: VecDeque<Envelope<D>>,
    new_work: Turns<FlowId, Envelope<D>>,
    /// Commands of progress decided since the last of new work.
    progress_in_a_row: u32,
    company: Company,
}

impl<D: Decider> Backlog<D> {
    pub(super) fn new(line: Arc<Line>) -> Self {
        Self {
            line,
            progress: VecDeque::new(),
            new_work: Turns::default(),
            progress_in_a_row: 0,
            company: Company::new(Instant::now()),
        }
    }

    pub(super) fn push(&mut self, envelope: Envelope<D>) {
        match envelope.owner {
            Some(owner) => self.new_work.push(owner, envelope),
            None => self.progress.push_back(envelope),
        }
    }

    /// Puts one before all others.
    pub(super) fn push_front(&mut self, envelope: Envelope<D>) {
        self.progress.push_front(envelope);
        self.progress_in_a_row = 0;
    }

    /// The one to be decided next.
    pub(super) fn pop(&mut self) -> Option<Envelope<D>> {
        let may_go = self.progress_in_a_row < PROGRESS_PER_NEW_WORK || self.new_work.is_empty();
        if may_go && let Some(envelope) = self.progress.pop_front() {
            self.progress_in_a_row += 1;
            return Some(envelope);
        }
        self.progress_in_a_row = 0;
        let (owner, envelope) = self.new_work.pop()?;
        self.company.joins(owner);
        Some(envelope)
    }

    /// The batch with all that was popped leaves. True while a quiet flow's work is beside a flood's.
    pub(super) fn batch_leaves(&mut self, now: Instant) -> bool {
        let waiting = &self.new_work;
        self.company.leaves(now, |owner| waiting.len_of(owner) > 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.progress.is_empty() && self.new_work.is_empty()
    }

    /// How many more the actor may take from the mailbox.
    pub(super) fn room(&self) -> usize {
        MAILBOX_COMMANDS_MAX.saturating_sub(self.progress.len() + self.new_work.len())
    }

    /// Says to those who come what waits here.
    pub(super) fn show(&self) {
        let oldest = self.new_work.fronts().map(|envelope| envelope.at).min();
        self.line.note(oldest, self.new_work.owners());
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Envelope<D>> + '_ {
        std::iter::from_fn(|| self.pop())
    }
}

impl<D: Decider> Drop for Backlog<D> {
    fn drop(&mut self) {
        // What is left in the mailbox begins to wait anew.
        self.line.note(None, 0);
    }
}

#[cfg(test)]
mod tests {
    use tidemill_types::PartitionId;

    use super::*;

    fn flow(number: u64) -> FlowId {
        FlowId::new(0, PartitionId(1), number)
    }

    fn enter_all(line: &Arc<Line>, owner: FlowId, now: Instant) -> (Vec<Place>, Full) {
        let mut places = Vec::new();
        loop {
            match line.enter(owner, now) {
                Ok(place) => places.push(place),
                Err(full) => return (places, full),
            }
        }
    }

    #[test]
    fn nobody_holds_more_places_than_are_left() {
        let (line, now) = (Line::new(), Instant::now());
        let (first, full) = enter_all(&line, flow(1), now);
        assert_eq!((first.len(), full), (NEW_WORK_MAX / 2, Full::Places));
        let (second, _) = enter_all(&line, flow(2), now);
        assert_eq!(second.len(), NEW_WORK_MAX / 4);
        // However many there are, the next one finds a place.
        let many: Vec<_> = (3..12).map(|n| enter_all(&line, flow(n), now).0).collect();
        assert!(many.iter().all(|places| !places.is_empty()));
        drop((first, second, many));
        assert_eq!(enter_all(&line, flow(1), now).0.len(), NEW_WORK_MAX / 2);
    }

    #[test]
    fn an_old_line_takes_no_more_from_those_who_made_it() {
        let (line, now) = (Line::new(), Instant::now());
        let limit = Duration::from_millis(MAILBOX_WAIT_MS_MAX);
        let flood: Vec<_> = (0..10).map(|_| line.enter(flow(1), now)).collect();
        assert!(flood.iter().all(Result::is_ok));
        line.note(Some(now), 1);
        assert!(line.enter(flow(1), now + limit).is_ok(), "not old yet");
        let late = now + limit + Duration::from_millis(1);
        assert_eq!(line.enter(flow(1), late).err(), Some(Full::Wait));
        assert!(line.waited(late) > limit);
        // Another flow has no part in it, and gets an equal share.
        line.note(Some(now), 2);
        let (other, full) = enter_all(&line, flow(2), late);
        assert_eq!(full, Full::Wait);
        assert!((5..=11).contains(&other.len()), "{}", other.len());
        // Once the oldest is decided, it goes on.
        line.note(Some(late), 2);
        assert!(line.enter(flow(1), late).is_ok());
        line.note(None, 0);
        assert_eq!(line.waited(late), Duration::ZERO);
    }

    #[test]
    fn slow_commits_are_waited_for() {
        let (line, now) = (Line::new(), Instant::now());
        (0..100).for_each(|_| line.committed(Duration::from_secs(1)));
        let _held = line.enter(flow(1), now);
        line.note(Some(now), 1);
        assert!(line.enter(flow(1), now + Duration::from_secs(2)).is_ok());
        assert!(line.enter(flow(1), now + Duration::from_secs(4)).is_err());
        (0..100).for_each(|_| line.committed(Duration::from_millis(1)));
        assert!(line.enter(flow(1), now + Duration::from_secs(1)).is_err());
    }
}
