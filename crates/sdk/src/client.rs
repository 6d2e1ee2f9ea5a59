//! The client: typed calls, one file per service, and the one way by which all of them are made.
//!
//! Owns the rule of retrying: a mutation is sent again only with the request id that it had, and only
//! when the answer was "not proposed" or "outcome not known", or none came at all. Never hides that an
//! outcome is not known.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tidemill_proto::{
    LEADER_HEADER,
    v1::{GetStatusRequest, cluster_service_client::ClusterServiceClient},
};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::{Response, Status, transport::Channel};

use crate::{
    backoff::Backoff,
    error::{ClientError, ErrorKind, Reached, read_status},
    limits::{
        ANSWER_BYTES_MAX, ATTEMPT_TIMEOUT, CALL_TIMEOUT, CONNECT_TIMEOUT, LEADERS_KEPT_MAX,
        MEMBERS_REFRESH_INTERVAL,
    },
    nodes::{InvalidEndpoint, Node, Nodes, normalise},
};

mod cluster;
mod execution;
mod flow;
mod journal;
mod schedule;
mod starts;
mod stream;

pub use execution::ExecutionWatch;
pub use journal::JournalReader;
pub(crate) use starts::Starts;

/// A connection to a cluster, through whichever of its nodes answers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    nodes: Nodes,
    call_timeout: Duration,
    attempt_timeout: Duration,
    retry: bool,
    discover: bool,
    /// Which node leads what a call is about (a flow, as the caller names it), as answers have told: to
    /// ask it saves the way through another node.
    leaders: Mutex<HashMap<String, String>>,
    refreshing: AtomicBool,
    refreshed_at: Mutex<Option<Instant>>,
}

/// How a [`Client`] is made.
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    call_timeout: Duration,
    attempt_timeout: Duration,
    connect_timeout: Duration,
    retry: bool,
    discover: bool,
}

impl ClientBuilder {
    /// How long a call may take in all, retries included. Default: [`CALL_TIMEOUT`].
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// How long one attempt may take before another node is asked. Default: [`ATTEMPT_TIMEOUT`].
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// How long connecting to one node may take. Default: [`CONNECT_TIMEOUT`].
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Whether calls are tried again at all. Default: yes. A load generator that counts refusals says no.
    #[must_use]
    pub fn retry(mut self, retry: bool) -> Self {
        self.retry = retry;
        self
    }

    /// Whether the cluster is asked for its other nodes. Default: yes. Say no where their addresses
    /// mean nothing, such as behind a tunnel.
    #[must_use]
    pub fn discover(mut self, discover: bool) -> Self {
        self.discover = discover;
        self
    }

    /// Makes the client without asking any node yet. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`InvalidEndpoint`].
    pub fn lazy(self) -> Result<Client, InvalidEndpoint> {
        Ok(Client {
            shared: Arc::new(Shared {
                nodes: Nodes::new(&self.endpoints, self.connect_timeout)?,
                call_timeout: self.call_timeout,
                attempt_timeout: self.attempt_timeout,
                retry: self.retry,
                discover: self.discover,
                leaders: Mutex::default(),
                refreshing: AtomicBool::new(false),
                refreshed_at: Mutex::new(None),
            }),
        })
    }

    /// Makes the client and finds the cluster: asks the endpoints in turn until one answers.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a bad endpoint, [`ErrorKind::Unreachable`] when no node answered.
    pub async fn connect(self) -> Result<Client, ClientError> {
        let client = self
            .lazy()
            .map_err(|error| ClientError::invalid("endpoint", error.to_string()))?;
        let mut last = None;
        for _ in 0..client.shared.nodes.len() {
            let node = client.shared.nodes.current();
            match client.refresh_members(&node).await {
                Ok(()) => return Ok(client),
                // It answered, so the cluster is found; what is wrong will be the answer of calls too.
                Err((Reached::Answered, _)) => return Ok(client),
                Err((_, error)) => {
                    client.shared.nodes.leave(&node.address);
                    last = Some(ClientError {
                        kind: ErrorKind::Unreachable,
                        ..error
                    });
                }
            }
        }
        Err(last.expect("there is at least one node, and none answered"))
    }
}

/// What one call needs to know about itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    name: &'static str,
    /// What decides which node leads, such as a flow; empty when it does not matter.
    about: &'a str,
    request_id: &'a str,
    repeatable: bool,
    attempt_timeout: Option<Duration>,
    call_timeout: Option<Duration>,
}

impl<'a> Call<'a> {
    /// A call that changes nothing: it may be sent as often as one likes.
    const fn read(name: &'static str) -> Self {
        Self {
            name,
            about: "",
            request_id: "",
            repeatable: true,
            attempt_timeout: None,
            call_timeout: None,
        }
    }

    /// A mutation that the server takes once per request id.
    const fn mutation(name: &'static str, request_id: &'a str) -> Self {
        Self {
            request_id,
            ..Self::read(name)
        }
    }

    /// A mutation without a request id: sent again only when it surely was not taken.
    const fn once(name: &'static str) -> Self {
        Self {
            repeatable: false,
            ..Self::read(name)
        }
    }

    /// A call that the leader of this flow answers.
    const fn about(self, about: &'a str) -> Self {
        Self { about, ..self }
    }

    /// A call that the server answers late on purpose.
    const fn patient(self, attempt: Duration, call: Duration) -> Self {
        Self {
            attempt_timeout: Some(attempt),
            call_timeout: Some(call),
            ..self
        }
    }
}

impl Client {
    /// Begins a client that knows these endpoints (`http://HOST:PORT`).
    pub fn builder<E: AsRef<str>>(endpoints: impl IntoIterator<Item = E>) -> ClientBuilder {
        ClientBuilder {
            endpoints: endpoints
                .into_iter()
                .map(|endpoint| endpoint.as_ref().to_owned())
                .collect(),
            call_timeout: CALL_TIMEOUT,
            attempt_timeout: ATTEMPT_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            retry: true,
            discover: true,
        }
    }

    /// Finds the cluster through any of these endpoints, with the defaults of [`ClientBuilder`].
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub async fn connect<E: AsRef<str>>(
        endpoints: impl IntoIterator<Item = E>,
    ) -> Result<Self, ClientError> {
        Self::builder(endpoints).connect().await
    }

    /// The address of the node that is asked at present.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.shared.nodes.current().address.to_string()
    }

    pub(crate) fn node(&self) -> Node {
        self.shared.nodes.current()
    }

    /// A node failed: the next call asks another one, and the members are asked for again.
    pub(crate) fn leave(&self, address: &str) {
        self.shared.nodes.leave(address);
    }

    pub(crate) fn nodes_known(&self) -> usize {
        self.shared.nodes.len()
    }

    /// Makes one call, asking other nodes and pausing as needed, until it is answered or its time is up.
    pub(crate) async fn call<Q, R, F, Fut>(
        &self,
        call: Call<'_>,
        request: Q,
        send: F,
    ) -> Result<R, ClientError>
    where
        Q: Clone,
        F: Fn(Channel, Q) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        self.call_node(call, request, |node, request| send(node.channel, request))
            .await
    }

    /// The same with all that is known of the node.
    pub(crate) async fn call_node<Q, R, F, Fut>(
        &self,
        call: Call<'_>,
        request: Q,
        send: F,
    ) -> Result<R, ClientError>
    where
        Q: Clone,
        F: Fn(Node, Q) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let shared = &*self.shared;
        let attempt_timeout = call.attempt_timeout.unwrap_or(shared.attempt_timeout);
        let deadline = Instant::now() + call.call_timeout.unwrap_or(shared.call_timeout);
        let mut backoff = Backoff::default();
        // Once an attempt may have been taken, no later refusal proves that nothing happened.
        let mut perhaps_done = false;
        // Nodes that could not even be connected to since the last pause.
        let mut unreachable_in_a_row = 0;
        loop {
            let node = shared.leader(call.about);
            let node = node.unwrap_or_else(|| shared.nodes.current());
            let attempt = send(node.clone(), request.clone());
            let until = deadline.min(Instant::now() + attempt_timeout);
            let (reached, error) = match timeout_at(until, attempt).await {
                Ok(Ok(response)) => {
                    if unreachable_in_a_row > 0 || perhaps_done {
                        self.refresh_members_soon();
                    }
                    shared.note_leader(call.about, &response);
                    return Ok(response.into_inner());
                }
                Ok(Err(status)) => read_status(&status, &node.address),
                Err(_) => (Reached::Perhaps, timed_out(call.name, &node.address)),
            };
            perhaps_done |= reached == Reached::Perhaps || error.kind == ErrorKind::Unknown;
            let Some(pause) = retry_pause(&error, &mut backoff).filter(|_| shared.retry) else {
                return Err(outcome(error, call, perhaps_done && !settles(reached)));
            };
            if perhaps_done && !call.repeatable {
                return Err(outcome(error, call, true));
            }
            shared.nodes.leave(&node.address);
            shared.forget_leader(call.about);
            // A node that cannot be connected to costs nothing: the next one is asked at once, and
            // only when all were tried there is a pause.
            let pause = if reached == Reached::NotSent {
                unreachable_in_a_row += 1;
                if unreachable_in_a_row % shared.nodes.len() == 0 {
                    pause
                } else {
                    Duration::ZERO
                }
            } else {
                pause
            };
            if Instant::now() + pause >= deadline {
                return Err(outcome(error, call, perhaps_done));
            }
            tracing::debug!(rpc = call.name, endpoint = %node.address, error = %error, "call is tried again");
            sleep(pause).await;
        }
    }

    /// Asks for the members without making anybody wait for it, at most one at a time.
    pub(crate) fn refresh_members_soon(&self) {
        let shared = &self.shared;
        let recently = shared
            .refreshed_at
            .lock()
            .ok()
            .and_then(|at| *at)
            .is_some_and(|at| at.elapsed() < MEMBERS_REFRESH_INTERVAL);
        if !shared.discover || recently || shared.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let client = self.clone();
        tokio::spawn(async move {
            let node = client.node();
            if let Err((_, error)) = client.refresh_members(&node).await {
                tracing::debug!(%error, "cluster members could not be asked for");
            }
            client.shared.refreshing.store(false, Ordering::Release);
        });
    }

    async fn refresh_members(&self, node: &Node) -> Result<(), (Reached, ClientError)> {
        let mut service = ClusterServiceClient::new(node.channel.clone())
            .max_decoding_message_size(ANSWER_BYTES_MAX);
        let answer = timeout(
            self.shared.attempt_timeout.min(self.shared.call_timeout),
            service.get_status(GetStatusRequest {}),
        )
        .await;
        let status = match answer {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return Err(read_status(&status, &node.address)),
            Err(_) => return Err((Reached::Perhaps, timed_out("GetStatus", &node.address))),
        };
        if self.shared.discover {
            let members: Vec<String> = status.members.into_iter().map(|m| m.grpc).collect();
            self.shared.nodes.set_members(&members);
        }
        if let Ok(mut at) = self.shared.refreshed_at.lock() {
            *at = Some(Instant::now());
        }
        Ok(())
    }
}

impl Shared {
    /// The node that led when it was asked last.
    fn leader(&self, about: &str) -> Option<Node> {
        if about.is_empty() {
            return None;
        }
        self.nodes.at(self.leaders().get(about)?)
    }

    /// An answer that came by way of another node says which one gave it.
    fn note_leader<R>(&self, about: &str, response: &Response<R>) {
        let Some(leader) = response.metadata().get(LEADER_HEADER) else {
            return;
        };
        // Where the members are not asked for, their addresses mean nothing.
        if about.is_empty() || !self.discover {
            return;
        }
        let Some(address) = leader.to_str().ok().and_then(|text| normalise(text).ok()) else {
            return;
        };
        let mut leaders = self.leaders();
        if leaders.len() >= LEADERS_KEPT_MAX {
            leaders.clear();
        }
        leaders.insert(about.to_owned(), address);
    }

    fn forget_leader(&self, about: &str) {
        if !about.is_empty() {
            self.leaders().remove(about);
        }
    }

    fn leaders(&self) -> MutexGuard<'_, HashMap<String, String>> {
        // It is whole after each change, so a panic elsewhere spoils nothing.
        self.leaders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to pause before the same request is sent again; nothing when it must not be.
fn retry_pause(error: &ClientError, backoff: &mut Backoff) -> Option<Duration> {
    match &error.kind {
        ErrorKind::Unavailable | ErrorKind::Unknown | ErrorKind::Unreachable => {
            Some(backoff.next())
        }
        // The server named its time. Without one it is no passing load but a limit that stays.
        ErrorKind::Overloaded { retry_after } => retry_after.map(|after| after.max(backoff.next())),
        ErrorKind::Invalid { .. }
        | ErrorKind::Rejected
        | ErrorKind::NotFound
        | ErrorKind::Broken => None,
    }
}

/// An answer for this request id speaks for every attempt before it, too: the server looks the id up
/// first.
fn settles(reached: Reached) -> bool {
    reached == Reached::Answered
}

fn timed_out(rpc: &str, endpoint: &str) -> ClientError {
    ClientError {
        kind: ErrorKind::Unknown,
        code: "DEADLINE_EXCEEDED".to_owned(),
        message: format!("{endpoint} did not answer {rpc} in time"),
        request_id: String::new(),
        endpoint: endpoint.to_owned(),
    }
}

/// The error that the caller gets: what the last attempt said, unless an earlier one may have worked.
fn outcome(mut error: ClientError, call: Call<'_>, perhaps_done: bool) -> ClientError {
    call.request_id.clone_into(&mut error.request_id);
    let reads = call.repeatable && call.request_id.is_empty();
    if reads && error.kind == ErrorKind::Unknown {
        // Nothing can have happened by a read: what matters is that nobody answered it.
        error.kind = ErrorKind::Unreachable;
    } else if !reads && perhaps_done && error.kind != ErrorKind::Unknown {
        error.message = format!(
            "the outcome is not known: an attempt got no answer, and then: {}",
            error.message
        );
        error.kind = ErrorKind::Unknown;
    }
    error
}
