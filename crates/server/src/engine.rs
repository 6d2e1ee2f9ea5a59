//! The runtimes of Raft and of the actors, apart from the one that serves requests.
//!
//! Raft has a thread of its own: measured, a small runtime of its own costs less than sharing one with
//! the gateways, and a heartbeat must not wait for them. Actors are apart from it again, because one
//! decision may take long (an expression may use up its fuel, which is seconds) and Raft must not wait
//! for that; and apart from each other, so that one partition's long decision is only its own.

use std::{io, thread::available_parallelism, time::Duration};

use tokio::runtime::{Builder, Handle, Runtime};

/// Most threads for actors: more groups than that share them.
const ACTOR_THREADS_MAX: usize = 8;

/// How long what blocks a thread may go on when the engine stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The runtimes. Dropping it ends all that runs on them, without waiting.
pub(crate) struct Engine {
    raft: Option<Runtime>,
    actors: Vec<Runtime>,
}

impl Engine {
    pub(crate) fn start() -> io::Result<Self> {
        let builder = |name: String| {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(1).thread_name(name).enable_time();
            builder
        };
        let actors = available_parallelism().map_or(2, usize::from) * 2;
        Ok(Self {
            raft: Some(builder("raft".into()).enable_io().build()?),
            actors: (0..actors.clamp(2, ACTOR_THREADS_MAX))
                // Without sockets: a thread that waits for a condition is woken faster than one that polls.
                .map(|n| builder(format!("actor-{n}")).build())
                .collect::<io::Result<_>>()?,
        })
    }

    /// Where Raft runs.
    pub(crate) fn raft(&self) -> &Handle {
        self.raft
            .as_ref()
            .expect("taken only when dropped")
            .handle()
    }

    /// Where the actor of the `n`-th group runs.
    pub(crate) fn actor(&self, n: usize) -> &Handle {
        self.actors[n % self.actors.len()].handle()
    }
}

impl Engine {
    /// Ends all that runs on it, and waits until it is gone, for a moment at the most.
    pub(crate) async fn stop(mut self) {
        let runtimes: Vec<_> = self
            .raft
            .take()
            .into_iter()
            .chain(self.actors.drain(..))
            .collect();
        let stopped = tokio::task::spawn_blocking(move || {
            for runtime in runtimes {
                runtime.shutdown_timeout(STOP_TIMEOUT);
            }
        });
        if stopped.await.is_err() {
            tracing::error!("stopping the threads panicked");
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // In the background: a runtime may be dropped from within another one only so.
        for runtime in self.raft.take().into_iter().chain(self.actors.drain(..)) {
            runtime.shutdown_background();
        }
    }
}
