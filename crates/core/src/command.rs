//! What the deciders are asked to do, what they answer, and what the shell is to do then.
//!
//! Everything that a decision needs of the outside world (random numbers, who asks) is a field here.

use std::sync::Arc;

use bytes::Bytes;
use tidemill_rows::{
    Hash,
    table::{BackfillRow, ErrorRow, ExecutionRow, ExecutionState, MessageRow, ScheduleChange},
};
use tidemill_types::{ExecutionId, FlowId, StepId, TaskId, Timestamp, flow::FlowDocument};

use crate::schedule::Occurrence;

/// A worker session: which gateway it is connected to, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    /// The gateway's stream, unique for the leader; a later one has a higher number.
    pub gateway: u64,
    /// The session's number at that gateway.
    pub session: u64,
}

/// Commands of a partition.
#[derive(Clone, Debug)]
pub enum PartitionCommand {
    /// Starts an execution.
    Start(StartExecution),
    /// Cancels an execution.
    Cancel(CancelExecution),
    /// Runs dead steps again.
    Redrive(RedriveExecution),
    /// A worker's answer.
    Complete(CompleteTask),
    /// A worker still works.
    Renew(RenewLease),
    /// A worker session came, changed or went.
    Session(SessionUpdate),
    /// A gateway's stream ended: all its sessions are gone.
    GatewayGone {
        /// The stream.
        gateway: u64,
    },
    /// The catalog wants the flow to run here.
    Arm(ArmFlow),
    /// The catalog wants the flow to stop.
    Disarm(DisarmFlow),
    /// The catalog has deleted the flow.
    Forget {
        /// The flow.
        flow: FlowId,
    },
    /// Pauses or resumes a schedule.
    ChangeSchedule(ChangeSchedule),
    /// Runs a past range of a schedule.
    Backfill(Backfill),
    /// The leader's wall clock has jumped forward.
    ClockJumped {
        /// How far.
        by_ms: u64,
    },
    /// The logic panicked and was recovered.
    Restarted(Restarted),
}

/// Starts an execution of an armed flow.
#[derive(Clone, Debug)]
pub struct StartExecution {
    /// The flow.
    pub flow: FlowId,
    /// What it starts with.
    pub message: MessageRow,
    /// Makes it safe to repeat.
    pub request_id: String,
    /// W3C trace context.
    pub traceparent: String,
    /// W3C trace context.
    pub tracestate: String,
    /// Makes the execution's id unique.
    pub entropy: u64,
    /// A repeat of the request id is the same request, whatever its message.
    pub request_id_only: bool,
    /// Somebody fires the flow by hand: with a schedule, that is an occurrence of its own.
    pub by_hand: bool,
    /// Whether somebody waits for the end of what this starts.
    pub tell_end: TellEnd,
}

/// What is to be told of the end of an execution, to whoever waits for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TellEnd {
    /// Nothing.
    #[default]
    No,
    /// How it ended.
    Row,
    /// How it ended, and with which messages.
    RowAndOutput,
}

/// An execution that has ended, as it is stored.
#[derive(Clone, Debug)]
pub struct EndedExecution {
    /// Which.
    pub execution: ExecutionId,
    /// Its row.
    pub row: ExecutionRow,
    /// The messages that no step took, if that was asked for.
    pub output: Vec<MessageRow>,
}

/// Pauses or resumes a flow's schedule.
#[derive(Clone, Debug)]
pub struct ChangeSchedule {
    /// The flow.
    pub flow: FlowId,
    /// Which of the two.
    pub change: ScheduleChange,
    /// Why, for people.
    pub reason: String,
    /// Makes it safe to repeat.
    pub request_id: String,
}

/// Runs the occurrences of a past range of a flow's schedule.
#[derive(Clone, Debug)]
pub struct Backfill {
    /// The flow.
    pub flow: FlowId,
    /// From this instant on.
    pub from: Timestamp,
    /// Before this one; not after now.
    pub to: Timestamp,
    /// Leave out what has started an execution before.
    pub only_missed: bool,
    /// Change nothing, only say what would be run.
    pub dry_run: bool,
    /// Makes it safe to repeat.
    pub request_id: String,
}

/// Cancels an execution.
#[derive(Clone, Debug)]
pub struct CancelExecution {
    /// The execution.
    pub execution: ExecutionId,
    /// Why, for people.
    pub reason: String,
    /// Makes it safe to repeat.
    pub request_id: String,
}

/// Runs dead steps of a failed execution again.
#[derive(Clone, Debug)]
pub struct RedriveExecution {
    /// The execution.
    pub execution: ExecutionId,
    /// Which; empty means all.
    pub steps: Vec<u32>,
    /// Makes it safe to repeat.
    pub request_id: String,
}

/// One message that a step gives.
#[derive(Clone, Debug)]
pub struct OutputMessage {
    /// The message.
    pub message: MessageRow,
    /// Which targets get it.
    pub targets: Targets,
}

/// Which targets of its node get a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Every matching edge.
    All,
    /// Only edges to these nodes.
    Named(Vec<String>),
    /// No edge.
    None,
}

/// What became of an attempt.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It gave messages.
    Success {
        /// 0 to 10,000.
        messages: Vec<OutputMessage>,
        /// The node's new state.
        node_state: Option<Bytes>,
    },
    /// It failed.
    Failure(ErrorRow),
    /// It wants to be run again later.
    Rebound {
        /// After this time.
        after_ms: u64,
    },
}

/// A worker's answer.
#[derive(Clone, Debug)]
pub struct CompleteTask {
    /// The attempt.
    pub task: TaskId,
    /// What became of it.
    pub outcome: Outcome,
    /// Whose it is; the answer goes there as an effect too when the command came over a stream.
    pub session: SessionKey,
}

/// A worker still works on an attempt.
#[derive(Clone, Debug)]
pub struct RenewLease {
    /// The attempt.
    pub task: TaskId,
    /// For people; empty leaves the last.
    pub progress: String,
}

/// A worker session.
#[derive(Clone, Debug)]
pub struct SessionUpdate {
    /// Which.
    pub key: SessionKey,
    /// The worker's name.
    pub worker: Arc<str>,
    /// Component and function; an empty function means all of the component.
    pub serves: Vec<(Arc<str>, Arc<str>)>,
    /// Lease that it wishes.
    pub lease_ms: u32,
    /// How many tasks of this partition it may hold at once.
    pub limit: u32,
    /// It is over.
    pub gone: bool,
    /// The worker process, the same over all its sessions; 0: not known, nothing is freed for it.
    pub instance: u64,
    /// Ever rising within an instance: an older session is worth nothing any more.
    pub number: u64,
    /// What the instance still holds, all of it, when the session is said to this leader for the first
    /// time: its other leases are freed.
    pub holds: Vec<TaskId>,
}

/// The catalog's side of a start.
#[derive(Clone, Debug)]
pub struct ArmFlow {
    /// The flow.
    pub flow: FlowId,
    /// Its name.
    pub name: String,
    /// The version to run.
    pub version: u32,
    /// Canonical JSON of that version.
    pub document: Bytes,
    /// Its SHA-256.
    pub content_hash: Hash,
    /// The catalog's number of the start.
    pub activation: u64,
    /// Do not ask for workers.
    pub without_workers: bool,
}

/// The catalog's side of a stop.
#[derive(Clone, Debug)]
pub struct DisarmFlow {
    /// The flow.
    pub flow: FlowId,
    /// The catalog's number of the start that ends.
    pub activation: u64,
    /// Cancel what runs.
    pub cancel_running: bool,
}

/// The logic panicked.
#[derive(Clone, Debug)]
pub struct Restarted {
    /// Digest of the command that it panicked on.
    pub digest: Hash,
    /// The command's name.
    pub command: String,
    /// The panic's message.
    pub reason: String,
    /// Refuse the command from now on.
    pub quarantine: bool,
}

/// Whether a completion took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompletionStatus {
    /// It took effect.
    Accepted,
    /// The same attempt was completed before.
    Already,
    /// The lease is not that worker's any more.
    LeaseLost,
    /// What is in it is not allowed; the step failed with this.
    Invalid(String),
}

/// Answers of a partition.
#[derive(Clone, Debug, PartialEq)]
pub enum PartitionReply {
    /// Of `Start`.
    Started {
        /// The execution.
        execution: ExecutionId,
        /// False when the request id had started it before.
        created: bool,
    },
    /// Of `Cancel`.
    Cancelled {
        /// False when it had ended before.
        changed: bool,
    },
    /// Of `Redrive`.
    Redriven {
        /// How many steps.
        steps: u32,
    },
    /// Of `Complete`.
    Completed(CompletionStatus),
    /// Of `Renew`.
    Renewed {
        /// False: the lease is lost.
        held: bool,
    },
    /// Of `Arm`, `Disarm` and `ChangeSchedule`.
    Done {
        /// False when it was so already.
        changed: bool,
    },
    /// Of `Backfill`.
    Backfill {
        /// How far it is.
        backfill: BackfillRow,
        /// False when the request id had asked for it before, and for a dry run.
        created: bool,
        /// The first of what would be run, for a dry run.
        occurrences: Vec<Occurrence>,
    },
    /// Of what has no answer.
    Nothing,
}

/// A task for a worker.
#[derive(Clone, Debug)]
pub struct TaskGrant {
    /// The attempt.
    pub task: TaskId,
    /// Who gets it.
    pub session: SessionKey,
    /// The component.
    pub component: Arc<str>,
    /// The function.
    pub function: Arc<str>,
    /// The flow.
    pub flow: FlowId,
    /// The version.
    pub version: u32,
    /// The node.
    pub node: Arc<str>,
    /// What it runs on, each with the node that it came from (empty for the first message).
    pub inputs: Vec<(MessageRow, Arc<str>)>,
    /// JSON object.
    pub fields: Bytes,
    /// JSON object.
    pub node_settings: Bytes,
    /// JSON; empty means none yet.
    pub node_state: Bytes,
    /// Until when it is that worker's.
    pub lease_deadline: Timestamp,
    /// Length of the lease.
    pub lease_ms: u32,
    /// W3C trace context.
    pub traceparent: String,
    /// W3C trace context.
    pub tracestate: String,
    /// Ids of the nodes that its messages may go to.
    pub targets: Vec<Arc<str>>,
    /// Rebounds so far.
    pub rebounds: u32,
}

/// What the shell of a partition does once the batch is applied.
#[derive(Clone, Debug)]
pub enum PartitionEffect {
    /// Send a task.
    Grant(Box<TaskGrant>),
    /// Answer a completion that came over a stream.
    Completed {
        /// Whose.
        session: SessionKey,
        /// The attempt.
        task: TaskId,
        /// The answer.
        status: CompletionStatus,
    },
    /// Something about an execution changed: tell those that watch it.
    Changed {
        /// The execution.
        execution: ExecutionId,
        /// Its state.
        state: ExecutionState,
    },
    /// An execution has ended whose end was to be told.
    Ended(Box<EndedExecution>),
    /// The end of this execution will not be told, or not all that was asked for: it is to be read.
    EndUntold {
        /// The execution.
        execution: ExecutionId,
    },
    /// A `log` step says something.
    Log {
        /// The step.
        step: StepId,
        /// The node.
        node: Arc<str>,
        /// The text.
        text: String,
    },
    /// A lease ran out.
    LeaseExpired {
        /// The attempt.
        task: TaskId,
        /// Whose it was, when the session is still there.
        session: Option<SessionKey>,
    },
    /// A lease was freed: its worker does not hold the task.
    LeaseFreed {
        /// The attempt.
        task: TaskId,
    },
    /// A session is worth nothing any more: its worker has opened a newer one.
    SessionSuperseded {
        /// Which.
        session: SessionKey,
    },
}

/// Commands of the catalog.
#[derive(Clone, Debug)]
pub enum CatalogCommand {
    /// Creates a flow or replaces a draft.
    Apply(ApplyFlow),
    /// Publishes the draft.
    Publish {
        /// Id or name.
        flow: String,
        /// Makes it safe to repeat.
        request_id: String,
    },
    /// `inactive → starting`.
    Start {
        /// Id or name.
        flow: String,
        /// 0: the newest.
        version: u32,
        /// Do not ask for workers.
        without_workers: bool,
        /// Makes it safe to repeat.
        request_id: String,
    },
    /// `active | starting → stopping`.
    Stop {
        /// Id or name.
        flow: String,
        /// Cancel what runs.
        cancel_running: bool,
        /// Makes it safe to repeat.
        request_id: String,
    },
    /// Deletes an inactive flow.
    Delete {
        /// Id or name.
        flow: String,
        /// Makes it safe to repeat.
        request_id: String,
    },
    /// The home partition has armed the flow.
    Armed {
        /// The flow.
        flow: FlowId,
        /// Which start.
        activation: u64,
    },
    /// The home partition has refused to arm the flow.
    ArmRefused {
        /// The flow.
        flow: FlowId,
        /// Which start.
        activation: u64,
        /// Why.
        reason: String,
    },
    /// The home partition knows that the flow is deleted, and sees to its rows.
    Forgotten {
        /// The flow.
        flow: FlowId,
    },
    /// The home partition has disarmed the flow.
    Disarmed {
        /// The flow.
        flow: FlowId,
        /// Which start.
        activation: u64,
    },
    /// The logic panicked and was restarted from rows.
    Restarted(Restarted),
}

/// Creates a flow or replaces its draft.
#[derive(Clone, Debug)]
pub struct ApplyFlow {
    /// Parsed and validated at the edge.
    pub document: Box<FlowDocument>,
    /// The flow to replace; none: by name.
    pub flow: Option<FlowId>,
    /// Replace only this revision; 0: any.
    pub expected_revision: u64,
    /// Refuse a name that a flow has already, instead of replacing that flow's draft.
    pub create_only: bool,
    /// Makes it safe to repeat.
    pub request_id: String,
    /// Makes the flow's id unique.
    pub entropy: u64,
    /// How many partitions there are: a new flow's home is one of them.
    pub partitions: u16,
}

/// Answers of the catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogReply {
    /// The flow.
    pub flow: FlowId,
    /// The version, where there is one.
    pub version: u32,
    /// Whether anything was created.
    pub created: bool,
    /// Whether anything was changed.
    pub changed: bool,
}

/// What the shell of the catalog does once the batch is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogEffect {
    /// Hand the flow over to its home partition (arm or disarm, as its row says; forget, when it is deleted)
    /// until that has answered.
    HandOver(FlowId),
    /// The flow's status changed: tell those that wait.
    StatusChanged(FlowId),
}
