//! `tidemill flow validate`

use clap::Args;
use serde_json::{Value, json};

use super::read::read;
use crate::{
    context::Context,
    failure::{Failure, Problem},
    table::{Style, printable},
};

/// Check files and say everything that is wrong with them. Needs no server.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidemill flow validate orders.yaml invoices.json
  cat orders.yaml | tidemill flow validate -")]
pub struct Validate {
    /// YAML or JSON, each with one flow or several; `-` is stdin.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
}

impl Validate {
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let output = &context.output;
        let mut reports = Vec::new();
        let mut errors = 0;
        for name in &self.files {
            let file = read(name)?;
            errors += file.errors.len();
            if output.is_json() {
                let problems = |list: &[Problem], severity| -> Vec<Value> {
                    let list = list.iter();
                    list.map(|problem| {
                        json!({
                            "pointer": problem.pointer,
                            "code": problem.code,
                            "message": problem.message,
                            "severity": severity,
                        })
                    })
                    .collect()
                };
                let mut all = problems(&file.errors, "error");
                all.extend(problems(&file.warnings, "warning"));
                reports.push(json!({
                    "file": name,
                    "valid": file.errors.is_empty(),
                    "flows": file.documents.len(),
                    "problems": all,
                }));
                continue;
            }
            for (list, word, style) in [
                (&file.errors, "error", Style::Red),
                (&file.warnings, "warning", Style::Yellow),
            ] {
                for problem in list {
                    output.line(format!(
                        "{name}: {} {}: {} ({})",
                        style.paint(word, output.color),
                        if problem.pointer.is_empty() {
                            "/"
                        } else {
                            &problem.pointer
                        },
                        printable(&problem.message),
                        problem.code,
                    ))?;
                }
            }
            if file.errors.is_empty() {
                let flows = file.documents.len();
                let ok = Style::Green.paint("valid", output.color);
                let plural = if flows == 1 { "" } else { "s" };
                output.line(format!("{name}: {ok}, {flows} flow{plural}"))?;
            }
        }
        if output.is_json() {
            output.document(&Value::Array(reports))?;
        }
        if errors > 0 {
            let plural = if errors == 1 { "" } else { "s" };
            return Err(Failure::invalid(
                "INVALID_FLOW",
                format!("{errors} error{plural} found"),
                Vec::new(),
            ));
        }
        Ok(())
    }
}
