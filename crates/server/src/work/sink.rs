//! Where a partition's effects go: to the streams of gateways, and to calls that watch executions.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tidemill_core::command::{CompletionStatus, PartitionEffect, SessionKey, TaskGrant};
use tidemill_types::{ExecutionId, PartitionId, StepId, TaskId, limits::GATEWAY_QUEUE_MAX};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::{
    ends::{ExpectedEnd, ExpectedEnds},
    progress::Progress,
    watchers::{Watch, Watchers},
};
use crate::actor::{AskError, EffectSink};

/// How long a gateway that attaches waits for this node's epoch to begin.
const EPOCH_WAIT: Duration = Duration::from_secs(5);

/// Something for one session of a gateway.
#[derive(Debug)]
pub(super) enum GatewayEvent {
    Task(Box<TaskGrant>),
    Result {
        session: u64,
        task: TaskId,
        status: CompletionStatus,
    },
    LostLease(TaskId),
    Superseded(u64),
}

#[derive(Default)]
struct State {
    gateways: HashMap<u64, mpsc::Sender<GatewayEvent>>,
    /// Gateways are numbered, so that what was said by a stream that has ended is told from what its
    /// successor says.
    last_gateway: u64,
    progress: Progress,
}

/// The sink for a partition's actor.
pub struct PartitionSink {
    partition: PartitionId,
    state: Mutex<State>,
    leading: watch::Sender<bool>,
    watchers: Watchers<ExecutionId>,
    /// Those that wait for an end, and need not look at every step.
    ends: Watchers<ExecutionId>,
    /// Those that wait for the end of what they start, and are told all of it.
    expected: Arc<ExpectedEnds>,
}

impl PartitionSink {
    /// For one partition.
    #[must_use]
    pub fn new(partition: PartitionId) -> Self {
        Self {
            partition,
            state: Mutex::default(),
            leading: watch::Sender::new(false),
            watchers: Watchers::default(),
            ends: Watchers::default(),
            expected: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of changes of an execution; none when too many calls wait.
    pub(crate) fn watch(&self, execution: ExecutionId) -> Option<Watch<ExecutionId>> {
        self.watchers.watch(execution)
    }

    /// Tells of an execution's end; none when too many calls wait.
    pub(crate) fn watch_end(&self, execution: ExecutionId) -> Option<Watch<ExecutionId>> {
        self.ends.watch(execution)
    }

    /// A place to be told of the end of the execution that will be made with this entropy; none when too many
    /// calls wait.
    pub(crate) fn expect_end(&self, entropy: u64) -> Option<ExpectedEnd> {
        self.expected.expect(entropy)
    }

    /// What the step's worker reported last.
    pub(crate) fn progress(&self, step: StepId) -> Option<String> {
        self.lock().progress.get(step).cloned()
    }

    pub(super) fn set_progress(&self, step: StepId, text: String) {
        self.lock().progress.set(step, text);
        self.watchers.notify(step.execution);
    }

    /// Who leads has changed: those that wait look again.
    fn look_again(&self) {
        self.watchers.notify_all();
        self.ends.notify_all();
        self.expected.forget_all();
    }

    /// A gateway's stream, from the beginning of this node's epoch to its end.
    pub(super) async fn attach(&self) -> Result<(u64, mpsc::Receiver<GatewayEvent>), AskError> {
        let mut leading = self.leading.subscribe();
        let waited = timeout(EPOCH_WAIT, leading.wait_for(|leading| *leading)).await;
        if waited.is_err() {
            return Err(AskError::NotLeader { leader: None });
        }
        let (sender, receiver) = mpsc::channel(GATEWAY_QUEUE_MAX);
        let mut state = self.lock();
        // Checked under the lock: an epoch that ends right now takes this stream with it.
        if !*self.leading.borrow() {
            return Err(AskError::NotLeader { leader: None });
        }
        state.last_gateway += 1;
        let gateway = state.last_gateway;
        state.gateways.insert(gateway, sender);
        Ok((gateway, receiver))
    }

    pub(super) fn detach(&self, gateway: u64) {
        self.lock().gateways.remove(&gateway);
    }

    /// A renewal's lease is lost.
    pub(super) fn lost(&self, gateway: u64, task: TaskId) {
        self.lock()
            .send(self.partition, gateway, GatewayEvent::LostLease(task));
    }
}

impl State {
    fn send(&mut self, partition: PartitionId, gateway: u64, event: GatewayEvent) {
        let Some(sender) = self.gateways.get(&gateway) else {
            // It went meanwhile; its leases run out by themselves.
            return;
        };
        if sender.try_send(event).is_err() {
            // Full: it does not take what it asked for. (Or closed: the same.) Its stream ends, and it
            // attaches again when it can.
            tracing::warn!(%partition, gateway, "gateway does not keep up and is cut off");
            self.gateways.remove(&gateway);
        }
    }
}

impl EffectSink<PartitionEffect> for PartitionSink {
    fn deliver(&self, effects: Vec<PartitionEffect>) {
        let mut changed = Vec::new();
        let mut told = Vec::new();
        let mut state = self.lock();
        for effect in effects {
            match effect {
                PartitionEffect::Grant(grant) => {
                    let gateway = grant.session.gateway;
                    state.send(self.partition, gateway, GatewayEvent::Task(grant));
                }
                PartitionEffect::Completed {
                    session: SessionKey { gateway, session },
                    task,
                    status,
                } => {
                    state.progress.remove(task.step);
                    let event = GatewayEvent::Result {
                        session,
                        task,
                        status,
                    };
                    state.send(self.partition, gateway, event);
                }
                PartitionEffect::LeaseExpired { task, session } => {
                    state.progress.remove(task.step);
                    if let Some(session) = session {
                        let event = GatewayEvent::LostLease(task);
                        state.send(self.partition, session.gateway, event);
                    }
                }
                PartitionEffect::LeaseFreed { task } => state.progress.remove(task.step),
                PartitionEffect::SessionSuperseded {
                    session: SessionKey { gateway, session },
                } => {
                    let event = GatewayEvent::Superseded(session);
                    state.send(self.partition, gateway, event);
                }
                PartitionEffect::Changed { execution, state } => {
                    changed.push((execution, state.is_ended()));
                }
                PartitionEffect::Ended(ended) => told.push(*ended),
                PartitionEffect::EndUntold { execution } => {
                    self.expected.forget(execution);
                }
                PartitionEffect::Log { step, node, text } => {
                    tracing::info!(
                        target: "tidemill::flow",
                        partition = %self.partition,
                        execution_id = %step.execution,
                        step_id = step.step,
                        node = %node,
                        text,
                        "flow log"
                    );
                }
            }
        }
        drop(state);
        self.expected.tell(told);
        for (execution, has_ended) in changed {
            self.watchers.notify(execution);
            if has_ended {
                self.ends.notify(execution);
            }
        }
    }

    fn epoch_ended(&self) {
        let mut state = self.lock();
        self.leading.send_replace(false);
        state.gateways.clear();
        state.progress.clear();
        drop(state);
        self.look_again();
    }

    fn epoch_began(&self) {
        let mut state = self.lock();
        // Whatever was said before is forgotten by the leader.
        state.gateways.clear();
        self.leading.send_replace(true);
        drop(state);
        self.look_again();
    }
}

#[cfg(test)]
mod tests {
    use tidemill_rows::table::ExecutionState;

    use super::*;

    fn result(gateway: u64) -> PartitionEffect {
        PartitionEffect::Completed {
            session: SessionKey {
                gateway,
                session: 7,
            },
            task: TaskId::default(),
            status: CompletionStatus::Accepted,
        }
    }

    #[tokio::test]
    async fn effects_go_to_their_gateway() {
        let sink = PartitionSink::new(PartitionId(1));
        sink.epoch_began();
        let (one, mut events) = sink.attach().await.expect("leads");
        let (two, mut others) = sink.attach().await.expect("leads");
        sink.deliver(vec![result(one), result(99)]);
        let event = events.recv().await;
        assert!(matches!(
            event,
            Some(GatewayEvent::Result { session: 7, .. })
        ));
        sink.detach(two);
        assert!(others.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_gateway_that_takes_nothing_is_cut_off_and_blocks_nobody() {
        let sink = PartitionSink::new(PartitionId(1));
        sink.epoch_began();
        let (stalled, mut events) = sink.attach().await.expect("leads");
        sink.deliver((0..=GATEWAY_QUEUE_MAX).map(|_| result(stalled)).collect());
        let mut taken = 0;
        while events.recv().await.is_some() {
            taken += 1;
        }
        assert_eq!(taken, GATEWAY_QUEUE_MAX);
    }

    #[tokio::test]
    async fn streams_end_with_the_epoch() {
        let sink = PartitionSink::new(PartitionId(1));
        sink.epoch_began();
        let (_, mut events) = sink.attach().await.expect("leads");
        let mut watch = sink.watch(ExecutionId::default()).expect("room");
        watch.seen();
        sink.epoch_ended();
        assert!(events.recv().await.is_none());
        watch.changed().await;
    }

    #[tokio::test]
    async fn who_waits_for_an_end_is_not_woken_before() {
        let sink = PartitionSink::new(PartitionId(1));
        sink.epoch_began();
        let execution = ExecutionId::default();
        let mut any = sink.watch(execution).expect("room");
        let mut end = sink.watch_end(execution).expect("room");
        let changed = |state| PartitionEffect::Changed { execution, state };
        any.seen();
        end.seen();
        sink.deliver(vec![changed(ExecutionState::Running)]);
        any.changed().await;
        assert!(!end.has_news());
        sink.deliver(vec![changed(ExecutionState::Succeeded)]);
        end.changed().await;
        end.seen();
        sink.epoch_ended();
        end.changed().await;
    }

    #[tokio::test]
    async fn who_attaches_early_waits_for_the_epoch() {
        let sink = PartitionSink::new(PartitionId(1));
        let (attached, ()) = tokio::join!(sink.attach(), async { sink.epoch_began() });
        attached.expect("leads");
    }
}
