//! How a shell drives the core.

use tidemill_rows::{EncodedBatch, Epoch};
use tidemill_types::Timestamp;

use crate::{
    Rejection,
    ledger::{Damage, Rows},
};

/// The logic of one group, on its leader, for one epoch.
///
/// The shell recovers it from applied rows when its epoch begins, feeds it commands one by one, takes
/// a batch whenever it may propose one, says which batches were applied, and drops it on the first
/// error, refusal or unknown outcome. Everything in it can be rebuilt from rows.
pub trait Decider: Sized {
    /// What differs between deployments.
    type Config: Clone;
    /// What it is asked to do.
    type Command;
    /// The answer; to be given when the batch that was being made then is applied.
    type Reply;
    /// What the shell is to do once the batch is applied.
    type Effect;

    /// Rebuilds the volatile state from rows. `time` is the fence's.
    ///
    /// # Errors
    /// [`Damage`] when rows make no sense: the group stops on this node.
    fn recover(
        config: Self::Config,
        partition: tidemill_types::PartitionId,
        time: Timestamp,
        rows: &dyn Rows,
    ) -> Result<Self, Damage>;

    /// Decides one command. A rejection changes nothing.
    ///
    /// # Errors
    /// [`Damage`] when rows make no sense.
    fn handle(
        &mut self,
        command: Self::Command,
        now: Timestamp,
        rows: &dyn Rows,
    ) -> Result<Result<Self::Reply, Rejection>, Damage>;

    /// Does what is due by `now`.
    ///
    /// # Errors
    /// [`Damage`] when rows make no sense.
    fn tick(&mut self, now: Timestamp, rows: &dyn Rows) -> Result<(), Damage>;

    /// When [`tick`](Self::tick) has something to do next; `Some` of a past time means at once.
    fn next_due(&self) -> Option<Timestamp>;

    /// True when there is something to propose.
    fn has_batch(&self) -> bool;

    /// About how many rows and records the batch being made has.
    fn batch_len(&self) -> usize;

    /// About how many bytes its keys, values and records have.
    fn batch_bytes(&self) -> usize;

    /// Closes the batch being made as number `seq` of the epoch; its time is [`now`](Self::now).
    ///
    /// # Errors
    /// [`Damage`] when rows make no sense.
    fn take_batch(&mut self, epoch: Epoch, seq: u64) -> Result<EncodedBatch, Damage>;

    /// Effects since the last call. Those given after a batch was taken and before the next command
    /// belong to that batch; when no batch was taken they may be carried out once all before are applied.
    fn take_effects(&mut self) -> Vec<Self::Effect>;

    /// Batches up to number `seq` are applied.
    fn applied(&mut self, seq: u64);

    /// The time of the last decision.
    fn now(&self) -> Timestamp;
}
