//! An answer that waits for what it rests on.

use tidemill_core::Rejection;
use tokio::sync::oneshot;

use super::{AskError, supervised::Supervised};

/// See the module.
pub(super) struct Waiting<D: Supervised> {
    pub(super) reply: Option<oneshot::Sender<Result<D::Reply, AskError>>>,
    pub(super) answer: Result<D::Reply, Rejection>,
}

impl<D: Supervised> Waiting<D> {
    pub(super) fn release(self) {
        if let Some(reply) = self.reply {
            // Whoever asked may have gone.
            let _ = reply.send(self.answer.map_err(AskError::Rejected));
        }
    }

    pub(super) fn fail(self, error: AskError) {
        if let Some(reply) = self.reply {
            let _ = reply.send(Err(error));
        }
    }
}
