//! Flow files: what is in them, and what is wrong with them.

use std::io::Read as _;

use tidemill_core::flow::{self, Severity};
use tidemill_types::{flow::FlowDocument, limits::FLOW_DOCUMENT_BYTES_MAX};

use crate::failure::{Failure, Problem};

/// What one file holds.
#[derive(Debug)]
pub struct FlowFile {
    pub name: String,
    pub documents: Vec<FlowDocument>,
    pub errors: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

/// Reads a file, or stdin for `-`, and checks all documents in it.
pub fn read(name: &str) -> Result<FlowFile, Failure> {
    Ok(check(name, &text(name)?))
}

fn text(name: &str) -> Result<String, Failure> {
    // One byte over the limit is enough for the parser to say what the limit is.
    let most = FLOW_DOCUMENT_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    let result = if name == "-" {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(name).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    result.map_err(|error| Failure::failed("FILE", format!("{name}: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        Failure::failed(
            "FILE",
            format!("{name}: not UTF-8 text: {}", error.utf8_error()),
        )
    })
}

fn check(name: &str, text: &str) -> FlowFile {
    let mut file = FlowFile {
        name: name.to_owned(),
        documents: Vec::new(),
        errors: Vec::new(),
        warnings: Vec::new(),
    };
    match flow::parse(text) {
        Err(problems) => file.take(problems, ""),
        Ok(documents) => {
            for (i, document) in documents.iter().enumerate() {
                // As `parse` does: in a file of several, pointers begin with the document's place.
                let place = if documents.len() > 1 {
                    format!("/{i}")
                } else {
                    String::new()
                };
                file.take(flow::validate(document), &place);
            }
            file.documents = documents;
        }
    }
    file
}

impl FlowFile {
    fn take(&mut self, problems: Vec<flow::Problem>, place: &str) {
        for problem in problems {
            let list = match problem.severity {
                Severity::Error => &mut self.errors,
                Severity::Warning => &mut self.warnings,
            };
            list.push(Problem {
                file: self.name.clone(),
                pointer: format!("{place}{}", problem.pointer),
                code: problem.code.to_owned(),
                message: problem.message,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "{name: a, graph: {nodes: [{id: n, componentId: c, function: f}]}}";

    #[test]
    fn a_stream_is_split_and_pointers_name_the_document() {
        let file = check(
            "x",
            &format!("{GOOD}\n---\n{}\n", GOOD.replace("name: a", "name: b")),
        );
        assert_eq!(file.documents.len(), 2);
        assert_eq!(file.errors, []);
        let file = check("x", &format!("{GOOD}\n---\n{{name: b, nmae: c}}\n"));
        assert!(
            file.errors
                .iter()
                .all(|problem| problem.pointer.starts_with("/1")),
            "{file:?}"
        );
        assert!(file.errors.len() >= 2, "all at once: {file:?}");
        assert_eq!(file.errors[0].file, "x");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read("/nowhere/x.yaml").unwrap_err();
        assert!(error.message().contains("/nowhere/x.yaml"));
    }
}
