//! Who waits for an end is told of it.

use super::*;

impl Bench {
    fn start_told(&mut self, flow: FlowId, data: Value, tell_end: TellEnd) -> ExecutionId {
        let request_id = format!("told{}", self.entropy);
        let PartitionCommand::Start(start) = self.start_command(flow, data, &request_id) else {
            unreachable!("it starts")
        };
        match self.ask(PartitionCommand::Start(StartExecution {
            tell_end,
            ..start
        })) {
            Ok(PartitionReply::Started { execution, .. }) => execution,
            other => panic!("not started: {other:?}"),
        }
    }
}

#[test]
fn an_end_is_told_as_it_is_stored() {
    let mut bench = Bench::with_worker(4);
    let flow = bench.arm(&chain(2));
    let silent = bench.start(flow, json!(1));
    let row = bench.start_told(flow, json!(2), TellEnd::Row);
    let all = bench.start_told(flow, json!(3), TellEnd::RowAndOutput);
    bench.echo_all();
    assert_eq!(bench.state(silent), ExecutionState::Succeeded);
    assert!(bench.untold.is_empty());
    let [first, second] = bench.told.as_slice() else {
        panic!("two were to be told: {:?}", bench.told)
    };
    assert_eq!((first.execution, first.output.len()), (row, 0));
    assert_eq!(first.row, bench.execution(row));
    assert_eq!(second.row, bench.execution(all));
    let output: Vec<Value> = second.output.iter().map(value).collect();
    assert_eq!((second.execution, output), (all, vec![json!(3)]));
}

#[test]
fn of_an_execution_that_leaves_memory_nothing_is_told() {
    let mut bench = Bench::new();
    let flow = bench.arm(
        "name: waits\ngraph: {nodes: [{id: w, componentId: wait, function: delay, fields: {duration: 1h}}], edges: []}",
    );
    let id = bench.start_told(flow, json!(1), TellEnd::RowAndOutput);
    assert!(bench.told.is_empty());
    assert_eq!(bench.untold, [id]);
    bench.advance(3_600_000);
    assert_eq!(bench.state(id), ExecutionState::Succeeded);
    assert!(bench.told.is_empty());
    assert_eq!(bench.untold, [id], "said once");
}

#[test]
fn an_output_that_is_not_in_memory_is_read() {
    let mut bench = Bench::with_config(PartitionConfig {
        messages_kept_bytes_max: 8,
        ..PartitionConfig::default()
    });
    bench.worker(1, 1);
    let flow = bench.arm(&chain(1));
    let id = bench.start_told(flow, json!("longer than that"), TellEnd::RowAndOutput);
    bench.echo_all();
    assert!(bench.told.is_empty());
    assert_eq!(bench.untold, [id]);
    // How it ended is told all the same, when that is all that was asked for.
    let id = bench.start_told(flow, json!("longer than that"), TellEnd::Row);
    bench.echo_all();
    assert_eq!(bench.told[0].execution, id);
}
