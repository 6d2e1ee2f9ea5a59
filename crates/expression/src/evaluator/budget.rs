//! Fuel, memory and depth: everything that keeps an evaluation short.

use crate::error::{EvaluateError, Result};
use crate::evaluator::Evaluator;
use crate::limits::{BYTES_PER_STEP, DEPTH_MAX, ELEMENT_BYTES};
use crate::value::{Text, Value};

impl<'a> Evaluator<'a> {
    /// Pays for `steps` units of work before they are done.
    pub(crate) fn charge(&mut self, steps: u64) -> Result<()> {
        match self.steps.checked_sub(steps) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => {
                self.steps = 0;
                Err(EvaluateError::StepLimit {
                    limit: self.limits.steps,
                })
            }
        }
    }

    pub(crate) fn charge_memory(&mut self, bytes: usize) -> Result<()> {
        match self.memory.checked_sub(bytes) {
            Some(left) => {
                self.memory = left;
                Ok(())
            }
            None => Err(EvaluateError::MemoryLimit {
                limit: self.limits.memory_bytes,
            }),
        }
    }

    /// Pays for reading `bytes` of text.
    pub(crate) fn charge_reading(&mut self, bytes: usize) -> Result<()> {
        self.charge(bytes as u64 / BYTES_PER_STEP)
    }

    /// Pays for `bytes` of new text before it is built.
    pub(crate) fn charge_text(&mut self, bytes: usize) -> Result<()> {
        self.charge_memory(bytes)?;
        self.charge_reading(bytes)
    }

    /// Pays for `count` elements before they are copied.
    pub(crate) fn charge_elements(&mut self, count: usize) -> Result<()> {
        self.charge(count as u64)?;
        self.charge_memory(count.saturating_mul(ELEMENT_BYTES))
    }

    /// New text, paid for. Only where its size is about that of what it was made from; what can be much
    /// larger pays before it is built.
    pub(crate) fn text(&mut self, text: String) -> Result<Value<'a>> {
        self.charge_text(text.len())?;
        Ok(Value::String(Text::Owned(text.into())))
    }

    /// One level deeper. An error ends the evaluation, so only success must [`leave`](Self::leave).
    pub(crate) fn enter(&mut self) -> Result<()> {
        self.charge(1)?;
        self.depth += 1;
        if self.depth > self.limits.depth.min(DEPTH_MAX) {
            return Err(EvaluateError::DepthLimit);
        }
        Ok(())
    }

    pub(crate) fn leave(&mut self) {
        self.depth -= 1;
    }
}
