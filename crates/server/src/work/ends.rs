//! Who waits for the end of what he starts, and is told of it by the leader that ends it.
//!
//! A caller takes a place before he asks for the start, by the entropy that he gives to the execution's id: so no
//! end can come before its place is there. Whoever loses his place (the leader goes, or lets the execution go) is
//! told nothing, and reads.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tidemill_core::command::EndedExecution;
use tidemill_types::{ExecutionId, limits::WATCHERS_MAX};
use tokio::sync::oneshot;

type Waiting = HashMap<u64, oneshot::Sender<EndedExecution>>;

/// See the module.
#[derive(Default)]
pub(crate) struct ExpectedEnds {
    waiting: Mutex<Waiting>,
}

impl ExpectedEnds {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place; none when too many wait.
    pub(super) fn expect(self: &Arc<Self>, entropy: u64) -> Option<ExpectedEnd> {
        let mut waiting = self.lock();
        if waiting.len() >= WATCHERS_MAX {
            return None;
        }
        match waiting.entry(entropy) {
            // 64 random bits met: the later one reads.
            Entry::Occupied(_) => None,
            Entry::Vacant(vacant) => {
                let (tell, told) = oneshot::channel();
                vacant.insert(tell);
                Some(ExpectedEnd {
                    entropy,
                    told,
                    ends: Arc::clone(self),
                })
            }
        }
    }

    /// Executions have ended.
    pub(super) fn tell(&self, ended: Vec<EndedExecution>) {
        if ended.is_empty() {
            return;
        }
        let mut waiting = self.lock();
        for ended in ended {
            if let Some(tell) = waiting.remove(&ended.execution.entropy()) {
                // He may have stopped waiting.
                let _ = tell.send(ended);
            }
        }
    }

    /// Of this execution nothing will be told.
    pub(super) fn forget(&self, execution: ExecutionId) {
        self.lock().remove(&execution.entropy());
    }

    /// Nothing will be told of any.
    pub(super) fn forget_all(&self) {
        self.lock().clear();
    }
}

/// A place, until it is dropped.
pub(crate) struct ExpectedEnd {
    entropy: u64,
    told: oneshot::Receiver<EndedExecution>,
    ends: Arc<ExpectedEnds>,
}

impl ExpectedEnd {
    /// How this execution has ended; none when that has to be read.
    pub(crate) async fn of(&mut self, execution: ExecutionId) -> Option<EndedExecution> {
        let ended = (&mut self.told).await.ok()?;
        (ended.execution == execution).then_some(ended)
    }
}

impl Drop for ExpectedEnd {
    fn drop(&mut self) {
        // Told or forgotten, its place is gone already, and another one may have it.
        if !self.told.is_terminated() {
            self.ends.lock().remove(&self.entropy);
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemill_rows::table::ExecutionRow;
    use tidemill_types::PartitionId;

    use super::*;

    fn ended(at_ms: i64, entropy: u64) -> EndedExecution {
        EndedExecution {
            execution: ExecutionId::new(at_ms, PartitionId(1), entropy),
            row: ExecutionRow::default(),
            output: Vec::new(),
        }
    }

    #[tokio::test]
    async fn each_is_told_of_his_own() {
        let ends = Arc::new(ExpectedEnds::default());
        let mut one = ends.expect(1).expect("a place");
        let mut two = ends.expect(2).expect("a place");
        assert!(ends.expect(1).is_none(), "it is taken");
        ends.tell(vec![ended(5, 2), ended(5, 3), ended(5, 1)]);
        for (place, entropy) in [(&mut one, 1), (&mut two, 2)] {
            let execution = ended(5, entropy).execution;
            let told = place.of(execution).await.expect("told");
            assert_eq!(told.execution, execution);
        }
        drop((one, two));
        assert!(ends.lock().is_empty());
    }

    #[tokio::test]
    async fn who_is_not_told_learns_that() {
        let ends = Arc::new(ExpectedEnds::default());
        let mut forgotten = ends.expect(1).expect("a place");
        ends.forget(ended(5, 1).execution);
        assert!(forgotten.of(ended(5, 1).execution).await.is_none());
        let mut other = ends.expect(2).expect("a place");
        ends.tell(vec![ended(4, 2)]);
        assert!(other.of(ended(5, 2).execution).await.is_none(), "another's");
        let mut last = ends.expect(3).expect("a place");
        ends.forget_all();
        assert!(last.of(ended(5, 3).execution).await.is_none());
    }

    #[test]
    fn who_goes_takes_only_his_own_place_with_him() {
        let ends = Arc::new(ExpectedEnds::default());
        let gone = ends.expect(1).expect("a place");
        drop(gone);
        assert!(ends.lock().is_empty());
        let mut forgotten = ends.expect(1).expect("a place");
        ends.forget_all();
        assert!(forgotten.told.try_recv().is_err());
        let _next = ends.expect(1).expect("a place");
        drop(forgotten);
        assert_eq!(ends.lock().len(), 1);
    }

    #[test]
    fn there_is_a_limit() {
        let ends = Arc::new(ExpectedEnds::default());
        let held: Vec<_> = (0..).map_while(|entropy| ends.expect(entropy)).collect();
        assert_eq!(held.len(), WATCHERS_MAX);
    }
}
