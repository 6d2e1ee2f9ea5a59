//! `respond`: gives the answer to the webhook request that started the execution.
//!
//! The answer is a message of the execution like any other, and lives as long as it: a repeat of the request
//! finds the same one, on whichever node and after whatever change of leader.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::json;
use tidemill_expression::Limits;
use tidemill_rows::table::{ErrorRow, MessageRow};
use tidemill_types::{ExecutionId, Timestamp};

use super::{Partition, routing::parse, steps::error};
use crate::{
    flow::{PlanNode, Respond},
    webhook::ATTACHMENT,
};

/// The answer of a `respond` node on this message: data and the attachment `payload` are its body,
/// `metadata.status` its status.
pub(super) fn respond(
    node: &PlanNode,
    message: &MessageRow,
    now: Timestamp,
) -> Result<MessageRow, ErrorRow> {
    let default = Respond::default();
    let fields = node.respond.as_ref().unwrap_or(&default);
    let answer = match &node.expression {
        None => fields.clone(),
        Some(expression) => {
            let data = parse(&message.data)?;
            let limits = Limits::default().at(now.as_millis());
            let given = expression
                .evaluate(&data, &[("fields", &node.fields)], &limits)
                .map_err(|reason| error("EXPRESSION_FAILED", reason.to_string(), true))?;
            let given = given.unwrap_or_default();
            fields
                .with(&given)
                .map_err(|reason| error("RESPOND_INVALID", reason.to_string(), true))?
        }
    };
    let mut attachments = BTreeMap::new();
    if let Some(name) = &answer.attachment {
        let Some(bytes) = message.attachments.get(name) else {
            let reason = format!("the message has no attachment {name:?}");
            return Err(error("RESPOND_INVALID", reason, true));
        };
        attachments.insert(ATTACHMENT.to_owned(), bytes.clone());
    }
    let data = match answer.body {
        Some(body) => Bytes::from(body.to_string()),
        None if answer.attachment.is_some() => Bytes::from_static(b"null"),
        None => message.data.clone(),
    };
    Ok(MessageRow {
        data,
        headers: answer.headers,
        attachments,
        metadata: Bytes::from(json!({ "status": answer.status }).to_string()),
    })
}

impl Partition {
    /// Keeps an answer. Only the first counts: the caller has had it.
    pub(super) fn keep_reply(&mut self, id: ExecutionId, reply: MessageRow) {
        let Some(execution) = self.executions.get(&id) else {
            return;
        };
        if execution.row.reply.is_some() {
            return;
        }
        let number = self.add_message(id, reply);
        if let Some(execution) = self.executions.get_mut(&id) {
            execution.row.reply = Some(number);
            execution.row_changed = true;
            // No step runs on it.
            execution.messages.remove(&number);
        }
    }
}
