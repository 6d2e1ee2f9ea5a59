//! `trigger.webhook`: shape only.

use tidemill_types::flow::{
    Reply, SignatureScheme, WebhookRateLimit, WebhookSignature, WebhookTrigger,
};

use super::fields::{Object, Reader};

const WEBHOOK_KEYS: &[&str] = &["reply", "timeout", "rateLimit", "signature"];
const RATE_LIMIT_KEYS: &[&str] = &["requests", "per", "burst"];
const SIGNATURE_KEYS: &[&str] = &["scheme", "secret", "secretEnv", "tolerance", "header"];
const REPLIES: &[(&str, Reply)] = &[("async", Reply::Async), ("wait", Reply::Wait)];

pub(super) fn read_webhook(reader: &mut Reader, object: &Object<'_>) -> WebhookTrigger {
    reader.refuse_unknown_keys(object, WEBHOOK_KEYS, &[]);
    WebhookTrigger {
        reply: reader.choice(object, "reply", REPLIES).unwrap_or_default(),
        timeout: reader.duration(object, "timeout"),
        rate_limit: reader
            .child_object(object, "rateLimit")
            .map(|limit| read_rate_limit(reader, &limit)),
        signature: reader
            .child_object(object, "signature")
            .map(|signature| read_signature(reader, &signature)),
    }
}

fn read_rate_limit(reader: &mut Reader, object: &Object<'_>) -> WebhookRateLimit {
    reader.refuse_unknown_keys(object, RATE_LIMIT_KEYS, &[]);
    reader.required(object, "requests");
    WebhookRateLimit {
        // What is missing was said: 1 is allowed, so that it is not said again.
        requests: reader.integer(object, "requests").unwrap_or(1),
        per: reader.duration(object, "per"),
        burst: reader.integer(object, "burst"),
    }
}

fn read_signature(reader: &mut Reader, object: &Object<'_>) -> WebhookSignature {
    reader.refuse_unknown_keys(object, SIGNATURE_KEYS, &[]);
    reader.required(object, "scheme");
    WebhookSignature {
        scheme: reader
            .choice(object, "scheme", &SignatureScheme::ALL)
            .unwrap_or_default(),
        secret: reader.string(object, "secret").unwrap_or_default(),
        secret_env: reader.string(object, "secretEnv").unwrap_or_default(),
        tolerance: reader.duration(object, "tolerance"),
        header: reader
            .string(object, "header")
            .map(|header| header.to_ascii_lowercase()),
    }
}
