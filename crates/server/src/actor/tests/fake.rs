//! A log in memory, and an actor over it.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, RwLock,
        atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use tidemill_core::memory::MemoryRows;
use tidemill_replica::{Committed, ProposeError};
use tidemill_rows::{
    Batch, EncodedBatch, Epoch, Fence, Mutation,
    key::{self, Table},
};
use tidemill_types::Timestamp;
use tokio::sync::Notify;

use super::{
    super::*,
    counters::{Add, Counters, PARTITION, State},
};

/// Waits until something is so.
pub(super) async fn settled(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await; // between two looks at the condition
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("the condition comes true");
}

#[derive(Default)]
struct Gate {
    /// How many more may pass; none: all.
    open: Option<usize>,
    failures: VecDeque<ProposeError>,
}

/// A log in memory that keeps the fence's rule.
pub(super) struct FakeLog {
    rows: RwLock<MemoryRows>,
    fence: Mutex<Fence>,
    leadership: watch::Sender<Leadership>,
    gate: Mutex<Gate>,
    epochs: Mutex<(bool, Option<ProposeError>)>,
    changed: Notify,
    proposed: AtomicUsize,
    barriers: AtomicUsize,
    index: AtomicU64,
    /// Batches pass in their order.
    turn: AtomicUsize,
    /// Why the actor has retired the group.
    pub(super) retired: Mutex<Vec<String>>,
}

struct LogRows(Arc<FakeLog>);

impl Rows for LogRows {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError> {
        self.0.rows.read().expect("not poisoned").get(key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(Key, Bytes)>, RowsError> {
        self.0
            .rows
            .read()
            .expect("not poisoned")
            .scan(from, to, limit, reverse)
    }
}

impl FakeLog {
    pub(super) fn lead(&self, is_self: bool, leader: Option<NodeId>) {
        self.leadership.send_modify(|l| {
            *l = Leadership {
                leader,
                is_self,
                term: l.term + 1,
            };
        });
    }

    /// Another node leads and begins an epoch, and this one does not hear of it.
    pub(super) fn usurp(&self) {
        let mut fence = self.fence.lock().expect("not poisoned");
        let epoch = Epoch {
            term: self.leadership.borrow().term + 1,
            index: self.index.fetch_add(1, SeqCst),
        };
        *fence = fence.begin(epoch);
        write_fence(&mut self.rows.write().expect("not poisoned"), *fence);
    }

    pub(super) fn hold(&self) {
        self.gate.lock().expect("not poisoned").open = Some(0);
    }

    pub(super) fn release(&self, n: usize) {
        *self
            .gate
            .lock()
            .expect("not poisoned")
            .open
            .as_mut()
            .expect("held") += n;
        self.changed.notify_waiters();
    }

    pub(super) fn release_all(&self) {
        self.gate.lock().expect("not poisoned").open = None;
        self.changed.notify_waiters();
    }

    pub(super) fn fail(&self, error: ProposeError) {
        self.gate
            .lock()
            .expect("not poisoned")
            .failures
            .push_back(error);
        self.changed.notify_waiters();
    }

    pub(super) fn hold_epochs(&self) {
        self.epochs.lock().expect("not poisoned").0 = true;
    }

    pub(super) fn release_epochs(&self) {
        self.epochs.lock().expect("not poisoned").0 = false;
        self.changed.notify_waiters();
    }

    pub(super) fn refuse_epochs(&self, error: Option<ProposeError>) {
        self.epochs.lock().expect("not poisoned").1 = error;
    }

    pub(super) fn proposed(&self) -> usize {
        self.proposed.load(SeqCst)
    }

    pub(super) fn barriers(&self) -> usize {
        self.barriers.load(SeqCst)
    }

    pub(super) async fn proposals(&self, n: usize) {
        settled(|| self.proposed() >= n).await;
    }

    /// Waits for the batch's turn, then says whether it may be applied.
    async fn pass(&self, place: usize) -> Result<(), ProposeError> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.turn.load(SeqCst) == place {
                let mut gate = self.gate.lock().expect("not poisoned");
                let open = match &mut gate.open {
                    None => true,
                    Some(0) => false,
                    Some(n) => {
                        *n -= 1;
                        true
                    }
                };
                let outcome = if open {
                    Some(Ok(()))
                } else {
                    gate.failures.pop_front().map(Err)
                };
                if let Some(outcome) = outcome {
                    return outcome;
                }
            }
            changed.await;
        }
    }

    fn apply(&self, bytes: Bytes) -> Result<Committed, ProposeError> {
        let batch = Batch::decode(bytes).expect("what was encoded");
        let mut fence = self.fence.lock().expect("not poisoned");
        *fence = fence
            .admit(batch.epoch, batch.seq, batch.time)
            .map_err(ProposeError::Fenced)?;
        let mut rows = self.rows.write().expect("not poisoned");
        rows.apply(&batch.mutations);
        write_fence(&mut rows, *fence);
        Ok(Committed {
            index: self.index.fetch_add(1, SeqCst),
        })
    }
}

fn write_fence(rows: &mut MemoryRows, fence: Fence) {
    let key = key::start(PARTITION, Table::Fence).freeze();
    rows.apply(&[Mutation::Put {
        key,
        value: fence.encode(),
    }]);
}

/// Whatever becomes of a batch, even when it is dropped unseen, the next one's turn comes.
struct Turn(Arc<FakeLog>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.turn.fetch_add(1, SeqCst);
        self.0.changed.notify_waiters();
    }
}

/// As the actor sees it.
struct Handle(Arc<FakeLog>);

impl GroupLog for Handle {
    fn id(&self) -> PartitionId {
        PARTITION
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.0.leadership.subscribe()
    }

    fn start_epoch(&self) -> BoxFuture<'static, Result<Epoch, ProposeError>> {
        let log = Arc::clone(&self.0);
        Box::pin(async move {
            loop {
                let changed = log.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                {
                    let epochs = log.epochs.lock().expect("not poisoned");
                    if let Some(error) = &epochs.1 {
                        return Err(error.clone());
                    }
                    if !epochs.0 {
                        break;
                    }
                }
                changed.await;
            }
            let mut fence = log.fence.lock().expect("not poisoned");
            // After one that this node never heard of it leads in a later term.
            let term = log.leadership.borrow().term.max(fence.epoch.term);
            let epoch = Epoch {
                term,
                index: log.index.fetch_add(1, SeqCst),
            };
            *fence = fence.begin(epoch);
            write_fence(&mut log.rows.write().expect("not poisoned"), *fence);
            Ok(epoch)
        })
    }

    fn propose(&self, batch: EncodedBatch) -> BoxFuture<'static, Result<Committed, ProposeError>> {
        let log = Arc::clone(&self.0);
        let place = log.proposed.fetch_add(1, SeqCst);
        let turn = Turn(Arc::clone(&log));
        Box::pin(async move {
            let passed = log.pass(place).await;
            let outcome = passed.and_then(|()| log.apply(batch.into_bytes()));
            drop(turn);
            outcome
        })
    }

    fn read_barrier(&self) -> BoxFuture<'static, Result<(), ReadError>> {
        self.0.barriers.fetch_add(1, SeqCst);
        Box::pin(std::future::ready(Ok(())))
    }

    fn applied(&self) -> u64 {
        self.0.index.load(SeqCst)
    }

    fn rows(&self) -> SharedRows {
        Arc::new(LogRows(Arc::clone(&self.0)))
    }

    fn snapshot(&self) -> SharedRows {
        let rows = self.0.rows.read().expect("not poisoned").clone();
        Arc::new(rows)
    }

    fn fault(&self) -> Option<String> {
        None
    }

    fn retire(&self, reason: &str) {
        let mut retired = self.0.retired.lock().expect("not poisoned");
        retired.push(reason.to_owned());
    }
}

#[derive(Default)]
struct Sink {
    effects: Mutex<Vec<String>>,
    began: AtomicUsize,
    ended: AtomicUsize,
}

impl EffectSink<String> for Sink {
    fn deliver(&self, effects: Vec<String>) {
        self.effects.lock().expect("not poisoned").extend(effects);
    }

    fn epoch_ended(&self) {
        self.ended.fetch_add(1, SeqCst);
    }

    fn epoch_began(&self) {
        self.began.fetch_add(1, SeqCst);
    }
}

/// An actor with all that it needs.
pub(super) struct Fixture {
    pub(super) handle: GroupHandle<Counters>,
    pub(super) log: Arc<FakeLog>,
    pub(super) state: Arc<State>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) disk_low: Arc<AtomicBool>,
    pub(super) stop: CancellationToken,
    pub(super) task: Option<JoinHandle<()>>,
    sink: Arc<Sink>,
    time: Arc<AtomicI64>,
}

impl Fixture {
    pub(super) fn leader() -> Self {
        Self::new(Leadership {
            leader: Some(NodeId(1)),
            is_self: true,
            term: 1,
        })
    }

    pub(super) fn follower(leader: u64) -> Self {
        Self::new(Leadership {
            leader: Some(NodeId(leader)),
            is_self: false,
            term: 1,
        })
    }

    fn new(leadership: Leadership) -> Self {
        let log = Arc::new(FakeLog {
            rows: RwLock::default(),
            fence: Mutex::default(),
            leadership: watch::Sender::new(leadership),
            gate: Mutex::default(),
            epochs: Mutex::default(),
            changed: Notify::new(),
            proposed: AtomicUsize::new(0),
            barriers: AtomicUsize::new(0),
            index: AtomicU64::new(1),
            turn: AtomicUsize::new(0),
            retired: Mutex::default(),
        });
        let (state, sink) = (Arc::new(State::default()), Arc::new(Sink::default()));
        let metrics = Arc::new(Metrics::new());
        let disk_low = Arc::new(AtomicBool::new(false));
        let stop = CancellationToken::new();
        let time = Arc::new(AtomicI64::new(1_000_000));
        let clock = Arc::clone(&time);
        let options = ActorOptions {
            config: Arc::clone(&state),
            sink: Arc::clone(&sink) as Arc<dyn EffectSink<String>>,
            metrics: Arc::clone(&metrics),
            clock: Arc::new(move || Timestamp(clock.load(SeqCst))),
            disk_low: Arc::clone(&disk_low),
            stop: stop.clone(),
        };
        let (handle, task) = spawn(
            Arc::new(Handle(Arc::clone(&log))),
            options,
            &tokio::runtime::Handle::current(),
        );
        Self {
            handle,
            log,
            state,
            metrics,
            disk_low,
            stop,
            task: Some(task),
            sink,
            time,
        }
    }

    pub(super) fn ask(&self, name: &str) -> JoinHandle<Result<u64, AskError>> {
        let (handle, command) = (self.handle.clone(), Add::one(name));
        tokio::spawn(async move { handle.ask(command).await })
    }

    pub(super) fn decided(&self) -> usize {
        self.state.decided.load(SeqCst)
    }

    pub(super) fn effects(&self) -> Vec<String> {
        self.sink.effects.lock().expect("not poisoned").clone()
    }

    pub(super) fn epochs_began(&self) -> usize {
        self.sink.began.load(SeqCst)
    }

    pub(super) fn epochs_ended(&self) -> usize {
        self.sink.ended.load(SeqCst)
    }

    pub(super) fn advance(&self, by: Duration) {
        self.time.fetch_add(by.as_micros() as i64, SeqCst);
    }
}
