//! What needs no node.

use axum::{
    body::Body as HttpBody,
    http::{StatusCode, header},
};
use bytes::Bytes;
use tidemill_core::Rejection;
use tidemill_types::PartitionId;
use tokio::time::Instant;

use super::*;
use crate::{actor::AskError, gateway::status};

#[test]
fn request_ids_of_flows_are_apart_and_short_enough() {
    let flow = |number| FlowId::new(0, PartitionId(1), number);
    assert_ne!(namespaced(flow(1), "a"), namespaced(flow(2), "a"));
    assert!(namespaced(flow(1), "a").ends_with("/a"));
    let long = |last: &str| "ü".repeat(REQUEST_ID_CHARS_MAX - 1) + last;
    assert_ne!(
        namespaced(flow(1), &long("a")),
        namespaced(flow(1), &long("b"))
    );
    assert!(namespaced(flow(1), &long("a")).chars().count() <= REQUEST_ID_CHARS_MAX);
}

#[test]
fn every_error_has_its_status() {
    let flow = FlowId::default();
    for (error, code, retry) in [
        (
            AskError::Rejected(Rejection::FlowNotFound("f".into())),
            404,
            false,
        ),
        (
            AskError::Rejected(Rejection::FlowNotActive(flow)),
            404,
            false,
        ),
        (
            AskError::Rejected(Rejection::invalid("message", "too large")),
            400,
            false,
        ),
        (
            AskError::Rejected(Rejection::Quarantined("x".into())),
            409,
            false,
        ),
        (AskError::NotLeader { leader: None }, 503, true),
        (AskError::Unavailable("x".into()), 503, true),
        (AskError::Unknown, 503, true),
        (
            AskError::Overloaded {
                retry_after_ms: 1_001,
            },
            429,
            true,
        ),
        (AskError::Corrupt("x".into()), 500, false),
    ] {
        let text = error.to_string();
        let response = Refusal::of(&status(error), "f", "r").into_response();
        assert_eq!(response.status().as_u16(), code, "{text}");
        assert_eq!(
            response.headers().contains_key(header::RETRY_AFTER),
            retry,
            "{text}"
        );
    }
    let overloaded = status(AskError::Overloaded {
        retry_after_ms: 1_001,
    });
    let response = Refusal::of(&overloaded, "f", "r").into_response();
    assert_eq!(response.headers()[header::RETRY_AFTER], "2");
}

fn refused(body: Result<Body, Refusal>) -> StatusCode {
    body.expect_err("is refused").into_response().status()
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_awaited_for_ever() {
    let places = Places::new(&Metrics::new());
    let begun = Instant::now();
    let never = futures::stream::pending::<Result<Bytes, std::io::Error>>();
    let body = Body::read(HttpBody::from_stream(never), 100, &places).await;
    assert_eq!(refused(body), StatusCode::REQUEST_TIMEOUT);
    assert_eq!(begun.elapsed().as_secs(), 10);
    let drops = futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(9)).await;
        Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), ()))
    });
    let begun = Instant::now();
    let body = Body::read(HttpBody::from_stream(drops), 100, &places).await;
    assert_eq!(refused(body), StatusCode::REQUEST_TIMEOUT);
    assert_eq!(begun.elapsed().as_secs(), 60);
}

#[tokio::test]
async fn a_body_has_as_many_bytes_as_are_allowed() {
    let places = Places::new(&Metrics::new());
    let body = Body::read(HttpBody::from(vec![7; 100]), 100, &places).await;
    assert_eq!(body.expect("read").bytes, vec![7; 100]);
    let body = Body::read(HttpBody::from(vec![7; 101]), 100, &places).await;
    assert_eq!(refused(body), StatusCode::PAYLOAD_TOO_LARGE);
    let endless =
        futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(b"x")));
    let body = Body::read(HttpBody::from_stream(endless), 100, &places).await;
    assert_eq!(refused(body), StatusCode::PAYLOAD_TOO_LARGE);
    let broken = futures::stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]);
    let body = Body::read(HttpBody::from_stream(broken), 100, &places).await;
    assert_eq!(refused(body), StatusCode::BAD_REQUEST);
}
