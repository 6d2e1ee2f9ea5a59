//! `trigger.webhook`: what its texts mean.

use tidemill_types::flow::{FlowDuration, Reply, WebhookSignature, WebhookTrigger};
use tidemill_types::limits::{WEBHOOK_NAME_CHARS_MAX, WEBHOOK_TOLERANCE_MS_MAX};

use super::Checker;
use crate::flow::problem::{child, code};

impl Checker {
    pub(super) fn check_webhook(&mut self, pointer: &str, webhook: &WebhookTrigger) {
        if webhook.reply == Reply::Wait {
            // An answer sent at once instead would be taken for the flow's.
            let message = "`reply: wait` is not available in this version: only `async` is";
            self.error(&child(pointer, "reply"), code::NOT_SERVED, message);
        }
        if let Some(signature) = &webhook.signature {
            self.check_signature(&child(pointer, "signature"), signature);
        }
    }

    fn check_signature(&mut self, pointer: &str, signature: &WebhookSignature) {
        let scheme = signature.scheme;
        self.check_secret_env(&child(pointer, "secretEnv"), &signature.secret_env);
        if let Some(tolerance) = signature.tolerance {
            let pointer = child(pointer, "tolerance");
            if scheme.signs_time() {
                let (least, most) = (1_000, WEBHOOK_TOLERANCE_MS_MAX);
                let allowed = FlowDuration::from_ms(least)..=FlowDuration::from_ms(most);
                self.check_range(&pointer, tolerance, allowed);
            } else {
                let message = "this scheme signs no time: only `standardWebhooks` and `stripe` do";
                self.error(&pointer, code::CONFLICT, message);
            }
        }
        if let Some(header) = &signature.header {
            let pointer = child(pointer, "header");
            if scheme.header().is_none() {
                let message = "this scheme's headers have fixed names: leave it out";
                self.error(&pointer, code::CONFLICT, message);
            } else if header.len() > WEBHOOK_NAME_CHARS_MAX
                || !header.bytes().all(is_token)
                || header.is_empty()
            {
                let message = format!(
                    "must be the name of a header: letters, digits and `-`, at most {WEBHOOK_NAME_CHARS_MAX}"
                );
                self.error(&pointer, code::INVALID_VALUE, message);
            }
        }
    }

    fn check_secret_env(&mut self, pointer: &str, name: &str) {
        let mut bytes = name.bytes();
        let is_name = bytes
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && name.len() <= WEBHOOK_NAME_CHARS_MAX;
        if !is_name {
            let message = format!(
                "must be the name of the environment variable that holds the secret (letters, digits and `_`, at \
                 most {WEBHOOK_NAME_CHARS_MAX}); the secret itself does not belong into a flow"
            );
            self.error(pointer, code::INVALID_VALUE, message);
        }
    }
}

/// Of a header's name, as far as anybody uses them.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}
