//! A group's log, for the actor that decides in it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use tidemill_core::{RowsError, memory::MemoryRows};
use tidemill_replica::{Committed, Leadership};
use tidemill_rows::{EncodedBatch, Epoch, Key};
use tidemill_server::actor::{GroupLog, SharedRows};
use tidemill_types::PartitionId;
use tokio::sync::watch;

use crate::{ProposeError, ReadError, StateStore, group::Group, run};

/// A group as its actor sees it: as `server`'s own, which is of the production replica's types.
pub(super) struct Log {
    group: Group,
    leadership: watch::Receiver<Leadership>,
    faults_are_over: Arc<AtomicBool>,
}

/// Of a thousand batches, so many are lost on their way into the log, alone.
const PROPOSALS_LOST_PER_MILLE: u64 = 4;
/// Milliseconds until their proposer hears of it, at most.
const LOST_HEARD_MS: u64 = 30;

fn told(leadership: crate::group::Leadership) -> Leadership {
    let crate::group::Leadership {
        leader,
        is_self,
        term,
    } = leadership;
    Leadership {
        leader,
        is_self,
        term,
    }
}

impl Log {
    pub fn new(group: Group, faults_are_over: Arc<AtomicBool>) -> Self {
        let mut own = group.leadership();
        let (tell, leadership) = watch::channel(told(*own.borrow_and_update()));
        tokio::spawn(async move {
            while own.changed().await.is_ok() {
                tell.send_replace(told(*own.borrow_and_update()));
            }
        });
        Self {
            group,
            leadership,
            faults_are_over,
        }
    }
}

impl GroupLog for Log {
    fn id(&self) -> PartitionId {
        self.group.id()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    fn start_epoch(&self) -> BoxFuture<'static, Result<Epoch, ProposeError>> {
        let group = self.group.clone();
        Box::pin(async move { group.start_epoch().await })
    }

    fn propose(&self, batch: EncodedBatch) -> BoxFuture<'static, Result<Committed, ProposeError>> {
        if !self.faults_are_over.load(SeqCst) && run::chance(PROPOSALS_LOST_PER_MILLE) {
            // openraft was seen to refuse some batches and to commit later ones of the same term.
            run::count("proposals lost alone");
            let ms = run::between(0, LOST_HEARD_MS);
            return Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Err(ProposeError::NotLeader { leader: None })
            });
        }
        // Outside of the future: the call, not the first poll, gives the batch its place.
        let proposal = self.group.propose(batch);
        Box::pin(async move {
            let committed = proposal.await?;
            Ok(Committed {
                index: committed.index,
            })
        })
    }

    fn read_barrier(&self) -> BoxFuture<'static, Result<(), ReadError>> {
        let group = self.group.clone();
        Box::pin(async move { group.read_barrier().await })
    }

    fn applied(&self) -> u64 {
        self.group.applied()
    }

    fn rows(&self) -> SharedRows {
        Arc::new(LiveRows(self.group.state()))
    }

    fn snapshot(&self) -> SharedRows {
        Arc::new(self.group.state().rows(MemoryRows::clone))
    }

    fn fault(&self) -> Option<String> {
        self.group.fault()
    }

    fn retire(&self, reason: &str) {
        self.group.retire(reason);
    }
}

/// The applied rows, always the newest.
struct LiveRows(StateStore);

impl tidemill_core::Rows for LiveRows {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError> {
        self.0.rows(|rows| rows.get(key))
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(Key, Bytes)>, RowsError> {
        self.0.rows(|rows| rows.scan(from, to, limit, reverse))
    }
}
