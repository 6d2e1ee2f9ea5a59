//! The door of the public gRPC port: how many calls that start something may be inside at once.
//!
//! A call waits in many places before a leader sees it: for its turn on the runtime, for its body, to be
//! decoded. What comes in beyond what a node works off only makes all of that slower, so it is sent away
//! on its headers, before anything of it is read. Which flow it is for stands in the body, so the door
//! is fair between connections instead: none has more calls inside than there are places left.
//!
//! Streams of starts pass one start after the other and are bounded in themselves; webhooks have
//! places of their own.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use axum::http::{Request, Response};
use tidemill_types::limits::STARTS_INSIDE_MAX;
use tokio::time::Instant;
use tonic::{Code, body::Body};

use crate::{
    actor::AskError,
    gateway::status,
    metrics::{Counter, Metrics},
};

/// The path of the call that begins something and comes in floods.
const START: &str = "/tidemill.v1.ExecutionService/StartExecution";
/// As it is counted.
const RPC: &str = "ExecutionService/StartExecution";
/// When those who are sent away may come again: by then what is inside has been answered.
const RETRY_AFTER_MS: u64 = 200;

tokio::task_local! {
    static INSIDE: Cell<Option<Inside>>;
}

/// See the module.
pub(crate) struct Door {
    inside: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    shed: Arc<Counter>,
}

/// The calls of one connection that are inside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller(Arc<AtomicUsize>);

/// One call that is inside, until it is dropped.
pub(crate) struct Inside {
    all: Arc<AtomicUsize>,
    caller: Caller,
}

impl Door {
    pub(crate) fn new(metrics: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            inside: Arc::default(),
            shed: metrics.commands_shed.with(&["door"]),
            metrics: Arc::clone(metrics),
        })
    }

    /// Lets a call in, or gives the answer with which it is sent away. None: it needs no place.
    pub(crate) fn enter(
        &self,
        request: &Request<Body>,
    ) -> Result<Option<Inside>, Box<Response<Body>>> {
        if request.uri().path() != START {
            return Ok(None);
        }
        let caller = request.extensions().get::<Caller>();
        match self.place(caller.cloned().unwrap_or_default()) {
            Some(inside) => Ok(Some(inside)),
            None => {
                self.shed.add(1);
                self.metrics
                    .requested(RPC, Code::ResourceExhausted, Instant::now());
                let error = AskError::Overloaded {
                    retry_after_ms: RETRY_AFTER_MS,
                };
                Err(Box::new(status(error).into_http()))
            }
        }
    }

    fn place(&self, caller: Caller) -> Option<Inside> {
        let left = STARTS_INSIDE_MAX.saturating_sub(self.inside.load(Relaxed));
        // Others may enter in between: the bound is held to within the number of threads.
        if caller.0.load(Relaxed) >= left {
            return None;
        }
        caller.0.fetch_add(1, Relaxed);
        self.inside.fetch_add(1, Relaxed);
        Some(Inside {
            all: Arc::clone(&self.inside),
            caller,
        })
    }
}

impl Inside {
    /// Keeps the place while the call is served, or until it has [left](leave).
    pub(crate) async fn during<F: Future>(self, serve: F) -> F::Output {
        INSIDE.scope(Cell::new(Some(self)), serve).await
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Relaxed);
        self.caller.0.fetch_sub(1, Relaxed);
    }
}

/// The call that is being served needs its place no more: what it begins has begun, and it only waits.
pub(crate) fn leave() {
    // Not every call has come through the door.
    let _ = INSIDE.try_with(Cell::take);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(caller: &Caller) -> Request<Body> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = START.parse().expect("a path");
        request.extensions_mut().insert(caller.clone());
        request
    }

    fn fill(door: &Door, caller: &Caller) -> (Vec<Inside>, Box<Response<Body>>) {
        let mut inside = Vec::new();
        loop {
            match door.enter(&start(caller)) {
                Ok(one) => inside.push(one.expect("a start needs a place")),
                Err(answer) => return (inside, answer),
            }
        }
    }

    #[test]
    fn no_connection_has_more_inside_than_there_are_places_left() {
        let metrics = Arc::new(Metrics::new());
        let door = Door::new(&metrics);
        let (flood, other) = (Caller::default(), Caller::default());
        let (inside, answer) = fill(&door, &flood);
        assert_eq!(inside.len(), STARTS_INSIDE_MAX / 2);
        let status = tonic::Status::from_header_map(answer.headers()).expect("a status");
        assert_eq!(status.code(), Code::ResourceExhausted);
        let hint = tonic_types::StatusExt::get_details_retry_info(&status).expect("a hint");
        assert!(hint.retry_delay.is_some_and(|delay| !delay.is_zero()));
        assert_eq!(metrics.commands_shed.with(&["door"]).get(), 1);

        let (theirs, _) = fill(&door, &other);
        assert_eq!(theirs.len(), STARTS_INSIDE_MAX / 4, "another finds places");
        // However many connections flood, the bound holds.
        let many: Vec<_> = (0..50).map(|_| fill(&door, &Caller::default()).0).collect();
        assert!(door.inside.load(Relaxed) <= STARTS_INSIDE_MAX);
        drop((inside, theirs, many));
        assert_eq!(door.inside.load(Relaxed), 0);
        assert_eq!(flood.0.load(Relaxed), 0);
    }

    #[test]
    fn other_calls_need_no_place() {
        let door = Door::new(&Arc::new(Metrics::new()));
        let (_inside, _) = fill(&door, &Caller::default());
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = "/tidemill.v1.WorkerService/Work".parse().expect("a path");
        assert!(matches!(door.enter(&request), Ok(None)));
    }

    #[tokio::test]
    async fn who_only_waits_has_left() {
        let door = Door::new(&Arc::new(Metrics::new()));
        leave(); // without a place: nothing
        let inside = door.place(Caller::default()).expect("a place");
        inside
            .during(async {
                assert_eq!(door.inside.load(Relaxed), 1);
                leave();
                assert_eq!(door.inside.load(Relaxed), 0);
                leave();
            })
            .await;
        assert_eq!(door.inside.load(Relaxed), 0);
    }
}
