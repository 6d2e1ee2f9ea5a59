//! Fail-stop: after a failed write or fsync nobody knows what the disk holds (a second fsync may
//! report success for pages the kernel has dropped), so nothing is written any more and the process
//! ends. A restart reads what is really there.

use std::sync::OnceLock;

use crate::{OnFailStop, StoreError};

/// Shared by everything that writes.
pub struct FailStop {
    why: OnceLock<String>,
    call: Option<OnFailStop>,
}

impl FailStop {
    pub fn new(call: Option<OnFailStop>) -> Self {
        Self {
            why: OnceLock::new(),
            call,
        }
    }

    /// Stops all writing. Only the first reason counts and is reported.
    pub fn stop(&self, why: &str) {
        if self.why.set(why.to_owned()).is_ok() {
            tracing::error!(why, "store stopped");
            if let Some(call) = &self.call {
                call(why);
            }
        }
    }

    /// Stops, and hands the error back.
    pub fn failed(&self, error: StoreError) -> StoreError {
        self.stop(&error.to_string());
        error
    }

    pub fn why(&self) -> Option<&str> {
        self.why.get().map(String::as_str)
    }

    /// # Errors
    /// [`StoreError::Stopped`] once stopped.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.why.get().is_some() {
            Err(StoreError::Stopped)
        } else {
            Ok(())
        }
    }
}
