//! `tidemill schedule ledger`

use clap::Args;
use serde_json::{Value, json};
use tidemill_proto::convert::timestamp;
use tidemill_sdk::api::{ListOccurrencesRequest, OccurrenceKind, OccurrenceOutcome};
use tidemill_types::{Timestamp, limits::PAGE_SIZE_MAX};

use super::preview::instant;
use crate::{
    context::Context,
    failure::Failure,
    table::{Style, Table},
    views::{cell, short_time, time},
};

/// Show what became of each time that a flow was due: fired, late, skipped or queued, oldest first.
#[derive(Args, Debug)]
pub struct Ledger {
    /// Id or name.
    flow: String,
    /// Only from this time on, such as 2027-03-27T00:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    from: Option<Timestamp>,
    /// Only before this time.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    to: Option<Timestamp>,
    /// Only the last so many; 0 means all.
    #[arg(long, default_value_t = 20, value_name = "COUNT")]
    last: usize,
}

impl Ledger {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let mut occurrences = Vec::new();
        let mut page_token = String::new();
        loop {
            let answer = client
                .list_occurrences(ListOccurrencesRequest {
                    flow: self.flow.clone(),
                    page_size: PAGE_SIZE_MAX,
                    page_token,
                    from: self.from.map(timestamp),
                    to: self.to.map(timestamp),
                })
                .await?;
            occurrences.extend(answer.occurrences);
            // What is not shown need not be kept either.
            if self.last > 0 && occurrences.len() > self.last {
                occurrences.drain(..occurrences.len() - self.last);
            }
            page_token = answer.next_token;
            if page_token.is_empty() {
                break;
            }
        }
        context.output.either(
            || {
                let occurrences = occurrences.iter().map(|occurrence| {
                    json!({
                        "nominal": occurrence.nominal,
                        "at": time(occurrence.at.as_ref()),
                        "kind": kind(occurrence.kind()),
                        "outcome": outcome(occurrence.outcome()).0,
                        "reason": occurrence.reason,
                        "execution_id": occurrence.execution_id,
                        "decided_at": time(occurrence.decided_at.as_ref()),
                    })
                });
                Value::Array(occurrences.collect())
            },
            || {
                let header = [
                    "LOCAL TIME",
                    "UTC",
                    "KIND",
                    "OUTCOME",
                    "EXECUTION",
                    "REASON",
                ];
                let mut table = Table::new(&header, "It was never due.");
                for occurrence in &occurrences {
                    table.row(vec![
                        occurrence.nominal.replace('T', " ").into(),
                        short_time(occurrence.at.as_ref()).into(),
                        kind(occurrence.kind()).into(),
                        cell(outcome(occurrence.outcome())),
                        occurrence.execution_id.as_str().into(),
                        occurrence.reason.as_str().into(),
                    ]);
                }
                table
            },
        )
    }
}

fn kind(kind: OccurrenceKind) -> &'static str {
    match kind {
        OccurrenceKind::Manual => "manual",
        OccurrenceKind::Backfill => "backfill",
        OccurrenceKind::Unspecified | OccurrenceKind::Regular => "regular",
    }
}

fn outcome(outcome: OccurrenceOutcome) -> (&'static str, Style) {
    match outcome {
        OccurrenceOutcome::Unspecified => ("unknown", Style::Plain),
        OccurrenceOutcome::Fired => ("fired", Style::Green),
        OccurrenceOutcome::Late => ("late", Style::Yellow),
        OccurrenceOutcome::Skipped => ("skipped", Style::Grey),
        OccurrenceOutcome::Queued => ("queued", Style::Yellow),
    }
}
