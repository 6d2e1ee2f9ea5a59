//! Limits are reached: what is one too many is refused, cut or left for the next turn.

use tidemill_rows::journal::kind;
use tidemill_types::limits::{
    BUILTIN_STEPS_PER_COMMAND_MAX, ERROR_CODE_BYTES_MAX, ERROR_DETAILS_BYTES_MAX,
    ERROR_MESSAGE_BYTES_MAX, EXECUTION_STEPS_MAX, EXECUTIONS_HYDRATED_MAX, NODES_WITHOUT_STATE_MAX,
    PLANS_CACHED_MAX, REBOUND_DELAY_MS_MAX, STEP_FAN_OUT_MAX, TIMERS_LOADED_MAX,
    TIMERS_PER_TURN_MAX,
};

use super::*;

const HOUR_MS: u64 = 60 * 60 * 1_000;

const WAITS: &str = "name: w\ngraph: {nodes: [{id: rest, componentId: wait, function: delay, fields: {duration: 50s}}]}\n";

fn numbers(count: usize) -> Vec<Value> {
    (0..count).map(|n| json!(n)).collect()
}

#[test]
fn an_execution_has_at_most_so_many_steps() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(&chain(3));
    let id = bench.start(flow, json!(1));
    // One step, then ten, then ten thousand of each of these: the last ten thousand are too many.
    let tens = EXECUTION_STEPS_MAX as usize / STEP_FAN_OUT_MAX;
    let a = bench.take();
    bench.succeed(a.task, &numbers(tens));
    for _ in 1..tens {
        let b = bench.take();
        bench.succeed(b.task, &numbers(STEP_FAN_OUT_MAX));
    }
    let before = bench.execution(id);
    assert_eq!(
        before.steps as usize,
        1 + tens + (tens - 1) * STEP_FAN_OUT_MAX
    );
    let last = bench.take();
    bench.succeed(last.task, &numbers(STEP_FAN_OUT_MAX));
    assert_eq!(bench.execution(id).steps, before.steps, "none was added");
    let step = &bench.steps(id)[&last.task.step.step];
    assert_eq!(step.state, StepState::Dead);
    let error = step.error.as_ref().expect("an error");
    assert_eq!(error.code, "EXECUTION_STEPS_LIMIT");
    assert!(error.message.contains("100000"), "{}", error.message);
}

#[test]
fn what_an_error_says_is_cut() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(&chain(1));
    for (over, details_left) in [(0, ERROR_DETAILS_BYTES_MAX), (1, 0)] {
        let id = bench.start(flow, json!(1));
        let grant = bench.take();
        let error = ErrorRow {
            code: "C".repeat(ERROR_CODE_BYTES_MAX + over),
            message: "m".repeat(ERROR_MESSAGE_BYTES_MAX + over),
            details: format!("\"{}\"", "d".repeat(ERROR_DETAILS_BYTES_MAX - 2 + over)).into(),
            fatal: true,
        };
        let status = bench.complete(grant.task, Outcome::Failure(error));
        assert_eq!(status, CompletionStatus::Accepted);
        let stored = bench.steps(id)[&0].error.clone().expect("an error");
        assert_eq!(stored.code.len(), ERROR_CODE_BYTES_MAX);
        assert_eq!(stored.message.len(), ERROR_MESSAGE_BYTES_MAX);
        // Half of a JSON document is none: it is left out whole.
        assert_eq!(stored.details.len(), details_left);
    }
}

#[test]
fn a_step_cannot_ask_to_be_run_again_in_a_year() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(&chain(1));
    for (after_ms, is_allowed) in [
        (REBOUND_DELAY_MS_MAX, true),
        (REBOUND_DELAY_MS_MAX + 1, false),
    ] {
        bench.start(flow, json!(1));
        let grant = bench.take();
        let status = bench.complete(grant.task, Outcome::Rebound { after_ms });
        match status {
            CompletionStatus::Accepted => assert!(is_allowed),
            CompletionStatus::Invalid(reason) => {
                assert!(!is_allowed);
                assert!(reason.contains("rebound.after_ms"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn built_in_steps_leave_the_rest_to_the_next_turn() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(
        "name: t\ngraph:\n  nodes: [{id: a, componentId: w, function: f}, {id: b, componentId: transform, function: jsonata, fields: {expression: '$'}}]\n  edges: [{source: a, target: b}]\n",
    );
    let id = bench.start(flow, json!(1));
    let grant = bench.take();
    let count = BUILTIN_STEPS_PER_COMMAND_MAX + 1;
    bench.succeed(grant.task, &numbers(count));
    // The worker's own step has succeeded too.
    let done = |bench: &Bench| {
        let states = bench.step_states(id);
        let succeeded = states.iter().filter(|s| **s == StepState::Succeeded);
        succeeded.count() - 1
    };
    assert_eq!(done(&bench), BUILTIN_STEPS_PER_COMMAND_MAX);
    assert_eq!(
        bench.partition.next_due(),
        Some(bench.now),
        "it is not idle"
    );
    bench.advance(0);
    assert_eq!(done(&bench), count);
    assert_eq!(bench.state(id), ExecutionState::Succeeded);
}

/// Executions of which the journal says that they have succeeded.
fn succeeded(bench: &Bench) -> usize {
    let records = bench.journal().into_iter();
    records
        .filter(|record| record.kind == kind::EXECUTION_SUCCEEDED)
        .count()
}

#[test]
fn memory_holds_some_executions_and_timers_and_the_rest_still_happens() {
    let mut bench = Bench::new();
    let flow = bench.arm(WAITS);
    let count = EXECUTIONS_HYDRATED_MAX + 1;
    for _ in 0..count {
        bench.start(flow, json!(1));
    }
    assert!(bench.partition.executions.len() <= EXECUTIONS_HYDRATED_MAX);
    // All of one instant; still not all of them are kept.
    assert!(bench.partition.timers_in_memory() <= 2 * TIMERS_LOADED_MAX);
    // A new leader reads the nearest timers only; there are twice as many.
    assert!(count > 2 * TIMERS_LOADED_MAX);
    bench.fail_over();
    bench.now = bench.now.plus_millis(HOUR_MS);
    let mut turns = 0;
    let mut ended = 0;
    while ended < count {
        bench.advance(0);
        turns += 1;
        let now_ended = succeeded(&bench);
        assert!(
            now_ended - ended <= TIMERS_PER_TURN_MAX,
            "one turn's work is bounded"
        );
        assert!(bench.partition.timers_in_memory() <= TIMERS_LOADED_MAX);
        // The turn that only reads timers does nothing else, but asks for another at once.
        let due = bench.partition.next_due();
        assert!(now_ended == count || due <= Some(bench.now), "{due:?}");
        assert!(
            turns <= 2 * count.div_ceil(TIMERS_PER_TURN_MAX),
            "it gets on"
        );
        assert!(bench.partition.executions.len() <= EXECUTIONS_HYDRATED_MAX + TIMERS_PER_TURN_MAX);
        ended = now_ended;
    }
    assert!(turns >= count.div_ceil(TIMERS_PER_TURN_MAX));
}

#[test]
fn of_so_many_nodes_it_is_known_that_they_have_no_state() {
    let mut bench = Bench::with_worker(1);
    let flows: Vec<_> = (0..=NODES_WITHOUT_STATE_MAX)
        .map(|_| bench.arm(&chain(1)))
        .collect();
    for (known, flow) in (1..).zip(&flows) {
        bench.start(*flow, json!(1));
        let expected = if known > NODES_WITHOUT_STATE_MAX {
            1
        } else {
            known
        };
        assert_eq!(bench.partition.stateless.len(), expected);
        bench.echo_all();
    }
    // One that is given a state is none of them any more, and finds it.
    for (node_state, found) in [(Some(Bytes::from_static(b"7")), ""), (None, "7")] {
        bench.start(flows[0], json!(1));
        let grant = bench.take();
        assert_eq!(grant.node_state, found);
        let messages = Vec::new();
        let outcome = Outcome::Success {
            messages,
            node_state,
        };
        assert_eq!(
            bench.complete(grant.task, outcome),
            CompletionStatus::Accepted
        );
    }
    assert_eq!(bench.partition.stateless.len(), 1);
}

/// Flows and plans in memory.
fn in_memory(bench: &Bench) -> (usize, usize) {
    (bench.partition.flows.len(), bench.partition.plans.len())
}

#[test]
fn memory_holds_some_flows_and_plans_and_the_rest_still_run() {
    let mut bench = Bench::new();
    let full = (PLANS_CACHED_MAX, PLANS_CACHED_MAX);
    let flows: Vec<_> = (0..PLANS_CACHED_MAX).map(|_| bench.arm(WAITS)).collect();
    assert_eq!(in_memory(&bench), full);
    let last = bench.arm(WAITS);
    assert_eq!(in_memory(&bench), full, "one has made room for another");
    // Whichever it was: it is read again, and another one makes room.
    let ids = [flows[0], flows[1], last].map(|flow| bench.start(flow, json!(1)));
    assert_eq!(in_memory(&bench), full);
    // Those that are stopped or deleted are not kept beside the others.
    for (flow, activation) in flows.iter().take(4).zip(1..) {
        bench.tell(PartitionCommand::Disarm(DisarmFlow {
            flow: *flow,
            activation,
            cancel_running: false,
        }));
        assert_eq!(in_memory(&bench), full);
        bench.tell(PartitionCommand::Forget { flow: *flow });
        assert_eq!(in_memory(&bench), full);
    }
    bench.advance(50_000);
    for id in ids {
        assert_eq!(bench.state(id), ExecutionState::Succeeded);
    }
}
