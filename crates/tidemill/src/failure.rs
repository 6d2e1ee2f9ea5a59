//! How a command can fail: what is wrong, what to do next, and the exit code.

use std::{fmt::Write as _, process::ExitCode};

use serde_json::{Value, json};
use tidemill_sdk::{ClientError, ErrorKind};

use crate::output::{Format, Output};

/// The exit codes, all there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    /// Refused or failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No server was reached.
    Unreachable = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// One thing that is wrong with what was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// File, if it is about one.
    pub file: String,
    /// JSON pointer or field.
    pub pointer: String,
    pub code: String,
    pub message: String,
}

/// Why a command did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    exit: Exit,
    code: Box<str>,
    class: &'static str,
    message: String,
    problems: Vec<Problem>,
    request_id: Box<str>,
    hint: Box<str>,
}

impl Failure {
    fn new(exit: Exit, class: &'static str, code: &str, message: impl Into<String>) -> Self {
        Self {
            exit,
            code: code.into(),
            class,
            message: message.into(),
            problems: Vec::new(),
            request_id: Box::default(),
            hint: Box::default(),
        }
    }

    /// What was asked for did not work out.
    pub fn failed(code: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, "failed", code, message)
    }

    /// What was given is wrong.
    pub fn invalid(code: &str, message: impl Into<String>, problems: Vec<Problem>) -> Self {
        Self {
            problems,
            ..Self::new(Exit::Failed, "invalid", code, message)
        }
    }

    /// The command line is wrong in a way that clap cannot see.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", "USAGE", message)
    }

    /// Whoever reads our output has gone: that is an end, not an error.
    pub fn reader_gone() -> Self {
        Self::new(Exit::Done, "done", "READER_GONE", "")
    }

    /// What to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into().into();
        self
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Prints the failure on stderr and gives its exit code.
    pub fn report(&self, output: &Output) -> Exit {
        if self.exit != Exit::Done {
            match output.format {
                Format::Json => eprintln!("{}", self.json()),
                Format::Table => eprint!("{}", self.text()),
            }
        }
        self.exit
    }

    fn json(&self) -> Value {
        let problems: Vec<Value> = self
            .problems
            .iter()
            .map(|problem| {
                let mut value = json!({
                    "pointer": problem.pointer,
                    "code": problem.code,
                    "message": problem.message,
                });
                if !problem.file.is_empty() {
                    value["file"] = json!(problem.file);
                }
                value
            })
            .collect();
        let mut error = json!({
            "code": self.code,
            "class": self.class,
            "message": self.message,
            "problems": problems,
        });
        if !self.request_id.is_empty() {
            error["request_id"] = json!(self.request_id);
        }
        if !self.hint.is_empty() {
            error["hint"] = json!(self.hint);
        }
        json!({ "error": error })
    }

    fn text(&self) -> String {
        let mut text = format!("error: {}", self.message);
        if !self.code.is_empty() && self.class != "usage" {
            let _ = write!(text, " ({})", self.code);
        }
        text.push('\n');
        for problem in &self.problems {
            let mut place = problem.file.clone();
            if !problem.pointer.is_empty() {
                if !place.is_empty() {
                    place.push_str(": ");
                }
                place.push_str(&problem.pointer);
            }
            if !place.is_empty() {
                place.push_str(": ");
            }
            let _ = write!(text, "  {place}{}", problem.message);
            if !problem.code.is_empty() {
                let _ = write!(text, " ({})", problem.code);
            }
            text.push('\n');
        }
        if !self.hint.is_empty() {
            let _ = writeln!(text, "hint: {}", self.hint);
        }
        text
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match error.kind {
            ErrorKind::Unreachable => Exit::Unreachable,
            _ => Exit::Failed,
        };
        let hint = hint(&error);
        let class = error.kind.name();
        let problems = match error.kind {
            // The one problem of a field that the message repeats says nothing new.
            ErrorKind::Invalid { problems } => problems
                .into_iter()
                .filter(|problem| problem.message != error.message)
                .map(|problem| Problem {
                    file: String::new(),
                    pointer: problem.field,
                    code: problem.code,
                    message: problem.message,
                })
                .collect(),
            _ => Vec::new(),
        };
        Self {
            exit,
            code: error.code.into(),
            class,
            message: error.message,
            problems,
            request_id: error.request_id.into(),
            hint: hint.into(),
        }
    }
}

fn hint(error: &ClientError) -> String {
    match &error.kind {
        ErrorKind::Unreachable => {
            "start a server with `tidemill dev`, or say where one is with --endpoint or TIDEMILL_ENDPOINT"
                .to_owned()
        }
        ErrorKind::NotFound => {
            "`tidemill flow list` and `tidemill execution list FLOW` show what there is".to_owned()
        }
        ErrorKind::Unknown => format!(
            "it may or may not have happened; the same command with --request-id {} asks again and never does it twice",
            error.request_id
        ),
        ErrorKind::Unavailable => {
            "nothing happened; `tidemill cluster status` shows whether leaders or disk space are missing"
                .to_owned()
        }
        ErrorKind::Overloaded { retry_after: Some(after) } => {
            format!("nothing happened; try again in {after:?}")
        }
        ErrorKind::Overloaded { retry_after: None } => {
            "nothing happened; it is more than a limit of the server allows".to_owned()
        }
        ErrorKind::Broken => {
            format!("see the log of the node {}; `tidemill cluster status` shows faults", error.endpoint)
        }
        ErrorKind::Rejected if error.code == "UNIMPLEMENTED" => {
            "this server does not know the request: is it older than this command?".to_owned()
        }
        _ => String::new(),
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::reader_gone();
        }
        Self::failed("IO", error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ErrorKind) -> ClientError {
        ClientError {
            kind,
            code: "TM0001".to_owned(),
            message: "it is so".to_owned(),
            request_id: "req_1".to_owned(),
            endpoint: "http://a:1".to_owned(),
        }
    }

    #[test]
    fn only_what_was_not_reached_is_3() {
        assert_eq!(
            Failure::from(error(ErrorKind::Unreachable)).exit(),
            Exit::Unreachable
        );
        for kind in [
            ErrorKind::Rejected,
            ErrorKind::Unavailable,
            ErrorKind::Unknown,
            ErrorKind::NotFound,
            ErrorKind::Broken,
        ] {
            assert_eq!(Failure::from(error(kind)).exit(), Exit::Failed);
        }
    }

    #[test]
    fn an_unknown_outcome_names_the_request_id_to_repeat() {
        let failure = Failure::from(error(ErrorKind::Unknown));
        assert!(
            failure.text().contains("--request-id req_1"),
            "{}",
            failure.text()
        );
        assert_eq!(failure.json()["error"]["request_id"], "req_1");
    }

    #[test]
    fn all_problems_are_printed_with_their_places() {
        let problem = |pointer: &str| Problem {
            file: "a.yaml".to_owned(),
            pointer: pointer.to_owned(),
            code: "missing".to_owned(),
            message: "is missing".to_owned(),
        };
        let failure = Failure::invalid(
            "INVALID_FLOW",
            "the flow is invalid",
            vec![problem("/graph"), problem("")],
        );
        assert_eq!(
            failure.text(),
            "error: the flow is invalid (INVALID_FLOW)\n  \
             a.yaml: /graph: is missing (missing)\n  \
             a.yaml: is missing (missing)\n"
        );
        let json = failure.json();
        assert_eq!(json["error"]["class"], "invalid");
        assert_eq!(json["error"]["problems"][0]["pointer"], "/graph");
        assert_eq!(json["error"]["problems"][0]["file"], "a.yaml");
    }
}
