//! `Cancel`: everything live in an execution ends.

use sha2::{Digest, Sha256};
use tidemill_rows::{
    Hash, Stored,
    table::{ExecutionState, RequestRow, execution_request_key},
};

use super::{CLIENT, Partition};
use crate::{
    Rejection,
    command::{CancelExecution, PartitionReply},
    ledger::{Damage, Rows},
};

impl Partition {
    pub(super) fn cancel(
        &mut self,
        command: CancelExecution,
        rows: &dyn Rows,
    ) -> Result<Result<PartitionReply, Rejection>, Damage> {
        let CancelExecution {
            execution: id,
            reason,
            request_id,
        } = command;
        let fingerprint = fingerprint(b"cancel", &[]);
        match self.repeated(id, &request_id, fingerprint, rows)? {
            Some(Err(rejection)) => return Ok(Err(rejection)),
            Some(Ok(number)) => {
                return Ok(Ok(PartitionReply::Cancelled {
                    changed: number > 0,
                }));
            }
            None => {}
        }
        if !self.hydrate(id, rows)? {
            return Ok(Err(Rejection::ExecutionNotFound(id)));
        }
        let is_ended = self
            .executions
            .get(&id)
            .is_none_or(|e| e.row.state.is_ended() || e.row.ending.is_some());
        if !is_ended {
            self.end_early(id, ExecutionState::Cancelled, &reason, CLIENT, &request_id);
            self.remember(id, &request_id, fingerprint, 1);
        }
        Ok(Ok(PartitionReply::Cancelled { changed: !is_ended }))
    }

    /// What this request id led to before, if it was used on this execution.
    pub(super) fn repeated(
        &self,
        id: tidemill_types::ExecutionId,
        request_id: &str,
        fingerprint: Hash,
        rows: &dyn Rows,
    ) -> Result<Option<Result<u32, Rejection>>, Damage> {
        let row = self
            .ledger
            .read::<RequestRow>(rows, &execution_request_key(id, request_id))?;
        Ok(row.map(|row| {
            if row.fingerprint == fingerprint {
                Ok(row.number)
            } else {
                Err(Rejection::RequestIdReused(request_id.into()))
            }
        }))
    }

    /// Remembers what a request id led to, as long as the execution is kept.
    pub(super) fn remember(
        &mut self,
        id: tidemill_types::ExecutionId,
        request_id: &str,
        fingerprint: Hash,
        number: u32,
    ) {
        let row = RequestRow {
            fingerprint,
            execution: id,
            number,
        };
        self.ledger
            .put(execution_request_key(id, request_id), row.to_bytes());
    }
}

/// The meaning of a request: what it asks for, and on which steps.
pub(super) fn fingerprint(verb: &[u8], steps: &[u32]) -> Hash {
    let mut digest = Sha256::new().chain_update(verb);
    for step in steps {
        digest.update(step.to_be_bytes());
    }
    Hash(digest.finalize().into())
}
