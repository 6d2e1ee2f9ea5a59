//! Schedules: each occurrence has one ledger row, and one execution where it fired.

use tidemill_rows::table::{
    OccurrenceOutcome, OccurrenceRow, occurrence_of_key, occurrences_prefix,
};
use tidemill_types::limits::LEDGER_ROWS_TRIMMED_PER_TURN_MAX;

use super::*;

/// A flow whose one step waits for a worker, with a schedule of every second and more options.
pub(super) fn every_second(options: &str) -> String {
    format!("{}trigger:\n  schedule: {{every: 1s{options}}}\n", chain(1))
}

impl Bench {
    pub(super) fn ledger_of(&self, flow: FlowId) -> Vec<(i64, OccurrenceRow)> {
        let from = occurrences_prefix(flow);
        let to = after_prefix(&from).expect("an end");
        let rows = self.rows.scan(&from, &to, usize::MAX, false).expect("rows");
        rows.into_iter()
            .map(|(key, value)| {
                let (at, _) = occurrence_of_key(&key).expect("an occurrence");
                (
                    at.as_millis(),
                    OccurrenceRow::from_bytes(value).expect("a row"),
                )
            })
            .collect()
    }

    pub(super) fn outcomes(&self, flow: FlowId) -> Vec<&'static str> {
        self.ledger_of(flow)
            .iter()
            .map(|(_, row)| row.outcome.as_str())
            .collect()
    }
}

#[test]
fn every_occurrence_fires_once_through_failovers() {
    let mut bench = Bench::with_worker(100);
    let flow = bench.arm(&every_second(""));
    let armed_ms = bench.now.as_millis();
    for n in 0..20 {
        bench.advance(500);
        if n % 3 == 0 {
            bench.fail_over();
            bench.worker(1, 100);
            bench.advance(0);
        }
        bench.echo_all();
    }
    let ledger = bench.ledger_of(flow);
    let times: Vec<i64> = ledger.iter().map(|(at, _)| at - armed_ms).collect();
    assert_eq!(times, (1..=10).map(|n| n * 1_000).collect::<Vec<_>>());
    assert!(
        ledger
            .iter()
            .all(|(_, row)| row.outcome == OccurrenceOutcome::Fired)
    );
    let mut executions: Vec<ExecutionId> =
        ledger.iter().filter_map(|(_, row)| row.execution).collect();
    executions.sort_unstable();
    executions.dedup();
    assert_eq!((executions.len(), bench.count(Table::Execution)), (10, 10));
    assert!(
        executions
            .iter()
            .all(|id| bench.state(*id) == ExecutionState::Succeeded)
    );
}

#[test]
fn what_fell_due_in_an_outage_is_caught_up_as_said() {
    // Occurrences fell due 3.9, 2.9, 1.9 and 0.9 s ago; the last one is within the grace.
    for (options, expected) in [
        ("", ["skipped", "skipped", "skipped", "fired"]),
        (", catchUp: all", ["late", "late", "late", "fired"]),
        (
            ", catchUp: none",
            ["skipped", "skipped", "skipped", "fired"],
        ),
        (
            ", catchUp: {policy: all, window: 2s}",
            ["skipped", "skipped", "late", "fired"],
        ),
    ] {
        let mut bench = Bench::new();
        let flow = bench.arm(&every_second(options));
        bench.fail_over();
        bench.advance(4_900);
        assert_eq!(bench.outcomes(flow), expected, "{options}");
        bench.advance(100);
        assert_eq!(bench.outcomes(flow).len(), 5, "and it goes on");
    }
    // Every two seconds, and 1.9 s late: an outage even for a single one.
    for (policy, expected) in [("one", "late"), ("all", "late"), ("none", "skipped")] {
        let mut bench = Bench::new();
        let flow = bench.arm(&format!(
            "{}trigger:\n  schedule: {{every: 2s, catchUp: {policy}}}\n",
            chain(1)
        ));
        bench.advance(3_900);
        assert_eq!(bench.outcomes(flow), [expected], "{policy}");
    }
}

#[test]
fn overlap_is_decided_as_said() {
    for (policy, after_three, states) in [
        (
            "allow",
            vec!["fired", "fired", "fired"],
            vec!["running", "running", "running"],
        ),
        ("skip", vec!["fired", "skipped", "skipped"], vec!["running"]),
        (
            "queueOne",
            vec!["fired", "queued", "skipped"],
            vec!["running"],
        ),
        (
            "cancelPrevious",
            vec!["fired", "fired", "fired"],
            vec!["cancelled", "cancelled", "running"],
        ),
    ] {
        let mut bench = Bench::new();
        let flow = bench.arm(&every_second(&format!(", overlap: {policy}")));
        for _ in 0..3 {
            bench.advance(1_000);
        }
        assert_eq!(bench.outcomes(flow), after_three, "{policy}");
        let executions: Vec<ExecutionId> = bench
            .ledger_of(flow)
            .iter()
            .filter_map(|(_, row)| row.execution)
            .collect();
        let found: Vec<&str> = executions
            .iter()
            .map(|id| bench.state(*id).as_str())
            .collect();
        assert_eq!(found, states, "{policy}");
        if policy == "queueOne" {
            bench.fail_over();
            bench.worker(1, 1);
            let first = bench.take();
            bench.succeed(first.task, &[]);
            assert_eq!(
                bench.outcomes(flow),
                ["fired", "late", "skipped"],
                "the one that waited starts"
            );
            assert_eq!(bench.grants.len(), 1);
        }
    }
}

#[test]
fn a_schedule_ends_after_its_firings_and_stops_with_its_flow() {
    let mut bench = Bench::new();
    let ending = bench.arm(&every_second(", end: {after: 2}"));
    let stopped = bench.arm(&every_second(""));
    for _ in 0..3 {
        bench.advance(1_000);
    }
    let activation = bench.activation;
    let stop = DisarmFlow {
        flow: stopped,
        activation,
        cancel_running: false,
    };
    bench.tell(PartitionCommand::Disarm(stop));
    for _ in 0..3 {
        bench.advance(1_000);
    }
    assert_eq!(bench.outcomes(ending), ["fired", "fired"]);
    assert_eq!(bench.outcomes(stopped), ["fired", "fired", "fired"]);
    assert_eq!(
        bench.count(Table::Schedule),
        1,
        "the one that has ended stays armed"
    );
    assert_eq!(
        bench
            .rows
            .iter()
            .filter(|(key, _)| key[2] == Table::Timer as u8 && key.last() == Some(&5))
            .count(),
        0,
        "no timer is left"
    );
}

#[test]
fn a_long_outage_is_decided_in_parts_and_completely() {
    let mut bench = Bench::new();
    let flow = bench.arm(&every_second(""));
    bench.now = bench.now.plus_millis(1_000_000);
    for _ in 0..20 {
        bench.advance(0);
    }
    let outcomes = bench.outcomes(flow);
    assert_eq!(outcomes.len(), 1_000);
    assert_eq!(outcomes.iter().filter(|o| **o == "skipped").count(), 999);
    assert_eq!(outcomes.last(), Some(&"fired"));
}

#[test]
fn a_gap_that_skips_leaves_a_row() {
    let mut bench = Bench::new();
    // Two days before Berlin puts its clocks forward on 2027-03-28.
    bench.now = Timestamp::from_millis(1_806_019_200_000);
    let flow = bench.arm(&format!(
        "{}trigger:\n  schedule: {{cron: '30 2 * * *', timezone: Europe/Berlin, dst: {{gap: skip}}}}\n",
        chain(1)
    ));
    for _ in 0..4 * 24 {
        bench.advance(3_600_000);
    }
    let ledger = bench.ledger_of(flow);
    let skipped: Vec<&OccurrenceRow> = ledger
        .iter()
        .map(|(_, row)| row)
        .filter(|row| row.outcome == OccurrenceOutcome::Skipped)
        .collect();
    assert_eq!((ledger.len(), skipped.len()), (4, 1), "{ledger:?}");
    assert!(
        skipped[0].reason.contains("does not exist"),
        "{}",
        skipped[0].reason
    );
}

#[test]
fn rows_go_some_at_a_time_when_they_are_older_than_they_are_kept() {
    const KEPT_MS: i64 = 2 * 60 * 60 * 1_000;
    let mut bench = Bench::with_config(PartitionConfig {
        ledger_kept_ms: KEPT_MS as u64,
        ..PartitionConfig::default()
    });
    let flow = bench.arm(&format!(
        "{}trigger:\n  schedule: {{every: 10s, overlap: skip}}\n",
        chain(1)
    ));
    let mut before = 0;
    for _ in 0..8 * 60 * 6 {
        bench.advance(10_000);
        let now = bench.ledger_of(flow).len();
        assert!(
            now + LEDGER_ROWS_TRIMMED_PER_TURN_MAX > before,
            "{before} to {now}"
        );
        before = now;
    }
    let ledger = bench.ledger_of(flow);
    let oldest_ms = bench.now.as_millis() - ledger[0].0;
    // Looked at once an hour; more than one slice may be due then.
    assert!(oldest_ms >= KEPT_MS, "{oldest_ms}");
    assert!(oldest_ms <= KEPT_MS + 65 * 60 * 1_000, "{oldest_ms}");
    let trimmed: u64 = bench
        .journal()
        .iter()
        .filter(|record| record.kind == kind::LEDGER_TRIMMED)
        .map(|record| record.number)
        .sum();
    assert_eq!(trimmed as usize + ledger.len(), 8 * 60 * 6);
}
