//! Why an expression was refused or failed. Codes of the reference implementation (`S0201`, `T2001`, …)
//! are kept; `TX` codes are ours.

use thiserror::Error;

/// The source text is not an expression that this evaluator takes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message} (at character {position})")]
pub struct ParseError {
    /// What is wrong, with the reference implementation's code in front.
    pub message: String,
    /// Where, in characters from the start of the source.
    pub position: usize,
}

impl ParseError {
    pub(crate) fn new(position: usize, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            position,
        }
    }
}

/// The evaluation ended without a result.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// The expression itself failed: wrong types, `$error()`, a function that is not available.
    #[error("{code}: {message}")]
    Failed {
        /// JSONata's error code, or a `TX` code of this evaluator.
        code: &'static str,
        /// What is wrong, for a person.
        message: String,
    },
    /// More work than allowed: an endless recursion, or too much data.
    #[error("the expression took more than {limit} steps")]
    StepLimit {
        /// `Limits::steps`.
        limit: u64,
    },
    /// Calls or values nested deeper than allowed.
    #[error("the expression, or a value that it reads or builds, is nested too deeply")]
    DepthLimit,
    /// The values built on the way weigh more than allowed.
    #[error("the values built by the expression weigh more than {limit} bytes")]
    MemoryLimit {
        /// `Limits::memory_bytes`.
        limit: usize,
    },
    /// The result is larger than allowed.
    #[error("the result of the expression is larger than {limit} bytes")]
    OutputLimit {
        /// `Limits::output_bytes`.
        limit: usize,
    },
    /// A condition gave something else than true or false.
    #[error("the condition must give true or false, it gave {got}")]
    NotBoolean {
        /// What it gave: `nothing`, `null`, `number`, `string`, `array` or `object`.
        got: &'static str,
    },
}

impl EvaluateError {
    pub(crate) fn failed(code: &'static str, message: impl Into<String>) -> Self {
        Self::Failed {
            code,
            message: message.into(),
        }
    }

    /// Whether a limit ended the evaluation, rather than the expression itself.
    #[must_use]
    pub fn is_limit(&self) -> bool {
        match self {
            Self::StepLimit { .. }
            | Self::DepthLimit
            | Self::MemoryLimit { .. }
            | Self::OutputLimit { .. } => true,
            Self::Failed { .. } | Self::NotBoolean { .. } => false,
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, EvaluateError>;
