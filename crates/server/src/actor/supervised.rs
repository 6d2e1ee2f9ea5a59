//! What the shell must know of a decider's commands and effects beyond [`Decider`]: how to name and
//! recognise a command that panicked, what is new work, and what to count.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use tidemill_core::{
    Catalog, Decider, Partition,
    command::{
        CatalogCommand, CatalogEffect, CompletionStatus, Outcome, PartitionCommand,
        PartitionEffect, PartitionReply, Restarted, SessionKey,
    },
};
use tidemill_rows::Hash;
use tidemill_types::{ExecutionId, FlowId, PartitionId, Timestamp, limits::PANIC_REASON_BYTES_MAX};

use crate::metrics::Metrics;

/// Whether a command may be shed early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Begins something: refused first, when the queue grows long or the disk full.
    NewWork {
        /// Whose it is: owners have equal rights to what places there are.
        owner: FlowId,
    },
    /// Brings something to its end, which frees what it holds: let in as long as there is any room.
    Progress,
}

/// A decider that an actor can supervise.
pub trait Supervised:
    Decider<
        Config: Send + Sync + 'static,
        Command: Clone + std::fmt::Debug + Send + 'static,
        Reply: Send + 'static,
        Effect: Send + 'static,
    > + Send
    + 'static
{
    /// The command's name: constant, for logs and the journal.
    fn name(command: &Self::Command) -> &'static str;

    /// The command without what differs between two deliveries of it, so that a retry is recognised.
    fn identity(command: &Self::Command) -> Self::Command;

    /// Whether it begins something.
    fn admission(command: &Self::Command) -> Admission;

    /// About how many bytes of payload it carries.
    fn weight(command: &Self::Command) -> usize;

    /// The command that journals a panic; none when this decider has no such record.
    fn restarted(panic: Restarted) -> Option<Self::Command>;

    /// The command that journals a jump of the wall clock; none when this decider has no such record,
    /// because nothing in it is due at a time of day.
    fn clock_jumped(_by_ms: u64) -> Option<Self::Command> {
        None
    }

    /// True when the command with this digest is refused for good.
    fn is_quarantined(&self, digest: Hash) -> bool;

    /// Counts what was committed.
    fn observe(
        partition: PartitionId,
        replies: &mut dyn Iterator<Item = &Self::Reply>,
        effects: &[Self::Effect],
        sequences: &mut Sequences,
        metrics: &Metrics,
    );
}

/// The digest by which a command is recognised.
pub fn digest<D: Supervised>(command: &D::Command) -> Hash {
    use std::fmt::Write as _;
    let mut digest = DigestWriter(Sha256::new());
    write!(digest, "{:?}", D::identity(command)).expect("a digest takes everything");
    Hash(digest.0.finalize().into())
}

/// Hashes a text while it is written: a command may be large.
struct DigestWriter(Sha256);

impl std::fmt::Write for DigestWriter {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

/// The digest of a text.
pub fn digest_of(text: &str) -> Hash {
    Hash(Sha256::digest(text.as_bytes()).into())
}

/// How many batches in sequence each running execution has changed in, since it was started here.
///
/// Bounded: executions beyond the bound are not counted, so the histogram is then of a sample.
#[derive(Debug)]
pub struct Sequences {
    since: Timestamp,
    commits: BTreeMap<ExecutionId, u32>,
}

/// 48 bytes each: 5 MB for a partition at the most.
const SEQUENCES_MAX: usize = 100_000;

impl Sequences {
    /// Executions started before `since` are not counted: some of their batches were not seen.
    #[must_use]
    pub fn new(since: Timestamp) -> Self {
        Self {
            since,
            commits: BTreeMap::new(),
        }
    }

    /// A batch changed the execution; gives the count when the execution has ended.
    fn changed(&mut self, execution: ExecutionId, ended: bool) -> Option<u32> {
        if Timestamp::from_millis(execution.created_ms()) < self.since {
            return None;
        }
        if ended {
            // Without an entry it began and ended in this very batch, unless it was not counted at all.
            return match self.commits.remove(&execution) {
                Some(commits) => Some(commits + 1),
                None => (self.commits.len() < SEQUENCES_MAX).then_some(1),
            };
        }
        if let Some(commits) = self.commits.get_mut(&execution) {
            *commits += 1;
        } else if self.commits.len() < SEQUENCES_MAX {
            self.commits.insert(execution, 1);
        }
        None
    }
}

/// A panic's message, cut to what a row may hold.
pub(super) fn panic_reason(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into());
    text.chars().take(PANIC_REASON_BYTES_MAX / 4).collect()
}

impl Supervised for Partition {
    fn name(command: &PartitionCommand) -> &'static str {
        match command {
            PartitionCommand::Start(_) => "start",
            PartitionCommand::Cancel(_) => "cancel",
            PartitionCommand::Redrive(_) => "redrive",
            PartitionCommand::Complete(_) => "complete",
            PartitionCommand::Renew(_) => "renew",
            PartitionCommand::Session(_) => "session",
            PartitionCommand::GatewayGone { .. } => "gateway_gone",
            PartitionCommand::Arm(_) => "arm",
            PartitionCommand::Disarm(_) => "disarm",
            PartitionCommand::Forget { .. } => "forget_flow",
            PartitionCommand::ChangeSchedule(_) => "change_schedule",
            PartitionCommand::Backfill(_) => "backfill",
            PartitionCommand::ClockJumped { .. } => "clock_jumped",
            PartitionCommand::Restarted(_) => "restarted",
        }
    }

    fn identity(command: &PartitionCommand) -> PartitionCommand {
        let mut command = command.clone();
        match &mut command {
            PartitionCommand::Start(start) => {
                start.entropy = 0;
                start.traceparent.clear();
                start.tracestate.clear();
            }
            PartitionCommand::Complete(complete) => {
                complete.session = SessionKey {
                    gateway: 0,
                    session: 0,
                };
            }
            _ => {}
        }
        command
    }

    fn admission(command: &PartitionCommand) -> Admission {
        match command {
            PartitionCommand::Start(start) => Admission::NewWork { owner: start.flow },
            PartitionCommand::Backfill(backfill) => Admission::NewWork {
                owner: backfill.flow,
            },
            // Whose execution it is stands in its row: all redrives count as one owner's.
            PartitionCommand::Redrive(_) => Admission::NewWork {
                owner: FlowId::default(),
            },
            _ => Admission::Progress,
        }
    }

    fn weight(command: &PartitionCommand) -> usize {
        match command {
            PartitionCommand::Start(start) => start.message.payload_len(),
            PartitionCommand::Complete(complete) => match &complete.outcome {
                Outcome::Success {
                    messages,
                    node_state,
                } => {
                    node_state.as_ref().map_or(0, bytes::Bytes::len)
                        + messages
                            .iter()
                            .map(|output| output.message.payload_len())
                            .sum::<usize>()
                }
                Outcome::Failure(_) | Outcome::Rebound { .. } => 0,
            },
            PartitionCommand::Arm(arm) => arm.document.len(),
            _ => 0,
        }
    }

    fn clock_jumped(by_ms: u64) -> Option<PartitionCommand> {
        Some(PartitionCommand::ClockJumped { by_ms })
    }

    fn restarted(panic: Restarted) -> Option<PartitionCommand> {
        Some(PartitionCommand::Restarted(panic))
    }

    fn is_quarantined(&self, digest: Hash) -> bool {
        Partition::is_quarantined(self, digest)
    }

    fn observe(
        partition: PartitionId,
        replies: &mut dyn Iterator<Item = &PartitionReply>,
        effects: &[PartitionEffect],
        sequences: &mut Sequences,
        metrics: &Metrics,
    ) {
        let started = replies
            .filter(|reply| matches!(reply, PartitionReply::Started { created: true, .. }))
            .count();
        metrics
            .executions_started
            .with(&[&partition.to_string()])
            .add(started as u64);
        // An execution may change several times in one batch: the last state counts, once.
        let mut changed = BTreeMap::new();
        let mut granted = 0;
        for effect in effects {
            match effect {
                PartitionEffect::Grant(_) => granted += 1,
                PartitionEffect::Completed { status, .. } => {
                    let status = match status {
                        CompletionStatus::Accepted => "accepted",
                        CompletionStatus::Already => "already",
                        CompletionStatus::LeaseLost => "lease_lost",
                        CompletionStatus::Invalid(_) => "invalid",
                    };
                    metrics.tasks_completed.with(&[status]).add(1);
                }
                PartitionEffect::Changed { execution, state } => {
                    changed.insert(*execution, *state);
                }
                PartitionEffect::LeaseExpired { .. } => metrics.leases_expired.add(1),
                PartitionEffect::LeaseFreed { .. } => metrics.leases_freed.add(1),
                PartitionEffect::SessionSuperseded { .. } => metrics.sessions_superseded.add(1),
                PartitionEffect::Ended(_)
                | PartitionEffect::EndUntold { .. }
                | PartitionEffect::Log { .. } => {}
            }
        }
        metrics.tasks_leased.add(granted);
        for (execution, state) in changed {
            if state.is_ended() {
                metrics.executions_ended.with(&[&state.to_string()]).add(1);
            }
            if let Some(commits) = sequences.changed(execution, state.is_ended()) {
                metrics.commits_in_sequence.observe(f64::from(commits));
            }
        }
    }
}

impl Supervised for Catalog {
    fn name(command: &CatalogCommand) -> &'static str {
        match command {
            CatalogCommand::Apply(_) => "apply",
            CatalogCommand::Publish { .. } => "publish",
            CatalogCommand::Start { .. } => "start_flow",
            CatalogCommand::Stop { .. } => "stop_flow",
            CatalogCommand::Delete { .. } => "delete_flow",
            CatalogCommand::Armed { .. } => "armed",
            CatalogCommand::ArmRefused { .. } => "arm_refused",
            CatalogCommand::Forgotten { .. } => "forgotten",
            CatalogCommand::Disarmed { .. } => "disarmed",
            CatalogCommand::Restarted(_) => "restarted",
        }
    }

    fn identity(command: &CatalogCommand) -> CatalogCommand {
        let mut command = command.clone();
        if let CatalogCommand::Apply(apply) = &mut command {
            apply.entropy = 0;
        }
        command
    }

    fn admission(command: &CatalogCommand) -> Admission {
        match command {
            CatalogCommand::Apply(_)
            | CatalogCommand::Publish { .. }
            | CatalogCommand::Start { .. } => Admission::NewWork {
                owner: FlowId::default(),
            },
            CatalogCommand::Stop { .. }
            | CatalogCommand::Delete { .. }
            | CatalogCommand::Armed { .. }
            | CatalogCommand::ArmRefused { .. }
            | CatalogCommand::Forgotten { .. }
            | CatalogCommand::Disarmed { .. }
            | CatalogCommand::Restarted(_) => Admission::Progress,
        }
    }

    fn weight(command: &CatalogCommand) -> usize {
        match command {
            // A parsed document's size is not known; its text's limit is.
            CatalogCommand::Apply(_) => tidemill_types::limits::FLOW_DOCUMENT_BYTES_MAX / 8,
            _ => 0,
        }
    }

    fn restarted(panic: Restarted) -> Option<CatalogCommand> {
        Some(CatalogCommand::Restarted(panic))
    }

    fn is_quarantined(&self, digest: Hash) -> bool {
        Catalog::is_quarantined(self, digest)
    }

    fn observe(
        _: PartitionId,
        _: &mut dyn Iterator<Item = &Self::Reply>,
        _: &[CatalogEffect],
        _: &mut Sequences,
        _: &Metrics,
    ) {
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_panics_message_fits_its_row() {
        for letter in ["x", "€", "🐢"] {
            let text = panic_reason(&letter.repeat(PANIC_REASON_BYTES_MAX));
            assert_eq!(text.chars().count(), PANIC_REASON_BYTES_MAX / 4);
            assert!(text.len() <= PANIC_REASON_BYTES_MAX);
        }
        assert_eq!(panic_reason(&"short"), "short");
        assert_eq!(panic_reason(&7), "no message");
    }

    #[test]
    fn counts_the_batches_of_an_execution() {
        let mut sequences = Sequences::new(Timestamp::from_millis(1_000));
        let execution = |at_ms| ExecutionId::new(at_ms, PartitionId(1), 7);
        let (seen, old) = (execution(2_000), execution(999));
        assert_eq!(sequences.changed(seen, false), None);
        assert_eq!(sequences.changed(seen, false), None);
        assert_eq!(sequences.changed(seen, true), Some(3));
        assert_eq!(
            sequences.changed(old, true),
            None,
            "its first batches were not seen"
        );
        assert_eq!(sequences.changed(execution(3_000), true), Some(1));
        assert!(sequences.commits.is_empty());
    }
}
