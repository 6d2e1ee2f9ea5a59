//! Routes that are known later than the port that serves them: the peer port is open before the node
//! knows its groups, since its peers may be waiting for it.

use std::sync::{Arc, OnceLock};

use axum::{Router, extract::Request, response::IntoResponse as _};
use tonic::{Status, codegen::Service as _, service::Routes};

/// The answer as long as they are not known.
pub(crate) fn starting() -> Status {
    Status::unavailable("the node is starting; nothing has happened")
}

/// Routes to be set once. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct LateRoutes(Arc<OnceLock<Router>>);

impl LateRoutes {
    /// From now on requests go to these.
    pub(crate) fn set(&self, routes: Routes) {
        // The first set stands: a node is built once.
        let _ = self.0.set(routes.prepare().into_axum_router());
    }

    /// Answers `UNAVAILABLE` until the routes are set.
    pub(crate) fn router(&self) -> Router {
        let late = self.clone();
        Router::new().fallback(move |request: Request| {
            let late = late.clone();
            async move {
                match late.0.get() {
                    // A router is always ready.
                    Some(router) => match router.clone().call(request).await {
                        Ok(response) => response,
                        Err(never) => match never {},
                    },
                    None => starting().into_http::<axum::body::Body>().into_response(),
                }
            }
        })
    }
}
