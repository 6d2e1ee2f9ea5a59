//! `ListFlows`: in the order of their names.

use tidemill_core::Rows;
use tidemill_proto::{
    convert,
    v1::{ListFlowsRequest, ListFlowsResponse},
};
use tidemill_rows::{
    key::{self, PREFIX_LEN, Table},
    table::{FlowRow, FlowStatus, flow_by_name_key, flow_key},
};
use tidemill_types::{
    FlowId, PartitionId,
    limits::{FLOW_NAME_CHARS_MAX, LISTED_ROWS_MAX, PAGE_BYTES_MAX},
};
use tonic::Status;

use super::client;
use crate::{
    actor::AskError,
    gateway::{
        Checks, Open, Origin,
        check::{CheckResult, invalid},
        forwarded,
        page::{self, Page},
        route::Kind,
        status,
    },
    rows::{after, prefix_range, scan, stored},
};

/// Rows looked at in one go.
const PART: usize = 256;

struct Filter {
    with_documents: bool,
    status: Option<FlowStatus>,
    name_contains: String,
}

pub(in crate::gateway) async fn list(
    open: &Open,
    origin: Origin,
    request: ListFlowsRequest,
) -> Result<ListFlowsResponse, Status> {
    let (page, filter) = &check(&request).map_err(status)?;
    let node = &open.node;
    node.on_leader(
        origin,
        Kind::Read,
        &node.catalog,
        |catalog| async move { read(&catalog.read().await?, page, filter) },
        |channel| {
            let request = request.clone();
            async move { forwarded(client(channel).list_flows(request).await) }
        },
    )
    .await
}

fn check(request: &ListFlowsRequest) -> CheckResult<(Page, Filter)> {
    Checks::text("name_contains", &request.name_contains, FLOW_NAME_CHARS_MAX)?;
    let status = convert::flow_status_filter(request.status)
        .map_err(|number| invalid("status", format!("{number} is not a status")))?;
    let filter = Filter {
        with_documents: request.with_documents,
        status,
        name_contains: request.name_contains.to_lowercase(),
    };
    Ok((Page::check(request.page.clone())?, filter))
}

fn read(rows: &dyn Rows, page: &Page, filter: &Filter) -> CheckResult<ListFlowsResponse> {
    let (mut from, to) = prefix_range(&key::prefix(PartitionId::CATALOG, Table::FlowByName));
    if let Some(name) = &page.after {
        let name = std::str::from_utf8(name)
            .map_err(|_| invalid("page.token", "must be the next_token of the page before"))?;
        from = after(&flow_by_name_key(name));
    }
    let mut answer = ListFlowsResponse::default();
    let mut bytes = 0;
    let mut looked_at = 0;
    loop {
        let part = scan(rows, &from, &to, PART, false)?;
        let is_last = part.len() < PART;
        for (key, value) in part {
            let name = &key[PREFIX_LEN..];
            looked_at += 1;
            if let Some((id, row)) = filter.fitting(rows, name, &value)? {
                if answer.flows.len() == page.size || bytes >= PAGE_BYTES_MAX {
                    let last = answer.flows.last().map(|flow| flow.name.as_bytes());
                    answer.next_token = page::token(last.unwrap_or_default());
                    return Ok(answer);
                }
                if filter.with_documents {
                    bytes += row.document.len();
                }
                answer
                    .flows
                    .push(convert::flow(id, row, filter.with_documents));
            } else if looked_at >= LISTED_ROWS_MAX {
                // A page may end early, but a call must not read a million rows.
                answer.next_token = page::token(name);
                return Ok(answer);
            }
            from = after(&key);
        }
        if is_last {
            return Ok(answer);
        }
    }
}

impl Filter {
    /// The flow of an entry of the index by name, if it is wanted.
    fn fitting(
        &self,
        rows: &dyn Rows,
        name: &[u8],
        id: &[u8],
    ) -> CheckResult<Option<(FlowId, FlowRow)>> {
        let text = String::from_utf8_lossy(name).to_lowercase();
        if !text.contains(&self.name_contains) {
            return Ok(None);
        }
        let id =
            FlowId(id.try_into().map_err(|_| {
                AskError::Corrupt(format!("the id of flow {text:?} cannot be read"))
            })?);
        let row: FlowRow = stored(rows, &flow_key(id))?
            .ok_or_else(|| AskError::Corrupt(format!("flow {id} is missing")))?;
        let is_wanted = self.status.is_none_or(|status| status == row.status);
        Ok(is_wanted.then_some((id, row)))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidemill_core::{Rejection, memory::MemoryRows};
    use tidemill_proto::v1::PageRequest;
    use tidemill_rows::{Mutation, Stored};
    use tidemill_types::limits::{FLOW_DOCUMENT_BYTES_MAX, PAGE_SIZE_MAX};

    use super::*;

    fn rows(names: &[&str]) -> MemoryRows {
        rows_with(names, &Bytes::new())
    }

    fn rows_with(names: &[&str], document: &Bytes) -> MemoryRows {
        let mut rows = MemoryRows::default();
        for (at, name) in (0..).zip(names) {
            let id = FlowId::new(at, PartitionId(1), 1);
            let row = FlowRow {
                name: (*name).to_owned(),
                document: document.clone(),
                ..FlowRow::default()
            };
            rows.apply(&[
                Mutation::Put {
                    key: flow_by_name_key(name),
                    value: Bytes::copy_from_slice(&id.0),
                },
                Mutation::Put {
                    key: flow_key(id),
                    value: row.to_bytes(),
                },
            ]);
        }
        rows
    }

    #[test]
    fn pages_hold_every_flow_once() {
        let names: Vec<String> = (0..700).map(|n| format!("flow-{n:03}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let rows = rows(&names);
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let request = ListFlowsRequest {
                page: Some(PageRequest { size: 100, token }),
                name_contains: "FLOW".into(),
                ..ListFlowsRequest::default()
            };
            let (page, filter) = check(&request).expect("valid");
            let answer = read(&rows, &page, &filter).expect("no damage");
            found.extend(answer.flows.into_iter().map(|flow| flow.name));
            token = answer.next_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(found, names);
    }

    /// How many flows each page has.
    fn pages(rows: &MemoryRows, request: &ListFlowsRequest) -> Vec<usize> {
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let size = PAGE_SIZE_MAX;
            let request = ListFlowsRequest {
                page: Some(PageRequest { size, token }),
                ..request.clone()
            };
            let (page, filter) = check(&request).expect("valid");
            let answer = read(rows, &page, &filter).expect("no damage");
            found.push(answer.flows.len());
            token = answer.next_token;
            if token.is_empty() {
                return found;
            }
        }
    }

    #[test]
    fn a_page_of_documents_has_so_many_bytes() {
        let document = Bytes::from(vec![b' '; FLOW_DOCUMENT_BYTES_MAX]);
        let most = PAGE_BYTES_MAX / FLOW_DOCUMENT_BYTES_MAX;
        let names: Vec<String> = (0..=most).map(|n| format!("flow-{n:03}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let rows = rows_with(&names, &document);
        let mut request = ListFlowsRequest::default();
        assert_eq!(pages(&rows, &request), [most + 1]);
        request.with_documents = true;
        assert_eq!(pages(&rows, &request), [most, 1]);
    }

    #[test]
    fn a_filter_looks_at_so_many_flows_for_a_page() {
        let names: Vec<String> = (0..LISTED_ROWS_MAX)
            .map(|n| format!("flow-{n:05}"))
            .collect();
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.push("last");
        let rows = rows(&names);
        let mut request = ListFlowsRequest {
            name_contains: "last".into(),
            ..ListFlowsRequest::default()
        };
        assert_eq!(pages(&rows, &request), [0, 1]);
        request.name_contains.clear();
        request.status = tidemill_proto::v1::FlowStatus::Active.into();
        assert_eq!(pages(&rows, &request), [0, 0]);
        // What fits is bounded by the page's size.
        request.status = 0;
        assert_eq!(pages(&rows, &request), [&[1_000; 10][..], &[1]].concat());
    }

    #[test]
    fn filters_by_name_and_status() {
        let rows = rows(&["alpha", "beta"]);
        let list = |name_contains: &str, status: i32| {
            let request = ListFlowsRequest {
                name_contains: name_contains.into(),
                status,
                ..ListFlowsRequest::default()
            };
            let (page, filter) = check(&request).expect("valid");
            read(&rows, &page, &filter).expect("no damage").flows.len()
        };
        assert_eq!(list("LPH", 0), 1);
        assert_eq!(list("", 1), 2);
        assert_eq!(list("", 3), 0);
    }

    #[test]
    fn a_flow_whose_row_is_missing_is_damage() {
        let mut rows = rows(&["a"]);
        let key = flow_key(FlowId::new(0, PartitionId(1), 1));
        rows.apply(&[Mutation::Delete { key }]);
        let (page, filter) = check(&ListFlowsRequest::default()).expect("valid");
        let error = read(&rows, &page, &filter).expect_err("damage");
        assert!(!matches!(
            error,
            AskError::Rejected(Rejection::FlowNotFound(_))
        ));
    }
}
