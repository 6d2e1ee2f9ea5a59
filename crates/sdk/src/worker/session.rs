//! The worker's loop: one task that owns the stream, the running handlers and the outbox.
//!
//! Nothing slow is awaited inside of it. Streams come and go; handlers and completions stay.

use std::{collections::VecDeque, future::Future, pin::Pin, sync::Arc};

use tidemill_proto::v1::{
    CompletionStatus, Hello, Renewal, WorkRequest, WorkResponse,
    worker_service_client::WorkerServiceClient,
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    Functions, Worker, WorkerReport,
    outbox::Outbox,
    running::{Ended, Running},
};
use crate::{
    backoff::Backoff,
    client::Client,
    error::read_status,
    limits::{
        ANSWER_BYTES_MAX, ATTEMPT_TIMEOUT, BACKOFF_MAX, FLUSH_TIMEOUT, HOLDS_MAX,
        HOUSEKEEPING_INTERVAL, RENEWALS_PER_MESSAGE_MAX, STOP_LINGER, UNANSWERED_PER_PLACE,
    },
};

/// One message waits while the connection takes the one before: all that comes up meanwhile goes
/// into the next, which makes batches grow with the load.
const OUTGOING_MAX: usize = 1;

type Opening = Pin<Box<dyn Future<Output = Result<Streaming<WorkResponse>, Status>> + Send>>;

/// The stream to a node, or the way to the next one.
enum Link {
    Down {
        until: Instant,
    },
    Opening {
        address: Arc<str>,
        outgoing: mpsc::Sender<WorkRequest>,
        opening: Opening,
    },
    Up {
        address: Arc<str>,
        outgoing: mpsc::Sender<WorkRequest>,
        incoming: Box<Streaming<WorkResponse>>,
        since: Instant,
    },
}

enum LinkEvent {
    /// The pause is over.
    Due,
    Opened(Box<Streaming<WorkResponse>>),
    Lost(Status),
    Message(WorkResponse),
    /// A message can be sent at once.
    Writable,
}

impl Link {
    async fn event(&mut self, wants_to_write: bool) -> LinkEvent {
        match self {
            Self::Down { until } => {
                sleep_until(*until).await;
                LinkEvent::Due
            }
            Self::Opening { opening, .. } => match opening.await {
                Ok(incoming) => LinkEvent::Opened(Box::new(incoming)),
                Err(status) => LinkEvent::Lost(status),
            },
            Self::Up {
                outgoing, incoming, ..
            } => {
                tokio::select! {
                    message = incoming.message() => match message {
                        Ok(Some(message)) => LinkEvent::Message(message),
                        Ok(None) => LinkEvent::Lost(Status::unavailable("the node ended the stream")),
                        Err(status) => LinkEvent::Lost(status),
                    },
                    permit = outgoing.reserve(), if wants_to_write => match permit {
                        Ok(_) => LinkEvent::Writable,
                        // The request half is gone; the other half will say why.
                        Err(_) => match incoming.message().await {
                            Ok(Some(message)) => LinkEvent::Message(message),
                            Ok(None) => LinkEvent::Lost(Status::unavailable("the node ended the stream")),
                            Err(status) => LinkEvent::Lost(status),
                        },
                    },
                }
            }
        }
    }
}

/// A graceful stop under way.
#[derive(Debug)]
struct Stopping {
    drain_until: Instant,
    /// When the server was told to push no more.
    told: Option<Instant>,
    /// Set when the last handler has ended.
    flush_until: Option<Instant>,
}

struct Session {
    client: Client,
    hello: Hello,
    functions: Functions,
    concurrency: u32,
    running: Running,
    outbox: Outbox,
    renewals: VecDeque<Renewal>,
    /// What the server of the present stream was told last.
    credits_told: u32,
    stopping: Option<Stopping>,
    backoff: Backoff,
    report: WorkerReport,
}

/// Serves until `shutdown`, then stops gracefully.
pub(super) async fn run(worker: Worker, shutdown: impl Future<Output = ()>) -> WorkerReport {
    let drain_timeout = worker.drain_timeout;
    let mut session = Session {
        client: worker.client,
        hello: worker.hello,
        functions: worker.functions,
        concurrency: worker.concurrency,
        running: Running::default(),
        outbox: Outbox::default(),
        renewals: VecDeque::new(),
        credits_told: 0,
        stopping: None,
        backoff: Backoff::default(),
        report: WorkerReport::default(),
    };
    let mut link = Link::Down {
        until: Instant::now(),
    };
    let mut housekeeping = interval(HOUSEKEEPING_INTERVAL);
    housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(shutdown);
    loop {
        if session.has_finished() {
            return session.report;
        }
        let wants_to_write = session.wants_to_write();
        tokio::select! {
            () = &mut shutdown, if session.stopping.is_none() => {
                tracing::info!(worker = session.hello.worker, running = session.running.len(), "worker stops");
                session.stopping = Some(Stopping {
                    drain_until: Instant::now() + drain_timeout,
                    told: None,
                    flush_until: None,
                });
            }
            ended = session.running.ended() => session.keep(ended),
            now = housekeeping.tick() => session.look_around(now, &link),
            event = link.event(wants_to_write) => match event {
                LinkEvent::Due => link = session.open(),
                LinkEvent::Opened(incoming) => link = session.opened(link, incoming),
                LinkEvent::Lost(status) => link = session.lost(link, &status),
                LinkEvent::Message(message) => {
                    if session.take(message) {
                        link = session.leave_draining(link);
                    }
                }
                LinkEvent::Writable => {
                    // Lets the handlers that are about to end do so: their completions then share
                    // this message.
                    tokio::task::yield_now().await;
                    session.write(&link);
                }
            },
        }
    }
}

impl Session {
    /// Places that the server may fill.
    fn credits(&self) -> u32 {
        let unanswered_max = UNANSWERED_PER_PLACE * self.concurrency as usize;
        if self.stopping.is_some() || self.outbox.len() >= unanswered_max {
            return 0;
        }
        let uncounted = u32::try_from(self.running.uncounted()).unwrap_or(u32::MAX);
        self.concurrency.saturating_sub(uncounted)
    }

    fn wants_to_write(&self) -> bool {
        self.outbox.is_ready() || !self.renewals.is_empty() || self.credits() != self.credits_told
    }

    /// Whether a graceful stop has come to its end.
    fn has_finished(&mut self) -> bool {
        let now = Instant::now();
        let Some(stopping) = &mut self.stopping else {
            return false;
        };
        if self.credits_told == 0 {
            stopping.told.get_or_insert(now);
        }
        if !self.running.is_empty() && now < stopping.drain_until {
            return false;
        }
        if !self.running.is_empty() {
            let abandoned = self.running.abandon();
            tracing::warn!(abandoned, "handlers are abandoned: the drain time is up");
            self.report.abandoned += abandoned as u64;
        }
        let flush_until = *stopping.flush_until.get_or_insert(now + FLUSH_TIMEOUT);
        if now >= flush_until {
            self.report.unanswered = self.outbox.len() as u64;
            return true;
        }
        let lingered = stopping.told.is_some_and(|told| now >= told + STOP_LINGER);
        self.outbox.is_empty() && lingered
    }

    fn open(&mut self) -> Link {
        let node = self.client.node();
        let (outgoing, requests) = mpsc::channel(OUTGOING_MAX);
        let first = WorkRequest {
            hello: Some(self.hello()),
            credits: Some(0),
            ..WorkRequest::default()
        };
        outgoing
            .try_send(first)
            .expect("a new channel has room for one message");
        let mut service = WorkerServiceClient::new(node.channel)
            .max_decoding_message_size(ANSWER_BYTES_MAX)
            .max_encoding_message_size(usize::MAX);
        let opening = async move {
            match timeout(ATTEMPT_TIMEOUT, service.work(ReceiverStream::new(requests))).await {
                Ok(Ok(response)) => Ok(response.into_inner()),
                Ok(Err(status)) => Err(status),
                Err(_) => Err(Status::unavailable(
                    "the node did not open a stream in time",
                )),
            }
        };
        Link::Opening {
            address: node.address,
            outgoing,
            opening: Box::pin(opening),
        }
    }

    /// What a new stream begins with. The stream before it was dropped, so what it says to hold is all
    /// that it will ever have of the tasks that were given out before.
    fn hello(&mut self) -> Hello {
        self.hello.session += 1;
        let mut hello = self.hello.clone();
        if self.running.len() + self.outbox.len() > HOLDS_MAX {
            // What it cannot say it must not seem to deny: its leases are left to themselves.
            (hello.instance, hello.session) = (String::new(), 0);
            return hello;
        }
        let holds = self.running.holding().chain(self.outbox.task_ids());
        hello.holds = holds.cloned().collect();
        hello
    }

    fn opened(&mut self, link: Link, incoming: Box<Streaming<WorkResponse>>) -> Link {
        let Link::Opening {
            address, outgoing, ..
        } = link
        else {
            return link;
        };
        tracing::info!(
            worker = self.hello.worker,
            endpoint = %address,
            unanswered = self.outbox.len(),
            "worker connected"
        );
        self.report.connections += 1;
        self.credits_told = 0;
        self.renewals.clear();
        self.running.new_stream();
        self.outbox.resend_all();
        self.client.refresh_members_soon();
        Link::Up {
            address,
            outgoing,
            incoming,
            since: Instant::now(),
        }
    }

    fn lost(&mut self, link: Link, status: &Status) -> Link {
        let (address, lived) = match link {
            Link::Up { address, since, .. } => (address, since.elapsed()),
            Link::Opening { address, .. } => (address, std::time::Duration::ZERO),
            Link::Down { .. } => return link,
        };
        self.credits_told = 0;
        let (_, error) = read_status(status, &address);
        if self.stopping.is_none() || !self.outbox.is_empty() {
            tracing::warn!(worker = self.hello.worker, endpoint = %address, %error, "worker lost its stream");
        }
        self.client.leave(&address);
        if lived > BACKOFF_MAX {
            self.backoff.reset();
        }
        Link::Down {
            until: Instant::now() + self.backoff.next(),
        }
    }

    /// The node is going away. What it had not answered is sent to the next one.
    fn leave_draining(&mut self, link: Link) -> Link {
        let Link::Up { address, .. } = link else {
            return link;
        };
        tracing::info!(
            worker = self.hello.worker,
            endpoint = %address,
            "node drains, worker moves on"
        );
        self.client.leave(&address);
        let others = self.client.nodes_known() > 1;
        let pause = if others {
            std::time::Duration::ZERO
        } else {
            self.backoff.next()
        };
        Link::Down {
            until: Instant::now() + pause,
        }
    }

    /// Takes a message; true when the node is draining.
    fn take(&mut self, message: WorkResponse) -> bool {
        self.backoff.reset();
        for result in message.results {
            self.settle(&result.task_id, result.status(), &result.message);
        }
        for task_id in message.lost_leases {
            if self.running.lose(&task_id) {
                tracing::warn!(task_id, "lease is lost");
                self.report.lost += 1;
            }
        }
        for task in message.tasks {
            // Pushed again: the server does not know that it is here, or did not get its completion.
            if self.running.holds(&task.id) || self.outbox.resend(&task.id) {
                continue;
            }
            // A server that pushes more than it was allowed cannot make this process grow.
            if self.running.len() >= 2 * self.concurrency as usize {
                tracing::warn!(
                    task_id = task.id,
                    "task beyond all credits is left to its lease"
                );
                continue;
            }
            self.report.taken += 1;
            self.running.start(task, &self.functions);
        }
        message.draining
    }

    fn settle(&mut self, task_id: &str, status: CompletionStatus, message: &str) {
        match status {
            CompletionStatus::Retry | CompletionStatus::Unspecified => self.outbox.retry(task_id),
            CompletionStatus::Accepted => {
                self.report.accepted += u64::from(self.outbox.answered(task_id));
            }
            CompletionStatus::Already => {
                self.report.already += u64::from(self.outbox.answered(task_id));
            }
            CompletionStatus::LeaseLost => {
                if self.outbox.answered(task_id) {
                    tracing::warn!(task_id, "completion came too late: the lease was lost");
                    self.report.lost += 1;
                }
            }
            CompletionStatus::Invalid => {
                if self.outbox.answered(task_id) {
                    tracing::error!(task_id, reason = message, "completion was refused");
                    self.report.invalid += 1;
                }
            }
        }
    }

    fn keep(&mut self, ended: Ended) {
        if ended.panicked {
            self.report.panics += 1;
        }
        if let Some(completion) = ended.completion {
            self.outbox.put(completion);
        }
    }

    fn look_around(&mut self, now: Instant, link: &Link) {
        if matches!(link, Link::Up { .. }) {
            self.outbox.queue_due(now);
            self.renewals.extend(self.running.renewals(now));
        }
        self.running.expire(now);
    }

    /// Sends one message with all that is to be said, within its bounds.
    fn write(&mut self, link: &Link) {
        let Link::Up { outgoing, .. } = link else {
            return;
        };
        // This loop is the only sender, so the room that was seen is still there.
        let Ok(permit) = outgoing.try_reserve() else {
            return;
        };
        while let Some(ended) = self.running.try_ended() {
            self.keep(ended);
        }
        let credits = self.credits();
        let renewals = self.renewals.len().min(RENEWALS_PER_MESSAGE_MAX);
        permit.send(WorkRequest {
            hello: None,
            credits: (credits != self.credits_told).then_some(credits),
            completions: self.outbox.batch(Instant::now()),
            renewals: self.renewals.drain(..renewals).collect(),
        });
        self.credits_told = credits;
    }
}
