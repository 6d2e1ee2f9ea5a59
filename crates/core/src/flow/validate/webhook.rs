//! `trigger.webhook`: what its texts mean.

use tidemill_types::flow::{
    FlowDuration, Reply, WebhookRateLimit, WebhookSignature, WebhookTrigger,
};
use tidemill_types::limits::{
    WEBHOOK_NAME_CHARS_MAX, WEBHOOK_RATE_MAX, WEBHOOK_RATE_PER_MS_MAX, WEBHOOK_REPLY_MS_MAX,
    WEBHOOK_REPLY_MS_MIN, WEBHOOK_TOLERANCE_MS_MAX,
};

use super::Checker;
use crate::flow::problem::{child, code};
use crate::flow::respond::is_token;

impl Checker {
    pub(super) fn check_webhook(&mut self, pointer: &str, webhook: &WebhookTrigger) {
        if let Some(timeout) = webhook.timeout {
            let pointer = child(pointer, "timeout");
            if webhook.reply == Reply::Wait {
                let (least, most) = (WEBHOOK_REPLY_MS_MIN, WEBHOOK_REPLY_MS_MAX);
                let allowed = FlowDuration::from_ms(least)..=FlowDuration::from_ms(most);
                self.check_range(&pointer, timeout, allowed);
            } else {
                let message = "only with `reply: wait` does a caller wait";
                self.error(&pointer, code::CONFLICT, message);
            }
        }
        if let Some(limit) = &webhook.rate_limit {
            self.check_rate_limit(&child(pointer, "rateLimit"), limit);
        }
        if let Some(signature) = &webhook.signature {
            self.check_signature(&child(pointer, "signature"), signature);
        }
    }

    fn check_rate_limit(&mut self, pointer: &str, limit: &WebhookRateLimit) {
        let allowed = 1..=WEBHOOK_RATE_MAX;
        self.check_range(&child(pointer, "requests"), limit.requests, allowed.clone());
        if let Some(burst) = limit.burst {
            self.check_range(&child(pointer, "burst"), burst, allowed);
        }
        if let Some(per) = limit.per {
            let (least, most) = (1_000, WEBHOOK_RATE_PER_MS_MAX);
            let allowed = FlowDuration::from_ms(least)..=FlowDuration::from_ms(most);
            self.check_range(&child(pointer, "per"), per, allowed);
        }
    }

    fn check_signature(&mut self, pointer: &str, signature: &WebhookSignature) {
        let scheme = signature.scheme;
        match (signature.secret.as_str(), signature.secret_env.as_str()) {
            ("", "") => {
                let message =
                    "`secret` (a name in the server's configuration) or `secretEnv` is missing";
                self.error(pointer, code::MISSING, message);
            }
            ("", name) => self.check_secret_env(&child(pointer, "secretEnv"), name),
            (name, "") => self.check_secret(&child(pointer, "secret"), name),
            _ => {
                let message = "`secret` and `secretEnv` are two secrets: keep one of them";
                self.error(&child(pointer, "secretEnv"), code::CONFLICT, message);
            }
        }
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

    fn check_secret(&mut self, pointer: &str, name: &str) {
        if name.len() > WEBHOOK_NAME_CHARS_MAX || !name.bytes().all(is_token) {
            let message = format!(
                "must be the name of a secret in the server's configuration (letters, digits, `-`, `_` and `.`, at \
                 most {WEBHOOK_NAME_CHARS_MAX}); the secret itself does not belong into a flow"
            );
            self.error(pointer, code::INVALID_VALUE, message);
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
