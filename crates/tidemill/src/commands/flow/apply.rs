//! `tidemill flow apply`

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};
use tidemill_core::flow::canonical_json;
use tidemill_sdk::{
    Client,
    api::{ApplyFlowRequest, FlowStatus, PublishFlowRequest, StartFlowRequest},
};

use super::read::{FlowFile, read};
use crate::{
    context::Context,
    failure::{Exit, Failure},
    table::Table,
    views::{cell, flow_status},
};

/// Create flows from files, or replace the drafts of those that exist.
///
/// Nothing is applied unless every flow in every file is valid. A flow is known by its name; of
/// different flows with one name in one call (OIH allows that) the later ones get a number.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidemill flow apply orders.yaml                       a draft: nothing that runs changes
  tidemill flow apply orders.yaml --publish             … and a version
  tidemill flow apply flows/*.yaml --publish --start    … that is active")]
pub struct Apply {
    /// YAML or JSON, each with one flow or several; `-` is stdin.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Publish each flow too.
    #[arg(long)]
    publish: bool,
    /// Start each flow too, after publishing it.
    #[arg(long, requires = "publish")]
    start: bool,
    /// Start even when no worker serves what the flow needs.
    #[arg(long, requires = "start")]
    without_workers: bool,
}

#[derive(Debug)]
struct Applied {
    file: String,
    name: String,
    id: String,
    result: &'static str,
    version: u32,
    status: FlowStatus,
}

/// Flow names are unique here; in OIH they are not. Documents of one call that share a name but not
/// their content are different flows, so the later ones get a number. The same call names them the
/// same way again.
fn name_apart(files: &mut [FlowFile]) -> Vec<String> {
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut notes = Vec::new();
    for file in files {
        let at = file.name.clone();
        file.documents.retain_mut(|document| {
            let Some(name) = document.name.clone() else {
                return true;
            };
            let content = canonical_json(document);
            let same_name = seen.entry(name.clone()).or_default();
            if same_name.contains(&content) {
                notes.push(format!("{at}: {name}: the same flow again; applied once"));
                return false;
            }
            same_name.push(content);
            if same_name.len() > 1 {
                let numbered = format!("{name} ({})", same_name.len());
                notes.push(format!(
                    "{at}: another flow is named {name:?} too; this one is applied as {numbered:?}"
                ));
                document.name = Some(numbered);
            }
            true
        });
    }
    notes
}

impl Apply {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut files = Vec::new();
        let mut errors = Vec::new();
        for name in &self.files {
            let file = read(name)?;
            errors.extend(file.errors.iter().cloned());
            for warning in &file.warnings {
                context.output.note(format!(
                    "warning: {name}: {}: {} ({})",
                    warning.pointer, warning.message, warning.code
                ));
            }
            files.push(file);
        }
        if !errors.is_empty() {
            return Err(Failure::invalid(
                "INVALID_FLOW",
                "nothing was applied, because not all flows are valid",
                errors,
            ));
        }
        for note in name_apart(&mut files) {
            context.output.note(note);
        }
        let client = context.client().await?;
        let mut applied = Vec::new();
        let mut failed = Vec::new();
        for file in &files {
            for document in &file.documents {
                let mut done = Applied {
                    file: file.name.clone(),
                    name: document.name.clone().unwrap_or_default(),
                    id: String::new(),
                    result: "failed",
                    version: 0,
                    status: FlowStatus::Unspecified,
                };
                let result = self
                    .apply(&client, canonical_json(document), &mut done)
                    .await;
                if let Err(failure) = result {
                    let name = if done.name.is_empty() {
                        "(no name)"
                    } else {
                        &done.name
                    };
                    context
                        .output
                        .note(format!("{}: {name}: {}", file.name, failure.message()));
                    // Without a server the rest would only fail in the same way.
                    if failure.exit() == Exit::Unreachable {
                        return Err(failure);
                    }
                    failed.push(failure);
                }
                applied.push(done);
            }
        }
        context
            .output
            .either(|| json(&applied), || table(&applied))?;
        let count = failed.len();
        match failed.into_iter().next() {
            None => Ok(()),
            Some(only) if count == 1 => Err(only),
            Some(first) => Err(Failure::failed(
                "SOME_FAILED",
                format!(
                    "{count} of {} flows failed; the first: {}",
                    applied.len(),
                    first.message()
                ),
            )),
        }
    }

    async fn apply(
        &self,
        client: &Client,
        document: String,
        done: &mut Applied,
    ) -> Result<(), Failure> {
        let request = ApplyFlowRequest {
            document,
            ..ApplyFlowRequest::default()
        };
        let answer = client.apply_flow(request).await?;
        let flow = answer.flow.unwrap_or_default();
        done.status = flow.status();
        done.version = flow.latest_version;
        done.name = flow.name;
        done.id = flow.id;
        done.result = match (answer.created, answer.changed) {
            (true, _) => "created",
            (false, true) => "changed",
            (false, false) => "unchanged",
        };
        if self.publish {
            let request = PublishFlowRequest {
                flow: done.id.clone(),
                ..PublishFlowRequest::default()
            };
            let answer = client.publish_flow(request).await?;
            done.version = answer.version.unwrap_or_default().version;
        }
        if self.start {
            let request = StartFlowRequest {
                flow: done.id.clone(),
                without_workers: self.without_workers,
                ..StartFlowRequest::default()
            };
            let answer = client.start_flow(request).await?;
            let flow = answer.flow.unwrap_or_default();
            done.status = flow.status();
            if done.status == FlowStatus::Inactive {
                return Err(super::start::refused(&flow));
            }
        }
        Ok(())
    }
}

fn json(applied: &[Applied]) -> Value {
    applied
        .iter()
        .map(|done| {
            json!({
                "file": done.file,
                "name": done.name,
                "id": done.id,
                "result": done.result,
                "version": done.version,
                "status": flow_status(done.status).0,
            })
        })
        .collect()
}

fn table(applied: &[Applied]) -> Table {
    let header = ["NAME", "ID", "DRAFT", "VERSION", "STATUS"];
    let mut table = Table::new(&header, "No flows in these files.");
    for done in applied {
        let version = if done.version == 0 {
            "-".to_owned()
        } else {
            done.version.to_string()
        };
        table.row(vec![
            done.name.as_str().into(),
            done.id.as_str().into(),
            done.result.into(),
            version.into(),
            cell(flow_status(done.status)),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(names: &[(&str, &str)]) -> FlowFile {
        let documents = names
            .iter()
            .map(|(name, function)| {
                let text = format!(
                    "name: {name}\ngraph: {{nodes: [{{id: a, componentId: w, function: {function}}}], edges: []}}"
                );
                tidemill_core::flow::parse(&text).expect("valid").remove(0)
            })
            .collect();
        FlowFile {
            name: "f.yaml".into(),
            documents,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn flows_of_one_name_are_named_apart() {
        let mut files = [
            file(&[("a", "f"), ("a", "f"), ("b", "f")]),
            file(&[("a", "g"), ("a", "h"), ("a", "g")]),
        ];
        let notes = name_apart(&mut files);
        let names: Vec<&str> = files
            .iter()
            .flat_map(|file| &file.documents)
            .filter_map(|document| document.name.as_deref())
            .collect();
        assert_eq!(names, ["a", "b", "a (2)", "a (3)"]);
        assert_eq!(notes.len(), 4, "{notes:?}");
    }
}
