//! I2: one execution per request id, while the first is kept.

use std::collections::BTreeMap;

use tidemill_rows::journal::{JournalRecord, kind};
use tidemill_types::{ExecutionId, PartitionId};

use super::{Acknowledged, Checked, Violation, fold::History};

const NAME: &str = "I2 one execution per request id";

/// See the module.
#[derive(Debug, Default)]
pub struct RequestIds {
    started: BTreeMap<(PartitionId, String), ExecutionId>,
    answered: BTreeMap<String, ExecutionId>,
}

impl RequestIds {
    /// The journal tells of a start.
    ///
    /// # Errors
    /// When its request id has started another execution, which is still kept.
    pub fn on_record(
        &mut self,
        partition: PartitionId,
        record: &JournalRecord,
        history: &History,
    ) -> Checked {
        let (kind::EXECUTION_STARTED, Some(id)) = (record.kind.as_str(), record.execution) else {
            return Ok(());
        };
        let key = (partition, record.request_id.clone());
        match self.started.insert(key, id) {
            Some(before) if !history.is_retired(before) => Err(Violation::new(
                NAME,
                format!("{} started {before} and {id}", record.request_id),
            )),
            _ => Ok(()),
        }
    }

    /// A client was told which execution its request started.
    ///
    /// # Errors
    /// When it was told another one before.
    pub fn on_acknowledged(
        &mut self,
        request_id: &str,
        what: &Acknowledged,
        history: &History,
    ) -> Checked {
        let Acknowledged::Started { execution, .. } = what else {
            return Ok(());
        };
        match self.answered.insert(request_id.into(), *execution) {
            Some(before) if before != *execution && !history.is_retired(before) => {
                Err(Violation::new(
                    NAME,
                    format!("{request_id} was answered {before} and {execution}"),
                ))
            }
            _ => Ok(()),
        }
    }
}
