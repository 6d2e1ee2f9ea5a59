//! What was started and not run yet: how much of it there may be, and how much of it is in memory.
//!
//! A flow can be started faster than its workers work. Its steps then wait in rows and in the leader's
//! queues, so both need a bound. Only starts and redrives are refused: what has begun goes on, or the
//! backlog would never become less. (A step that gives many messages can so make the backlog larger
//! than the bound; the bound then holds back all starts until it is done.)

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tidemill_rows::table::MessageRow;
use tidemill_types::FlowId;

use super::Partition;
use crate::Rejection;

/// The option that bounds what waits of one flow.
const FLOW_LIMIT: &str = "limits.flow_backlog";
/// The option that bounds what waits of all flows.
const LIMIT: &str = "limits.backlog";

impl Partition {
    /// Why nothing more of a flow may begin for now, if so.
    ///
    /// All flows share the partition's bound. The first half of it goes to whoever comes; from then on a
    /// flow gets in only while it has less than an equal share of that half, so that those who came
    /// first do not keep out all others.
    pub(super) fn backlog_full(&self, flow: FlowId) -> Option<Rejection> {
        let (of_flow, of_all) = self.work.waiting(&flow);
        let of_flow = of_flow + self.builtins.len_of(&flow);
        let of_all = of_all + self.builtins.len();
        let full = |scope, waiting: usize, limit, most: usize| {
            Some(Rejection::BacklogFull {
                scope,
                waiting: waiting as u64,
                limit,
                most: most as u64,
            })
        };
        let flow_max = self.config.flow_backlog_max;
        if of_flow >= flow_max {
            return full("the flow", of_flow, FLOW_LIMIT, flow_max);
        }
        let all_max = self.config.backlog_max;
        if of_all >= all_max {
            return full("all flows of the partition", of_all, LIMIT, all_max);
        }
        let half = all_max / 2;
        if of_all >= half {
            let flows = self.work.flows_waiting() + self.builtins.owners();
            let share = (half / flows.max(1)).max(1);
            if of_flow >= share {
                return full("the flow", of_flow, LIMIT, share);
            }
        }
        None
    }
}

/// How many bytes of messages are in memory.
#[derive(Debug, Default)]
pub(super) struct MessagesKept {
    bytes: Arc<AtomicUsize>,
}

impl MessagesKept {
    /// Keeps a message if there is room for it.
    pub fn keep(&self, row: MessageRow, bytes_max: usize) -> Option<KeptMessage> {
        let bytes = row.payload_len();
        if self.bytes.load(Relaxed) + bytes > bytes_max {
            return None;
        }
        self.bytes.fetch_add(bytes, Relaxed);
        Some(KeptMessage {
            row,
            bytes,
            of: Arc::clone(&self.bytes),
        })
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }
}

/// A message in memory. Its room is free again when it is dropped, by whatever way it goes.
#[derive(Debug)]
pub(super) struct KeptMessage {
    row: MessageRow,
    bytes: usize,
    of: Arc<AtomicUsize>,
}

impl KeptMessage {
    pub const fn row(&self) -> &MessageRow {
        &self.row
    }
}

impl Drop for KeptMessage {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Relaxed);
    }
}
