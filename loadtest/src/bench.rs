//! The standard table: what `make bench` runs. Under 15 minutes on two cores.

use std::{fs::OpenOptions, io::Write as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use tokio::time::Instant;

use crate::{
    figures::Figures,
    options::{Mode, Options, duration},
    report::{json_lines, method},
    scenario::Scenario,
};

/// What the table can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct TableOptions {
    /// How long each load is measured.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub duration: Duration,
    /// Each measurement so often: the median of each figure.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=99))]
    pub repeat: u64,
    /// Only these scenarios of the table.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Scenario>,
    /// A hundredth of every count and of the duration: to see that the table works.
    #[arg(long)]
    pub tiny: bool,
    /// Where the results are kept (default: target/bench/DATE.json).
    #[arg(long, value_name = "FILE")]
    pub keep: Option<PathBuf>,
    /// The server's binary (default: TIDEMILL_BIN, else the one beside this program).
    #[arg(long)]
    pub binary: Option<PathBuf>,
    /// No progress on standard error.
    #[arg(long)]
    pub quiet: bool,
}

/// The table's rows.
fn rows(bench: &TableOptions) -> Vec<(Scenario, Options)> {
    let mut rows = Vec::new();
    let plain = Options {
        duration: bench.duration,
        binary: bench.binary.clone(),
        quiet: bench.quiet,
        ..Options::default()
    };
    let mut row = |scenario, nodes, clients, change: &dyn Fn(&mut Options)| {
        let mut options = Options {
            nodes,
            clients,
            ..plain.clone()
        };
        change(&mut options);
        if bench.tiny {
            options.duration = match scenario {
                Scenario::Recovery => Duration::from_secs(3),
                _ => (options.duration / 100).max(Duration::from_millis(300)),
            };
            options.warm_up = Duration::from_millis(100);
            options.count = options.count.map(|count| (count / 100).max(20));
            options.clients = options.clients.min(16);
        }
        rows.push((scenario, options));
    };
    for scenario in [Scenario::Steps1, Scenario::Steps3] {
        for nodes in [1, 3] {
            for clients in [1, 64, 256] {
                row(scenario, nodes, clients, &|_| {});
            }
        }
    }
    for nodes in [1, 3] {
        for scenario in [Scenario::Steps1, Scenario::Start] {
            row(scenario, nodes, 256, &|o| o.clients_per_connection = 16);
        }
        row(Scenario::Steps9, nodes, 64, &|_| {});
        row(Scenario::Steps1, nodes, 64, &|o| o.mode = Mode::Accept);
        row(Scenario::Start, nodes, 256, &|_| {});
        row(Scenario::Fanout, nodes, 16, &|_| {});
        row(Scenario::Webhook, nodes, 64, &|_| {});
    }
    for nodes in [1, 3] {
        row(Scenario::Timers, nodes, 256, &|o| o.count = Some(50_000));
    }
    row(Scenario::Recovery, 3, 64, &|_| {});
    row(Scenario::History, 1, 256, &|o| o.count = Some(100_000));
    row(Scenario::Payload, 1, 16, &|_| {});
    row(Scenario::Waiting, 1, 256, &|o| o.count = Some(100_000));
    rows
}

/// Runs the table, keeps each result as soon as it is there, and gives all.
///
/// # Errors
/// When a measurement fails: a table with a hole is none.
pub async fn run(bench: &TableOptions) -> Result<Vec<Figures>> {
    let keep = bench.keep.clone().unwrap_or_else(default_file);
    if let Some(folder) = keep.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(&keep)
        .with_context(|| keep.display().to_string())?;
    let rows: Vec<_> = rows(bench)
        .into_iter()
        .filter(|(scenario, _)| bench.only.is_empty() || bench.only.contains(scenario))
        .collect();
    let begun = Instant::now();
    let mut all = Vec::new();
    for (at, (scenario, options)) in rows.iter().enumerate() {
        if !bench.quiet {
            eprintln!(
                "[{}/{}, {:.0} s] {} on {} node(s) with {} client(s)",
                at + 1,
                rows.len(),
                begun.elapsed().as_secs_f64(),
                scenario.name(),
                options.nodes,
                options.clients
            );
        }
        let options = Options {
            repeat: bench.repeat,
            ..options.clone()
        };
        let results = crate::repeated(*scenario, &options).await?;
        file.write_all(json_lines(&results)?.as_bytes())?;
        all.extend(results);
    }
    if !bench.quiet {
        eprintln!(
            "{} results in {:.0} s, kept in {}",
            all.len(),
            begun.elapsed().as_secs_f64(),
            keep.display()
        );
    }
    Ok(all)
}

/// In the build folder, by the time of day: a run never overwrites an earlier one.
fn default_file() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let name: String = method::date().chars().take(19).collect();
    PathBuf::from(target)
        .join("bench")
        .join(format!("{}.json", name.replace(':', "-")))
}
