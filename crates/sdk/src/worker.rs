//! The worker: runs the steps of a user's components.
//!
//! Owns a worker's half of the promise: a task's completion is kept and sent, to whichever node
//! answers, until it is answered; a lease is renewed while its handler runs and the handler is told
//! when it is lost. Never completes a task that it did not run, and never ends because a handler did.

use std::{collections::HashMap, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use thiserror::Error;
use tidemill_proto::v1::{ComponentFunction, Hello};

use crate::{
    client::{Client, ClientBuilder},
    limits::{
        CONCURRENCY_DEFAULT, CONCURRENCY_MAX, DRAIN_TIMEOUT, LEASE_DEFAULT, LEASE_MAX, LEASE_MIN,
        WORKER_NAME_CHARS_MAX,
    },
    nodes::InvalidEndpoint,
};

mod outbox;
mod outcome;
mod running;
mod session;
mod task;

pub use outcome::{Outcome, TaskError};
pub use task::TaskContext;

/// What a handler gives back, boxed.
type HandlerFuture = Pin<Box<dyn Future<Output = Result<Outcome, TaskError>> + Send>>;
/// A registered function.
type Handler = Arc<dyn Fn(TaskContext) -> HandlerFuture + Send + Sync>;

/// Why a worker could not start. Once it runs, nothing but its shutdown ends it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WorkerError {
    /// An endpoint is wrong.
    #[error(transparent)]
    Endpoint(#[from] InvalidEndpoint),
    /// A setting is out of its limits.
    #[error("worker setting {setting}: {reason}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// What is allowed.
        reason: String,
    },
}

/// What a worker did in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerReport {
    /// Tasks taken.
    pub taken: u64,
    /// Completions that took effect.
    pub accepted: u64,
    /// Completions that had taken effect before.
    pub already: u64,
    /// Tasks whose lease was lost.
    pub lost: u64,
    /// Completions that the server refused for what was in them.
    pub invalid: u64,
    /// Handlers that panicked.
    pub panics: u64,
    /// Completions without an answer when the worker ended; their steps are given to others.
    pub unanswered: u64,
    /// Handlers that were still running when the drain time was up; their steps are given to others.
    pub abandoned: u64,
    /// Streams that were opened.
    pub connections: u64,
}

/// The functions that a worker serves.
#[derive(Clone, Default)]
struct Functions {
    by_name: HashMap<(String, String), Handler>,
}

impl Functions {
    /// The handler of a function: its own, or its component's.
    fn find(&self, component: &str, function: &str) -> Option<&Handler> {
        let key = |function: &str| (component.to_owned(), function.to_owned());
        self.by_name
            .get(&key(function))
            .or_else(|| self.by_name.get(&key("")))
    }

    fn names(&self) -> Vec<ComponentFunction> {
        let mut names: Vec<_> = self
            .by_name
            .keys()
            .map(|(component, function)| ComponentFunction {
                component: component.clone(),
                function: function.clone(),
            })
            .collect();
        names.sort_by(|a, b| (&a.component, &a.function).cmp(&(&b.component, &b.function)));
        names
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.by_name.keys()).finish()
    }
}

/// How a [`Worker`] is made. [`WorkerBuilder::run_until`] runs it.
#[derive(Clone, Debug)]
pub struct WorkerBuilder {
    client: ClientBuilder,
    name: String,
    functions: Functions,
    concurrency: u32,
    lease: Duration,
    drain_timeout: Duration,
}

/// A worker whose settings were checked.
#[derive(Debug)]
pub struct Worker {
    client: Client,
    hello: Hello,
    functions: Functions,
    concurrency: u32,
    drain_timeout: Duration,
}

impl Worker {
    /// Begins a worker that finds the cluster through any of these endpoints.
    pub fn builder<E: AsRef<str>>(endpoints: impl IntoIterator<Item = E>) -> WorkerBuilder {
        WorkerBuilder {
            client: Client::builder(endpoints),
            name: format!("worker-{:08x}", rand::random::<u32>()),
            functions: Functions::default(),
            concurrency: CONCURRENCY_DEFAULT,
            lease: LEASE_DEFAULT,
            drain_timeout: DRAIN_TIMEOUT,
        }
    }

    /// Serves until `shutdown` is ready, then stops gracefully: takes no more tasks, waits for its
    /// handlers and for the answers to its completions, each within its bound.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> WorkerReport {
        session::run(self, shutdown).await
    }
}

impl WorkerBuilder {
    /// The name shown to people, such as host name and process. Default: a random one.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Serves one function of a component.
    #[must_use]
    pub fn function<F, Fut>(
        mut self,
        component: impl Into<String>,
        function: impl Into<String>,
        handler: F,
    ) -> Self
    where
        F: Fn(TaskContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Outcome, TaskError>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |task| Box::pin(handler(task)));
        let key = (component.into(), function.into());
        self.functions.by_name.insert(key, handler);
        self
    }

    /// Serves all functions of a component that have no handler of their own.
    #[must_use]
    pub fn component<F, Fut>(self, component: impl Into<String>, handler: F) -> Self
    where
        F: Fn(TaskContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Outcome, TaskError>> + Send + 'static,
    {
        self.function(component, "", handler)
    }

    /// How many tasks run at once: 1 to [`CONCURRENCY_MAX`].
    #[must_use]
    pub fn concurrency(mut self, tasks: u32) -> Self {
        self.concurrency = tasks;
        self
    }

    /// The lease to ask for: [`LEASE_MIN`] to [`LEASE_MAX`]. A step whose worker dies is given to
    /// another after at most this long. (One whose node dies is not: the worker says what it holds.)
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long a graceful stop waits for handlers.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Whether the cluster is asked for its other nodes; see [`ClientBuilder::discover`].
    #[must_use]
    pub fn discover(mut self, discover: bool) -> Self {
        self.client = self.client.discover(discover);
        self
    }

    /// Checks the settings. Must be called within a Tokio runtime; connects only when it runs.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub fn build(self) -> Result<Worker, WorkerError> {
        let refuse = |setting, reason: String| Err(WorkerError::Setting { setting, reason });
        if self.functions.by_name.is_empty() {
            return refuse("function", "at least one function is needed".to_owned());
        }
        if self.name.is_empty() || self.name.chars().count() > WORKER_NAME_CHARS_MAX {
            let reason = format!("1 to {WORKER_NAME_CHARS_MAX} characters are allowed");
            return refuse("name", reason);
        }
        if !(1..=CONCURRENCY_MAX).contains(&self.concurrency) {
            return refuse("concurrency", format!("1 to {CONCURRENCY_MAX} is allowed"));
        }
        if !(LEASE_MIN..=LEASE_MAX).contains(&self.lease) {
            return refuse(
                "lease",
                format!("{LEASE_MIN:?} to {LEASE_MAX:?} is allowed"),
            );
        }
        let lease_ms = u32::try_from(self.lease.as_millis()).expect("an hour of ms fits 32 bits");
        Ok(Worker {
            client: self.client.lazy()?,
            hello: Hello {
                worker: self.name,
                serves: self.functions.names(),
                lease_ms,
                instance: format!("{:032x}", rand::random::<u128>()),
                ..Hello::default()
            },
            functions: self.functions,
            concurrency: self.concurrency,
            drain_timeout: self.drain_timeout,
        })
    }

    /// Checks the settings and serves until `shutdown` is ready; see [`Worker::run_until`].
    ///
    /// # Errors
    /// [`WorkerError`], before anything was served.
    pub async fn run_until(
        self,
        shutdown: impl Future<Output = ()>,
    ) -> Result<WorkerReport, WorkerError> {
        Ok(self.build()?.run_until(shutdown).await)
    }
}

/// Cuts a text to at most so many bytes, at a character.
fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let end = (0..=bytes_max)
            .rev()
            .find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn nothing(_: TaskContext) -> Result<Outcome, TaskError> {
        Ok(Outcome::none())
    }

    #[tokio::test]
    async fn settings_out_of_their_limits_are_refused_by_name() {
        let base = || Worker::builder(["127.0.0.1:1"]).function("c", "f", nothing);
        assert!(base().build().is_ok());
        for (builder, setting) in [
            (Worker::builder(["127.0.0.1:1"]), "function"),
            (base().name(""), "name"),
            (base().name("x".repeat(129)), "name"),
            (base().concurrency(0), "concurrency"),
            (base().concurrency(10_001), "concurrency"),
            (base().lease(Duration::from_millis(999)), "lease"),
            (base().lease(Duration::from_secs(3_601)), "lease"),
        ] {
            let error = builder.build().expect_err(setting).to_string();
            assert!(error.contains(setting), "{error}");
        }
    }

    #[test]
    fn texts_are_cut_at_characters() {
        let mut text = "aüb".to_owned();
        cut(&mut text, 2);
        assert_eq!(text, "a");
    }
}
