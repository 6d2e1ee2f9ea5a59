//! What starts an execution of a flow.

use serde::Serialize;

use crate::duration::FlowDuration;
use crate::schedule::ScheduleSpec;

/// A document's `trigger`: at most one of its members is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Trigger {
    /// Fires at due times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleSpec>,
    /// Fires on a request to `/hook/{flowId}`. A flow without any trigger takes requests too, with the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookTrigger>,
}

impl Trigger {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.schedule.is_none() && self.webhook.is_none()
    }
}

/// How webhook requests are checked and answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookTrigger {
    /// When the caller is answered.
    #[serde(skip_serializing_if = "Reply::is_async")]
    pub reply: Reply,
    /// With `reply: wait`: how long the caller waits before it is answered 504.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<FlowDuration>,
    /// How many requests each node takes over time. None: as many as the server allows one flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<WebhookRateLimit>,
    /// How a request's signature is checked. None: requests are not signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<WebhookSignature>,
}

/// How many requests are taken over time, by each node: a bucket that holds `burst` and is filled evenly.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookRateLimit {
    /// So many requests...
    pub requests: u32,
    /// ... in so long; one second when not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per: Option<FlowDuration>,
    /// So many at once; as many as `requests` when not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

/// How a request shows that it comes from who knows the secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookSignature {
    /// Whose way of signing.
    pub scheme: SignatureScheme,
    /// The name of the secret in the server's configuration (`webhook.secrets`). The secret itself never
    /// stands in a document: documents are shown, exported and kept for ever.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub secret: String,
    /// Or the environment variable of the server that holds it. One of the two is given.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub secret_env: String,
    /// How far the signed time may be from the server's. Only for schemes that sign a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<FlowDuration>,
    /// The header with the signature, when it is not the scheme's own. Only for schemes with one header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

/// Ways of signing a request; all are HMAC-SHA256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SignatureScheme {
    /// Standard Webhooks 1.0: `webhook-id`, `webhook-timestamp` and `webhook-signature`.
    #[default]
    StandardWebhooks,
    /// GitHub: `x-hub-signature-256: sha256=<hex>` of the body.
    Github,
    /// Stripe: `stripe-signature: t=<seconds>,v1=<hex>` of time and body.
    Stripe,
    /// Open Integration Hub: `x-hmac: <base64>` of the body.
    Oih,
}

impl SignatureScheme {
    /// All of them, with the names that documents use.
    pub const ALL: [(&'static str, SignatureScheme); 4] = [
        ("standardWebhooks", SignatureScheme::StandardWebhooks),
        ("github", SignatureScheme::Github),
        ("stripe", SignatureScheme::Stripe),
        ("oih", SignatureScheme::Oih),
    ];

    /// Whether a time is signed, so that an old request can be told from a new one.
    pub const fn signs_time(self) -> bool {
        matches!(self, Self::StandardWebhooks | Self::Stripe)
    }

    /// The one header with the signature; none where several headers belong together.
    pub const fn header(self) -> Option<&'static str> {
        match self {
            Self::StandardWebhooks => None,
            Self::Github => Some("x-hub-signature-256"),
            Self::Stripe => Some("stripe-signature"),
            Self::Oih => Some("x-hmac"),
        }
    }
}

/// When the caller of a webhook is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// As soon as the execution is committed.
    #[default]
    Async,
    /// When a `respond` node or the end of the execution gives the answer.
    Wait,
}

impl Reply {
    fn is_async(&self) -> bool {
        *self == Reply::Async
    }
}
