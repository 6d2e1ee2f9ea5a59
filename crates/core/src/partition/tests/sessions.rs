//! Sessions of one worker instance: what it does not hold any more is freed at once.

use tidemill_rows::journal::kind;

use super::*;

/// A worker says that it is there, at a place of its own for each word.
struct Word {
    instance: u64,
    number: u64,
    gateway: u64,
    holds: Vec<TaskId>,
}

fn word(number: u64, gateway: u64, holds: &[TaskId]) -> Word {
    Word {
        instance: 7,
        number,
        gateway,
        holds: holds.to_vec(),
    }
}

impl Bench {
    fn hear(&mut self, word: Word, limit: u32) {
        self.tell(PartitionCommand::Session(SessionUpdate {
            key: SessionKey {
                gateway: word.gateway,
                session: 1,
            },
            worker: "w".into(),
            serves: vec![("w".into(), "".into())],
            lease_ms: 30_000,
            limit,
            gone: false,
            instance: word.instance,
            number: word.number,
            holds: word.holds,
        }));
    }

    fn starts(&mut self, count: usize) -> Vec<ExecutionId> {
        let flow = self.arm(&chain(1));
        (0..count).map(|n| self.start(flow, json!(n))).collect()
    }

    fn kinds(&self, wanted: &str) -> usize {
        self.journal().iter().filter(|r| r.kind == wanted).count()
    }
}

#[test]
fn what_a_worker_does_not_hold_is_leased_again_at_once() {
    let mut bench = Bench::new();
    bench.hear(word(1, 1, &[]), 3);
    let ids = bench.starts(3);
    let held = bench.take().task;
    let lost: Vec<TaskId> = [bench.take().task, bench.take().task].into();
    // Its gateway dies; it comes back by another one.
    bench.hear(word(2, 2, &[held]), 2);
    let again: Vec<TaskGrant> = [bench.take(), bench.take()].into();
    assert!(bench.grants.is_empty(), "what it holds is not given out");
    for (grant, lost) in again.iter().zip(&lost) {
        assert_eq!(grant.task.step, lost.step);
        assert_eq!(grant.task.attempt, lost.attempt + 1);
        assert_eq!(grant.session.gateway, 2);
    }
    for task in lost {
        let outcome = Outcome::Success {
            messages: Vec::new(),
            node_state: None,
        };
        assert_eq!(
            bench.complete(task, outcome),
            CompletionStatus::LeaseLost,
            "the token fences whatever was said"
        );
    }
    bench.succeed(held, &[]);
    for grant in again {
        bench.succeed(grant.task, &[]);
    }
    for id in ids {
        assert_eq!(bench.state(id), ExecutionState::Succeeded);
    }
    assert_eq!(bench.kinds(kind::STEP_LEASE_FREED), 2);
    assert_eq!(bench.kinds(kind::STEP_LEASE_EXPIRED), 0);
}

#[test]
fn a_new_leader_frees_what_was_lost_with_the_old_one() {
    let mut bench = Bench::new();
    bench.hear(word(1, 1, &[]), 2);
    bench.starts(2);
    let (held, lost) = (bench.take().task, bench.take().task);
    bench.fail_over();
    // The same session, as its gateway knows it: the second task never arrived there.
    bench.hear(word(1, 2, &[held]), 1);
    assert_eq!(bench.take().task.step, lost.step);
    bench.succeed(held, &[]);
}

#[test]
fn an_older_session_gets_nothing_and_frees_nothing() {
    let mut bench = Bench::new();
    bench.hear(word(2, 2, &[]), 1);
    bench.starts(2);
    let task = bench.take().task;
    // A gateway that lives on says a session that its worker has left.
    bench.hear(word(1, 1, &[]), 5);
    assert!(bench.grants.is_empty());
    assert_eq!(bench.superseded, [key(1)]);
    bench.succeed(task, &[]);
    assert_eq!(bench.take().session.gateway, 2);
}

#[test]
fn an_older_session_that_is_heard_first_is_outdone_by_the_newer_one() {
    let mut bench = Bench::new();
    bench.hear(word(2, 2, &[]), 1);
    bench.starts(2);
    let newer = bench.take().task;
    bench.fail_over();
    // To the new leader the old session is the first that it hears of.
    bench.hear(word(1, 1, &[]), 5);
    let lost = bench.take().task;
    assert!(
        bench.grants.is_empty(),
        "a lease of the newer session is not the older one's to free"
    );
    bench.hear(word(2, 3, &[newer]), 1);
    assert_eq!(bench.superseded, [key(1)]);
    let again = bench.take();
    assert_eq!((again.task.step, again.session.gateway), (lost.step, 3));
    bench.succeed(newer, &[]);
    bench.succeed(again.task, &[]);
}

#[test]
fn a_late_word_of_an_older_stream_does_not_take_the_newer_ones_place() {
    let mut bench = Bench::new();
    bench.hear(word(1, 2, &[]), 1);
    bench.starts(1);
    let task = bench.take().task;
    bench.hear(word(1, 1, &[]), 1);
    assert!(bench.grants.is_empty());
    assert_eq!(bench.superseded, [key(1)]);
    // Nor when the newer one is gone.
    bench.tell(PartitionCommand::GatewayGone { gateway: 2 });
    bench.hear(word(1, 1, &[]), 1);
    assert!(bench.grants.is_empty());
    bench.succeed(task, &[]);
}

#[test]
fn changed_places_free_nothing() {
    let mut bench = Bench::new();
    bench.hear(word(1, 1, &[]), 1);
    bench.starts(2);
    bench.take();
    bench.hear(word(1, 1, &[]), 2);
    bench.take();
    assert_eq!(bench.kinds(kind::STEP_LEASE_FREED), 0);
    assert_eq!(bench.superseded, []);
}

#[test]
fn other_instances_keep_what_they_have() {
    let mut bench = Bench::with_worker(1);
    bench.starts(1);
    let task = bench.take().task;
    bench.hear(word(9, 2, &[]), 1);
    bench.hear(
        Word {
            instance: 0,
            ..word(9, 3, &[])
        },
        1,
    );
    assert!(bench.grants.is_empty());
    bench.succeed(task, &[]);
}

#[test]
fn very_many_lost_leases_are_freed_in_slices() {
    const COUNT: usize = tidemill_types::limits::LEASES_FREED_PER_TURN_MAX + 20;
    let mut bench = Bench::new();
    bench.hear(word(1, 1, &[]), COUNT as u32);
    bench.starts(COUNT);
    bench.grants.clear();
    bench.hear(word(2, 2, &[]), 0);
    assert_eq!(bench.count(Table::Lease), 20);
    assert_eq!(
        bench.partition.next_due().map(|due| due <= bench.now),
        Some(true)
    );
    bench.advance(0);
    assert_eq!(bench.count(Table::Lease), 0);
    assert_eq!(bench.count(Table::Queue), COUNT);
}

#[test]
fn a_step_that_breaks_every_stream_is_taken_for_poison() {
    let mut bench = Bench::new();
    bench.hear(word(1, 1, &[]), 1);
    let id = bench.starts(1)[0];
    for number in 2..=u64::from(tidemill_types::limits::LEASES_LOST_MAX) + 1 {
        bench.take();
        bench.hear(word(number, number, &[]), 1);
    }
    assert!(bench.grants.is_empty());
    assert_eq!(bench.state(id), ExecutionState::Failed);
}

fn key(gateway: u64) -> SessionKey {
    SessionKey {
        gateway,
        session: 1,
    }
}
