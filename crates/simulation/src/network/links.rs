//! The links between nodes, and what is on its way on them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tidemill_core::memory::MemoryRows;
use tidemill_types::PartitionId;
use tokio::sync::{mpsc, oneshot};

use crate::run;

/// A call's question.
#[derive(Clone)]
pub(crate) enum Request {
    Heartbeat(Bytes),
    Vote(Bytes),
    Transfer(Bytes),
    Snapshot(Bytes, MemoryRows),
}

impl Request {
    fn name(&self) -> &'static str {
        match self {
            Self::Heartbeat(_) => "heartbeat",
            Self::Vote(_) => "vote",
            Self::Transfer(_) => "transfer",
            Self::Snapshot(..) => "snapshot",
        }
    }
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Refused,
    Lost,
}

/// A call's answer.
pub(super) type Reply = Result<Bytes, Broken>;

/// Something on its way.
pub(crate) enum Body {
    Call {
        call: u64,
        group: PartitionId,
        request: Request,
    },
    Reply {
        call: u64,
        reply: Reply,
    },
    /// A leader opens a stream of appends.
    Open {
        stream: u64,
        group: PartitionId,
    },
    Append {
        stream: u64,
        bytes: Bytes,
    },
    /// The leader's side has ended.
    End {
        stream: u64,
    },
    Appended {
        stream: u64,
        bytes: Bytes,
    },
    /// The follower's side has ended.
    Ended {
        stream: u64,
    },
}

impl Body {
    fn name(&self) -> &'static str {
        match self {
            Self::Call { request, .. } => request.name(),
            Self::Reply { .. } => "reply",
            Self::Open { .. } => "open",
            Self::Append { .. } => "append",
            Self::End { .. } => "end",
            Self::Appended { .. } => "appended",
            Self::Ended { .. } => "ended",
        }
    }

    fn stream(&self) -> Option<u64> {
        match self {
            Self::Call { .. } | Self::Reply { .. } => None,
            Self::Open { stream, .. }
            | Self::Append { stream, .. }
            | Self::End { stream }
            | Self::Appended { stream, .. }
            | Self::Ended { stream } => Some(*stream),
        }
    }
}

struct Packet {
    from: u64,
    to: u64,
    body: Body,
    /// Of the link's own: no cut stops it.
    is_notice: bool,
}

struct Stream {
    client: u64,
    server: u64,
    /// When the last packet arrives, in each direction.
    last: [u64; 2],
    answers: Option<mpsc::UnboundedSender<Reply>>,
    is_broken: bool,
}

#[derive(Default)]
struct State {
    up: BTreeSet<u64>,
    cut: BTreeSet<(u64, u64)>,
    /// Nothing arrives there, whatever else is healed.
    deaf: BTreeSet<u64>,
    slow: BTreeSet<(u64, u64)>,
    lossy: BTreeSet<(u64, u64)>,
    packets: BTreeMap<(u64, u64), Packet>,
    /// Who asks whom.
    calls: BTreeMap<u64, (u64, u64, oneshot::Sender<Reply>)>,
    streams: BTreeMap<u64, Stream>,
    next: u64,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Links(Mutex<State>);

/// As long as keep-alive takes to give a silent connection up.
const GIVEN_UP_MS: u64 = 2_000;
/// What TCP takes to send again what was lost.
const AGAIN_MS: (u64, u64) = (150, 500);
const DELAY_MS: (u64, u64) = (0, 4);
const SLOW_DELAY_MS: (u64, u64) = (5, 250);
/// Of a thousand packets of a lossy link.
const LOST_PER_MILLE: u64 = 60;
/// Of a thousand calls or streams of a lossy link, by a connection that breaks.
const BROKEN_PER_MILLE: u64 = 10;

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn put(&mut self, due_ms: u64, packet: Packet) {
        let number = self.number();
        self.packets.insert((due_ms, number), packet);
    }

    fn send(&mut self, from: u64, to: u64, body: Body) {
        let (least, most) = if self.slow.contains(&(from, to)) {
            SLOW_DELAY_MS
        } else {
            DELAY_MS
        };
        let mut due = run::now_ms() + 1 + run::between(least, most);
        if self.lossy.contains(&(from, to)) {
            if run::chance(LOST_PER_MILLE) {
                run::count("packets sent again");
                due += run::between(AGAIN_MS.0, AGAIN_MS.1);
            }
            if run::chance(BROKEN_PER_MILLE) {
                run::count("connections broken");
                return self.lose(body, from, to);
            }
        }
        if let Some(stream) = body
            .stream()
            .and_then(|number| self.streams.get_mut(&number))
        {
            let last = &mut stream.last[usize::from(from == stream.server)];
            due = due.max(*last);
            *last = due;
        }
        run::note(body.name(), &[from, to, due]);
        self.put(
            due,
            Packet {
                from,
                to,
                body,
                is_notice: false,
            },
        );
    }

    /// A packet does not arrive, and some time later its connection is given up.
    fn lose(&mut self, body: Body, from: u64, to: u64) {
        match body {
            Body::Call { call, .. } => self.fail_call(call, from, GIVEN_UP_MS, Broken::Lost),
            // The one who asked waits for it at the other end.
            Body::Reply { call, .. } => self.fail_call(call, to, GIVEN_UP_MS, Broken::Lost),
            body => {
                if let Some(stream) = body.stream() {
                    self.break_stream(stream, GIVEN_UP_MS);
                }
            }
        }
    }

    fn fail_call(&mut self, call: u64, caller: u64, after_ms: u64, why: Broken) {
        let due = run::now_ms() + after_ms;
        let body = Body::Reply {
            call,
            reply: Err(why),
        };
        self.put(
            due,
            Packet {
                from: caller,
                to: caller,
                body,
                is_notice: true,
            },
        );
    }

    fn break_stream(&mut self, number: u64, after_ms: u64) {
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        if std::mem::replace(&mut stream.is_broken, true) {
            return;
        }
        let (client, server) = (stream.client, stream.server);
        let due = run::now_ms() + after_ms;
        for (to, body) in [
            (client, Body::Ended { stream: number }),
            (server, Body::End { stream: number }),
        ] {
            self.put(
                due,
                Packet {
                    from: to,
                    to,
                    body,
                    is_notice: true,
                },
            );
        }
    }
}

impl Links {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks; gives where the answer comes. There is always one, if only that there is none.
    pub fn call(
        &self,
        from: u64,
        to: u64,
        group: PartitionId,
        request: Request,
    ) -> oneshot::Receiver<Reply> {
        let (tell, told) = oneshot::channel();
        let mut state = self.state();
        let call = state.number();
        state.calls.insert(call, (from, to, tell));
        state.send(
            from,
            to,
            Body::Call {
                call,
                group,
                request,
            },
        );
        told
    }

    pub fn reply(&self, from: u64, to: u64, call: u64, reply: Bytes) {
        let reply = Ok(reply);
        self.state().send(from, to, Body::Reply { call, reply });
    }

    /// Refuses a call at once.
    pub fn refuse(&self, from: u64, to: u64, call: u64) {
        let reply = Err(Broken::Refused);
        self.state().send(from, to, Body::Reply { call, reply });
    }

    /// Opens a stream of appends; gives its number and where the answers come.
    pub fn open(
        &self,
        from: u64,
        to: u64,
        group: PartitionId,
    ) -> (u64, mpsc::UnboundedReceiver<Reply>) {
        // As long as what the peer may have in flight.
        #[allow(clippy::disallowed_methods)]
        let (tell, told) = mpsc::unbounded_channel();
        let mut state = self.state();
        let stream = state.number();
        state.streams.insert(
            stream,
            Stream {
                client: from,
                server: to,
                last: [0; 2],
                answers: Some(tell),
                is_broken: false,
            },
        );
        state.send(from, to, Body::Open { stream, group });
        (stream, told)
    }

    /// Sends on a stream.
    pub fn send(&self, from: u64, body: Body) {
        let mut state = self.state();
        let Some(stream) = body.stream().and_then(|number| state.streams.get(&number)) else {
            return;
        };
        if stream.is_broken {
            return;
        }
        let to = if stream.client == from {
            stream.server
        } else {
            stream.client
        };
        state.send(from, to, body);
    }

    /// An answer reaches the one who asked.
    pub fn answered(&self, call: u64, reply: Reply) {
        if let Some((.., tell)) = self.state().calls.remove(&call) {
            // It may have stopped waiting.
            let _ = tell.send(reply);
        }
    }

    /// An append's answer reaches the leader.
    pub fn appended(&self, stream: u64, bytes: Bytes) {
        if let Some(answers) = self
            .state()
            .streams
            .get(&stream)
            .and_then(|stream| stream.answers.as_ref())
        {
            let _ = answers.send(Ok(bytes));
        }
    }

    /// A stream's answers have ended, at the leader.
    pub fn ended(&self, stream: u64) {
        if let Some(stream) = self.state().streams.get_mut(&stream)
            && let Some(answers) = stream.answers.take()
            && stream.is_broken
        {
            let _ = answers.send(Err(Broken::Lost));
        }
    }

    /// What arrives now: from whom, at whom, what. What cannot arrive is lost here.
    pub fn arriving(&self) -> Vec<(u64, u64, Body)> {
        let now = run::now_ms();
        let mut state = self.state();
        let mut arriving = Vec::new();
        while let Some(first) = state.packets.first_entry()
            && first.key().0 <= now
        {
            let Packet {
                from,
                to,
                body,
                is_notice,
            } = first.remove();
            if !is_notice && (state.cut.contains(&(from, to)) || state.deaf.contains(&to)) {
                run::count("packets cut off");
                state.lose(body, from, to);
            } else if !state.up.contains(&to) {
                match body {
                    // The port refuses.
                    Body::Call { call, .. } => state.fail_call(call, from, 1, Broken::Refused),
                    body => {
                        if let Some(stream) = body.stream() {
                            state.break_stream(stream, 1);
                        }
                    }
                }
            } else {
                arriving.push((from, to, body));
            }
        }
        arriving
    }

    pub fn set_up(&self, node: u64) {
        self.state().up.insert(node);
    }

    /// A node is gone: its calls with it, and its connections.
    pub fn set_down(&self, node: u64, is_silent: bool) {
        let mut state = self.state();
        state.up.remove(&node);
        state.calls.retain(|_, (caller, ..)| *caller != node);
        let after_ms = if is_silent { GIVEN_UP_MS } else { 2 };
        let broken: Vec<u64> = state
            .streams
            .iter()
            .filter(|(_, stream)| stream.client == node || stream.server == node)
            .map(|(number, _)| *number)
            .collect();
        for stream in broken {
            state.break_stream(stream, after_ms);
        }
        // Calls that it has not answered: whoever asked hears of it as of a broken connection, at the latest.
        let waiting: Vec<(u64, u64)> = state
            .calls
            .iter()
            .filter(|(_, (_, asked, _))| *asked == node)
            .map(|(call, (caller, ..))| (*call, *caller))
            .collect();
        for (call, caller) in waiting {
            state.fail_call(call, caller, after_ms, Broken::Lost);
        }
    }

    pub fn set_cut(&self, from: u64, to: u64) {
        self.state().cut.insert((from, to));
    }

    pub fn set_slow(&self, from: u64, to: u64) {
        self.state().slow.insert((from, to));
    }

    pub fn set_lossy(&self, from: u64, to: u64) {
        self.state().lossy.insert((from, to));
    }

    /// From now on nothing arrives at a node, or all does again.
    pub fn set_deaf(&self, node: u64, is_deaf: bool) {
        if is_deaf {
            self.state().deaf.insert(node);
        } else {
            self.state().deaf.remove(&node);
        }
    }

    /// All links are well again; a deaf node stays so.
    pub fn heal(&self) {
        let mut state = self.state();
        state.cut.clear();
        state.slow.clear();
        state.lossy.clear();
    }
}
