//! Signatures: published vectors, and what must not pass.

use super::*;

pub(super) fn signed(scheme: SignatureScheme) -> WebhookTrigger {
    WebhookTrigger {
        signature: Some(WebhookSignature {
            scheme,
            ..WebhookSignature::default()
        }),
        ..WebhookTrigger::default()
    }
}

/// What checking a request gives, so many seconds after 1970.
pub(super) fn check(
    scheme: SignatureScheme,
    secret: &str,
    request: &Request,
    now_seconds: i64,
) -> Result<(), SignatureError> {
    let secret = Secret::new(scheme, secret).expect("a secret");
    let signature = WebhookSignature {
        scheme,
        ..WebhookSignature::default()
    };
    verify(
        &signature,
        &secret,
        request,
        Timestamp::from_millis(now_seconds * 1_000),
    )
}

#[test]
fn standard_webhooks_published_vector() {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &str = "{\"test\": 2432232314}";
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const AT: i64 = 1_614_265_330;
    let scheme = SignatureScheme::StandardWebhooks;
    let request = |body: &str, id: &str, time: &str, signature: &str| {
        with(
            post("application/json", body.to_owned()),
            &[
                ("webhook-id", id),
                ("webhook-timestamp", time),
                ("webhook-signature", signature),
            ],
        )
    };
    let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    let time = AT.to_string();
    let good = request(BODY, id, &time, SIGNATURE);
    assert_eq!(check(scheme, SECRET, &good, AT), Ok(()));
    assert_eq!(check(scheme, &SECRET[6..], &good, AT + 300), Ok(()));
    assert_eq!(check(scheme, SECRET, &good, AT - 300), Ok(()));
    let off = |seconds| {
        Err(SignatureError::TimeOff {
            seconds,
            tolerance_seconds: 300,
        })
    };
    assert_eq!(check(scheme, SECRET, &good, AT + 301), off(301));
    assert_eq!(check(scheme, SECRET, &good, AT - 301), off(301));
    for list in [
        format!("v1,AAAA v1a,xx {SIGNATURE}"),
        format!("{SIGNATURE} v1,AAAA"),
        format!("v1,AAAA, {SIGNATURE}"),
        SIGNATURE.trim_end_matches('=').to_owned(),
    ] {
        assert_eq!(
            check(scheme, SECRET, &request(BODY, id, &time, &list), AT),
            Ok(()),
            "{list}"
        );
    }
    let other_secret = "whsec_AAAA9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    assert_eq!(
        check(scheme, other_secret, &good, AT),
        Err(SignatureError::Wrong)
    );
    for bad in [
        request("{\"test\": 2432232315}", id, &time, SIGNATURE),
        request(BODY, "msg_other", &time, SIGNATURE),
        request(BODY, id, &(AT + 1).to_string(), SIGNATURE),
        request(BODY, id, &time, "v1,AAAA"),
        request(BODY, id, &time, &SIGNATURE.replace("v1,", "v2,")),
        request(BODY, id, &time, &SIGNATURE[3..]),
    ] {
        assert_eq!(check(scheme, SECRET, &bad, AT), Err(SignatureError::Wrong));
    }
    assert!(check(scheme, SECRET, &request(BODY, id, "soon", SIGNATURE), AT).is_err());
    assert!(
        check(
            scheme,
            SECRET,
            &request(BODY, id, "9223372036854775807", SIGNATURE),
            AT
        )
        .is_err()
    );
    let missing = |name: &str| Err(SignatureError::Missing(name.into()));
    assert_eq!(
        check(scheme, SECRET, &request(BODY, "", &time, SIGNATURE), AT),
        missing("webhook-id")
    );
    assert_eq!(check(scheme, SECRET, &get(""), AT), missing("webhook-id"));
}

#[test]
fn github_published_vector() {
    const SECRET: &str = "It's a Secret to Everybody";
    const SIGNATURE: &str =
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let scheme = SignatureScheme::Github;
    let request = |body: &str, signature: &str| {
        with(
            post("text/plain", body.to_owned()),
            &[("X-Hub-Signature-256", signature)],
        )
    };
    assert_eq!(
        check(scheme, SECRET, &request("Hello, World!", SIGNATURE), 0),
        Ok(())
    );
    let upper = format!("sha256={}", SIGNATURE[7..].to_uppercase());
    assert_eq!(
        check(scheme, SECRET, &request("Hello, World!", &upper), 0),
        Ok(())
    );
    assert_eq!(
        check(scheme, SECRET, &request("Hello, World?", SIGNATURE), 0),
        Err(SignatureError::Wrong)
    );
    assert_eq!(
        check(scheme, "x", &request("Hello, World!", SIGNATURE), 0),
        Err(SignatureError::Wrong)
    );
    for malformed in [
        &SIGNATURE[7..],
        "sha256=",
        "sha1=757107ea",
        &SIGNATURE[..70],
        &SIGNATURE.replace('7', "ü"),
    ] {
        let refused = check(scheme, SECRET, &request("Hello, World!", malformed), 0);
        assert!(
            matches!(refused, Err(SignatureError::Malformed { .. })),
            "{malformed}"
        );
    }
    // A query is what a GET brings, so that is what is signed.
    let query = Request {
        query: "Hello, World!".into(),
        ..get("")
    };
    assert_eq!(
        check(
            scheme,
            SECRET,
            &with(query.clone(), &[("x-hub-signature-256", SIGNATURE)]),
            0
        ),
        Ok(())
    );
    assert!(check(scheme, SECRET, &query, 0).is_err());
}

fn hmac(secret: &[u8], text: &[u8]) -> Vec<u8> {
    use hmac::{Hmac, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret).expect("any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn stripe() {
    const AT: i64 = 1_492_774_577;
    let scheme = SignatureScheme::Stripe;
    let right = hex(&hmac(b"whsec_test", format!("{AT}.{{}}").as_bytes()));
    let wrong = "0".repeat(64);
    let request = |header: &str| {
        with(
            post("application/json", "{}"),
            &[("stripe-signature", header)],
        )
    };
    for header in [
        format!("t={AT},v1={right}"),
        format!("t={AT}, v1={wrong}, v1={right}, v0={wrong}"),
        format!("v1={right},t={AT}"),
    ] {
        assert_eq!(
            check(scheme, "whsec_test", &request(&header), AT + 300),
            Ok(()),
            "{header}"
        );
        assert!(check(scheme, "whsec_test", &request(&header), AT + 301).is_err());
        assert!(check(scheme, "test", &request(&header), AT).is_err());
    }
    for header in [
        format!("t={AT},v0={right}"),
        format!("t={},v1={right}", AT + 1),
        format!("v1={right}"),
        format!("t=x,v1={right}"),
        format!("t={AT},v1={wrong}"),
        String::new(),
    ] {
        assert!(
            check(scheme, "whsec_test", &request(&header), AT).is_err(),
            "{header}"
        );
    }
}

#[test]
fn oih() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let scheme = SignatureScheme::Oih;
    let digest = hmac(b"key", b"{\"a\":1}");
    let request = |header: &str| with(post("application/json", "{\"a\":1}"), &[("x-hmac", header)]);
    for right in [
        STANDARD.encode(&digest),
        hex(&digest),
        format!("sha256={}", hex(&digest)),
        format!("sha256={}", STANDARD.encode(&digest)),
    ] {
        assert_eq!(check(scheme, "key", &request(&right), 0), Ok(()), "{right}");
        assert_eq!(
            check(scheme, "other", &request(&right), 0),
            Err(SignatureError::Wrong)
        );
    }
    for wrong in [
        "",
        "!",
        "AAAA",
        &hex(&digest[..31]),
        &hex(&hmac(b"key", b"{}")),
    ] {
        assert!(check(scheme, "key", &request(wrong), 0).is_err(), "{wrong}");
    }
    let own = WebhookSignature {
        scheme,
        header: Some("x-acme".into()),
        tolerance: Some(FlowDuration::from_ms(1)),
        ..WebhookSignature::default()
    };
    let secret = Secret::new(scheme, "key").expect("a secret");
    let header = STANDARD.encode(&digest);
    let request = with(
        post("application/json", "{\"a\":1}"),
        &[("X-Acme", &header)],
    );
    assert_eq!(
        verify(&own, &secret, &request, Timestamp::from_millis(0)),
        Ok(())
    );
}

#[test]
fn secrets_that_are_none() {
    for (_, scheme) in SignatureScheme::ALL {
        assert_eq!(Secret::new(scheme, " \n").err(), Some(SecretError::Empty));
    }
    let standard = SignatureScheme::StandardWebhooks;
    assert_eq!(
        Secret::new(standard, "whsec_").err(),
        Some(SecretError::Empty)
    );
    assert_eq!(
        Secret::new(standard, "whsec_???").err(),
        Some(SecretError::NotBase64)
    );
    let secret = Secret::new(SignatureScheme::Oih, "key").expect("a secret");
    assert!(!format!("{secret:?}").contains("key"));
}
