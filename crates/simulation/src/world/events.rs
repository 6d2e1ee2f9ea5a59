//! What is going to happen in the world, and what nodes say.

use tidemill_core::command::{CatalogReply, PartitionEffect, PartitionReply, TaskGrant};
use tidemill_proto::peer::v1::change_member_response::Result as Changed;
use tidemill_server::actor::AskError;
use tidemill_types::{FlowId, PartitionId};

use super::catalog::HandOver;

/// What is going to happen.
#[derive(Debug)]
pub(super) enum Event {
    /// A client wants something.
    ClientNext(usize),
    /// A request is sent, or sent again.
    Send(usize),
    /// A request reaches a node.
    Arrive {
        request: usize,
        attempt: u32,
        node: u64,
    },
    /// A client has waited long enough.
    TimeOut { request: usize, attempt: u32 },
    /// A worker sends a completion.
    Complete(usize),
    /// A task reaches its worker.
    Granted(Box<TaskGrant>),
    /// A gateway says which workers it has.
    Attach {
        node: u64,
        group: PartitionId,
        process: u64,
    },
    /// A fault strikes.
    Fault,
    /// A node comes back.
    Restart(u64),
    /// A node is paused, and hears nothing afterwards.
    Pause(u64),
    /// A paused node goes on.
    Resume(u64),
    /// Somebody reads on a node that was paused.
    ReadAt(u64),
    /// From now on a node hears nothing, or does again.
    Deafen(u64, bool),
    /// All links are well.
    Heal,
    /// A disk is well.
    Mend(u64),
    /// The activator on a node hands a flow over, if it still leads the catalog.
    HandOver {
        node: u64,
        process: u64,
        flow: FlowId,
    },
    /// The operator wants other members.
    Members,
    /// The operator asks again, if there was no answer to what it asked with this number.
    ChangeAgain(u64),
    /// A removed node's machine ends.
    Retire(u64),
}

/// What a group says to a client.
#[derive(Debug)]
pub(super) enum Reply {
    Partition(PartitionReply),
    Catalog(CatalogReply),
}

/// What a node says.
pub(super) enum Said {
    Nothing,
    Effects(Vec<PartitionEffect>),
    EpochBegan,
    /// Of the catalog.
    EpochEnded,
    HandOver(FlowId),
    HandedOver {
        hand_over: HandOver,
        answer: Result<PartitionReply, AskError>,
    },
    Answer {
        request: usize,
        attempt: u32,
        answer: Result<Reply, AskError>,
    },
    Completed {
        completion: usize,
        answer: Result<PartitionReply, AskError>,
    },
    /// Whether the execution of a request is there.
    Found {
        request: usize,
        is_there: bool,
    },
    /// What became of a change of members.
    Changed {
        asked: u64,
        answer: Result<Changed, String>,
    },
}
