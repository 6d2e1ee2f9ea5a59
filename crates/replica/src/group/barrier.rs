//! One read barrier for all readers that ask while the one before is under way.
//!
//! A barrier covers what was acknowledged before it *began*, so a reader may share one only if it had
//! asked by then: whoever comes later waits for the next.

use std::sync::{Arc, Mutex, PoisonError};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};

use crate::ReadError;

type Round = Shared<BoxFuture<'static, Result<(), ReadError>>>;

#[derive(Default)]
struct Rounds {
    /// Has begun, and perhaps ended.
    begun: Option<Round>,
    /// Begins when that has ended.
    next: Option<Round>,
}

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Barriers {
    rounds: Arc<Mutex<Rounds>>,
}

impl Barriers {
    /// Passes a barrier that begins after this call does. `begin` makes one; it is called at most
    /// once, and not at all when another reader's is shared.
    pub async fn pass<F, B>(&self, begin: B) -> Result<(), ReadError>
    where
        B: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<(), ReadError>> + Send + 'static,
    {
        let round = {
            let mut rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
            match &rounds.next {
                Some(next) => next.clone(),
                None => {
                    let before = rounds.begun.clone();
                    let of = Arc::downgrade(&self.rounds);
                    let next = async move {
                        // Polled here too: its readers may all have gone away half way.
                        if let Some(before) = before {
                            let _ = before.await;
                        }
                        if let Some(rounds) = of.upgrade() {
                            let mut rounds = rounds.lock().unwrap_or_else(PoisonError::into_inner);
                            rounds.begun = rounds.next.take();
                        }
                        begin().await
                    }
                    .boxed()
                    .shared();
                    rounds.next = Some(next.clone());
                    next
                }
            }
        };
        round.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use tokio::sync::Semaphore;

    use super::*;

    struct Counted {
        barriers: Barriers,
        begun: Arc<AtomicU32>,
        may_end: Arc<Semaphore>,
    }

    impl Counted {
        fn new() -> Self {
            Self {
                barriers: Barriers::default(),
                begun: Arc::default(),
                may_end: Arc::new(Semaphore::new(0)),
            }
        }

        fn read(&self) -> BoxFuture<'static, Result<(), ReadError>> {
            let (begun, may_end) = (self.begun.clone(), self.may_end.clone());
            let barriers = self.barriers.clone();
            async move {
                barriers
                    .pass(move || async move {
                        begun.fetch_add(1, Relaxed);
                        may_end.acquire().await.expect("open").forget();
                        Ok(())
                    })
                    .await
            }
            .boxed()
        }
    }

    #[tokio::test]
    async fn who_asks_while_one_is_under_way_waits_for_the_next_and_shares_it() {
        let counted = Counted::new();
        let mut first = counted.read();
        assert!(futures::poll!(&mut first).is_pending());
        assert_eq!(counted.begun.load(Relaxed), 1);
        let mut others: Vec<_> = (0..10).map(|_| counted.read()).collect();
        for other in &mut others {
            assert!(futures::poll!(other).is_pending());
        }
        // The first had begun before they asked: it is not for them.
        assert_eq!(counted.begun.load(Relaxed), 1);
        counted.may_end.add_permits(1);
        first.await.expect("passed");
        for other in &mut others {
            assert!(futures::poll!(other).is_pending());
        }
        assert_eq!(counted.begun.load(Relaxed), 2);
        counted.may_end.add_permits(1);
        for other in others {
            other.await.expect("passed");
        }
        assert_eq!(counted.begun.load(Relaxed), 2);
    }

    #[tokio::test]
    async fn readers_that_go_away_hold_up_nobody() {
        let counted = Counted::new();
        let mut gone = counted.read();
        assert!(futures::poll!(&mut gone).is_pending());
        drop(gone);
        let mut gone = counted.read();
        assert!(futures::poll!(&mut gone).is_pending());
        drop(gone);
        counted.may_end.add_permits(2);
        counted.read().await.expect("passed");
        assert_eq!(counted.begun.load(Relaxed), 2);
    }
}
