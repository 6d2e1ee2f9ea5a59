//! The example worker's components.
//!
//! Owns what the components of the OIH sample flows do here (see `tests/data/oih-flows/README.md`), and
//! a component `example` for demos and load. Each is also an example of how a handler is written.

use std::time::Duration;

use tidemill_sdk::{Outcome, TaskContext, TaskError, WorkerBuilder};

mod gateway;
mod playground;
mod samples;

/// The components of the sample flows that have `testTrigger` and `testAction`.
const TEST_COMPONENTS: [&str; 8] = [
    "component1",
    "component2",
    "component3",
    "component4",
    "component5",
    "simple-message",
    "test-component",
    "test-component-local",
];
/// Those that only ask to be run again.
const REBOUND_COMPONENTS: [&str; 2] = ["rebound-component-local", "rebound-component-global"];
/// Those that choose which steps run next.
const GATEWAY_COMPONENTS: [&str; 3] = [
    "logicGateway",
    "logicGateway-global",
    "logicGateway-global-lg-image",
];
/// Runs JavaScript in OIH; here it only says that it does not.
const CODE_COMPONENT: &str = "code";

/// How the components behave.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Waited in every task.
    pub delay: Duration,
    /// What `reboundTrigger` asks for.
    pub rebound: Duration,
}

/// Registers everything.
pub fn register(mut worker: WorkerBuilder, settings: Settings) -> WorkerBuilder {
    let delay = settings.delay;
    for component in TEST_COMPONENTS {
        worker = add(
            worker,
            component,
            "testTrigger",
            delay,
            samples::test_trigger,
        );
        worker = add(worker, component, "testAction", delay, samples::test_action);
    }
    for component in REBOUND_COMPONENTS {
        let rebound = settings.rebound;
        worker = add(worker, component, "reboundTrigger", delay, move |_| {
            Ok(Outcome::rebound(rebound))
        });
    }
    for component in GATEWAY_COMPONENTS {
        worker = add(worker, component, "exec", delay, gateway::exec);
    }
    worker = add(
        worker,
        CODE_COMPONENT,
        "execute",
        delay,
        samples::refuse_code,
    );
    worker = add(worker, "example", "echo", delay, playground::echo);
    worker = add(worker, "example", "fail", delay, playground::fail);
    worker = add(worker, "example", "split", delay, playground::split);
    worker = add(worker, "example", "count", delay, playground::count);
    worker.function("example", "sleep", move |task| async move {
        pause(&task, delay).await?;
        playground::sleep(task).await
    })
}

/// Registers a function that does not wait for anything but the delay.
fn add(
    worker: WorkerBuilder,
    component: &str,
    function: &str,
    delay: Duration,
    run: impl Fn(&TaskContext) -> Result<Outcome, TaskError> + Copy + Send + Sync + 'static,
) -> WorkerBuilder {
    worker.function(component, function, move |task| async move {
        pause(&task, delay).await?;
        run(&task)
    })
}

/// Waits, unless the lease is lost meanwhile: the step is somebody else's then.
async fn pause(task: &TaskContext, time: Duration) -> Result<(), TaskError> {
    if time.is_zero() {
        return Ok(());
    }
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(()),
        () = task.lease_lost() => Err(TaskError::retryable("LEASE_LOST", "the lease was lost")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;
    use tidemill_sdk::Worker;

    use super::*;

    fn folder() -> std::path::PathBuf {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/oih-flows")
    }

    fn json(name: &str) -> Value {
        let text = std::fs::read_to_string(folder().join(name)).expect("a sample file");
        serde_json::from_str(&text).expect("JSON")
    }

    #[test]
    fn every_component_of_the_samples_is_served() {
        let known: BTreeSet<String> = TEST_COMPONENTS
            .iter()
            .chain(&REBOUND_COMPONENTS)
            .chain(&GATEWAY_COMPONENTS)
            .chain([&CODE_COMPONENT])
            .map(|&name| name.to_owned())
            .collect();
        let listed: BTreeSet<String> = json("components.json")
            .as_array()
            .expect("a list")
            .iter()
            .map(|component| component["name"].as_str().expect("a name").to_owned())
            .collect();
        assert_eq!(known, listed);
    }

    #[test]
    fn every_function_of_the_samples_is_served() {
        let mut seen = 0;
        for name in [
            "index.json",
            "load-test-sample.json",
            "logic-gateway-flows.json",
            "mix.json",
            "rebound-test.json",
            "test-component-flow.json",
        ] {
            for flow in json(name).as_array().expect("a list") {
                for node in flow["graph"]["nodes"].as_array().expect("nodes") {
                    let component = node["componentId"].as_str().expect("a component");
                    let function = node["function"].as_str().expect("a function");
                    let served = match function {
                        "testTrigger" | "testAction" => TEST_COMPONENTS.contains(&component),
                        "reboundTrigger" => REBOUND_COMPONENTS.contains(&component),
                        "exec" => GATEWAY_COMPONENTS.contains(&component),
                        "execute" => component == CODE_COMPONENT,
                        _ => false,
                    };
                    assert!(served, "{name}: {component}/{function}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 20, "{seen} nodes");
    }

    #[tokio::test]
    async fn all_can_be_registered() {
        let settings = Settings {
            delay: Duration::ZERO,
            rebound: Duration::from_millis(1),
        };
        register(Worker::builder(["127.0.0.1:1"]), settings)
            .build()
            .expect("a worker");
    }
}
