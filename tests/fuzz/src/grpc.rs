//! Requests of the public API, as the bytes of one protobuf message.

use std::fmt::Debug;

use prost::Message;
use tidemill_proto::v1 as api;
use tidemill_server::work::fuzz;
use tidemill_types::{ExecutionId, FlowId, TaskId};

/// A byte for the type, then the message. Accepted: read, and right as far as that can be told without state.
pub fn grpc(bytes: &[u8]) -> bool {
    let Some((kind, message)) = bytes.split_first() else {
        return false;
    };
    ids(message);
    match REQUESTS.get(usize::from(*kind)) {
        Some((_, request)) => request(message),
        None => false,
    }
}

/// Ids that are read are written the same, but for the case of letters.
fn ids(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(id) = text.parse::<ExecutionId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    if let Ok(id) = text.parse::<FlowId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    if let Ok(id) = text.parse::<TaskId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}

/// Reads a message; what was read is written, and read again is the same.
pub fn read<M: Message + Default + PartialEq + Debug>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let written = message.encode_to_vec();
    let again = M::decode(written.as_slice()).expect("we wrote it");
    assert_eq!(again, message);
    Some(message)
}

fn read_only<M: Message + Default + PartialEq + Debug>(bytes: &[u8]) -> bool {
    read::<M>(bytes).is_some()
}

type Read = fn(&[u8]) -> bool;

macro_rules! read_only {
    ($($name:ident)*) => { [$((stringify!($name), read_only::<api::$name> as Read)),*] };
}

/// Every request. The place in the list is the byte in the seeds: add at the end.
pub const REQUESTS: &[(&str, Read)] = &{
    let checked: [(&str, Read); 3] = [
        ("StartExecutionRequest", |bytes| {
            read(bytes).is_some_and(fuzz::start_execution)
        }),
        ("CancelExecutionRequest", |bytes| {
            read(bytes).is_some_and(fuzz::cancel_execution)
        }),
        ("WorkRequest", |bytes| read(bytes).is_some_and(fuzz::work)),
    ];
    let rest = read_only!(
        GetStatusRequest AddMemberRequest RemoveMemberRequest TransferLeadershipRequest
        GetExecutionRequest ListExecutionsRequest ListStepsRequest WatchExecutionRequest
        WaitExecutionRequest RedriveExecutionRequest ApplyFlowRequest ValidateFlowRequest GetFlowRequest
        ListFlowsRequest PublishFlowRequest ListFlowVersionsRequest GetFlowVersionRequest StartFlowRequest
        StopFlowRequest DeleteFlowRequest ReadJournalRequest GetHeadsRequest PreviewScheduleRequest
        GetScheduleRequest PauseScheduleRequest ResumeScheduleRequest BackfillScheduleRequest
        ListOccurrencesRequest PollTasksRequest StartExecutionsRequest
    );
    let mut all = [checked[0]; 3 + 30];
    let mut at = 0;
    while at < all.len() {
        all[at] = if at < 3 { checked[at] } else { rest[at - 3] };
        at += 1;
    }
    all
};
