//! `ListOccurrences`: answered by the leader of the flow's home partition, oldest first.

use tidemill_core::{Rejection, Rows, schedule::local_text};
use tidemill_proto::{
    convert::{timestamp, timestamp_from},
    v1::{self, ListOccurrencesRequest, ListOccurrencesResponse, PageRequest},
};
use tidemill_rows::{
    Stored as _,
    table::{
        OccurrenceKind, OccurrenceOutcome, OccurrenceRow, occurrence_key, occurrence_of_key,
        occurrences_prefix,
    },
};
use tidemill_types::{FlowId, Timestamp};
use tonic::Status;

use super::client;
use crate::{
    actor::AskError,
    gateway::{
        Checks, Kind, Open, Origin,
        check::{CheckResult, invalid},
        flow::resolve,
        forwarded,
        page::{self, Page},
        status,
    },
    rows::{after, damaged, prefix_range, scan},
};

/// Where local times begin: before all of one instant.
const FIRST_NOMINAL: Timestamp = Timestamp(i64::MIN);

pub(super) async fn list(
    open: &Open,
    origin: Origin,
    mut request: ListOccurrencesRequest,
) -> Result<ListOccurrencesResponse, Status> {
    let flow = Checks::flow("flow", &request.flow).map_err(status)?;
    let page = &Page::check(Some(PageRequest {
        size: request.page_size,
        token: request.page_token.clone(),
    }))
    .map_err(status)?;
    let from = request.from.as_ref().map(timestamp_from);
    let to = request.to.as_ref().map(timestamp_from);
    let id = resolve(open, &flow, false).await?;
    let node = &open.node;
    let Some(home) = node.partition(id.partition()) else {
        let rejection = Rejection::FlowNotFound(request.flow);
        return Err(status(AskError::Rejected(rejection)));
    };
    request.flow = id.to_string();
    let answer = node
        .on_leader(
            origin,
            Kind::Read,
            home,
            |home| async move { read(&home.read().await?, id, (from, to), page) },
            |channel| {
                let request = request.clone();
                async move { forwarded(client(channel).list_occurrences(request).await) }
            },
        )
        .await?;
    if origin == Origin::Client && answer.occurrences.is_empty() && page.after.is_none() {
        // A flow that does not exist is not one without occurrences.
        resolve(open, &flow, true).await?;
    }
    Ok(answer)
}

fn read(
    rows: &dyn Rows,
    flow: FlowId,
    (from, to): (Option<Timestamp>, Option<Timestamp>),
    page: &Page,
) -> CheckResult<ListOccurrencesResponse> {
    let (mut start, mut end) = prefix_range(&occurrences_prefix(flow));
    let key = |at, nominal| occurrence_key(flow, at, nominal).to_vec();
    if let Some(from) = from {
        start = key(from, FIRST_NOMINAL);
    }
    if let Some(to) = to {
        end = key(to, FIRST_NOMINAL);
    }
    let prefix = occurrences_prefix(flow);
    if let Some(last) = &page.after {
        let last = [prefix.as_ref(), last].concat();
        if occurrence_of_key(&last).is_none() {
            let reason = "must be the next_token of a page of the same list";
            return Err(invalid("page.token", reason));
        }
        start = start.max(after(&last));
    }
    let mut answer = ListOccurrencesResponse::default();
    if start >= end {
        return Ok(answer);
    }
    let mut found = scan(rows, &start, &end, page.size + 1, false)?;
    let has_more = found.len() > page.size;
    found.truncate(page.size);
    let mut last = None;
    for (key, value) in found {
        let (at, nominal) = occurrence_of_key(&key)
            .ok_or_else(|| damaged(format!("an occurrence's key of {flow} is damaged")))?;
        let row = OccurrenceRow::from_bytes(value).map_err(damaged)?;
        answer.occurrences.push(occurrence(at, nominal, row));
        last = Some(key);
    }
    if let (true, Some(last)) = (has_more, last) {
        answer.next_token = page::token(&last[prefix.len()..]);
    }
    Ok(answer)
}

fn occurrence(at: Timestamp, nominal: Timestamp, row: OccurrenceRow) -> v1::Occurrence {
    let outcome = match row.outcome {
        OccurrenceOutcome::Fired => v1::OccurrenceOutcome::Fired,
        OccurrenceOutcome::Late => v1::OccurrenceOutcome::Late,
        OccurrenceOutcome::Skipped => v1::OccurrenceOutcome::Skipped,
        OccurrenceOutcome::Queued => v1::OccurrenceOutcome::Queued,
    };
    let kind = match row.kind {
        OccurrenceKind::Regular => v1::OccurrenceKind::Regular,
        OccurrenceKind::Manual => v1::OccurrenceKind::Manual,
        OccurrenceKind::Backfill => v1::OccurrenceKind::Backfill,
    };
    v1::Occurrence {
        nominal: local_text(nominal),
        at: Some(timestamp(at)),
        note: String::new(),
        fires: false,
        outcome: outcome.into(),
        reason: row.reason,
        execution_id: row
            .execution
            .map(|execution| execution.to_string())
            .unwrap_or_default(),
        decided_at: Some(timestamp(row.decided_at)),
        kind: kind.into(),
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::memory::MemoryRows;
    use tidemill_rows::{Mutation, table::backfill_occurrence_key};
    use tidemill_types::PartitionId;

    use super::*;

    fn rows(flow: FlowId) -> MemoryRows {
        let mut rows = MemoryRows::default();
        // Each instant has two local times, as where clocks are put back.
        for at in -5..5 {
            for nominal in [at, at + 1] {
                let row = OccurrenceRow {
                    outcome: OccurrenceOutcome::Fired,
                    decided_at: Timestamp(at),
                    ..OccurrenceRow::default()
                };
                // One of the two was backfilled, too.
                let (at, nominal) = (Timestamp(at), Timestamp(nominal));
                let key = if at == nominal {
                    occurrence_key(flow, at, nominal)
                } else {
                    backfill_occurrence_key(flow, at, nominal)
                };
                rows.apply(&[Mutation::Put {
                    key,
                    value: row.to_bytes(),
                }]);
            }
        }
        rows
    }

    fn all(rows: &MemoryRows, flow: FlowId, from: Option<i64>, to: Option<i64>) -> Vec<i64> {
        let between = (from.map(Timestamp), to.map(Timestamp));
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let page = Page::check(Some(PageRequest { size: 3, token })).expect("a page");
            let answer = read(rows, flow, between, &page).expect("no damage");
            assert!(answer.occurrences.len() <= 3);
            found.extend(
                answer.occurrences.iter().map(|occurrence| {
                    timestamp_from(occurrence.decided_at.as_ref().expect("set")).0
                }),
            );
            token = answer.next_token;
            if token.is_empty() {
                return found;
            }
        }
    }

    #[test]
    fn pages_hold_every_occurrence_once_oldest_first() {
        let flow = FlowId::new(0, PartitionId(1), 1);
        let rows = rows(flow);
        let twice = |range: std::ops::Range<i64>| range.flat_map(|at| [at, at]).collect::<Vec<_>>();
        assert_eq!(all(&rows, flow, None, None), twice(-5..5));
        assert_eq!(all(&rows, flow, Some(-2), Some(3)), twice(-2..3));
        assert_eq!(all(&rows, flow, Some(4), None), twice(4..5));
        assert!(all(&rows, flow, Some(3), Some(3)).is_empty());
        assert!(all(&rows, flow, Some(3), Some(-3)).is_empty());
        let other = FlowId::new(0, PartitionId(1), 2);
        assert!(all(&rows, other, None, None).is_empty());
    }
}
