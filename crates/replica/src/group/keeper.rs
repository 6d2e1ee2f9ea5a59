//! Watches one group: tells who leads, starts snapshots by size, notices when openraft stops.

use std::{sync::Arc, time::Duration};

use openraft::{Instant as _, ServerState, async_runtime::WatchReceiver, errors::Fatal};
use tidemill_types::NodeId;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};

use super::Leadership;
use crate::{
    raft::{Raft, Types},
    shared::Shared,
};

pub(super) struct Keeper {
    pub node: u64,
    pub raft: Raft,
    pub shared: Arc<Shared>,
    pub leadership: watch::Sender<Leadership>,
    pub heartbeat: Duration,
    /// A leader that has not reached a quorum for so long, and a leader that has not been heard for so
    /// long, is none.
    pub lease: Duration,
    /// When a restarted node may vote again; see [`Shared::is_settled`].
    pub settles_at: Instant,
}

impl Keeper {
    /// Ends when openraft has stopped.
    pub async fn run(self) {
        let mut server = self.raft.server_metrics();
        let mut data = self.raft.data_metrics();
        let mut boundary = 0;
        let mut tick = tokio::time::interval(self.heartbeat);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let unsure = self.is_unsure();
            // All lead to the same look around, so their order matters to nobody.
            tokio::select! {
                biased;
                changed = server.changed() => if changed.is_err() { break },
                // Its many changes matter only until the first answer of a quorum.
                changed = data.changed(), if unsure => if changed.is_err() { break },
                () = self.shared.wake.notified() => {}
                _ = tick.tick() => {}
            }
            if self.shared.take_snapshot_due() && self.snapshot(&mut boundary).await.is_err() {
                break;
            }
            if !self.shared.is_settled() && (Instant::now() >= self.settles_at || self.is_alone()) {
                self.shared.set_settled(true);
                self.raft.runtime_config().elect(true);
            }
            let now = self.leadership();
            self.leadership.send_if_modified(|told| {
                let modified = *told != now;
                *told = now;
                modified
            });
            if let Err(Fatal::StorageError(_) | Fatal::Panicked) =
                self.raft.metrics().borrow_watched().running_state
            {
                break;
            }
            if self.shared.fault().is_some() {
                break;
            }
        }
        if let Err(fatal @ (Fatal::StorageError(_) | Fatal::Panicked)) =
            &self.raft.metrics().borrow_watched().running_state
        {
            self.shared.set_fault(fatal.to_string());
        }
        self.leadership.send_replace(Leadership::default());
    }

    /// Enough bytes were applied: makes the state durable, and cuts the log up to where that was the
    /// case before. openraft keeps a number of entries, which can be of any size.
    async fn snapshot(&self, boundary: &mut u64) -> Result<(), Fatal<Types>> {
        let before = std::mem::replace(boundary, *self.shared.applied().borrow());
        self.raft.trigger().snapshot().await?;
        if before > 0 {
            self.raft.trigger().purge_log(before).await?;
        }
        Ok(())
    }

    /// No other node can lead.
    fn is_alone(&self) -> bool {
        let server = self.raft.server_metrics();
        let server = server.borrow_watched();
        server.membership_config.voter_ids().eq([self.node])
    }

    /// Elected, but not yet told to anybody as leader.
    fn is_unsure(&self) -> bool {
        self.raft.server_metrics().borrow_watched().state == ServerState::Leader
            && !self.leadership.borrow().is_self
    }

    fn leadership(&self) -> Leadership {
        let (term, state, leader, voters) = {
            let server = self.raft.server_metrics();
            let server = server.borrow_watched();
            (
                server.vote.leader_id.term,
                server.state,
                server.current_leader,
                server.membership_config.voter_ids().count(),
            )
        };
        let none = Leadership {
            leader: None,
            is_self: false,
            term,
        };
        if state == ServerState::Leader && leader == Some(self.node) {
            // openraft refuses proposals before a quorum has answered, and when it has been silent.
            let silent = self
                .raft
                .data_metrics()
                .borrow_watched()
                .last_quorum_acked
                .as_ref()
                .map_or(Duration::MAX, |at| at.elapsed());
            if voters > 1 && silent > self.lease {
                return none;
            }
            return Leadership {
                leader: Some(NodeId(self.node)),
                is_self: true,
                term,
            };
        }
        match (leader, self.shared.heard()) {
            // After a restart `leader` is the one from before: only one that was heard counts.
            (Some(leader), Some(heard))
                if (heard.term, heard.node) == (term, leader)
                    && leader != self.node
                    && heard.at.elapsed() <= self.lease * 2 =>
            {
                Leadership {
                    leader: Some(NodeId(leader)),
                    is_self: false,
                    term,
                }
            }
            _ => none,
        }
    }
}
