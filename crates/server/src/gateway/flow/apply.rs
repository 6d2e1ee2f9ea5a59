//! `ApplyFlow`.

use tidemill_core::{
    Catalog, Rejection,
    command::{ApplyFlow, CatalogCommand},
    flow::{Problem, Severity},
};
use tidemill_proto::{
    convert,
    v1::{self, ApplyFlowRequest, ApplyFlowResponse},
};
use tidemill_types::flow::FlowDocument;
use tonic::Status;

use super::{client, find::find, validate};
use crate::{
    actor::{AskError, GroupHandle},
    gateway::{
        Checks, Open, Origin,
        check::{CheckResult, FlowRef, invalid},
        forwarded,
        route::Kind,
        status,
    },
};

pub(in crate::gateway) async fn apply(
    open: &Open,
    origin: Origin,
    mut request: ApplyFlowRequest,
) -> Result<ApplyFlowResponse, Status> {
    let node = &open.node;
    request.request_id = Checks::request_id(request.request_id).map_err(status)?;
    let (command, warnings) = check(&request, node.partition_count()).map_err(status)?;
    node.on_leader(
        origin,
        Kind::Write,
        &node.catalog,
        |catalog| local(catalog, command.clone(), warnings.clone()),
        |channel| {
            let request = request.clone();
            async move { forwarded(client(channel).apply_flow(request).await) }
        },
    )
    .await
}

fn check(
    request: &ApplyFlowRequest,
    partitions: u16,
) -> CheckResult<(ApplyFlow, Vec<v1::Problem>)> {
    let (document, warnings) = document(&request.document)?;
    let flow = if request.flow_id.is_empty() {
        None
    } else {
        let id = request.flow_id.parse();
        Some(id.map_err(|error| invalid("flow_id", format!("{error}")))?)
    };
    let command = ApplyFlow {
        document: Box::new(document),
        flow,
        expected_revision: request.expected_revision,
        create_only: request.create_only,
        request_id: request.request_id.clone(),
        entropy: rand::random(),
        partitions,
    };
    Ok((command, warnings))
}

/// The one document of the text, and what its author should know.
fn document(text: &str) -> CheckResult<(FlowDocument, Vec<v1::Problem>)> {
    let refused = |problems| AskError::Rejected(Rejection::InvalidDocument(problems));
    let mut documents = tidemill_core::flow::parse(text).map_err(refused)?;
    let (Some(document), true) = (documents.pop(), documents.is_empty()) else {
        return Err(invalid("document", "must be exactly one flow document"));
    };
    let problems = tidemill_core::flow::validate(&document);
    if problems.iter().any(Problem::is_error) {
        return Err(refused(problems));
    }
    let warnings = problems
        .into_iter()
        .filter(|problem| problem.severity == Severity::Warning)
        .map(validate::problem)
        .collect();
    Ok((document, warnings))
}

async fn local(
    catalog: GroupHandle<Catalog>,
    command: ApplyFlow,
    problems: Vec<v1::Problem>,
) -> CheckResult<ApplyFlowResponse> {
    let reply = catalog.ask(CatalogCommand::Apply(command)).await?;
    let (id, row) = find(&catalog.stale(), &FlowRef::Id(reply.flow))?;
    Ok(ApplyFlowResponse {
        flow: Some(convert::flow(id, row, true)),
        created: reply.created,
        changed: reply.changed,
        problems,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_document() {
        let one = "name: a\ngraph: {nodes: [{id: n, componentId: log, function: write}]}";
        document(one).expect("one");
        let two = format!("{one}\n---\n{one}");
        let error = document(&two).expect_err("two").to_string();
        assert!(error.contains("exactly one"), "{error}");
    }

    #[test]
    fn all_problems_are_told() {
        let error = document("name: a\nnmae: b\ngraph: {nodes: [{id: n}]}").expect_err("bad");
        let AskError::Rejected(Rejection::InvalidDocument(problems)) = error else {
            panic!("{error}");
        };
        let pointers: Vec<&str> = problems.iter().map(|p| p.pointer.as_str()).collect();
        assert!(pointers.contains(&"/nmae"), "{pointers:?}");
        assert!(problems.len() >= 2, "{problems:?}");
    }
}
