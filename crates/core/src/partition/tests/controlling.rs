//! Schedules that are paused, resumed, fired by hand, backfilled and stopped.

use tidemill_rows::table::{BackfillState, OccurrenceKind, OccurrenceOutcome, ScheduleChange};

use super::{scheduling::every_second, *};

impl Bench {
    fn change(
        &mut self,
        flow: FlowId,
        change: ScheduleChange,
        request_id: &str,
    ) -> Result<PartitionReply, Rejection> {
        self.ask(PartitionCommand::ChangeSchedule(ChangeSchedule {
            flow,
            change,
            reason: "a test".into(),
            request_id: request_id.into(),
        }))
    }

    fn backfill_command(&self, flow: FlowId, seconds: (i64, i64), request_id: &str) -> Backfill {
        let at = |seconds: i64| Timestamp::from_millis(1_800_000_000_000 + seconds * 1_000);
        Backfill {
            flow,
            from: at(seconds.0),
            to: at(seconds.1),
            only_missed: false,
            dry_run: false,
            request_id: request_id.into(),
        }
    }

    fn backfilled(&mut self, command: Backfill) -> (tidemill_rows::table::BackfillRow, bool) {
        match self.ask(PartitionCommand::Backfill(command)) {
            Ok(PartitionReply::Backfill {
                backfill, created, ..
            }) => (backfill, created),
            other => panic!("no backfill: {other:?}"),
        }
    }

    fn stop(&mut self, flow: FlowId) {
        let stop = DisarmFlow {
            flow,
            activation: self.activation,
            cancel_running: false,
        };
        self.tell(PartitionCommand::Disarm(stop));
    }

    /// Kind, second since the beginning, and outcome of each row.
    fn rows_of(&self, flow: FlowId) -> Vec<(OccurrenceKind, i64, &'static str)> {
        self.ledger_of(flow)
            .iter()
            .map(|(at, row)| {
                let second = (at - 1_800_000_000_000).div_euclid(1_000);
                (row.kind, second, row.outcome.as_str())
            })
            .collect()
    }

    fn all_kinds(&self) -> Vec<String> {
        self.journal().into_iter().map(|r| r.kind).collect()
    }
}

fn done(changed: bool) -> Result<PartitionReply, Rejection> {
    Ok(PartitionReply::Done { changed })
}

#[test]
fn a_paused_schedule_fires_nothing_and_each_occurrence_says_so() {
    let mut bench = Bench::new();
    let flow = bench.arm(&every_second(", catchUp: all"));
    bench.advance(1_000);
    // Due when the pause comes, and not decided yet: it fires.
    bench.now = bench.now.plus_millis(1_000);
    assert_eq!(bench.change(flow, ScheduleChange::Pause, "p1"), done(true));
    assert_eq!(bench.change(flow, ScheduleChange::Pause, "p2"), done(false));
    bench.fail_over();
    bench.advance(2_000);
    // Due while paused, decided when it is resumed.
    bench.now = bench.now.plus_millis(1_000);
    assert_eq!(bench.change(flow, ScheduleChange::Resume, "r1"), done(true));
    // An old request that comes again changes nothing.
    assert_eq!(bench.change(flow, ScheduleChange::Pause, "p1"), done(true));
    assert_eq!(
        bench.change(flow, ScheduleChange::Resume, "p1"),
        Err(Rejection::RequestIdReused("p1".into()))
    );
    bench.advance(1_000);
    assert_eq!(
        bench.outcomes(flow),
        ["fired", "fired", "skipped", "skipped", "skipped", "fired"]
    );
    let ledger = bench.ledger_of(flow);
    assert!(
        ledger[2..5]
            .iter()
            .all(|(_, row)| row.reason == "the schedule is paused")
    );
    let changes: Vec<String> = bench
        .all_kinds()
        .into_iter()
        .filter(|kind| kind.starts_with("schedule."))
        .collect();
    assert_eq!(changes, ["schedule.paused", "schedule.resumed"]);
}

#[test]
fn a_pause_survives_a_stop_and_a_new_version() {
    let mut bench = Bench::new();
    let flow = bench.arm(&every_second(""));
    assert_eq!(bench.change(flow, ScheduleChange::Pause, "p1"), done(true));
    bench.stop(flow);
    assert!(matches!(
        bench.change(flow, ScheduleChange::Resume, "r1"),
        Err(Rejection::FlowNotActive(_))
    ));
    bench.arm_again(flow, &every_second(""));
    bench.advance(1_000);
    assert_eq!(bench.outcomes(flow), ["skipped"]);
    assert_eq!(bench.change(flow, ScheduleChange::Resume, "r2"), done(true));
    bench.advance(1_000);
    assert_eq!(bench.outcomes(flow), ["skipped", "fired"]);
}

#[test]
fn what_waits_for_the_one_before_does_not_start_while_paused() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(&every_second(", overlap: queueOne"));
    bench.advance(1_000);
    bench.advance(1_000);
    assert_eq!(bench.outcomes(flow), ["fired", "queued"]);
    assert_eq!(bench.change(flow, ScheduleChange::Pause, "p1"), done(true));
    bench.echo_all();
    assert_eq!(bench.outcomes(flow), ["fired", "skipped"]);
}

#[test]
fn only_schedules_can_be_paused() {
    let mut bench = Bench::new();
    let flow = bench.arm(&chain(1));
    assert!(matches!(
        bench.change(flow, ScheduleChange::Pause, "p1"),
        Err(Rejection::Invalid { .. })
    ));
    let nobody = FlowId::new(0, HOME, 77);
    assert_eq!(
        bench.change(nobody, ScheduleChange::Pause, "p1"),
        Err(Rejection::FlowNotActive(nobody))
    );
}

#[test]
fn much_that_is_due_is_decided_in_turns_before_a_pause() {
    let mut bench = Bench::new();
    let flow = bench.arm(&every_second(""));
    bench.now = bench.now.plus_millis(2_000_000);
    assert_eq!(
        bench.change(flow, ScheduleChange::Pause, "p1"),
        Err(Rejection::ScheduleBehind(flow))
    );
    assert!(
        bench.ledger_of(flow).is_empty(),
        "a rejection changes nothing"
    );
    for _ in 0..11 {
        bench.advance(0);
    }
    assert_eq!(bench.change(flow, ScheduleChange::Pause, "p1"), done(true));
    assert_eq!(bench.outcomes(flow).len(), 2_000);
}

#[test]
fn a_firing_by_hand_has_a_row_of_its_own() {
    let mut bench = Bench::new();
    let flow = bench.arm(&every_second(", end: {after: 2}, overlap: skip"));
    bench.now = bench.now.plus_millis(1_000);
    let by_hand = |bench: &mut Bench, request_id: &str| {
        let PartitionCommand::Start(start) = bench.start_command(flow, json!({"n": 1}), request_id)
        else {
            unreachable!("it starts")
        };
        bench.tell(PartitionCommand::Start(StartExecution {
            by_hand: true,
            ..start
        }));
    };
    // At the very instant of a regular one, twice, and one of them repeated.
    for request_id in ["m1", "m2", "m1"] {
        by_hand(&mut bench, request_id);
    }
    bench.advance(0);
    bench.advance(1_000);
    let (regular, manual) = (OccurrenceKind::Regular, OccurrenceKind::Manual);
    assert_eq!(
        bench.rows_of(flow),
        [
            (regular, 1, "fired"),
            (manual, 1, "fired"),
            (manual, 1, "fired"),
            (regular, 2, "skipped"),
        ],
        "the regular one fires too, and only that one is what the next one overlaps with"
    );
    let executions: Vec<_> = bench
        .ledger_of(flow)
        .into_iter()
        .filter_map(|(_, row)| row.execution)
        .collect();
    assert_eq!(executions.len(), 3);
    // A flow without a schedule has no ledger.
    let plain = bench.arm(&chain(1));
    let PartitionCommand::Start(start) = bench.start_command(plain, json!({}), "m3") else {
        unreachable!("it starts")
    };
    bench.tell(PartitionCommand::Start(StartExecution {
        by_hand: true,
        ..start
    }));
    assert!(bench.ledger_of(plain).is_empty());
}

#[test]
fn a_backfill_runs_each_occurrence_of_its_range_once() {
    let mut bench = Bench::new();
    bench.now = bench.now.plus_millis(500_000);
    let flow = bench.arm(&every_second(""));
    let command = bench.backfill_command(flow, (100, 350), "b1");
    let (row, created) = bench.backfilled(command.clone());
    assert_eq!((row.total, created), (250, true));
    for n in 0..10 {
        bench.advance(50);
        if n == 1 {
            bench.fail_over();
        }
    }
    // The same request again, and another one for a range that overlaps with it.
    let (row, created) = bench.backfilled(command.clone());
    assert_eq!(
        (row.decided, row.started, row.state, created),
        (250, 250, BackfillState::Done, false)
    );
    let other = bench.backfill_command(flow, (340, 360), "b2");
    let (row, created) = bench.backfilled(other.clone());
    assert_eq!((row.total, created), (20, true));
    bench.advance(0);
    assert_eq!(bench.backfilled(other).0.started, 10);
    let rows: Vec<_> = bench
        .rows_of(flow)
        .into_iter()
        .filter(|(kind, ..)| *kind == OccurrenceKind::Backfill)
        .collect();
    let expected: Vec<_> = (100..360)
        .map(|second| (OccurrenceKind::Backfill, second, "fired"))
        .collect();
    assert_eq!(rows, expected);
    let reused = bench.backfill_command(flow, (1, 2), "b1");
    assert_eq!(
        bench.ask(PartitionCommand::Backfill(reused)),
        Err(Rejection::RequestIdReused("b1".into()))
    );
    let kinds = bench.all_kinds();
    let count = |kind: &str| kinds.iter().filter(|k| *k == kind).count();
    assert_eq!((count("backfill.started"), count("backfill.done")), (2, 2));
}

#[test]
fn a_backfill_can_leave_out_what_has_fired() {
    let mut bench = Bench::new();
    let flow = bench.arm(&every_second(""));
    bench.advance(1_000);
    assert_eq!(bench.change(flow, ScheduleChange::Pause, "p1"), done(true));
    bench.advance(1_000);
    bench.advance(1_000);
    let mut command = bench.backfill_command(flow, (-1, 3), "b1");
    command.only_missed = true;
    let (row, _) = bench.backfilled(command);
    assert_eq!(row.total, 4);
    bench.advance(0);
    let backfilled: Vec<i64> = bench
        .rows_of(flow)
        .into_iter()
        .filter(|(kind, ..)| *kind == OccurrenceKind::Backfill)
        .map(|(_, second, _)| second)
        .collect();
    assert_eq!(
        backfilled,
        [-1, 0, 2],
        "that of second 1 has fired; none was decided before the flow was started"
    );
}

#[test]
fn a_backfill_of_a_flow_that_must_not_overlap_runs_one_by_one() {
    for policy in ["skip", "queueOne", "cancelPrevious"] {
        let mut bench = Bench::with_worker(10);
        bench.now = bench.now.plus_millis(100_000);
        let flow = bench.arm(&every_second(&format!(
            ", overlap: {policy}, end: {{after: 1}}"
        )));
        let command = bench.backfill_command(flow, (10, 14), "b1");
        bench.backfilled(command.clone());
        for n in 1..=4 {
            bench.advance(0);
            assert_eq!(bench.grants.len(), 1, "{policy}: number {n}");
            if n == 2 {
                bench.fail_over();
                bench.worker(1, 10);
                bench.advance(0);
            }
            bench.echo_all();
        }
        bench.advance(0);
        let (row, _) = bench.backfilled(command);
        assert_eq!(
            (row.started, row.state),
            (4, BackfillState::Done),
            "{policy}"
        );
    }
}

#[test]
fn a_backfill_is_bounded_and_of_the_past() {
    let mut bench = Bench::new();
    bench.now = bench.now.plus_millis(20_000_000);
    let flow = bench.arm(&every_second(""));
    for (range, part) in [
        ((0, 10_001), "more than 10000"),
        ((5, 5), "after from"),
        ((19_999, 20_001), "after now"),
    ] {
        let command = bench.backfill_command(flow, range, "b1");
        match bench.ask(PartitionCommand::Backfill(command)) {
            Err(Rejection::Invalid { reason, .. }) => assert!(reason.contains(part), "{reason}"),
            other => panic!("{range:?}: {other:?}"),
        }
    }
    let mut command = bench.backfill_command(flow, (0, 10_000), "b1");
    command.dry_run = true;
    match bench.ask(PartitionCommand::Backfill(command)) {
        Ok(PartitionReply::Backfill {
            backfill,
            created: false,
            occurrences,
        }) => {
            assert_eq!(backfill.total, 10_000);
            assert_eq!(occurrences.len(), 1_000);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.count(Table::Backfill), 0);
    for n in 0..4 {
        let command = bench.backfill_command(flow, (0, 10_000), &format!("b{n}"));
        bench.backfilled(command);
    }
    let fifth = bench.backfill_command(flow, (0, 1), "b5");
    assert!(matches!(
        bench.ask(PartitionCommand::Backfill(fifth)),
        Err(Rejection::LimitReached { limit: 4, .. })
    ));
    bench.stop(flow);
    let states: Vec<_> = bench
        .all_kinds()
        .into_iter()
        .filter(|kind| kind == "backfill.stopped")
        .collect();
    assert_eq!(states.len(), 4, "a stop ends them");
    bench.advance(100);
}

#[test]
fn old_backfills_are_forgotten() {
    let mut bench = Bench::new();
    bench.now = bench.now.plus_millis(1_000_000);
    let flow = bench.arm(&every_second(""));
    for n in 0..100 {
        let command = bench.backfill_command(flow, (n, n + 1), &format!("b{n}"));
        bench.backfilled(command);
        bench.advance(1);
    }
    assert_eq!(bench.count(Table::Backfill), 64);
}

#[test]
fn what_is_due_when_the_flow_is_stopped_is_decided_first() {
    let mut bench = Bench::new();
    let plain = bench.arm(&every_second(""));
    bench.now = bench.now.plus_millis(1_000);
    bench.stop(plain);
    assert_eq!(bench.outcomes(plain), ["fired"]);
    // Its jitter is not over: it has a row all the same.
    let late = bench.arm(&every_second(", jitter: 1h"));
    bench.now = bench.now.plus_millis(2_000);
    bench.stop(late);
    let ledger = bench.ledger_of(late);
    assert_eq!(ledger.len(), 2);
    assert!(
        ledger
            .iter()
            .all(|(_, row)| row.outcome == OccurrenceOutcome::Skipped
                && row.reason.contains("jitter"))
    );
}

#[test]
fn jitter_longer_than_the_interval_delays_and_skips_nothing() {
    let mut bench = Bench::new();
    let flow = bench.arm(&every_second(", jitter: 5s"));
    for _ in 0..3_000 {
        bench.advance(10);
    }
    let ledger = bench.ledger_of(flow);
    assert!(ledger.len() > 20, "{}", ledger.len());
    for (at, row) in ledger {
        assert_eq!(row.outcome, OccurrenceOutcome::Fired, "{row:?}");
        assert!(row.decided_at.as_millis() - at <= 5_010);
    }
}

#[test]
fn a_jump_of_the_clock_is_noted_and_caught_up_with_like_an_outage() {
    let mut bench = Bench::new();
    let flow = bench.arm(&every_second(""));
    bench.now = bench.now.plus_millis(60_000);
    bench.tell(PartitionCommand::ClockJumped { by_ms: 59_000 });
    bench.advance(0);
    // Back again: time stands still until the clock has caught up.
    bench.now = Timestamp::from_millis(bench.now.as_millis() - 50_000);
    bench.advance(0);
    let outcomes = bench.outcomes(flow);
    assert_eq!(outcomes.len(), 60);
    assert_eq!(outcomes.iter().filter(|o| **o == "skipped").count(), 59);
    assert!(
        bench
            .all_kinds()
            .contains(&"partition.clock_jumped".to_owned())
    );
}
