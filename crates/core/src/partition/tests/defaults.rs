//! What holds when neither the configuration nor the caller says otherwise, at its limit.

use tidemill_rows::table::ScheduleChange;
use tidemill_types::limits::{
    LEASE_MS_DEFAULT, LEDGER_KEPT_MS_DEFAULT, ROWS_FORGOTTEN_PER_TURN_MAX,
    SCHEDULE_REQUESTS_KEPT_MAX,
};

use super::*;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

#[test]
fn a_worker_that_names_no_lease_gets_the_default() {
    let mut bench = Bench::new();
    bench.tell(PartitionCommand::Session(SessionUpdate {
        key: SessionKey {
            gateway: 1,
            session: 1,
        },
        worker: "w".into(),
        serves: vec![("w".into(), "".into())],
        lease_ms: 0,
        limit: 1,
        gone: false,
        instance: 0,
        number: 0,
        holds: Vec::new(),
    }));
    let flow = bench.arm(&chain(1));
    bench.start(flow, json!(1));
    let task = bench.take();
    assert_eq!(task.lease_ms, LEASE_MS_DEFAULT);
    bench.advance(u64::from(LEASE_MS_DEFAULT) - 1);
    assert!(bench.grants.is_empty(), "it still has it");
    bench.advance(1);
    assert_eq!(bench.take().task.attempt, 2);
}

#[test]
fn a_schedule_remembers_some_requests() {
    let mut bench = Bench::new();
    let flow = bench.arm(&super::scheduling::every_second(""));
    let mut change = |request: usize| {
        let change = match request % 2 {
            0 => ScheduleChange::Pause,
            _ => ScheduleChange::Resume,
        };
        let command = ChangeSchedule {
            flow,
            change,
            reason: String::new(),
            request_id: format!("r{request}"),
        };
        match bench.ask(PartitionCommand::ChangeSchedule(command)) {
            Ok(PartitionReply::Done { changed }) => changed,
            other => panic!("{other:?}"),
        }
    };
    // Paused, resumed, paused, ...: each changes something; it ends paused.
    for request in 0..=SCHEDULE_REQUESTS_KEPT_MAX {
        assert!(change(request));
    }
    assert!(
        change(1),
        "remembered: answered as then, nothing is resumed"
    );
    assert!(
        !change(0),
        "forgotten: a new request, and it is paused already"
    );
}

#[test]
fn a_turn_removes_some_rows_of_a_deleted_flow() {
    let mut bench = Bench::with_config(PartitionConfig {
        retention_ms: 1_000,
        ..PartitionConfig::default()
    });
    bench.worker(1, 1);
    let flow = bench.arm(&super::scheduling::every_second(", overlap: skip"));
    let count = ROWS_FORGOTTEN_PER_TURN_MAX + 100;
    for _ in 0..count {
        bench.advance(1_000);
        if let Some(grant) = bench.grants.pop() {
            bench.succeed(grant.task, &[]);
        }
    }
    let activation = bench.activation;
    bench.tell(PartitionCommand::Disarm(DisarmFlow {
        flow,
        activation,
        cancel_running: true,
    }));
    // The last executions retire.
    bench.advance(2_000);
    assert_eq!(bench.count(Table::Execution), 0);
    let before = bench.count(Table::Occurrence);
    assert!(before > ROWS_FORGOTTEN_PER_TURN_MAX);
    bench.tell(PartitionCommand::Forget { flow });
    bench.batch_rows_max = 0;
    bench.advance(5);
    // Its other rows count too.
    let left = bench.count(Table::Occurrence) + ROWS_FORGOTTEN_PER_TURN_MAX - before;
    assert!(left <= 5, "{left} more than the limit are left");
    bench.advance(5);
    assert_eq!(bench.count(Table::Occurrence), 0);
}

#[test]
fn the_ledger_is_kept_for_four_hundred_days() {
    let mut bench = Bench::with_worker(100);
    let flow = bench.arm(&format!(
        "{}trigger:\n  schedule: {{every: 100d}}\n",
        chain(1)
    ));
    for _ in 0..8 {
        bench.advance(100 * DAY_MS);
        bench.echo_all();
    }
    // One falls due each 100 days; those of the last 400 days are there.
    let days: Vec<u64> = bench
        .ledger_of(flow)
        .iter()
        .map(|(at, _)| *at as u64 / DAY_MS)
        .collect();
    let kept_days = LEDGER_KEPT_MS_DEFAULT / DAY_MS;
    let span = days[days.len() - 1] - days[0];
    assert!(
        span <= kept_days && span >= kept_days - 100,
        "{span} days: {days:?}"
    );
}
