//! JSONata expressions with limits, for edge conditions and for the `transform` component.
//!
//! Owns the language: parsing, evaluation and the limits that keep an evaluation short. It is pure: no clock,
//! no randomness, no I/O, no threads. Work is counted, not timed, so an expression that nobody should have
//! written ends at a limit, in the same way each time, and a condition may run inside a partition's loop.
//!
//! ```
//! use serde_json::json;
//! use tidemill_expression::{Expression, Limits};
//!
//! let condition = Expression::parse("$sum(lines.(price * quantity)) > 100 and $flow = 'orders'")?;
//! let order = json!({"lines": [{"price": 30, "quantity": 4}]});
//! let holds = condition.evaluate_condition(&order, &[("flow", &json!("orders"))], &Limits::default())?;
//! assert!(holds);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ast;
mod error;
mod evaluator;
mod functions;
pub mod limits;
mod number;
mod parser;
mod pattern;
mod signature;
mod tokenizer;
mod value;

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

pub use error::{EvaluateError, ParseError};
pub use limits::Limits;

/// A parsed expression. Cheap to clone; may be shared between threads.
#[derive(Clone)]
pub struct Expression {
    parsed: Arc<Parsed>,
}

struct Parsed {
    source: Box<str>,
    tree: ast::Tree,
}

impl Expression {
    /// Parses `source`.
    ///
    /// # Errors
    /// When it is not JSONata, is longer or more deeply nested than [`limits`] allow, or uses what this
    /// evaluator refuses: `$random`, `$shuffle`, `$eval`, number and date pictures, and regular expressions
    /// that need backtracking.
    pub fn parse(source: &str) -> Result<Self, ParseError> {
        let tree = parser::parse(source)?;
        Ok(Self {
            parsed: Arc::new(Parsed {
                source: source.into(),
                tree,
            }),
        })
    }

    /// The source text.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.parsed.source
    }

    /// Evaluates with `input` as the context and each of `bindings` as a variable (named without its `$`).
    /// `None` is JSONata's nothing.
    ///
    /// # Errors
    /// When the expression fails or runs into one of `limits`. Nothing else is affected.
    pub fn evaluate(
        &self,
        input: &Value,
        bindings: &[(&str, &Value)],
        limits: &Limits,
    ) -> Result<Option<Value>, EvaluateError> {
        evaluator::run(&self.parsed.tree, input, bindings, limits)
    }

    /// Evaluates a condition, which must give true or false.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate), and [`EvaluateError::NotBoolean`] for any other result, nothing
    /// included: a condition on a misspelt field must not quietly be false.
    pub fn evaluate_condition(
        &self,
        input: &Value,
        bindings: &[(&str, &Value)],
        limits: &Limits,
    ) -> Result<bool, EvaluateError> {
        evaluator::run_condition(&self.parsed.tree, input, bindings, limits)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Expression")
            .field(&self.source())
            .finish()
    }
}
