//! The actor's life: follower, leader for one epoch, restarted, stopped.

use std::{collections::BTreeSet, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt as _;
use tidemill_core::{Damage, command::Restarted};
use tidemill_replica::{Leadership, ProposeError};
use tidemill_rows::{
    Fence, Stored as _,
    key::{self, Table, after_prefix},
    table::QuarantineRow,
};
use tidemill_types::PartitionId;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    ActorOptions, AskError, Envelope, GroupLog,
    counts::Counts,
    end::End,
    epoch::EpochRun,
    line::Line,
    poison::{Panic, Poison},
    supervised::{Supervised, digest_of, panic_reason},
};

pub(super) struct Actor<D: Supervised> {
    pub(super) partition: PartitionId,
    pub(super) log: Arc<dyn GroupLog>,
    pub(super) options: ActorOptions<D>,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) mailbox: mpsc::Receiver<Envelope<D>>,
    pub(super) fault: watch::Sender<Option<String>>,
    pub(super) line: Arc<Line>,
    pub(super) poison: Poison,
    pub(super) counts: Counts,
    /// Ticks wait until then, after one that panicked: commands go on meanwhile.
    pub(super) ticks_after: Option<Instant>,
}

/// Between two tries to begin an epoch when the log refuses without a change of leadership.
const EPOCH_RETRY: Duration = Duration::from_millis(100);

impl<D: Supervised> Actor<D> {
    pub(super) fn new(
        log: Arc<dyn GroupLog>,
        options: ActorOptions<D>,
        mailbox: mpsc::Receiver<Envelope<D>>,
        fault: watch::Sender<Option<String>>,
        line: Arc<Line>,
    ) -> Self {
        let partition = log.id();
        Self {
            partition,
            counts: Counts::new(&options.metrics, partition),
            leadership: log.leadership(),
            log,
            options,
            mailbox,
            fault,
            line,
            poison: Poison::default(),
            ticks_after: None,
        }
    }

    /// Runs until it is told to stop, or the group's log is gone.
    pub(super) async fn run(mut self) {
        loop {
            if !self.follow().await {
                break;
            }
            if let Some(reason) = self.log.fault() {
                self.stop_group(reason).await;
                break;
            }
            if !self.lead().await {
                break;
            }
        }
        self.refuse_all("the node is shutting down").await;
    }

    /// Waits until this node leads; false when the actor is to stop.
    async fn follow(&mut self) -> bool {
        loop {
            let leadership = *self.leadership.borrow_and_update();
            if leadership.is_self {
                return !self.options.stop.is_cancelled();
            }
            tokio::select! {
                biased;
                () = self.options.stop.cancelled() => return false,
                changed = self.leadership.changed() => if changed.is_err() { return false },
                // What came while this node led, or seemed to.
                envelope = self.mailbox.recv() => match envelope {
                    Some(envelope) => envelope.answer(Err(AskError::NotLeader { leader: leadership.leader })),
                    None => return false,
                },
            }
        }
    }

    /// Leads until leadership is lost; false when the actor is to stop.
    async fn lead(&mut self) -> bool {
        let mut panic = None;
        loop {
            if self.options.stop.is_cancelled() {
                return false;
            }
            if !self.leadership.borrow().is_self {
                return true;
            }
            let end = self.one_epoch(panic.take()).await;
            match end {
                End::LostLeadership => return true,
                End::Stopping => return false,
                End::NotBegun(error) => {
                    tracing::debug!(partition = %self.partition, %error, "epoch not begun");
                    if let ProposeError::Stopped { reason } = error {
                        self.stop_group(reason).await;
                        return false;
                    }
                    // Waiting would not help those who ask: a full disk is for a person to see to.
                    if matches!(error, ProposeError::NoSpace) {
                        while let Ok(envelope) = self.mailbox.try_recv() {
                            envelope.answer(Err(AskError::Unavailable(error.to_string())));
                        }
                    }
                    self.pause(EPOCH_RETRY).await;
                }
                End::Failed(error) => {
                    self.counts.epoch_failures.add(1);
                    tracing::warn!(partition = %self.partition, %error, "proposal failed, epoch ended");
                    if let ProposeError::Stopped { reason } = error {
                        self.stop_group(reason).await;
                        return false;
                    }
                    // What a tick proposes may be refused again and again.
                    self.pause(EPOCH_RETRY / 2).await;
                }
                End::Superseded => {
                    self.counts.epoch_failures.add(1);
                    self.pause(EPOCH_RETRY / 2).await;
                }
                End::Damaged(damage) => {
                    self.stop_group(damage.to_string()).await;
                    return false;
                }
                End::Panicked(caught) => {
                    let quarantine = self.poison.note(&caught, Instant::now());
                    self.counts.panics.add(1);
                    let Panic {
                        command, reason, ..
                    } = &caught;
                    tracing::error!(partition = %self.partition, command, reason, quarantine, "partition logic panicked, restarting it from rows");
                    if quarantine {
                        self.counts.quarantined.add(1);
                    }
                    let pause = self.poison.pause();
                    if caught.command == super::epoch::TICK {
                        // A tick cannot be refused; without it commands may still be served.
                        self.ticks_after = Some(Instant::now() + pause.max(EPOCH_RETRY));
                    } else {
                        self.pause(pause).await;
                    }
                    panic = Some((caught, quarantine));
                }
            }
        }
    }

    /// Begins an epoch and runs it to its end.
    async fn one_epoch(&mut self, panic: Option<(Panic, bool)>) -> End {
        let epoch = tokio::select! {
            biased;
            () = lost(&mut self.leadership) => return End::LostLeadership,
            epoch = self.log.start_epoch() => match epoch {
                Ok(epoch) => epoch,
                Err(ProposeError::NotLeader { .. }) if !self.leadership.borrow().is_self => return End::LostLeadership,
                Err(error) => return End::NotBegun(error),
            },
        };
        let rows = self.log.rows();
        let recovered = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let fence = read_fence(self.partition, &*rows)?;
            let guarded = quarantined(self.partition, &*rows)?;
            let config = self.options.config.clone();
            let decider = D::recover(config, self.partition, fence.time, &*rows)?;
            // Read again: another epoch may have begun while the rows were read.
            let fence = read_fence(self.partition, &*rows)?;
            Ok::<_, Damage>((fence.epoch == epoch, decider, guarded))
        }));
        let is_superseded =
            || read_fence(self.partition, &*rows).is_ok_and(|fence| fence.epoch != epoch);
        let (decider, guarded) = match recovered {
            Ok(Ok((true, decider, guarded))) => (decider, guarded),
            Ok(Ok((false, ..))) => return End::Superseded,
            Ok(Err(_)) | Err(_) if is_superseded() => return End::Superseded,
            Ok(Err(damage)) => return End::Damaged(damage),
            Err(panic) => {
                return End::Panicked(Panic {
                    digest: None,
                    command: "recover",
                    reason: panic_reason(&*panic),
                });
            }
        };
        self.counts.epochs.add(1);
        tracing::info!(partition = %self.partition, term = epoch.term, log_index = epoch.index, "epoch began");
        let restarted = panic.and_then(|(panic, quarantine)| {
            D::restarted(Restarted {
                digest: panic.digest.unwrap_or_else(|| digest_of(panic.command)),
                command: panic.command.into(),
                reason: panic.reason,
                quarantine,
            })
        });
        let sink = Arc::clone(&self.options.sink);
        sink.epoch_began();
        let run = EpochRun::new(self, epoch, decider, rows, guarded).run(restarted);
        // A panic of the shell itself: the answers in its hands are dropped, and so unknown.
        let end = AssertUnwindSafe(run)
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| {
                End::Panicked(Panic {
                    digest: None,
                    command: "shell",
                    reason: panic_reason(&*panic),
                })
            });
        sink.epoch_ended();
        tracing::info!(partition = %self.partition, term = epoch.term, log_index = epoch.index, end = end.name(), "epoch ended");
        end
    }

    /// Waits, unless there is nothing more to wait for. Commands stay in the mailbox.
    async fn pause(&mut self, pause: Duration) {
        if pause.is_zero() {
            return;
        }
        tokio::select! {
            biased;
            () = self.options.stop.cancelled() => {}
            () = lost(&mut self.leadership) => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// The group cannot go on here: says so to everybody, for as long as the process lives.
    async fn stop_group(&mut self, reason: String) {
        tracing::error!(partition = %self.partition, reason, "partition stopped on this node; call a person");
        self.counts.faults.add(1);
        self.fault.send_replace(Some(reason.clone()));
        // Its rows may be whole on another node.
        self.log.retire(&reason);
        loop {
            tokio::select! {
                biased;
                () = self.options.stop.cancelled() => return,
                envelope = self.mailbox.recv() => match envelope {
                    Some(envelope) => envelope.answer(Err(AskError::Corrupt(reason.clone()))),
                    None => return,
                },
            }
        }
    }

    async fn refuse_all(&mut self, why: &str) {
        self.mailbox.close();
        while let Some(envelope) = self.mailbox.recv().await {
            envelope.answer(Err(AskError::Unavailable(why.into())));
        }
    }
}

/// Returns when this node does not lead any more, or the group is gone.
pub(super) async fn lost(leadership: &mut watch::Receiver<Leadership>) {
    // An error means that the log is gone, and leadership with it.
    let _ = leadership.wait_for(|leadership| !leadership.is_self).await;
}

pub(super) fn read_fence(
    partition: PartitionId,
    rows: &(dyn tidemill_core::Rows + Send + Sync),
) -> Result<Fence, Damage> {
    let key = key::prefix(partition, Table::Fence);
    let value = rows
        .get(&key)?
        .ok_or_else(|| Damage::Missing("the fence".into()))?;
    Fence::decode(&value).ok_or_else(|| Damage::Missing("a fence that can be read".into()))
}

/// Names of the commands of which one is refused for good.
fn quarantined(
    partition: PartitionId,
    rows: &(dyn tidemill_core::Rows + Send + Sync),
) -> Result<BTreeSet<String>, Damage> {
    let from = key::prefix(partition, Table::Quarantine);
    let to = after_prefix(&from).expect("a table's prefix is not all 0xff");
    rows.scan(&from, &to, usize::MAX, false)?
        .into_iter()
        .map(|(_, row)| Ok(QuarantineRow::from_bytes(row)?.command))
        .collect()
}
