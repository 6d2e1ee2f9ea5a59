//! openraft's requests and answers, to and from the wire.

use openraft::{
    alias::VoteOf,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult,
        TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest,
        VoteResponse,
    },
};
use tidemill_proto::peer::v1::{
    self as peer, append_response::Result as AppendResult,
    transfer_leader_response::Result as Transfer,
};
use tidemill_types::PartitionId;

use crate::{
    codec::{
        CodecError, entry_from_wire, entry_to_wire, log_id_from_wire, log_id_to_wire,
        vote_from_wire, vote_to_wire,
    },
    raft::{LogId, Types},
};

pub(super) fn append_to_wire(request: AppendEntriesRequest<Types>) -> peer::AppendRequest {
    peer::AppendRequest {
        vote: Some(vote_to_wire(&request.vote)),
        prev: request.prev_log_id.map(log_id_to_wire),
        entries: request.entries.into_iter().map(entry_to_wire).collect(),
        commit: request.leader_commit.map(log_id_to_wire),
    }
}

pub(super) fn append_from_wire(
    request: peer::AppendRequest,
) -> Result<AppendEntriesRequest<Types>, CodecError> {
    let entries = request.entries.into_iter().map(entry_from_wire);
    Ok(AppendEntriesRequest {
        vote: vote_from_wire(request.vote)?,
        prev_log_id: request.prev.map(log_id_from_wire),
        entries: entries.collect::<Result<_, _>>()?,
        leader_commit: request.commit.map(log_id_from_wire),
    })
}

fn matching_to_wire(log_id: Option<LogId>) -> peer::Matching {
    peer::Matching {
        log_id: log_id.map(log_id_to_wire),
    }
}

pub(super) fn appended_to_wire(result: StreamAppendResult<Types>) -> peer::AppendResponse {
    peer::AppendResponse {
        result: Some(match result {
            Ok(log_id) => AppendResult::Matching(matching_to_wire(log_id)),
            Err(StreamAppendError::Conflict(log_id)) => {
                AppendResult::Conflict(log_id_to_wire(log_id))
            }
            Err(StreamAppendError::HigherVote(vote)) => {
                AppendResult::HigherVote(vote_to_wire(&vote))
            }
        }),
    }
}

pub(super) fn appended_from_wire(
    response: peer::AppendResponse,
) -> Result<StreamAppendResult<Types>, CodecError> {
    Ok(
        match response
            .result
            .ok_or(CodecError::Malformed("append response"))?
        {
            AppendResult::Matching(matching) => Ok(matching.log_id.map(log_id_from_wire)),
            AppendResult::Conflict(log_id) => {
                Err(StreamAppendError::Conflict(log_id_from_wire(log_id)))
            }
            AppendResult::HigherVote(vote) => {
                Err(StreamAppendError::HigherVote(vote_from_wire(Some(vote))?))
            }
        },
    )
}

/// What a follower's answer to a heartbeat after `prev` says. None: that nothing conflicts, which cannot be.
pub(super) fn heartbeat_result(
    response: AppendEntriesResponse<Types>,
    prev: Option<LogId>,
) -> Option<StreamAppendResult<Types>> {
    Some(match response {
        AppendEntriesResponse::Success => Ok(prev),
        AppendEntriesResponse::PartialSuccess(matching) => Ok(matching),
        AppendEntriesResponse::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote)),
        AppendEntriesResponse::Conflict => Err(StreamAppendError::Conflict(prev?)),
    })
}

pub(super) fn vote_request_to_wire(
    group: PartitionId,
    request: VoteRequest<Types>,
    pre_vote: bool,
) -> peer::VoteRequest {
    peer::VoteRequest {
        group: group.0.into(),
        vote: Some(vote_to_wire(&request.vote)),
        last: request.last_log_id.map(log_id_to_wire),
        leadership_transfer: request.leadership_transfer,
        pre_vote,
    }
}

pub(super) fn vote_request_from_wire(
    request: &peer::VoteRequest,
) -> Result<VoteRequest<Types>, CodecError> {
    let mut vote = VoteRequest::new(
        vote_from_wire(request.vote)?,
        request.last.map(log_id_from_wire),
    );
    vote.leadership_transfer = request.leadership_transfer;
    Ok(vote)
}

pub(super) fn vote_response_to_wire(response: &VoteResponse<Types>) -> peer::VoteResponse {
    peer::VoteResponse {
        vote: Some(vote_to_wire(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.map(log_id_to_wire),
    }
}

pub(super) fn vote_response_from_wire(
    response: peer::VoteResponse,
) -> Result<VoteResponse<Types>, CodecError> {
    let vote: VoteOf<Types> = vote_from_wire(response.vote)?;
    Ok(VoteResponse::new(
        vote,
        response.last.map(log_id_from_wire),
        response.granted,
    ))
}

pub(super) fn transfer_to_wire(
    group: PartitionId,
    request: &TransferLeaderRequest<Types>,
) -> peer::TransferLeaderRequest {
    peer::TransferLeaderRequest {
        group: group.0.into(),
        from: Some(vote_to_wire(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().copied().map(log_id_to_wire),
    }
}

pub(super) fn transfer_from_wire(
    request: peer::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<Types>, CodecError> {
    Ok(TransferLeaderRequest::new(
        vote_from_wire(request.from)?,
        request.to,
        request.last.map(log_id_from_wire),
    ))
}

pub(super) fn transferred_to_wire(
    response: TransferLeaderResponse<Types>,
) -> peer::TransferLeaderResponse {
    peer::TransferLeaderResponse {
        result: Some(match response {
            Ok(()) => Transfer::Accepted(true),
            Err(TransferLeaderError::VoteChanged { actual, .. }) => {
                Transfer::VoteChanged(vote_to_wire(&actual))
            }
            Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
                Transfer::NotFlushed(matching_to_wire(actual))
            }
        }),
    }
}

/// `expected_vote` and `expected_log` are what the request named.
pub(super) fn transferred_from_wire(
    response: peer::TransferLeaderResponse,
    expected_vote: VoteOf<Types>,
    expected_log: Option<LogId>,
) -> Result<TransferLeaderResponse<Types>, CodecError> {
    Ok(
        match response
            .result
            .ok_or(CodecError::Malformed("transfer response"))?
        {
            Transfer::Accepted(_) => Ok(()),
            Transfer::VoteChanged(vote) => Err(TransferLeaderError::VoteChanged {
                expected: expected_vote,
                actual: vote_from_wire(Some(vote))?,
            }),
            Transfer::NotFlushed(matching) => Err(TransferLeaderError::LogNotFlushed {
                expected: expected_log,
                actual: matching.log_id.map(log_id_from_wire),
            }),
        },
    )
}
