//! Where the catalog's effects go: flows to hand over, and calls that wait for a flow's status.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use tidemill_core::command::CatalogEffect;
use tidemill_types::FlowId;
use tokio::sync::Notify;

use crate::{
    actor::EffectSink,
    work::{Watch, Watchers},
};

#[derive(Default)]
struct HandOvers {
    /// Counts epochs; none while this node does not lead.
    epoch: Option<u64>,
    epochs: u64,
    /// Bounded by the number of flows.
    due: BTreeSet<FlowId>,
}

/// The sink for the catalog's actor.
#[derive(Default)]
pub struct CatalogSink {
    watchers: Watchers<FlowId>,
    hand_overs: Mutex<HandOvers>,
    news: Notify,
}

impl CatalogSink {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn watch(&self, flow: FlowId) -> Option<Watch<FlowId>> {
        self.watchers.watch(flow)
    }

    /// The epoch, and flows to hand over in it; each is given once. Waits for news first.
    pub(crate) async fn next(&self) -> (Option<u64>, BTreeSet<FlowId>) {
        self.news.notified().await;
        let mut hand_overs = self.lock();
        // Without an epoch they stay: the next one's may be there already.
        let due = match hand_overs.epoch {
            Some(_) => std::mem::take(&mut hand_overs.due),
            None => BTreeSet::new(),
        };
        (hand_overs.epoch, due)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HandOvers> {
        self.hand_overs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl EffectSink<CatalogEffect> for CatalogSink {
    fn deliver(&self, effects: Vec<CatalogEffect>) {
        let mut has_due = false;
        for effect in effects {
            match effect {
                CatalogEffect::HandOver(flow) => {
                    self.lock().due.insert(flow);
                    has_due = true;
                }
                CatalogEffect::StatusChanged(flow) => self.watchers.notify(flow),
            }
        }
        if has_due {
            self.news.notify_one();
        }
    }

    fn epoch_ended(&self) {
        let mut hand_overs = self.lock();
        hand_overs.epoch = None;
        hand_overs.due.clear();
        drop(hand_overs);
        self.news.notify_one();
        // Those that wait look again, and find another leader.
        self.watchers.notify_all();
    }

    fn epoch_began(&self) {
        let mut hand_overs = self.lock();
        hand_overs.epochs += 1;
        hand_overs.epoch = Some(hand_overs.epochs);
        drop(hand_overs);
        self.news.notify_one();
        self.watchers.notify_all();
    }
}
