//! The way of a call to the leader of its group: here, one hop away, or nowhere for now.

use std::time::Duration;

use tidemill_core::Decider;
use tidemill_replica::PeerChannel;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{Response, Status};

use super::{Origin, code_of, is_not_leader, status};
use crate::{
    actor::{AskError, GroupHandle},
    node::Node,
    request::ANSWERED_BY,
};

/// How long a call waits for a leader before it is answered `UNAVAILABLE`: longer than an election takes.
const LEADER_WAIT: Duration = Duration::from_secs(5);
/// Pause before the same node is asked again, unless there is news of a leader sooner.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether a call changes anything: a lost answer then means that the outcome is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
}

/// Whether an answer was lost on its way back.
#[derive(Default)]
struct Lost {
    /// It was the answer to a write.
    may_have_happened: bool,
}

impl Lost {
    /// What the caller gets to hear: whoever refuses a repeat does not know of the attempt before it, which may
    /// still take effect even then.
    fn outcome(&self, refused: Status) -> Status {
        if !self.may_have_happened {
            return refused;
        }
        tracing::debug!(%refused, "refused after an attempt whose answer was lost");
        status(AskError::Unknown)
    }
}

/// The answer of another node.
pub(crate) fn forwarded<T>(answer: Result<Response<T>, Status>) -> Result<T, Status> {
    answer.map(Response::into_inner)
}

impl Node {
    /// Has a call answered by the group's leader: by `local` when that is this node, by `remote`
    /// over a connection to it otherwise. Both may be called again after a change of leader, so a
    /// write must carry its request id.
    pub(crate) async fn on_leader<D, T, L, LF, R, RF>(
        &self,
        origin: Origin,
        kind: Kind,
        group: &GroupHandle<D>,
        local: L,
        remote: R,
    ) -> Result<T, Status>
    where
        D: Decider,
        L: Fn(GroupHandle<D>) -> LF,
        LF: Future<Output = Result<T, AskError>>,
        R: Fn(PeerChannel) -> RF,
        RF: Future<Output = Result<T, Status>>,
    {
        if origin == Origin::Peer {
            return local(group.clone()).await.map_err(status);
        }
        let mut deadline = Instant::now() + LEADER_WAIT;
        let mut leadership = group.leadership();
        let mut lost = Lost::default();
        loop {
            let now = *leadership.borrow_and_update();
            let asked = Instant::now();
            if now.is_self {
                match local(group.clone()).await {
                    Ok(answer) => {
                        let _ = ANSWERED_BY.try_with(|by| by.set(None));
                        return Ok(answer);
                    }
                    Err(AskError::NotLeader { .. }) => {}
                    Err(error) => return Err(lost.outcome(status(error))),
                }
            } else if let Some(channel) =
                now.leader.and_then(|node| self.replica.peer_channel(node))
            {
                let answer = tokio::select! {
                    // Boxed: most calls do not need its place, and those on this node are moved with it.
                    answer = Box::pin(remote(channel)) => answer,
                    // Another one leads: the one that was asked may never answer.
                    _ = leadership.wait_for(|news| news.leader != now.leader) => {
                        Err(Status::unavailable("the leader has changed"))
                    }
                };
                let outcome = match &answer {
                    Ok(_) => "answered",
                    Err(error) if is_not_leader(error) => "not_leader",
                    Err(error) if code_of(error).is_some() => "refused",
                    Err(_) => "failed",
                };
                let partition = group.partition().to_string();
                let forwards = &self.metrics.forwards;
                forwards.with(&[&partition, outcome]).add(1);
                match answer {
                    Ok(answer) => {
                        // Not within a request's scope, when nobody is to be told.
                        let _ = ANSWERED_BY.try_with(|by| by.set(now.leader));
                        return Ok(answer);
                    }
                    Err(error) if is_not_leader(&error) => {}
                    Err(error) if code_of(&error).is_some() => return Err(lost.outcome(error)),
                    Err(error) => {
                        tracing::debug!(partition = %group.partition(), leader = ?now.leader, %error, "forwarded call failed");
                        lost.may_have_happened |= kind == Kind::Write;
                    }
                }
            }
            if asked.elapsed() > PAUSE {
                // It had a leader until now: a call that waits for something outlives elections.
                deadline = Instant::now() + LEADER_WAIT;
            }
            let is_nowhere = group.fault().is_some() && self.replica.members().len() == 1;
            if is_nowhere || Instant::now() >= deadline {
                return Err(lost.outcome(status(match group.fault() {
                    // Nobody else has it either: waiting longer helps nobody.
                    Some(fault) => AskError::Corrupt(fault),
                    None => AskError::NotLeader { leader: now.leader },
                })));
            }
            if now.leader.is_none() {
                let _ = timeout_at(deadline, leadership.changed()).await;
            } else {
                let _ = timeout(PAUSE, leadership.changed()).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, http::Response};
    use tidemill_proto::v1::{GetExecutionRequest, GetFlowRequest, GetScheduleRequest};
    use tidemill_replica::PeerIdentity;
    use tidemill_types::{NodeId, limits::ANSWER_BYTES_MAX};
    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::{
        Code,
        service::Routes,
        transport::{Channel, Server},
    };

    use super::*;
    use crate::gateway::{execution, flow, schedule};

    #[test]
    fn a_refusal_after_a_lost_answer_is_no_refusal() {
        let refusals = || {
            [
                AskError::Overloaded { retry_after_ms: 7 },
                AskError::Unavailable("x".into()),
                AskError::NotLeader { leader: None },
                AskError::Corrupt("x".into()),
            ]
            .map(status)
        };
        for refused in refusals() {
            let code = refused.code();
            assert_eq!(Lost::default().outcome(refused).code(), code);
        }
        let lost = Lost {
            may_have_happened: true,
        };
        for refused in refusals() {
            let told = lost.outcome(refused);
            assert_eq!(told.code(), Code::Unknown);
            assert_eq!(code_of(&told).as_deref(), Some("TM0203"));
        }
    }

    /// A channel to a node that announces an answer of so many bytes, and sends none of them.
    async fn answers_with(bytes: usize) -> PeerChannel {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it has one");
        let length = u32::try_from(bytes).expect("four bytes");
        let routes = Router::new().fallback(move || async move {
            let head = [&[0][..], &length.to_be_bytes()].concat();
            Response::builder()
                .header("content-type", "application/grpc")
                .body(Body::from(head))
                .expect("an answer")
        });
        let incoming = TcpListenerStream::new(listener);
        let server = Server::builder().add_routes(Routes::from(routes));
        tokio::spawn(server.serve_with_incoming(incoming));
        let channel = Channel::from_shared(format!("http://{address}")).expect("an address");
        let channel = channel.connect().await.expect("it listens");
        let identity = PeerIdentity::new("test", NodeId(1)).expect("ASCII");
        PeerChannel::new(channel, identity)
    }

    #[tokio::test]
    async fn another_nodes_answer_has_so_many_bytes() {
        for (bytes, is_too_large) in [(ANSWER_BYTES_MAX, false), (ANSWER_BYTES_MAX + 1, true)] {
            let channel = answers_with(bytes).await;
            let of_execution = execution::client(channel.clone())
                .get_execution(GetExecutionRequest::default())
                .await
                .expect_err("it is cut off");
            let of_flow = flow::client(channel.clone())
                .get_flow(GetFlowRequest::default())
                .await
                .expect_err("it is cut off");
            let of_schedule = schedule::client(channel)
                .get_schedule(GetScheduleRequest::default())
                .await
                .expect_err("it is cut off");
            for error in [of_execution, of_flow, of_schedule] {
                assert_eq!(error.code() == Code::OutOfRange, is_too_large, "{error:?}");
            }
        }
    }
}
