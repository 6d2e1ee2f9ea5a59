//! A webhook request, from the bytes of an HTTP request to the message of an execution.

use bytes::Bytes;
use tidemill_core::webhook::{self, Headers, Method, Request, Secret};
use tidemill_rows::{Stored, table::MessageRow};
use tidemill_types::{
    Timestamp,
    flow::{SignatureScheme, WebhookSignature, WebhookTrigger},
};

/// Small, so that the limit is reached.
const BYTES_MAX: usize = 64 * 1024;
const SCHEMES: [SignatureScheme; 4] = [
    SignatureScheme::StandardWebhooks,
    SignatureScheme::Github,
    SignatureScheme::Stripe,
    SignatureScheme::Oih,
];

/// `METHOD suffix?query`, headers up to an empty line, and the body. Accepted: it becomes a message.
pub fn webhook(bytes: &[u8]) -> bool {
    let split = bytes.windows(2).position(|two| two == b"\n\n");
    let (head, body) = match split {
        Some(at) => (&bytes[..at], &bytes[at + 2..]),
        None => (bytes, &[][..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let (method, target) = first.split_once(' ').unwrap_or((&first, ""));
    let (suffix, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: Headers = lines
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = std::str::from_utf8(&line[..colon]).ok()?;
            Some((name, line[colon + 1..].trim_ascii()))
        })
        .collect();
    let request = Request {
        method: if method == "GET" {
            Method::Get
        } else {
            Method::Post
        },
        suffix: suffix.to_owned(),
        query: query.to_owned(),
        headers,
        body: Bytes::copy_from_slice(body),
    };
    for scheme in SCHEMES {
        let signature = WebhookSignature {
            scheme,
            secret: "orders".to_owned(),
            ..WebhookSignature::default()
        };
        let secret = Secret::new(scheme, "c2VjcmV0IG9mIHRoZSB0ZXN0").expect("a secret");
        let now = Timestamp::from_millis(1_800_000_000_000);
        let _ = webhook::verify(&signature, &secret, &request, now);
    }
    let trigger = WebhookTrigger::default();
    let _ = request.request_id(&trigger);
    let Ok(message) = webhook::message(&request, &trigger, BYTES_MAX) else {
        return false;
    };
    assert!(message.is_within(BYTES_MAX));
    for json in [&message.data, &message.metadata] {
        serde_json::from_slice::<serde_json::Value>(json).expect("we wrote JSON");
    }
    for name in ["authorization", "cookie", "proxy-authorization"] {
        assert!(!message.headers.contains_key(name), "{name} is shown");
    }
    assert_eq!(MessageRow::from_bytes(message.to_bytes()), Ok(message));
    true
}
