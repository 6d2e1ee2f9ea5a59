//! Random operations against maps in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use tidemill_rows::{Key, Mutation, Table};
use tidemill_store::{LogEntry, LogStore, StoreError};
use tidemill_types::PartitionId;

use super::{GROUP, entry, open, sync};

#[derive(Clone, Debug)]
enum LogStep {
    Append {
        count: u64,
        len: usize,
        wait: bool,
    },
    Truncate {
        back: u64,
    },
    Purge {
        ahead: u64,
    },
    Vote(u8),
    Committed(u8),
    Read {
        ahead: u64,
        count: u64,
        bytes_max: usize,
    },
    Reopen,
}

fn log_step() -> impl Strategy<Value = (u16, LogStep)> {
    let step = prop_oneof![
        8 => (0..6_u64, 0..3000_usize, any::<bool>())
            .prop_map(|(count, len, wait)| LogStep::Append { count, len, wait }),
        2 => (0..8_u64).prop_map(|back| LogStep::Truncate { back }),
        2 => (0..9_u64).prop_map(|ahead| LogStep::Purge { ahead }),
        1 => any::<u8>().prop_map(LogStep::Vote),
        1 => any::<u8>().prop_map(LogStep::Committed),
        6 => (0..12_u64, 0..12_u64, 0..9000_usize)
            .prop_map(|(ahead, count, bytes_max)| LogStep::Read { ahead, count, bytes_max }),
        1 => Just(LogStep::Reopen),
    ];
    (1..3_u16, step)
}

#[derive(Default)]
struct LogModel {
    entries: BTreeMap<u64, LogEntry>,
    purged: Option<u64>,
    vote: Option<Bytes>,
    committed: Option<Bytes>,
    salt: u8,
}

impl LogModel {
    fn next(&self) -> u64 {
        let last = self.entries.keys().next_back().copied().max(self.purged);
        last.map_or(0, |last| last + 1)
    }

    fn first(&self) -> u64 {
        self.purged.map_or(0, |purged| purged + 1)
    }

    fn read(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<LogEntry>, StoreError> {
        if let Some(purged) = self.purged
            && from <= purged
            && from < to
        {
            return Err(StoreError::Purged {
                group: GROUP,
                index: from,
                purged,
            });
        }
        let mut bytes = 0;
        let fits = |entry: &&LogEntry| {
            let is_first = bytes == 0 && entry.index == from;
            bytes += entry.bytes.len();
            is_first || bytes <= bytes_max
        };
        let entries = self
            .entries
            .range(from..to.max(from))
            .map(|(_, entry)| entry);
        Ok(entries.take_while(fits).cloned().collect())
    }

    fn check(&self, log: &LogStore) {
        assert_eq!(log.read_vote(), Ok(self.vote.clone()));
        assert_eq!(log.read_committed(), Ok(self.committed.clone()));
        let marker = self.purged.map(|purged| Bytes::from(purged.to_string()));
        assert_eq!(log.read_purged(), Ok(marker));
        assert_eq!(log.last(), Ok(self.entries.values().next_back().cloned()));
        let all: Vec<_> = self.entries.values().cloned().collect();
        assert_eq!(log.read(self.first(), u64::MAX, usize::MAX), Ok(all));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_log_equals_its_model(steps in vec(log_step(), 1..60)) {
        let dir = tempfile::tempdir().expect("dir");
        let mut store = open(dir.path());
        let mut models = BTreeMap::<u16, LogModel>::new();
        let ok = || -> tidemill_store::Done { Box::new(|result| result.expect("written")) };
        for (group, step) in steps {
            let log = store.log(PartitionId(group));
            let model = models.entry(group).or_default();
            match step {
                LogStep::Append { count, len, wait } => {
                    model.salt = model.salt.wrapping_add(1);
                    let from = model.next();
                    let entries: Vec<_> = (from..from + count)
                        .map(|index| entry(index, model.salt, len))
                        .collect();
                    model.entries.extend(entries.iter().map(|entry| (entry.index, entry.clone())));
                    if wait {
                        sync(|done| log.append(entries, done)).expect("append");
                    } else {
                        log.append(entries, ok());
                    }
                }
                LogStep::Truncate { back } => {
                    let from = model.next().saturating_sub(back).max(model.first());
                    model.entries.split_off(&from);
                    log.truncate_from(from, ok());
                }
                LogStep::Purge { ahead } => {
                    let to = model.first() + ahead;
                    model.entries = model.entries.split_off(&(to + 1));
                    model.purged = Some(to);
                    log.purge_to(to, Bytes::from(to.to_string()), ok());
                }
                LogStep::Vote(vote) => {
                    model.vote = Some(vec![vote].into());
                    log.save_vote(vec![vote].into(), ok());
                }
                LogStep::Committed(committed) => {
                    model.committed = Some(vec![committed].into());
                    log.save_committed(vec![committed].into());
                }
                LogStep::Read { ahead, count, bytes_max } => {
                    let from = (model.first() + ahead).saturating_sub(1);
                    let mut expected = model.read(from, from + count, bytes_max);
                    if let Err(StoreError::Purged { group: of, .. }) = &mut expected {
                        *of = PartitionId(group);
                    }
                    prop_assert_eq!(log.read(from, from + count, bytes_max), expected);
                }
                LogStep::Reopen => {
                    drop(log);
                    drop(store);
                    store = open(dir.path());
                    for (group, model) in &models {
                        model.check(&store.log(PartitionId(*group)));
                    }
                }
            }
            for (group, model) in &models {
                model.check(&store.log(PartitionId(*group)));
            }
        }
    }

    #[test]
    fn state_equals_a_map(
        batches in vec((vec(mutation(), 0..12), 0..12_u8, key(), key(), 0..9_usize, any::<bool>()), 1..40)
    ) {
        let dir = tempfile::tempdir().expect("dir");
        let mut store = open(dir.path());
        let mut state = store.state(GROUP).expect("state");
        let mut model = BTreeMap::<Key, Bytes>::new();
        let mut checkpointed = None;
        for (number, (mutations, action, from, to, limit, reverse)) in batches.into_iter().enumerate() {
            state.write(&mutations).expect("write");
            for mutation in mutations {
                match mutation {
                    Mutation::Put { key, value } => {
                        model.insert(key, value);
                    }
                    Mutation::Delete { key } => {
                        model.remove(&key);
                    }
                    Mutation::DeleteRange { from, to } => {
                        model.retain(|key, _| *key < from || *key >= to);
                    }
                }
            }
            match action {
                0 => {
                    let view = state.view();
                    state.write(&[Mutation::DeleteRange {
                        from: Key::default(),
                        to: Key::from(b"\xff"),
                    }]).expect("write");
                    let seen = view.scan(b"", b"\xff", usize::MAX, false).expect("scan");
                    prop_assert_eq!(seen, model.into_iter().collect::<Vec<_>>());
                    model = BTreeMap::new();
                }
                1 => state.flush().expect("flush"),
                2 => {
                    state.flush().expect("flush");
                    drop(state);
                    drop(store);
                    store = open(dir.path());
                    state = store.state(GROUP).expect("state");
                }
                3 => {
                    let to = dir.path().join(format!("checkpoint-{number}"));
                    state.checkpoint(&to).expect("checkpoint");
                    checkpointed = Some((to, model.clone()));
                }
                4 => {
                    if let Some((from, then)) = &checkpointed {
                        state.install(from).expect("install");
                        model = then.clone();
                    }
                }
                _ => {}
            }
            let expected: Vec<_> = if from < to {
                let range = model.range(from.clone()..to.clone());
                let range = range.map(|(key, value)| (key.clone(), value.clone()));
                if reverse { range.rev().take(limit).collect() } else { range.take(limit).collect() }
            } else {
                Vec::new()
            };
            prop_assert_eq!(state.scan(&from, &to, limit, reverse), Ok(expected));
            prop_assert_eq!(state.get(&from), Ok(model.get(&from).cloned()));
            let all: Vec<_> = model.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            prop_assert_eq!(state.scan(b"", b"\xff", usize::MAX, false), Ok(all));
        }
    }
}

/// Few keys, so that operations meet; some of tables that lie apart from the others.
fn key() -> impl Strategy<Value = Key> {
    let table = prop_oneof![
        Just(Table::NodeState),
        Just(Table::Execution),
        Just(Table::Step),
        Just(Table::Message),
        Just(Table::Request),
        Just(Table::Timer),
        Just(Table::Lease),
        Just(Table::ExecutionByFlow),
        Just(Table::Journal),
    ];
    let of_table = (table, vec(0..2_u8, 0..3)).prop_map(|(table, rest)| {
        let mut key = tidemill_rows::key::start(GROUP, table);
        key.put_slice(&rest);
        key.freeze()
    });
    prop_oneof![vec(0..3_u8, 0..4).prop_map(Key::from), of_table]
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        4 => (key(), vec(any::<u8>(), 0..50)).prop_map(|(key, value)| Mutation::Put { key, value: value.into() }),
        2 => key().prop_map(|key| Mutation::Delete { key }),
        1 => (key(), key()).prop_map(|(from, to)| Mutation::DeleteRange { from, to }),
    ]
}
