//! Built-in components: their functions and the fields that these read.

use serde_json::Value;
use tidemill_types::flow::{FlowDuration, Node};

use super::Checker;
use crate::flow::builtin::Builtin;
use crate::flow::compile::{WaitError, wait_of};
use crate::flow::problem::{child, code};
use crate::flow::respond::Respond;

const LOG_LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];

impl Checker {
    pub(super) fn check_builtin(&mut self, pointer: &str, node: &Node) {
        let Some(builtin) = Builtin::from_component(&node.component_id) else {
            return;
        };
        let component = builtin.component();
        if node.function != builtin.function() {
            let message = format!(
                "the built-in component `{component}` has only the function `{}`",
                builtin.function()
            );
            self.error(&child(pointer, "function"), code::UNKNOWN_FUNCTION, message);
        }
        if !builtin.is_served() {
            let message = format!(
                "the built-in component `{component}` is not run by this version: a flow with it cannot be started"
            );
            self.warning(&child(pointer, "componentId"), code::NOT_SERVED, message);
        }
        let fields = child(pointer, "fields");
        match builtin {
            Builtin::Transform => self.check_transform(&child(&fields, "expression"), node),
            Builtin::Wait => self.check_wait(&fields, node),
            Builtin::Log => self.check_log(&fields, node),
            Builtin::Respond => self.check_respond(&fields, node),
            // What these read is settled when they are served.
            Builtin::Http | Builtin::Subflow => {}
        }
    }

    fn check_transform(&mut self, pointer: &str, node: &Node) {
        match node.fields.get("expression") {
            None => self.error(
                pointer,
                code::MISSING,
                "`transform` needs `fields.expression`",
            ),
            Some(Value::String(text)) => self.check_expression(pointer, text),
            Some(_) => self.error(
                pointer,
                code::WRONG_TYPE,
                "must be a string that holds JSONata",
            ),
        }
    }

    fn check_wait(&mut self, fields: &str, node: &Node) {
        match wait_of(node) {
            Ok((wait, expression)) => {
                if let Some(text) = expression {
                    self.check_expression(&child(fields, "until"), text);
                }
                if let crate::flow::plan::Wait::DurationMs(ms) = wait {
                    let duration = Some(FlowDuration::from_ms(ms));
                    self.check_duration(&child(fields, "duration"), duration);
                }
            }
            Err(WaitError::Missing) => {
                let message = "`wait` needs `fields.duration` or `fields.until`";
                self.error(fields, code::MISSING, message);
            }
            Err(WaitError::Both) => {
                let message = "`wait` takes `fields.duration` or `fields.until`, not both";
                self.error(fields, code::CONFLICT, message);
            }
            Err(WaitError::Duration(message)) => {
                self.error(&child(fields, "duration"), code::INVALID_VALUE, message);
            }
            Err(WaitError::Until) => {
                let message = "must be a string: an RFC 3339 instant or JSONata that gives one";
                self.error(&child(fields, "until"), code::WRONG_TYPE, message);
            }
        }
    }

    fn check_respond(&mut self, fields: &str, node: &Node) {
        let (_, errors) = Respond::of_fields(&node.fields);
        for error in errors {
            let pointer = error
                .path
                .iter()
                .fold(fields.to_owned(), |pointer, key| child(&pointer, key));
            self.error(&pointer, code::INVALID_VALUE, error.message);
        }
        match node.fields.get("expression") {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => {
                self.check_expression(&child(fields, "expression"), text);
            }
            Some(_) => self.error(
                &child(fields, "expression"),
                code::WRONG_TYPE,
                "must be a string that holds JSONata",
            ),
        }
    }

    fn check_log(&mut self, fields: &str, node: &Node) {
        if let Some(level) = node.fields.get("level")
            && !level
                .as_str()
                .is_some_and(|level| LOG_LEVELS.contains(&level))
        {
            let message = format!("must be one of {}", LOG_LEVELS.join(", "));
            self.error(&child(fields, "level"), code::INVALID_VALUE, message);
        }
    }
}
