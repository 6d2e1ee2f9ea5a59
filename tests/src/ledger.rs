//! Reads the ledgers of schedules of whole seconds and holds them against the journal: every second
//! between a flow's arming and its disarming has exactly one row, and where it fired one execution.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use tidemill_sdk::{
    Client,
    api::{ListOccurrencesRequest, Occurrence, OccurrenceKind, OccurrenceOutcome},
};
use tidemill_types::{FlowId, limits::PAGE_SIZE_MAX};

use crate::Chain;

/// A firing of a schedule, in microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Firing {
    /// When it was due.
    pub at_us: i64,
    /// When the leader decided it.
    pub decided_us: i64,
}

/// What the ledgers of some flows say.
#[derive(Debug, Default)]
pub struct Ledgers {
    /// What fired, by flow.
    pub fired: BTreeMap<FlowId, Vec<Firing>>,
    /// Rows of what did not.
    pub skipped: usize,
}

/// All occurrences of a flow, oldest first.
///
/// # Errors
/// When it cannot be read.
pub async fn occurrences(client: &Client, flow: &str) -> Result<Vec<Occurrence>> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListOccurrencesRequest {
            flow: flow.to_owned(),
            page_size: PAGE_SIZE_MAX,
            page_token,
            ..ListOccurrencesRequest::default()
        };
        let page = client.list_occurrences(request).await?;
        all.extend(page.occurrences);
        page_token = page.next_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}

/// Reads the ledgers of flows that are due every second and are stopped now, and checks them.
///
/// # Errors
/// When an occurrence has no row or two, or not exactly one execution where it fired.
pub async fn verified_seconds(
    client: &Client,
    flows: &[FlowId],
    chains: &[Chain],
) -> Result<Ledgers> {
    let mut started: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for record in chains.iter().flat_map(|chain| &chain.records) {
        if record.kind == "execution.started" {
            *started.entry(record.execution_id.to_vec()).or_default() += 1;
        }
    }
    let mut ledgers = Ledgers::default();
    let mut executions = BTreeSet::new();
    for flow in flows {
        let expected = seconds_armed(*flow, chains)?;
        let mut seen = Vec::new();
        let mut fired = Vec::new();
        for row in occurrences(client, &flow.to_string()).await? {
            if row.kind() != OccurrenceKind::Regular {
                continue;
            }
            let at = row.at.as_ref().context("an instant")?;
            let decided = row.decided_at.as_ref().context("a decision")?;
            let micros = |seconds: i64, nanos: i32| seconds * 1_000_000 + i64::from(nanos) / 1_000;
            seen.push(at.seconds);
            match row.outcome() {
                OccurrenceOutcome::Fired | OccurrenceOutcome::Late => {
                    let id: tidemill_types::ExecutionId = row.execution_id.parse()?;
                    ensure!(executions.insert(id), "{id} belongs to two occurrences");
                    ensure!(
                        started.get(id.0.as_slice()) == Some(&1),
                        "{id} of {flow} at {} started {:?} times",
                        at.seconds,
                        started.get(id.0.as_slice())
                    );
                    fired.push(Firing {
                        at_us: micros(at.seconds, at.nanos),
                        decided_us: micros(decided.seconds, decided.nanos),
                    });
                }
                OccurrenceOutcome::Skipped => ledgers.skipped += 1,
                other => anyhow::bail!("{flow} at {} is {other:?}", at.seconds),
            }
        }
        ensure!(
            seen == expected,
            "{flow}: {} rows, {} seconds armed; the first difference: {:?}",
            seen.len(),
            expected.len(),
            seen.iter().zip(&expected).find(|(a, b)| a != b)
        );
        ledgers.fired.insert(*flow, fired);
    }
    let of_flows = |record: &&tidemill_sdk::api::JournalRecord| {
        record.kind == "execution.started" && record.request_id.starts_with("schedule/")
    };
    let scheduled = chains.iter().flat_map(|chain| &chain.records);
    let scheduled = scheduled.filter(of_flows).count();
    ensure!(
        scheduled == executions.len(),
        "{scheduled} executions of schedules, {} rows that fired",
        executions.len()
    );
    Ok(ledgers)
}

/// The seconds at which a flow was armed, by the journal: after each arming, up to its disarming.
fn seconds_armed(flow: FlowId, chains: &[Chain]) -> Result<Vec<i64>> {
    let mut seconds = Vec::new();
    let mut armed_us = None;
    for record in chains.iter().flat_map(|chain| &chain.records) {
        if record.flow_id[..] != flow.0[..] {
            continue;
        }
        match record.kind.as_str() {
            "flow.armed" => armed_us = Some(record.at_us),
            // An arm that was made stale before it came is disarmed, too.
            "flow.disarmed" => {
                if let Some(from) = armed_us.take() {
                    let first = from.div_euclid(1_000_000) + 1;
                    seconds.extend(first..=record.at_us.div_euclid(1_000_000));
                }
            }
            _ => {}
        }
    }
    ensure!(armed_us.is_none(), "{flow} is armed still");
    Ok(seconds)
}
