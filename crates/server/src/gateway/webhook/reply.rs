//! `reply: wait`: the answer is held until a `respond` node or the end of the execution gives it.
//!
//! Owns the wait, and how a flow's answer becomes one of HTTP. The wait holds no state but the execution's id:
//! whatever happens to the partition's leader, it is asked for again at the next one. Must never start
//! anything, or hold up a node that wants to stop.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use serde_json::Value;
use tidemill_core::webhook::ATTACHMENT;
use tidemill_proto::v1::{ExecutionState, Message, WaitExecutionRequest, WaitExecutionResponse};
use tidemill_types::{
    flow::WebhookTrigger,
    limits::{WEBHOOK_REPLY_MS_DEFAULT, WEBHOOK_REPLY_MS_MAX},
};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::Code;

use super::answer::Refusal;
use crate::gateway::{Open, Origin, execution};

/// Says which execution gave an answer, whatever the flow says in it.
pub(super) const EXECUTION_HEADER: &str = "x-tidemill-execution-id";
/// Before a partition without a leader is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a caller waits.
pub(super) fn timeout_of(trigger: &WebhookTrigger) -> Duration {
    let ms = trigger
        .timeout
        .map_or(WEBHOOK_REPLY_MS_DEFAULT, |timeout| timeout.ms);
    Duration::from_millis(ms.min(WEBHOOK_REPLY_MS_MAX))
}

/// The flow's answer, as soon as there is one.
pub(super) async fn wait(
    open: &Open,
    flow: &str,
    execution_id: &str,
    deadline: Instant,
) -> Result<Response, Refusal> {
    let stopping = || Refusal::unavailable("the node is shutting down: ask again with this id");
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let request = WaitExecutionRequest {
            execution_id: execution_id.to_owned(),
            // 0 would mean the default.
            timeout_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1),
            with_output: true,
            or_reply: true,
        };
        let asked = timeout_at(deadline, execution::wait(open, Origin::Client, request));
        let answer = tokio::select! {
            answer = asked => answer,
            () = open.node.shutdown.cancelled() => return Err(stopping()),
        };
        match answer {
            Err(_) => return Err(Refusal::no_reply()),
            Ok(Ok(answer)) => return response(answer, execution_id),
            Ok(Err(error)) => match error.code() {
                // No leader for now, or the one that was asked has gone.
                Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded => {
                    tracing::debug!(execution_id, %error, "wait for a flow's answer begins again");
                    let again = timeout_at(deadline, sleep(PAUSE));
                    if again.await.is_err() {
                        return Err(Refusal::no_reply());
                    }
                }
                // Its retention is shorter than the wait.
                Code::NotFound => {
                    let error = "the execution has ended and is not kept any more";
                    return Err(Refusal::ended(StatusCode::INTERNAL_SERVER_ERROR, error));
                }
                _ => return Err(Refusal::of(&error, flow, "")),
            },
        }
    }
}

fn response(answer: WaitExecutionResponse, execution_id: &str) -> Result<Response, Refusal> {
    if let Some(reply) = answer.reply {
        return Ok(of_reply(reply, execution_id));
    }
    let execution = answer.execution.unwrap_or_default();
    let failed = |status, error| Err(Refusal::ended(status, error));
    match execution.state() {
        ExecutionState::Succeeded => Ok(of_output(answer.output, execution_id)),
        ExecutionState::Failed => failed(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the execution has failed",
        ),
        ExecutionState::Cancelled => failed(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the execution was cancelled",
        ),
        ExecutionState::TimedOut => {
            failed(StatusCode::GATEWAY_TIMEOUT, "the execution ran out of time")
        }
        ExecutionState::Running | ExecutionState::Unspecified => Err(Refusal::no_reply()),
    }
}

/// What a `respond` node gave.
fn of_reply(reply: Message, execution_id: &str) -> Response {
    let metadata: Value = serde_json::from_slice(&reply.metadata).unwrap_or_default();
    let status = metadata["status"]
        .as_u64()
        .and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok())
        .unwrap_or(StatusCode::OK);
    let mut headers = HeaderMap::new();
    // In one order, so that a repeat has the same answer, byte for byte.
    for (name, value) in reply.headers.into_iter().collect::<BTreeMap<_, _>>() {
        // The core has checked them.
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            headers.insert(name, value);
        }
    }
    let given_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(str::to_ascii_lowercase);
    let wants_json = given_type.is_some_and(|given| given.contains("json"));
    let mut attachments = reply.attachments;
    let (body, kind) = match attachments.remove(ATTACHMENT) {
        Some(bytes) => (bytes, "application/octet-stream"),
        None => body_of(reply.data, wants_json),
    };
    finished(status, headers, body, kind, execution_id)
}

/// What the ends of an execution gave: of one its data, of several the list.
fn of_output(output: Vec<Message>, execution_id: &str) -> Response {
    let mut output = output;
    let data = match output.len() {
        1 => output.remove(0).data,
        0 => Bytes::from_static(b"null"),
        _ => {
            let mut list = vec![b'['];
            for message in output {
                if list.len() > 1 {
                    list.push(b',');
                }
                list.extend_from_slice(&message.data);
            }
            list.push(b']');
            list.into()
        }
    };
    let kind = "application/json";
    finished(StatusCode::OK, HeaderMap::new(), data, kind, execution_id)
}

/// A body, and what it is: a text as it is, nothing for `null`, else JSON.
fn body_of(data: Bytes, wants_json: bool) -> (Bytes, &'static str) {
    if !wants_json {
        match serde_json::from_slice(&data) {
            Ok(Value::String(text)) => return (text.into(), "text/plain; charset=utf-8"),
            Ok(Value::Null) => return (Bytes::new(), ""),
            _ => {}
        }
    }
    (data, "application/json")
}

fn finished(
    status: StatusCode,
    mut headers: HeaderMap,
    body: Bytes,
    kind: &'static str,
    execution_id: &str,
) -> Response {
    let has_body = !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = if has_body { body } else { Bytes::new() };
    if !body.is_empty() && !headers.contains_key(header::CONTENT_TYPE) {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    if let Ok(id) = execution_id.parse() {
        headers.insert(EXECUTION_HEADER, id);
    }
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

#[cfg(test)]
mod tests {
    use tidemill_types::duration::FlowDuration;

    use super::*;

    fn reply(data: &'static str, metadata: &'static str, headers: &[(&str, &str)]) -> Message {
        Message {
            data: data.into(),
            metadata: metadata.into(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..Message::default()
        }
    }

    #[test]
    fn a_caller_waits_as_long_as_the_flow_says_or_the_default() {
        let mut trigger = WebhookTrigger::default();
        assert_eq!(
            timeout_of(&trigger),
            Duration::from_millis(WEBHOOK_REPLY_MS_DEFAULT)
        );
        trigger.timeout = Some(FlowDuration::from_ms(WEBHOOK_REPLY_MS_MAX + 1));
        assert_eq!(
            timeout_of(&trigger),
            Duration::from_millis(WEBHOOK_REPLY_MS_MAX)
        );
    }

    async fn seen(response: Response) -> (u16, Option<String>, String) {
        let status = response.status().as_u16();
        assert_eq!(response.headers()[EXECUTION_HEADER], "exe_1");
        let kind = response.headers().get(header::CONTENT_TYPE);
        let kind = kind.map(|kind| kind.to_str().expect("text").to_owned());
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
        let body = String::from_utf8(body.expect("a body").to_vec()).expect("text");
        (status, kind, body)
    }

    #[tokio::test]
    async fn bodies_say_what_they_are() {
        let json = Some("application/json".to_owned());
        let text = Some("text/plain; charset=utf-8".to_owned());
        let own = |kind: &str| Some(kind.to_owned());
        for (given, want) in [
            (
                reply("{\"a\": 1}", "{\"status\":201}", &[]),
                (201, json.clone(), "{\"a\": 1}"),
            ),
            (reply("\"hi\"", "{}", &[]), (200, text, "hi")),
            (
                reply("\"<p>\"", "{}", &[("content-type", "text/html")]),
                (200, own("text/html"), "<p>"),
            ),
            (
                reply("\"hi\"", "{}", &[("content-type", "application/json")]),
                (200, json.clone(), "\"hi\""),
            ),
            (reply("null", "{\"status\":202}", &[]), (202, None, "")),
            (reply("{}", "{\"status\":204}", &[]), (204, None, "")),
        ] {
            let shown = format!("{given:?}");
            let (status, kind, body) = seen(of_reply(given, "exe_1")).await;
            assert_eq!((status, kind, body.as_str()), want, "{shown}");
        }
        let mut file = reply("null", "{}", &[]);
        file.attachments
            .insert(ATTACHMENT.into(), Bytes::from_static(b"PDF"));
        let (_, kind, body) = seen(of_reply(file, "exe_1")).await;
        assert_eq!(
            (kind.as_deref(), body.as_str()),
            (Some("application/octet-stream"), "PDF")
        );
        for (output, want) in [
            (vec![], "null"),
            (vec![reply("1", "", &[])], "1"),
            (vec![reply("1", "", &[]), reply("{}", "", &[])], "[1,{}]"),
        ] {
            assert_eq!(
                seen(of_output(output, "exe_1")).await,
                (200, json.clone(), want.to_owned())
            );
        }
    }
}
