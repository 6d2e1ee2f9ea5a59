//! The actor of a group: one task per group and node that feeds the group's decider while this node
//! leads, and the handle by which everybody else talks to it.
//!
//! Owns the mailbox, the decider and the batches in flight. It orders and supervises; what a command
//! means is decided by `core`, what becomes durable by `replica`. Must never: answer before the batch
//! is applied, decide on state that a failed proposal has made doubtful, or await anything slow.

mod company;
mod counts;
mod end;
mod epoch;
mod jump;
mod line;
mod log;
mod pace;
mod poison;
mod run;
mod supervised;
#[cfg(test)]
mod tests;
mod waiting;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use bytes::Bytes;
use thiserror::Error;
use tidemill_core::{Decider, Rejection, Rows, RowsError};
use tidemill_replica::{Leadership, ReadError};
use tidemill_rows::Key;
use tidemill_types::{
    ErrorClass, FlowId, NodeId, PartitionId,
    limits::{MAILBOX_BYTES_MAX, MAILBOX_COMMANDS_MAX},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::line::{Line, Place};
pub(crate) use self::log::ReplicaLog;
pub use self::{
    log::{GroupLog, SharedRows},
    supervised::{Admission, Sequences, Supervised},
};
use crate::{clock::Clock, metrics::Metrics};

/// Why a command was not answered by its decider.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum AskError {
    /// This node does not lead the group.
    #[error("this node does not lead the partition")]
    NotLeader {
        /// Who does, if that is known.
        leader: Option<NodeId>,
    },
    /// A fact of the state stands against the command.
    #[error(transparent)]
    Rejected(Rejection),
    /// Not proposed.
    #[error("not possible now, nothing has happened: {0}")]
    Unavailable(String),
    /// Shed before any work was done.
    #[error("the partition is overloaded; retry in {retry_after_ms} ms")]
    Overloaded {
        /// When to come again.
        retry_after_ms: u64,
    },
    /// Proposed; the outcome is not known.
    #[error("the outcome is not known; retry with the same request id")]
    Unknown,
    /// The partition has stopped on this node.
    #[error("the partition has stopped on this node: {0}")]
    Corrupt(String),
}

impl AskError {
    /// What a caller does next.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotLeader { .. } | Self::Unavailable(_) => ErrorClass::Unavailable,
            Self::Rejected(rejection) => rejection.class(),
            Self::Overloaded { .. } => ErrorClass::Overloaded,
            Self::Unknown => ErrorClass::Unknown,
            Self::Corrupt(_) => ErrorClass::Corrupt,
        }
    }
}

impl From<ReadError> for AskError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotLeader { leader } => Self::NotLeader { leader },
            ReadError::NoQuorum => Self::Unavailable(error.to_string()),
            ReadError::Stopped { reason } => Self::Corrupt(reason),
        }
    }
}

/// Where a leader's effects go. Called on the actor's thread, in the order of commits: must not block.
pub trait EffectSink<E>: Send + Sync + 'static {
    /// Carries out what a batch that is applied asks for.
    fn deliver(&self, effects: Vec<E>);
    /// The leader's memory is gone: what was said to it (sessions, say) is forgotten.
    fn epoch_ended(&self);
    /// This node leads and decides; say again what a leader must know.
    fn epoch_began(&self);
}

/// What an actor needs besides its log.
pub struct ActorOptions<D: Supervised> {
    /// The decider's configuration.
    pub config: D::Config,
    /// Where effects go.
    pub sink: Arc<dyn EffectSink<D::Effect>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What time it is.
    pub clock: Clock,
    /// Set while the disk is nearly full: new work is refused then, ends of work go on.
    pub disk_low: Arc<AtomicBool>,
    /// Stops the actor once everything in flight is answered.
    pub stop: CancellationToken,
}

/// A command on its way, with the one who waits for the answer.
struct Envelope<D: Decider> {
    command: D::Command,
    reply: Option<oneshot::Sender<Result<D::Reply, AskError>>>,
    /// Room in the mailbox that a large command holds.
    _room: Option<OwnedSemaphorePermit>,
    /// When it came.
    at: Instant,
    /// Of new work: whose it is.
    owner: Option<FlowId>,
    /// Of new work from outside: its place among what waits.
    _place: Option<Place>,
}

impl<D: Decider> Envelope<D> {
    /// A command of the shell's own.
    fn of_shell(command: D::Command) -> Self {
        Self {
            command,
            reply: None,
            _room: None,
            at: Instant::now(),
            owner: None,
            _place: None,
        }
    }

    fn answer(self, answer: Result<D::Reply, AskError>) {
        if let Some(reply) = self.reply {
            // Whoever asked may have gone.
            let _ = reply.send(answer);
        }
    }
}

struct Shared<D: Decider> {
    log: Arc<dyn GroupLog>,
    leadership: watch::Receiver<Leadership>,
    mailbox: mpsc::Sender<Envelope<D>>,
    room: Arc<Semaphore>,
    line: Arc<Line>,
    /// Why the group has stopped on this node.
    fault: watch::Receiver<Option<String>>,
    disk_low: Arc<AtomicBool>,
    stop: CancellationToken,
    metrics: Arc<Metrics>,
}

/// A group's actor, for everybody else. Cheap to clone; works whether or not this node leads.
pub struct GroupHandle<D: Decider> {
    shared: Arc<Shared<D>>,
}

impl<D: Decider> Clone for GroupHandle<D> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

/// A command below this size is bounded by the mailbox's length alone.
const SMALL_BYTES: usize = MAILBOX_BYTES_MAX / MAILBOX_COMMANDS_MAX;
/// A permit of the semaphore stands for so many bytes.
const ROOM_UNIT_BYTES: usize = 1024;
const RETRY_AFTER_MS_MIN: u64 = 20;
const RETRY_AFTER_MS_MAX: u64 = 5_000;

/// Starts a group's actor on a runtime of the caller's choice.
pub fn spawn<D: Supervised>(
    log: Arc<dyn GroupLog>,
    options: ActorOptions<D>,
    runtime: &tokio::runtime::Handle,
) -> (GroupHandle<D>, JoinHandle<()>) {
    // As many as a leader decides in about a fifth of a second: waiting longer helps nobody.
    let (mailbox, receiver) = mpsc::channel(MAILBOX_COMMANDS_MAX);
    let (fault_sender, fault) = watch::channel(None);
    let line = Line::new();
    let handle = GroupHandle {
        shared: Arc::new(Shared {
            leadership: log.leadership(),
            log: Arc::clone(&log),
            mailbox,
            room: Arc::new(Semaphore::new(MAILBOX_BYTES_MAX / ROOM_UNIT_BYTES)),
            fault,
            line: Arc::clone(&line),
            disk_low: Arc::clone(&options.disk_low),
            stop: options.stop.clone(),
            metrics: Arc::clone(&options.metrics),
        }),
    };
    let actor = run::Actor::new(log, options, receiver, fault_sender, line);
    (handle, runtime.spawn(actor.run()))
}

impl<D: Decider> GroupHandle<D> {
    /// The partition.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.shared.log.id()
    }

    /// Who leads; changes are told at once.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.shared.leadership.clone()
    }

    /// Why the group has stopped on this node, if it has.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let fault = self.shared.fault.borrow().clone();
        fault.or_else(|| self.shared.log.fault())
    }

    /// How far this node has applied the log: what is [`stale`](Self::stale) is the same as long as this is.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.shared.log.applied()
    }

    /// What this node has applied, whether or not it leads. May be behind.
    #[must_use]
    pub fn stale(&self) -> GroupReader {
        GroupReader {
            rows: self.shared.log.snapshot(),
        }
    }

    /// On the leader: everything that was acknowledged before the call.
    ///
    /// # Errors
    /// [`AskError`]: not the leader, no quorum, or stopped.
    pub async fn read(&self) -> Result<GroupReader, AskError> {
        if let Some(fault) = self.fault() {
            return Err(AskError::Corrupt(fault));
        }
        self.check_leader()?;
        self.shared.log.read_barrier().await?;
        Ok(self.stale())
    }

    /// A view of what this node has applied, as long as it believes to lead: for one that knows already
    /// that it has applied all that was committed before its request began. What is applied after that
    /// happens within the request, so no barrier is needed to tell of it.
    ///
    /// # Errors
    /// [`AskError`]: not the leader, or stopped.
    pub fn read_on(&self) -> Result<GroupReader, AskError> {
        if let Some(fault) = self.fault() {
            return Err(AskError::Corrupt(fault));
        }
        self.check_leader()?;
        Ok(self.stale())
    }

    fn check_leader(&self) -> Result<(), AskError> {
        let leadership = *self.shared.leadership.borrow();
        if leadership.is_self {
            Ok(())
        } else {
            Err(AskError::NotLeader {
                leader: leadership.leader,
            })
        }
    }

    fn check(&self) -> Result<(), AskError> {
        if let Some(fault) = self.fault() {
            return Err(AskError::Corrupt(fault));
        }
        self.check_leader()?;
        if self.shared.stop.is_cancelled() {
            return Err(AskError::Unavailable("the node is shutting down".into()));
        }
        Ok(())
    }

    fn overloaded(&self, reason: &str) -> AskError {
        self.shared.metrics.commands_shed.with(&[reason]).add(1);
        // What waits now will have gone by when as much time again has passed.
        let waited = self.shared.line.waited(Instant::now()).as_millis() as u64;
        AskError::Overloaded {
            retry_after_ms: waited.clamp(RETRY_AFTER_MS_MIN, RETRY_AFTER_MS_MAX),
        }
    }
}

impl<D: Supervised> GroupHandle<D> {
    /// Has a command decided; returns when the batch with its decision is applied.
    ///
    /// # Errors
    /// [`AskError`]; after `Unknown` the same command may be repeated if it carries a request id.
    pub async fn ask(&self, command: D::Command) -> Result<D::Reply, AskError> {
        self.check()?;
        let at = Instant::now();
        let mut place = None;
        let owner = match D::admission(&command) {
            Admission::NewWork { owner } => Some(owner),
            Admission::Progress => None,
        };
        if let Some(owner) = owner {
            if self.shared.disk_low.load(Relaxed) {
                self.shared.metrics.commands_shed.with(&["disk"]).add(1);
                return Err(AskError::Unavailable("the disk is nearly full".into()));
            }
            let entered = self.shared.line.enter(owner, at);
            place = Some(entered.map_err(|full| self.overloaded(full.reason()))?);
        }
        let room = match room_units(D::weight(&command)) {
            None => None,
            Some(units) => {
                let room = Arc::clone(&self.shared.room).try_acquire_many_owned(units);
                Some(room.map_err(|_| self.overloaded("bytes"))?)
            }
        };
        let (reply, answer) = oneshot::channel();
        let envelope = Envelope {
            command,
            reply: Some(reply),
            _room: room,
            at,
            owner,
            _place: place,
        };
        match self.shared.mailbox.try_send(envelope) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(self.overloaded("queue")),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(stopped()),
        }
        // Without an answer the actor has gone with the command in its hands.
        answer.await.unwrap_or(Err(AskError::Unknown))
    }

    /// Hands a command over that has no answer; waits only for a place in the mailbox.
    ///
    /// # Errors
    /// [`AskError`] when it was not handed over. It may still come to nothing, by a change of leader.
    pub async fn tell(&self, command: D::Command) -> Result<(), AskError> {
        self.check()?;
        let room = match room_units(D::weight(&command)) {
            None => None,
            Some(units) => {
                let room = Arc::clone(&self.shared.room).acquire_many_owned(units);
                Some(room.await.map_err(|_| stopped())?)
            }
        };
        let envelope = Envelope {
            _room: room,
            ..Envelope::of_shell(command)
        };
        let sent = self.shared.mailbox.send(envelope).await;
        sent.map_err(|_| stopped())
    }
}

fn stopped() -> AskError {
    AskError::Unavailable("the partition's actor has ended".into())
}

fn room_units(bytes: usize) -> Option<u32> {
    (bytes > SMALL_BYTES).then(|| {
        let units = bytes.min(MAILBOX_BYTES_MAX) / ROOM_UNIT_BYTES;
        u32::try_from(units).expect("64 MiB in units of 1 KiB fit")
    })
}

/// Rows of a group as they were at one moment.
#[derive(Clone)]
pub struct GroupReader {
    rows: SharedRows,
}

impl Rows for GroupReader {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError> {
        self.rows.get(key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(Key, Bytes)>, RowsError> {
        self.rows.scan(from, to, limit, reverse)
    }
}
