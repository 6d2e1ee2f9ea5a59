//! Steps of built-in components, run by the leader itself: `transform`, `wait`, `respond`, `log`.

use bytes::Bytes;
use serde_json::Value;
use tidemill_expression::Limits;
use tidemill_rows::{
    journal::{NewRecord, kind},
    table::{ErrorRow, MessageRow, StepState, Timer, TimerKind, queue_key},
};
use tidemill_types::{StepId, Timestamp, limits::BUILTIN_STEPS_PER_COMMAND_MAX};

use super::{Partition, SYSTEM, cut, respond::respond, routing::parse, steps::error};
use crate::{
    command::{PartitionEffect, Targets},
    flow::{Builtin, PlanNode, Wait},
    ledger::{Damage, Rows},
};

/// Most bytes that a `log` step writes.
const LOG_TEXT_BYTES_MAX: usize = 4 * 1024;

/// What a built-in gives.
enum Given {
    Message(MessageRow),
    WaitUntil(Timestamp),
    /// The message that it got, and the answer to the request.
    Reply(MessageRow, MessageRow),
}

impl Partition {
    /// Runs the built-in steps that can run, up to a number; the rest waits in the queue for the next
    /// turn, so that no chain of them holds up everybody else.
    pub(super) fn run_builtins(&mut self, rows: &dyn Rows) -> Result<(), Damage> {
        for _ in 0..BUILTIN_STEPS_PER_COMMAND_MAX {
            let Some((_, id)) = self.builtins.pop() else {
                return Ok(());
            };
            self.run_builtin(id, rows)?;
        }
        Ok(())
    }

    fn run_builtin(&mut self, id: StepId, rows: &dyn Rows) -> Result<(), Damage> {
        if !self.hydrate(id.execution, rows)?
            || self.step_state(id) != Some(StepState::Pending)
            || self.is_ending(id.execution)
        {
            return Ok(());
        }
        self.ledger.delete(queue_key(id));
        let now = self.ledger.now();
        self.change_step(id, |step| {
            step.state = StepState::Running;
            step.attempt += 1;
            step.started_at = Some(now);
            step.worker.clear();
        });
        let message = self.builtin_input(id, rows)?;
        let Some(execution) = self.executions.get(&id.execution) else {
            return Ok(());
        };
        let Some(step) = execution.steps.get(&id.step) else {
            return Ok(());
        };
        let node = execution.node(step.node);
        let given = match node.builtin {
            Some(Builtin::Transform) => transform(node, message, now),
            Some(Builtin::Wait) => wait(node, message, now),
            Some(Builtin::Respond) => self.reply_of(node, message, now),
            Some(Builtin::Log) => {
                let (node, text) = (node.id.clone(), log_text(node));
                self.effects.push(PartitionEffect::Log {
                    step: id,
                    node,
                    text,
                });
                Ok(Given::Message(message))
            }
            Some(other) => Err(error(
                "BUILTIN_NOT_SERVED",
                format!("built-in component {other:?} is not available in this version"),
                true,
            )),
            None => Err(error("NOT_BUILTIN", "the component is not built in", true)),
        };
        match given {
            Ok(Given::Message(message)) => {
                self.succeed_with(id, vec![(message, Targets::All)], None, SYSTEM);
            }
            Ok(Given::Reply(message, reply)) => {
                self.keep_reply(id.execution, reply);
                self.succeed_with(id, vec![(message, Targets::All)], None, SYSTEM);
            }
            Ok(Given::WaitUntil(due)) => {
                self.change_step(id, |step| step.due_at = Some(due));
                self.add_timer(Timer {
                    due,
                    step: id,
                    kind: TimerKind::Wait,
                });
                self.record_step(
                    id,
                    NewRecord {
                        number: due.as_millis().unsigned_abs(),
                        ..NewRecord::of(kind::STEP_STARTED, SYSTEM)
                    },
                );
            }
            Err(reason) => self.fail_unreached(id, reason),
        }
        Ok(())
    }

    fn reply_of(
        &self,
        node: &PlanNode,
        message: MessageRow,
        now: Timestamp,
    ) -> Result<Given, ErrorRow> {
        let reply = respond(node, &message, now)?;
        let limit = self.config.message_bytes_max;
        if !reply.is_within(limit) {
            let bytes = reply.payload_len();
            let reason = format!("the answer has {bytes} bytes, at most {limit} are allowed");
            return Err(error("RESPOND_TOO_LARGE", reason, true));
        }
        Ok(Given::Reply(message, reply))
    }

    /// A `wait` step is over: it gives the message that it got.
    pub(super) fn finish_wait(&mut self, id: StepId, rows: &dyn Rows) -> Result<(), Damage> {
        let message = self.builtin_input(id, rows)?;
        self.succeed_with(id, vec![(message, Targets::All)], None, SYSTEM);
        Ok(())
    }

    /// What a built-in runs on: the message; after `join: all` one whose data is the list of all.
    fn builtin_input(&self, id: StepId, rows: &dyn Rows) -> Result<MessageRow, Damage> {
        let Some(execution) = self.executions.get(&id.execution) else {
            return Err(Damage::Missing(format!("execution {}", id.execution)));
        };
        let Some(step) = execution.steps.get(&id.step) else {
            return Err(Damage::Missing(format!("step {id}")));
        };
        if execution.node(step.node).join != crate::flow::Join::All
            && let [input] = step.inputs.as_slice()
        {
            return self.message(id.execution, input.message, rows);
        }
        let mut all = MessageRow::default();
        let mut data = vec![b'['];
        for input in &step.inputs {
            let message = self.message(id.execution, input.message, rows)?;
            if data.len() > 1 {
                data.push(b',');
            }
            data.extend_from_slice(if message.data.is_empty() {
                b"null"
            } else {
                &message.data
            });
            all.headers.extend(message.headers);
            all.attachments.extend(message.attachments);
        }
        data.push(b']');
        all.data = data.into();
        Ok(all)
    }
}

fn transform(node: &PlanNode, message: MessageRow, now: Timestamp) -> Result<Given, ErrorRow> {
    let Some(expression) = &node.expression else {
        return Err(error("NO_EXPRESSION", "fields.expression is missing", true));
    };
    let data = parse(&message.data)?;
    let fields: &Value = &node.fields;
    let limits = transform_limits(now);
    match expression.evaluate(&data, &[("fields", fields)], &limits) {
        Ok(Some(value)) => Ok(Given::Message(MessageRow {
            data: Bytes::from(value.to_string()),
            ..message
        })),
        // A typo in a path must not make data vanish without a word.
        Ok(None) => Err(error(
            "EXPRESSION_GAVE_NOTHING",
            "the expression gave nothing for this message; let it give null if that is meant",
            true,
        )),
        Err(reason) => Err(error("EXPRESSION_FAILED", reason.to_string(), true)),
    }
}

/// A transform runs in the partition's loop, where everybody else waits for it: so less than what
/// [`Limits::transform`] allows, about a tenth of a second at worst.
fn transform_limits(now: Timestamp) -> Limits {
    const STEPS_MAX: u64 = 1_000_000;
    const MEMORY_BYTES_MAX: usize = 64 * 1024 * 1024;
    // A build without optimisation needs about 6 KiB of stack a level, and a thread has 2 MiB.
    const DEPTH_MAX: u32 = 150;
    let mut limits = Limits::transform().at(now.as_millis());
    limits.steps = STEPS_MAX;
    limits.memory_bytes = MEMORY_BYTES_MAX;
    limits.depth = DEPTH_MAX;
    limits
}

fn wait(node: &PlanNode, message: MessageRow, now: Timestamp) -> Result<Given, ErrorRow> {
    let due = match &node.wait {
        Some(Wait::DurationMs(ms)) => now.plus_millis(*ms),
        Some(Wait::UntilMs(ms)) => Timestamp::from_millis(*ms),
        Some(Wait::UntilExpression) => {
            let Some(expression) = &node.expression else {
                return Err(error("NO_EXPRESSION", "fields.until is missing", true));
            };
            let limits = Limits::default().at(now.as_millis());
            let value = expression
                .evaluate(&parse(&message.data)?, &[], &limits)
                .map_err(|reason| error("EXPRESSION_FAILED", reason.to_string(), true))?;
            instant(value.as_ref()).ok_or_else(|| {
                error(
                    "WAIT_UNTIL_INVALID",
                    "fields.until must give an RFC 3339 text or milliseconds since the Unix epoch",
                    true,
                )
            })?
        }
        None => {
            return Err(error(
                "WAIT_INVALID",
                "fields.duration or fields.until is missing",
                true,
            ));
        }
    };
    Ok(if due <= now {
        Given::Message(message)
    } else {
        Given::WaitUntil(due)
    })
}

fn instant(value: Option<&Value>) -> Option<Timestamp> {
    match value? {
        Value::Number(ms) => ms
            .as_i64()
            .or_else(|| ms.as_f64().filter(|ms| ms.abs() < 9e15).map(|ms| ms as i64))
            .map(Timestamp::from_millis),
        Value::String(text) => chrono::DateTime::parse_from_rfc3339(text)
            .ok()
            .map(|time| Timestamp::from_millis(time.timestamp_millis())),
        _ => None,
    }
}

/// What a `log` step says: its own text only. Payloads may hold secrets, and logs are no place for them.
fn log_text(node: &PlanNode) -> String {
    let text = node
        .fields
        .get("message")
        .and_then(Value::as_str)
        .unwrap_or_default();
    cut(text.to_owned(), LOG_TEXT_BYTES_MAX)
}
