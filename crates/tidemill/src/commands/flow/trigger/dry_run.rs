//! What a webhook request would become, and what it would be answered, without anything being started.

use std::io::Read as _;

use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};
use tidemill_core::webhook::{self, Headers, Method, Request, Secret};
use tidemill_proto::convert;
use tidemill_sdk::api::{FlowStatus, GetFlowRequest, GetFlowVersionRequest};
use tidemill_types::{
    Timestamp,
    flow::{SignatureScheme, WebhookSignature, WebhookTrigger},
    limits::MESSAGE_BYTES_MAX,
};

use super::request_file;
use crate::{
    context::Context,
    failure::{Failure, Problem},
    views,
};

/// The request and how it is checked.
#[derive(Args, Debug)]
pub struct DryRun {
    /// Show the message that a webhook request would become, and start nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// With --dry-run: the file with the request, or - for stdin.
    #[arg(
        long = "request",
        id = "request_file",
        value_name = "REQUEST",
        requires = "dry_run"
    )]
    request_file: Option<String>,
    /// Instead of --request: the method [default: POST with a body, else GET].
    #[arg(long, value_name = "GET|POST", requires = "dry_run", conflicts_with = "request_file", value_parser = ["GET", "POST"])]
    method: Option<String>,
    /// Instead of --request: what follows the flow, such as /new?a=1.
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        requires = "dry_run",
        conflicts_with = "request_file"
    )]
    path: String,
    /// Instead of --request: a header; may be repeated.
    #[arg(
        long = "header",
        value_name = "NAME: VALUE",
        requires = "dry_run",
        conflicts_with = "request_file"
    )]
    headers: Vec<String>,
    /// Instead of --request: the file with the body, or - for stdin.
    #[arg(
        long,
        value_name = "FILE|-",
        requires = "dry_run",
        conflicts_with = "request_file"
    )]
    body: Option<String>,
    /// Check the signature with the secret in this variable of this command's environment.
    #[arg(long, value_name = "VARIABLE", requires = "dry_run")]
    secret_env: Option<String>,
    /// Without a flow: how the request is signed.
    #[arg(long, value_name = "SCHEME", requires = "secret_env", conflicts_with = "flow", value_parser = ["standardWebhooks", "github", "stripe", "oih"])]
    scheme: Option<String>,
}

/// How the flow takes requests, as far as it is known.
struct Known {
    trigger: WebhookTrigger,
    /// Why it would take none.
    refusal: Option<String>,
}

impl DryRun {
    /// With a flow the server is asked how it takes requests, and nothing else.
    pub async fn run(self, flow: Option<&str>, context: &Context) -> Result<(), Failure> {
        let request = self.request()?;
        let known = match flow {
            Some(flow) => Some(known(flow, context).await?),
            None => self.scheme.as_deref().map(|scheme| Known {
                trigger: signed(scheme),
                refusal: None,
            }),
        };
        let Some(known) = known else {
            return message_alone(&request, context);
        };
        let (verdict, is_refused) = self.verdict(&known.trigger, &request)?;
        let trigger = &known.trigger;
        let message = webhook::message(&request, trigger, MESSAGE_BYTES_MAX);
        let (status, reason) = match (&known.refusal, is_refused, &message) {
            (Some(refusal), _, _) => (404, refusal.clone()),
            (None, true, _) => (403, verdict.clone()),
            (None, false, Err(error)) => (error.status(), error.to_string()),
            (None, false, Ok(_)) => (200, String::new()),
        };
        let mut shown = json!({ "would_answer": status, "signature": verdict });
        if !reason.is_empty() {
            shown["error"] = reason.as_str().into();
        }
        if let Some(id) = request.request_id(trigger) {
            shown["request_id"] = id.into();
        }
        if let Ok(message) = message {
            shown["message"] = views::message(&convert::message(message));
        }
        context.output.document(&shown)?;
        if status == 200 {
            return Ok(());
        }
        let refused = format!("the server would answer {status}: {reason}");
        Err(Failure::failed("REQUEST_REFUSED", refused))
    }

    fn request(&self) -> Result<Request, Failure> {
        if let Some(file) = &self.request_file {
            return request_file::read(file);
        }
        if self.method.is_none() && self.path.is_empty() && self.body.is_none() {
            let usage = "--dry-run needs a request: --request FILE, or --method, --path, --header and --body";
            return Err(Failure::usage(usage));
        }
        let body = match &self.body {
            Some(file) => read(file)?,
            None => Bytes::new(),
        };
        let is_post = match self.method.as_deref() {
            Some(method) => method == "POST",
            None => self.body.is_some(),
        };
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let suffix = path.trim_start_matches('/');
        if suffix.contains('/') {
            return Err(Failure::usage(
                "--path: one part may follow the flow, such as /new?a=1",
            ));
        }
        let headers: Vec<(&str, &str)> = self
            .headers
            .iter()
            .map(|header| {
                let pair = header.split_once(':');
                pair.map(|(name, value)| (name.trim(), value.trim()))
                    .ok_or_else(|| Failure::usage(format!("--header: not NAME: VALUE: {header}")))
            })
            .collect::<Result<_, _>>()?;
        Ok(Request {
            method: if is_post { Method::Post } else { Method::Get },
            suffix: suffix.to_owned(),
            query: query.to_owned(),
            headers: headers.into_iter().collect::<Headers>(),
            body,
        })
    }

    /// What the check of the signature says, and whether the request would be refused for it.
    fn verdict(
        &self,
        trigger: &WebhookTrigger,
        request: &Request,
    ) -> Result<(String, bool), Failure> {
        let Some(signature) = &trigger.signature else {
            return Ok(("none is asked for".into(), false));
        };
        let Some(variable) = &self.secret_env else {
            let text = "not checked: name the variable that holds the secret with --secret-env";
            return Ok((text.into(), false));
        };
        let secret = std::env::var(variable)
            .map_err(|error| error.to_string())
            .and_then(|text| {
                Secret::new(signature.scheme, &text).map_err(|error| error.to_string())
            })
            .map_err(|reason| Failure::failed("SECRET", format!("{variable}: {reason}")))?;
        Ok(match webhook::verify(signature, &secret, request, now()) {
            Ok(()) => ("right".into(), false),
            Err(error) => (error.to_string(), true),
        })
    }
}

/// Without anything known of a flow.
fn message_alone(request: &Request, context: &Context) -> Result<(), Failure> {
    let message = webhook::message(request, &WebhookTrigger::default(), MESSAGE_BYTES_MAX);
    let message = message.map_err(|error| {
        let problem = Problem {
            file: String::new(),
            pointer: String::new(),
            code: error.status().to_string(),
            message: error.to_string(),
        };
        let refused = format!("the server would answer {}", error.status());
        Failure::invalid("INVALID_REQUEST", refused, vec![problem])
    })?;
    context
        .output
        .document(&views::message(&convert::message(message)))
}

fn signed(scheme: &str) -> WebhookTrigger {
    let known = SignatureScheme::ALL
        .into_iter()
        .find(|(name, _)| *name == scheme);
    WebhookTrigger {
        signature: known.map(|(_, scheme)| WebhookSignature {
            scheme,
            ..WebhookSignature::default()
        }),
        ..WebhookTrigger::default()
    }
}

/// How a flow takes requests: its version that is active, or else its draft.
async fn known(flow: &str, context: &Context) -> Result<Known, Failure> {
    let client = context.client().await?;
    let request = GetFlowRequest { flow: flow.into() };
    let found = client.get_flow(request).await?.flow.unwrap_or_default();
    let is_active = found.status() == FlowStatus::Active;
    let text = if is_active {
        let request = GetFlowVersionRequest {
            flow: found.id.clone(),
            version: found.active_version,
        };
        let answer = client.get_flow_version(request).await?;
        answer.version.unwrap_or_default().document
    } else {
        found.document
    };
    let unreadable = || Failure::failed("DOCUMENT", "the flow's document cannot be read");
    let value: Value = serde_json::from_str(&text).map_err(|_| unreadable())?;
    let document = tidemill_core::flow::parse_value(&value).map_err(|_| unreadable())?;
    let refusal = if document.trigger.schedule.is_some() || document.cron.is_some() {
        Some("the flow has a schedule: it takes no webhook requests")
    } else if is_active {
        None
    } else {
        Some("the flow is not active")
    };
    Ok(Known {
        trigger: document.trigger.webhook.unwrap_or_default(),
        refusal: refusal.map(str::to_owned),
    })
}

fn read(file: &str) -> Result<Bytes, Failure> {
    // One byte more, so that what is too large is seen to be.
    let most = MESSAGE_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    let result = if file == "-" {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    result.map_err(|error| Failure::failed("FILE", format!("{file}: {error}")))?;
    Ok(bytes.into())
}

#[allow(
    clippy::disallowed_methods,
    reason = "a signature's time is compared with the real one"
)]
fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let ms = since.map_or(0, |since| since.as_millis());
    Timestamp::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))
}
