//! The command line's grammar, and the texts that teach it.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tidemill_types::duration::FlowDuration;

use crate::{commands, output::Format};

/// Where a command goes when nothing says otherwise.
pub const ENDPOINT_DEFAULT: &str = "http://127.0.0.1:7450";

/// Where the help lists what every command understands.
const COMMON: &str = "Common options";

const EXAMPLES: &str = "\
Examples:
  tidemill dev                                   a server on this machine, data in ./tidemill-data
  tidemill worker example                        a worker that serves the sample components
  tidemill flow validate orders.yaml             check a file, without any server
  tidemill flow apply orders.yaml --publish --start
  tidemill execution start orders --data '{\"n\": 1}' --wait
  tidemill execution watch exe_01k…              the steps as they run, in colour
  tidemill execution redrive exe_01k…            run its dead steps again
  tidemill journal verify                        all nodes have one unbroken chain
  tidemill flow list --output json | jq '.[].name'

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no server reached.
`tidemill help COMMAND` says more about each command.";

/// A durable flow engine: what it has accepted, happens.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command understands.
#[derive(Args, Debug)]
pub struct Global {
    /// Nodes to ask, separated by commas; any one that answers is enough.
    #[arg(long, global = true, env = "TIDEMILL_ENDPOINT", default_value = ENDPOINT_DEFAULT, value_delimiter = ',', value_name = "URL", help_heading = COMMON)]
    pub endpoint: Vec<String>,
    /// A table for people, or JSON: one document, or one per line where results come one by one.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table, help_heading = COMMON)]
    pub output: Format,
    /// How long to try, such as 500ms, 10s or 2m.
    #[arg(long, global = true, value_parser = duration, default_value = "30s", value_name = "TIME", help_heading = COMMON)]
    pub timeout: Duration,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Dev(commands::dev::Dev),
    Server(commands::server::Server),
    /// Define flows, publish them, start and stop them.
    #[command(subcommand)]
    Flow(commands::flow::Flow),
    /// Run flows and see what became of them.
    #[command(subcommand)]
    Execution(commands::execution::Execution),
    /// See when flows are due, and what became of each time that they were.
    #[command(subcommand)]
    Schedule(commands::schedule::Schedule),
    /// Read, export and verify the audit record of everything that happened.
    #[command(subcommand)]
    Journal(commands::journal::Journal),
    /// See and change the nodes of a cluster.
    #[command(subcommand)]
    Cluster(commands::cluster::Cluster),
    /// Run a worker that comes with this binary.
    #[command(subcommand)]
    Worker(commands::worker::Worker),
    Completions(commands::completions::Completions),
}

/// A duration with its unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration: FlowDuration = text.parse().map_err(|error| format!("{error}"))?;
    Ok(Duration::from_millis(duration.ms))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_manual_parses() {
        for line in [
            "tidemill dev",
            "tidemill dev --data-dir x --grpc 127.0.0.1:1 --http 127.0.0.1:2 --peer 127.0.0.1:3",
            "tidemill server --config node.toml",
            "tidemill server --config node.toml --node-id 2 --data-dir d",
            "tidemill flow apply a.yaml b.json --publish --start --without-workers",
            "tidemill flow list --status active --name-contains x --limit 5",
            "tidemill flow get f",
            "tidemill flow get f --document",
            "tidemill flow versions f",
            "tidemill flow publish f --request-id r",
            "tidemill flow start f --flow-version 2 --no-wait",
            "tidemill flow stop f --cancel-running",
            "tidemill flow delete f",
            "tidemill flow validate a.yaml -",
            "tidemill execution start f --data {} --wait --request-id r",
            "tidemill execution start f --data @file",
            "tidemill execution list f --state failed",
            "tidemill execution get e",
            "tidemill execution steps e --messages",
            "tidemill execution watch e",
            "tidemill execution cancel e --reason because",
            "tidemill execution redrive e --step 1 --step 2",
            "tidemill schedule preview f --count 3",
            "tidemill schedule preview --schedule {}",
            "tidemill schedule preview --cron * --timezone UTC --from 2027-01-01T00:00:00Z --count 3",
            "tidemill schedule next f",
            "tidemill schedule get f",
            "tidemill schedule ledger f --from 2027-01-01T00:00:00Z --to 2028-01-01T00:00:00Z",
            "tidemill flow trigger f",
            "tidemill flow trigger f --now --request-id r",
            "tidemill flow trigger f --data {}",
            "tidemill flow trigger --dry-run --request r.http",
            "tidemill flow trigger f --dry-run --request -",
            "tidemill flow trigger f --dry-run --path /new?a=1",
            "tidemill flow trigger f --dry-run --method POST --header a:b --body -",
            "tidemill flow trigger --dry-run --request r.http --scheme oih --secret-env S",
            "tidemill schedule ledger f --last 5",
            "tidemill journal tail --follow --partition 1",
            "tidemill journal export --out x.jsonl",
            "tidemill journal verify",
            "tidemill journal verify live",
            "tidemill journal verify x.jsonl",
            "tidemill cluster status",
            "tidemill cluster add 4 --peer a:1 --grpc a:2",
            "tidemill cluster remove 4",
            "tidemill cluster transfer --to 2 --partition 1",
            "tidemill worker example --concurrency 8 --delay 100ms",
            "tidemill completions bash",
            "tidemill --endpoint http://a:1,http://b:2 --output json --timeout 5s flow list",
            "tidemill flow list --output json --endpoint a:1",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn mistakes_are_refused() {
        for line in [
            "tidemill",
            "tidemill flow",
            "tidemill flow apply",
            "tidemill flow start",
            "tidemill execution list f --state dead",
            "tidemill cluster add x --peer a:1 --grpc a:2",
            "tidemill schedule preview",
            "tidemill schedule preview f --schedule {}",
            "tidemill schedule preview f --cron x",
            "tidemill schedule preview f --from yesterday",
            "tidemill flow trigger",
            "tidemill flow trigger f --dry-run --method PUT",
            "tidemill flow trigger f --dry-run --request r.http --body b",
            "tidemill flow trigger f --dry-run --request r.http --scheme oih --secret-env S",
            "tidemill flow trigger --dry-run --request r.http --scheme oih",
            "tidemill flow trigger f --request r.http",
            "tidemill cluster transfer",
            "tidemill --timeout 5 flow list",
            "tidemill --output xml flow list",
            "tidemill flow list --no-such-flag",
            "tidemill worker example --concurrency 0",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn endpoints_are_separated_by_commas() {
        let cli = parse("tidemill --endpoint http://a:1,b:2 flow list").unwrap();
        assert_eq!(cli.global.endpoint, ["http://a:1", "b:2"]);
    }

    #[test]
    fn the_help_teaches() {
        let help = Cli::command().render_help().to_string();
        for part in [
            "flow apply orders.yaml --publish --start",
            "execution watch",
            "journal verify",
            "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no server reached.",
            "TIDEMILL_ENDPOINT",
            "http://127.0.0.1:7450",
        ] {
            assert!(help.contains(part), "{part:?} is missing in:\n{help}");
        }
    }

    #[test]
    fn every_command_says_what_it_does() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path} says nothing");
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{path}: {} says nothing",
                    argument.get_id()
                );
            }
            for inner in command.get_subcommands().filter(|c| c.get_name() != "help") {
                check(inner, &path);
            }
        }
        let mut command = Cli::command();
        command.build();
        for inner in command.get_subcommands().filter(|c| c.get_name() != "help") {
            check(inner, "tidemill");
        }
    }
}
