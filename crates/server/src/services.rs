//! The services of the public gRPC port, found by their name alone.
//!
//! A general router (tonic's `Routes` over axum) costs a clone of itself, a search among patterns and half
//! a dozen boxed futures for each request, and twice that where one lies in the other; gRPC's paths are
//! `/service/method` and need none of it.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Future, ready},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use axum::http::{Request, Response};
use tonic::{Status, body::Body, codegen::Service, server::NamedService};

use crate::{door::Door, late::starting, request::Observer};

/// What a call of a service gives.
type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;
type Call = Box<dyn Fn(Request<Body>) -> Answer + Send + Sync>;

/// Services by their full names.
#[derive(Default)]
pub struct Services(HashMap<&'static str, Call>);

impl Services {
    /// With one more. It must always be ready, as tonic's are.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let call: Call = Box::new(move |request| Box::pin(service.clone().call(request)));
        self.0.insert(S::NAME, call);
        self
    }

    fn get(&self, name: &str) -> Option<&Call> {
        self.0.get(name)
    }
}

/// Services that are known later than the port that serves them.
pub(crate) type LateServices = Arc<OnceLock<Services>>;

/// The port: what is there from the start, and what comes later.
#[derive(Clone)]
pub(crate) struct Port {
    pub observer: Arc<Observer>,
    pub door: Arc<Door>,
    /// Served before the node is a member of its cluster.
    pub early: Arc<Services>,
    /// `UNAVAILABLE` until they are set.
    pub late: LateServices,
}

impl Service<Request<Body>> for Port {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let inside = match self.door.enter(&request) {
            Ok(inside) => inside,
            Err(sent_away) => return Box::pin(ready(Ok(*sent_away))),
        };
        let port = self.clone();
        let serve = async move {
            let observer = Arc::clone(&port.observer);
            Ok(observer.observe(request, |r| port.dispatch(r)).await)
        };
        match inside {
            Some(inside) => Box::pin(inside.during(serve)),
            None => Box::pin(serve),
        }
    }
}

impl Port {
    async fn dispatch(self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        let name = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        let name = name.map_or("", |(service, _)| service);
        let call = match self.early.get(name) {
            Some(call) => Some(call),
            None => match self.late.get() {
                Some(late) => late.get(name),
                None => return starting().into_http(),
            },
        };
        let Some(call) = call else {
            return Status::unimplemented(format!("there is no service {name:?}")).into_http();
        };
        match call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}
