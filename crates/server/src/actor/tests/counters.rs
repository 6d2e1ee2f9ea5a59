//! A decider that counts, and does on request what deciders should not.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tidemill_core::{Damage, command::Restarted};
use tidemill_rows::{
    BatchWriter, Change, EncodedBatch, Epoch, Hash,
    key::{self, Table},
};
use tidemill_types::Timestamp;

use super::super::*;

pub(super) const PARTITION: PartitionId = PartitionId(1);

/// Adds one to a counter with this name; some names do something else.
#[derive(Clone, Debug)]
pub(super) enum Add {
    One { name: String, progress: bool },
    Restarted(Restarted),
}

impl Add {
    pub(super) fn one(name: &str) -> Self {
        Self::One {
            name: name.into(),
            progress: false,
        }
    }

    pub(super) fn progress(name: &str) -> Self {
        Self::One {
            name: name.into(),
            progress: true,
        }
    }
}

/// What the test sees of the decider, and tells it.
#[derive(Default)]
pub(super) struct State {
    pub(super) decided: AtomicUsize,
    /// The names, in the order in which they were decided.
    pub(super) order: Mutex<Vec<String>>,
    pub(super) ticks: AtomicUsize,
    pub(super) tick_panics: AtomicBool,
    /// How many bytes each row counts.
    pub(super) row_bytes: AtomicUsize,
    /// Run when it recovers; true: the rows make no sense.
    pub(super) recovering: Mutex<Option<Recovering>>,
}

pub(super) type Recovering = Box<dyn FnOnce() -> bool + Send>;

pub(super) struct Counters {
    state: Arc<State>,
    time: Timestamp,
    due: Option<Timestamp>,
    /// Rows written and not applied, with the batch that writes them.
    in_flight: BTreeMap<Key, (u64, u64)>,
    pending: BTreeMap<Key, u64>,
    effects: Vec<String>,
}

fn counter_key(name: &str) -> Key {
    let mut key = key::start(PARTITION, Table::NodeState);
    key.put_slice(name.as_bytes());
    key.freeze()
}

impl Decider for Counters {
    type Config = Arc<State>;
    type Command = Add;
    type Reply = u64;
    type Effect = String;

    fn recover(
        state: Arc<State>,
        _: PartitionId,
        time: Timestamp,
        _: &dyn Rows,
    ) -> Result<Self, Damage> {
        let recovering = state.recovering.lock().expect("not poisoned").take();
        if recovering.is_some_and(|recovering| recovering()) {
            return Err(Damage::Missing("a row".into()));
        }
        Ok(Self {
            state,
            time,
            due: None,
            in_flight: BTreeMap::new(),
            pending: BTreeMap::new(),
            effects: Vec::new(),
        })
    }

    fn handle(
        &mut self,
        command: Add,
        now: Timestamp,
        rows: &dyn Rows,
    ) -> Result<Result<u64, Rejection>, Damage> {
        self.time = self.time.max(now);
        self.state.decided.fetch_add(1, SeqCst);
        let name = match command {
            Add::Restarted(panic) => {
                let text = format!("restarted {} {}", panic.command, panic.quarantine);
                self.effects.push(text);
                return Ok(Ok(0));
            }
            Add::One { name, .. } => name,
        };
        let mut order = self.state.order.lock().expect("not poisoned");
        order.push(name.clone());
        drop(order);
        match name.as_str() {
            "panic" => panic!("on purpose"),
            "reject" => return Ok(Err(Rejection::invalid("name", "reject"))),
            "damage" => return Err(Damage::Missing("a row".into())),
            "due" => self.due = Some(self.time),
            "later" => self.due = Some(self.time.plus_millis(60_000)),
            _ => {}
        }
        let key = counter_key(&name);
        let before = match (self.pending.get(&key), self.in_flight.get(&key)) {
            (Some(value), _) | (None, Some((_, value))) => *value,
            (None, None) => match rows.get(&key)? {
                Some(value) => u64::from_be_bytes(value.as_ref().try_into().expect("8 bytes")),
                None => 0,
            },
        };
        self.pending.insert(key, before + 1);
        self.effects.push(format!("{name}={}", before + 1));
        Ok(Ok(before + 1))
    }

    fn tick(&mut self, now: Timestamp, _: &dyn Rows) -> Result<(), Damage> {
        assert!(!self.state.tick_panics.load(SeqCst), "on purpose");
        self.time = self.time.max(now);
        self.due = None;
        self.state.ticks.fetch_add(1, SeqCst);
        Ok(())
    }

    fn next_due(&self) -> Option<Timestamp> {
        // As a decider that recovers its timers from rows would: due again after a restart.
        if self.state.tick_panics.load(SeqCst) {
            Some(self.time)
        } else {
            self.due
        }
    }

    fn has_batch(&self) -> bool {
        !self.pending.is_empty()
    }

    fn batch_len(&self) -> usize {
        self.pending.len()
    }

    fn batch_bytes(&self) -> usize {
        // What a test wants it to be: a batch of any size.
        self.pending.len() * self.state.row_bytes.load(SeqCst)
    }

    fn take_batch(&mut self, epoch: Epoch, seq: u64) -> Result<EncodedBatch, Damage> {
        let mut writer = BatchWriter::new(epoch, seq, self.time, 0, 0);
        for (key, value) in std::mem::take(&mut self.pending) {
            writer.push(Change::Put {
                key: &key,
                value: &value.to_be_bytes(),
            });
            self.in_flight.insert(key, (seq, value));
        }
        Ok(writer.finish())
    }

    fn take_effects(&mut self) -> Vec<String> {
        std::mem::take(&mut self.effects)
    }

    fn applied(&mut self, seq: u64) {
        self.in_flight.retain(|_, (written, _)| *written > seq);
    }

    fn now(&self) -> Timestamp {
        self.time
    }
}

impl Supervised for Counters {
    fn name(_: &Add) -> &'static str {
        "add"
    }

    fn identity(command: &Add) -> Add {
        command.clone()
    }

    fn admission(command: &Add) -> Admission {
        match command {
            Add::One {
                progress: false,
                name,
            } => Admission::NewWork {
                owner: FlowId::new(0, PARTITION, u64::from(name.as_bytes()[0])),
            },
            _ => Admission::Progress,
        }
    }

    fn weight(command: &Add) -> usize {
        // What a test wants it to be: the name says how many MiB.
        match command {
            Add::One { name, .. } if name.ends_with("MiB") => 1 << 20,
            _ => 0,
        }
    }

    fn restarted(panic: Restarted) -> Option<Add> {
        Some(Add::Restarted(panic))
    }

    fn is_quarantined(&self, _: Hash) -> bool {
        false
    }

    fn observe(
        _: PartitionId,
        _: &mut dyn Iterator<Item = &u64>,
        _: &[String],
        _: &mut Sequences,
        _: &Metrics,
    ) {
    }
}
