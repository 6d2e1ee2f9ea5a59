//! The list of flows: filtered, searched, sorted and paged as OIH's is.
//!
//! OIH's pages are numbers in an order of the caller's choice with a count of all, which no index of ours
//! gives; so all flows are looked at for each list, up to a limit that says so.

use tidemill_proto::v1::{Flow, FlowStatus, ListFlowsRequest, PageRequest};
use tidemill_types::limits::{PAGE_SIZE_MAX, REST_FLOWS_LISTED_MAX};

use super::{Refusal, query::Query};
use crate::gateway::{Open, Origin, flow as flows};

/// What is asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    status: FlowStatus,
    /// Types that are wanted; empty: any.
    types: &'static [&'static str],
    search: Option<String>,
    /// None at all: what is asked for is not there as long as nothing has owners or templates.
    nothing: bool,
    sort: Sort,
    descending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    CreatedAt,
    UpdatedAt,
    Name,
}

impl Wanted {
    pub fn read(query: &Query) -> Result<Self, Refusal> {
        let status = match query.get("filter[status]") {
            None => FlowStatus::Unspecified,
            Some("1" | "active") => FlowStatus::Active,
            Some("0" | "inactive") => FlowStatus::Inactive,
            Some(_) => {
                return Err(Refusal::bad(
                    "Invalid filter[status] parameter: 1, active, 0 and inactive are allowed",
                ));
            }
        };
        let types: &[&str] = match query.get("filter[type]") {
            None => &[],
            Some("ordinary") => &["ordinary"],
            Some("long_running" | "long-running") => &["long_running", "long-running"],
            Some(_) => {
                return Err(Refusal::bad(
                    "Invalid filter[type] parameter: ordinary, long_running and long-running are allowed",
                ));
            }
        };
        let template = query.get("filter[fromTemplate]");
        if template.is_some_and(|id| super::ids::of_short(id).is_none()) {
            return Err(Refusal::bad("Invalid filter[fromTemplate] parameter"));
        }
        let sort = query.get("sort").unwrap_or("createdAt");
        let descending = sort.starts_with('-');
        let sort = match sort.trim_start_matches('-') {
            "createdAt" => Sort::CreatedAt,
            "updatedAt" => Sort::UpdatedAt,
            "name" => Sort::Name,
            _ => {
                return Err(Refusal::bad(
                    "Invalid sort parameter: createdAt, updatedAt and name are allowed, with - before for descending",
                ));
            }
        };
        Ok(Self {
            status,
            types,
            search: query.search()?,
            nothing: template.is_some() || query.get("filter[user]").is_some(),
            sort,
            descending,
        })
    }

    /// All flows that are wanted, in the order that is wanted.
    pub async fn find(&self, open: &Open) -> Result<Vec<Flow>, Refusal> {
        let mut found = Vec::new();
        let mut token = String::new();
        if self.nothing {
            return Ok(found);
        }
        loop {
            let request = ListFlowsRequest {
                page: Some(PageRequest {
                    size: PAGE_SIZE_MAX,
                    token,
                }),
                status: self.status.into(),
                // The type stands in the document only.
                with_documents: !self.types.is_empty(),
                ..ListFlowsRequest::default()
            };
            let page = flows::list(open, Origin::Client, request).await?;
            self.take(page.flows, &mut found)?;
            token = page.next_token;
            if token.is_empty() {
                break;
            }
        }
        self.order(&mut found);
        Ok(found)
    }

    /// Keeps what is wanted of a page.
    fn take(&self, flows: Vec<Flow>, found: &mut Vec<Flow>) -> Result<(), Refusal> {
        let fitting = flows.into_iter().filter(|flow| self.fits(flow));
        found.extend(fitting.map(|flow| Flow {
            document: String::new(),
            ..flow
        }));
        if found.len() > REST_FLOWS_LISTED_MAX {
            return Err(Refusal::bad(format!(
                "more than {REST_FLOWS_LISTED_MAX} flows: filter them, or list them by gRPC"
            )));
        }
        Ok(())
    }

    fn fits(&self, flow: &Flow) -> bool {
        let has_text = self.search.as_ref().is_none_or(|text| {
            flow.name.to_lowercase().contains(text)
                || flow.description.to_lowercase().contains(text)
        });
        has_text && (self.types.is_empty() || self.types.contains(&type_of(flow).as_str()))
    }

    fn order(&self, flows: &mut [Flow]) {
        let time = |time: &Option<prost_types::Timestamp>| {
            time.as_ref().map(|time| (time.seconds, time.nanos))
        };
        flows.sort_by(|a, b| {
            let order = match self.sort {
                Sort::CreatedAt => time(&a.created_at).cmp(&time(&b.created_at)),
                Sort::UpdatedAt => time(&a.updated_at).cmp(&time(&b.updated_at)),
                Sort::Name => a.name.cmp(&b.name),
            };
            let order = if self.descending {
                order.reverse()
            } else {
                order
            };
            order.then_with(|| a.id.cmp(&b.id))
        });
    }
}

/// OIH's default is `ordinary`.
fn type_of(flow: &Flow) -> String {
    let document: serde_json::Value = serde_json::from_str(&flow.document).unwrap_or_default();
    document["type"].as_str().unwrap_or("ordinary").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_so_many_flows() {
        let query = Query::parse("search=shop").expect("fine");
        let wanted = Wanted::read(&query).expect("fine");
        let flows = |name: &str, count| {
            let flow = Flow {
                name: name.into(),
                ..Flow::default()
            };
            vec![flow; count]
        };
        let mut found = Vec::new();
        for _ in 0..REST_FLOWS_LISTED_MAX / 1_000 {
            let page = flows("shop", 1_000);
            assert!(wanted.take(page, &mut found).is_ok());
        }
        // Only what is wanted counts.
        assert!(wanted.take(flows("other", 1_000), &mut found).is_ok());
        assert_eq!(found.len(), REST_FLOWS_LISTED_MAX);
        let refused = wanted.take(flows("shop", 1), &mut found);
        assert_eq!(refused.expect_err("one too many").status(), 400);
    }
}
