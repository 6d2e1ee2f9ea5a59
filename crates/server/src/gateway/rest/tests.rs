//! What needs no node.

use std::future::pending;

use axum::http::{HeaderValue, StatusCode};
use futures::poll;
use tidemill_types::{ExecutionId, FlowId, PartitionId};

use tonic::codegen::Service as _;

use super::*;
use crate::gateway::rest::{ids, query::Query};

#[test]
fn ids_in_paths() {
    let id = FlowId::new(1_800_000_000_000, PartitionId(3), 0x1234_5678_9abc_def0);
    let short = ids::short(&id.0);
    assert_eq!(short.len(), 24);
    assert_eq!(
        of_short(&short).map(|bytes| bytes.to_vec()),
        Some(id.0[..12].to_vec())
    );
    let read = |text: &str| ids::in_path(text, FlowId);
    assert_eq!(read(&short).expect("an id"), Some(short.clone()));
    assert_eq!(read(&id.to_string()).expect("an id"), Some(id.to_string()));
    assert_eq!(
        read(&ids::long(&id.0)).expect("an id"),
        Some(id.to_string())
    );
    // As OIH: any 12 bytes may be an id of its own, which nobody has.
    assert_eq!(read("123456789012").expect("might be one"), None);
    for bad in ["", "SDSADGSDGH", &short[1..], "exe_x", "é"] {
        assert_eq!(read(bad).expect_err("is none").status(), 400, "{bad}");
    }
    let execution = ExecutionId(id.0);
    let long = ids::long(&execution.0);
    let read = ids::in_path(&long, ExecutionId).expect("an id");
    assert_eq!(read, Some(execution.to_string()));
}

#[test]
fn queries() {
    let query = Query::parse("page[size]=5&page%5Bnumber%5D=3&search=A+b%C3%BC&x").expect("fine");
    let page = query.page().expect("a page");
    assert_eq!((page.size, page.number, page.offset()), (5, 3, 10));
    assert_eq!(query.search().expect("short").as_deref(), Some("a bü"));
    assert_eq!(page.meta(11)["totalPages"], 3);
    for bad in ["a=%f", "a=%zz", "a=%ff"] {
        assert!(Query::parse(bad).is_err(), "{bad}");
    }
    for bad in [
        "page[size]=0",
        "page[size]=1001",
        "page[number]=-1",
        "page[number]=x",
    ] {
        assert!(Query::parse(bad).expect("fine").page().is_err(), "{bad}");
    }
    let far = Query::parse("page[number]=4294967295&page[size]=1000").expect("fine");
    assert!(far.page().expect("a page").offset() > 1_000_000);
}

#[test]
fn pages_of_other_sites_are_kept_out() {
    let headers = |pairs: &[(header::HeaderName, &'static str)]| {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect::<HeaderMap>()
    };
    for (host, is_other) in [
        ("localhost:7480", false),
        ("[::1]:7480", false),
        ("127.0.0.1", false),
        ("evil.example:7480", true),
        ("127.0.0.1.evil.example", true),
    ] {
        let mut pairs = HeaderMap::new();
        pairs.insert(header::HOST, host.parse().expect("a value"));
        let origin = format!("http://{host}");
        pairs.insert(header::ORIGIN, origin.parse().expect("a value"));
        assert_eq!(is_of_another_site(&pairs), is_other, "{host}");
    }
    let host = (header::HOST, "127.0.0.1:7480");
    for (origin, is_other) in [
        (None, false),
        (Some("http://127.0.0.1:7480"), false),
        (Some("http://127.0.0.1:80"), true),
        (Some("https://evil.example"), true),
        (Some("null"), true),
    ] {
        let mut pairs = vec![host.clone()];
        pairs.extend(origin.map(|origin| (header::ORIGIN, origin)));
        assert_eq!(is_of_another_site(&headers(&pairs)), is_other, "{origin:?}");
    }
}

#[tokio::test]
async fn so_many_requests_are_answered_at_once() {
    let routes = Router::new()
        .route("/slow", get(pending::<()>))
        .route("/fast", get(|| async {}));
    let mut router = guarded(Rest::new(Arc::default()), routes);
    let mut call = |path: &str| {
        let request = Request::builder().uri(path).body(Body::empty());
        Box::pin(router.call(request.expect("a request")))
    };
    let mut inside = Vec::new();
    for _ in 0..REST_REQUESTS_MAX {
        let mut slow = call("/slow");
        assert!(poll!(&mut slow).is_pending());
        inside.push(slow);
    }
    let refused = call("/fast").await.expect("infallible");
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
    // One caller hangs up.
    inside.pop();
    let answered = call("/fast").await.expect("infallible");
    assert_eq!(answered.status(), StatusCode::OK);
}
