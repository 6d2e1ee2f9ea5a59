//! What is done around every request on the gRPC port: its span, its count, its time.

use std::{cell::Cell, collections::BTreeSet, future::Future, sync::Arc};

use axum::http::{HeaderValue, Request, Response};
use prost::Message as _;
use tidemill_proto::LEADER_HEADER;
use tidemill_types::NodeId;
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tracing::Instrument as _;

use crate::{metrics::Metrics, telemetry::request_span};

tokio::task_local! {
    /// The node that answered, when it was not this one.
    pub(crate) static ANSWERED_BY: Cell<Option<NodeId>>;
}

/// What the layer needs.
pub(crate) struct Observer {
    metrics: Arc<Metrics>,
    /// The paths that exist: anything else must not become a label.
    paths: BTreeSet<String>,
    address_of: Box<dyn Fn(NodeId) -> Option<HeaderValue> + Send + Sync>,
}

impl Observer {
    /// `address_of`: where a node serves clients.
    pub(crate) fn new(
        metrics: Arc<Metrics>,
        address_of: impl Fn(NodeId) -> Option<HeaderValue> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let mut paths = BTreeSet::new();
        for bytes in [
            tidemill_proto::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        ] {
            let set = prost_types::FileDescriptorSet::decode(bytes)
                .expect("descriptors are made by the build");
            for file in set.file {
                for service in &file.service {
                    for method in &service.method {
                        paths.insert(format!(
                            "/{}.{}/{}",
                            file.package(),
                            service.name(),
                            method.name()
                        ));
                    }
                }
            }
        }
        Arc::new(Self {
            metrics,
            paths,
            address_of: Box::new(address_of),
        })
    }
}

impl Observer {
    /// Wraps one request.
    pub(crate) async fn observe<F>(
        &self,
        request: Request<Body>,
        serve: impl FnOnce(Request<Body>) -> F,
    ) -> Response<Body>
    where
        F: Future<Output = Response<Body>>,
    {
        let begun = Instant::now();
        let path = self.paths.get(request.uri().path());
        // The method without its package: names are unique among our services.
        let rpc = path.map_or("unknown", |path| {
            path.rsplit_once('.').map_or("unknown", |(_, rpc)| rpc)
        });
        let span = request_span(rpc, request.headers());
        let serve = async {
            let response = serve(request).await;
            (response, ANSWERED_BY.with(Cell::take))
        };
        let scoped = ANSWERED_BY.scope(Cell::new(None), serve);
        let (mut response, answered_by) = scoped.instrument(span).await;
        if let Some(address) = answered_by.and_then(|node| (self.address_of)(node)) {
            response.headers_mut().insert(LEADER_HEADER, address);
        }
        // An answer that is an error has its status in the headers; one that is not ends well, or is a
        // stream, whose end is not awaited here.
        let code =
            Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
        self.metrics.requested(rpc, code, begun);
        response
    }
}
