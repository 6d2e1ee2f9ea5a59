//! `trigger.webhook`: shape only.

use tidemill_types::flow::{Reply, SignatureScheme, WebhookSignature, WebhookTrigger};

use super::fields::{Object, Reader};

const WEBHOOK_KEYS: &[&str] = &["reply", "signature"];
const SIGNATURE_KEYS: &[&str] = &["scheme", "secretEnv", "tolerance", "header"];
const REPLIES: &[(&str, Reply)] = &[("async", Reply::Async), ("wait", Reply::Wait)];

pub(super) fn read_webhook(reader: &mut Reader, object: &Object<'_>) -> WebhookTrigger {
    reader.refuse_unknown_keys(object, WEBHOOK_KEYS, &[]);
    WebhookTrigger {
        reply: reader.choice(object, "reply", REPLIES).unwrap_or_default(),
        signature: reader
            .child_object(object, "signature")
            .map(|signature| read_signature(reader, &signature)),
    }
}

fn read_signature(reader: &mut Reader, object: &Object<'_>) -> WebhookSignature {
    reader.refuse_unknown_keys(object, SIGNATURE_KEYS, &[]);
    reader.required(object, "scheme");
    WebhookSignature {
        scheme: reader
            .choice(object, "scheme", &SignatureScheme::ALL)
            .unwrap_or_default(),
        secret_env: reader.required_string(object, "secretEnv"),
        tolerance: reader.duration(object, "tolerance"),
        header: reader
            .string(object, "header")
            .map(|header| header.to_ascii_lowercase()),
    }
}
