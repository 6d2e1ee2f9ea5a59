//! Every scheme on GET and POST, as its sender signs.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use tidemill_proto::v1::GetFlowRequest;

use super::server::*;

const LOG: &str = "nodes: [{id: a, componentId: log, function: write}]";
/// More than the five minutes that are allowed.
const OLD_SECONDS: u64 = 600;

#[allow(
    clippy::disallowed_methods,
    reason = "the server compares with the real time"
)]
fn now_seconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The headers with which a sender signs this at this time.
fn signed(scheme: &str, content: &[u8], seconds: u64) -> Vec<(&'static str, String)> {
    let time = seconds.to_string();
    let text_key = SECRET.as_bytes();
    match scheme {
        "standardWebhooks" => {
            let key = BASE64_STANDARD
                .decode(SECRET.strip_prefix("whsec_").expect("a prefix"))
                .expect("base64");
            let id = format!("msg_{:x}", rand::random::<u64>());
            let digest = hmac(&key, &[id.as_bytes(), b".", time.as_bytes(), b".", content]);
            vec![
                ("webhook-id", id),
                ("webhook-timestamp", time),
                (
                    "webhook-signature",
                    format!("v1,{}", BASE64_STANDARD.encode(digest)),
                ),
            ]
        }
        "github" => {
            let digest = hex(&hmac(text_key, &[content]));
            vec![("X-Hub-Signature-256", format!("sha256={digest}"))]
        }
        "stripe" => {
            let digest = hex(&hmac(text_key, &[time.as_bytes(), b".", content]));
            vec![("Stripe-Signature", format!("t={time},v1={digest}"))]
        }
        "oih" => vec![("x-hmac", BASE64_STANDARD.encode(hmac(text_key, &[content])))],
        other => panic!("{other} is no scheme"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_missing_and_old_signatures_are_refused_on_get_and_post_for_every_scheme() {
    let server = Server::start().await;
    let now = now_seconds();
    for scheme in ["standardWebhooks", "github", "stripe", "oih"] {
        let trigger =
            format!("trigger: {{webhook: {{signature: {{scheme: {scheme}, secret: hooks}}}}}}");
        let flow = server.activate(&trigger, LOG).await;
        let signs_time = matches!(scheme, "standardWebhooks" | "stripe");
        for (line, content, body) in [
            (
                format!("POST /hook/{flow}"),
                &b"{\"a\":1}"[..],
                &b"{\"a\":1}"[..],
            ),
            (format!("GET /hook/{flow}?a=1"), b"a=1", b""),
        ] {
            let status = async |headers: Vec<(&str, String)>| {
                let mut all = vec![JSON];
                all.extend(headers.iter().map(|(name, value)| (*name, &**value)));
                server.send(&line, &all, body).await.status
            };
            let good = signed(scheme, content, now);
            assert_eq!(status(good.clone()).await, 200, "{scheme} {line}");
            assert_eq!(status(vec![]).await, 403, "{scheme} {line}: missing");
            for missing in 0..good.len() {
                let mut part = good.clone();
                part.remove(missing);
                assert_eq!(status(part).await, 403, "{scheme} {line}: a part missing");
            }
            let other = signed(scheme, b"another", now);
            assert_eq!(
                status(other).await,
                403,
                "{scheme} {line}: of another content"
            );
            let mut flipped = good.clone();
            let last = &mut flipped.last_mut().expect("a header").1;
            // The last character of base64 may hold bits that mean nothing.
            let at = last.len() - 4;
            let digit = if &last[at..=at] == "a" { "b" } else { "a" };
            last.replace_range(at..=at, digit);
            assert_eq!(status(flipped).await, 403, "{scheme} {line}: changed");
            for seconds in [now - OLD_SECONDS, now + OLD_SECONDS] {
                let old = status(signed(scheme, content, seconds)).await;
                let want = if signs_time { 403 } else { 200 };
                assert_eq!(old, want, "{scheme} {line}: from {seconds}");
            }
        }
        let unsigned_head = server.send(&format!("HEAD /hook/{flow}"), &[], b"").await;
        assert_eq!(
            unsigned_head.status, 200,
            "says only that it takes requests"
        );
    }
    server.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_the_server_does_not_have_lets_nothing_pass_and_none_is_shown() {
    let server = Server::start().await;
    let trigger = |name: &str| {
        format!("trigger: {{webhook: {{signature: {{scheme: oih, secret: {name}}}}}}}")
    };
    let missing = server.activate(&trigger("another"), LOG).await;
    let content = b"{}";
    let headers = signed("oih", content, 0);
    let headers = [JSON, (headers[0].0, &*headers[0].1)];
    let answer = server
        .send(&format!("POST /hook/{missing}"), &headers, content)
        .await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(answer.header("retry-after").is_some(), "{}", answer.head);
    let known = server.activate(&trigger("hooks"), LOG).await;
    let wrong = [JSON, ("x-hmac", "AAAA")];
    let refused = server
        .send(&format!("POST /hook/{known}"), &wrong, content)
        .await;
    let flow = server
        .flows()
        .get_flow(GetFlowRequest { flow: known })
        .await;
    let shown = format!("{refused:?} {answer:?} {flow:?} {}", server.metrics().await);
    assert!(!shown.contains(&SECRET[6..]), "{shown}");
    server.running.drain().await;
}
