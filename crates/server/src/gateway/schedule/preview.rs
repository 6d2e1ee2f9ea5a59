//! `PreviewSchedule`: of a flow's draft, or of a schedule that is given. Changes nothing.

use tidemill_core::{
    Rejection,
    flow::parse_value,
    schedule::{Schedule, ScheduleError},
};
use tidemill_proto::{
    convert::timestamp_from,
    v1::{self, GetFlowRequest, PreviewScheduleRequest, PreviewScheduleResponse},
};
use tidemill_types::{
    flow::FlowDocument,
    limits::{FLOW_DOCUMENT_BYTES_MAX, PAGE_SIZE_MAX},
    schedule::ScheduleSpec,
};
use tonic::Status;

use crate::{
    actor::AskError,
    clock,
    gateway::{Open, Origin, check::CheckResult, flow, invalid, status},
    rows::damaged,
};

/// How many when the caller names no number.
const COUNT_DEFAULT: u32 = 10;

pub(super) async fn preview(
    open: &Open,
    origin: Origin,
    request: PreviewScheduleRequest,
) -> Result<PreviewScheduleResponse, Status> {
    let count = match request.count {
        0 => COUNT_DEFAULT,
        1..=PAGE_SIZE_MAX => request.count,
        _ => {
            let reason = format!("must be at most {PAGE_SIZE_MAX}");
            return Err(status(invalid("count", reason)));
        }
    };
    let from = request
        .from
        .as_ref()
        .map_or_else(clock::now, timestamp_from);
    let spec = if request.flow.is_empty() {
        given(&request.schedule)
    } else if request.schedule.is_empty() {
        let flow = GetFlowRequest { flow: request.flow };
        let answer = flow::get(open, origin, flow).await?;
        spec_of(&answer.flow.unwrap_or_default())
    } else {
        Err(invalid("schedule", "must be empty beside `flow`"))
    };
    let schedule = spec.and_then(|spec| compile(&spec)).map_err(status)?;
    let count = usize::try_from(count).expect("32 bits fit");
    let occurrences = schedule.preview(from.as_millis(), count);
    Ok(PreviewScheduleResponse {
        occurrences: occurrences
            .iter()
            .map(super::backfill::occurrence)
            .collect(),
    })
}

fn given(text: &str) -> CheckResult<ScheduleSpec> {
    if text.is_empty() {
        return Err(invalid(
            "flow",
            "must be a flow's id or name, unless `schedule` is given",
        ));
    }
    if text.len() > FLOW_DOCUMENT_BYTES_MAX {
        let reason = format!(
            "has {} bytes, at most {FLOW_DOCUMENT_BYTES_MAX} are allowed",
            text.len()
        );
        return Err(invalid("schedule", reason));
    }
    serde_json::from_str(text).map_err(|error| invalid("schedule", error.to_string()))
}

/// The schedule of a flow's draft.
fn spec_of(flow: &v1::Flow) -> CheckResult<ScheduleSpec> {
    let document = serde_json::from_str(&flow.document).map_err(damaged)?;
    let FlowDocument { trigger, cron, .. } = parse_value(&document)
        .map_err(|problems| AskError::Rejected(Rejection::InvalidDocument(problems)))?;
    trigger
        .schedule
        .or_else(|| cron.map(ScheduleSpec::from_cron))
        .ok_or_else(|| invalid("flow", format!("the draft of {} has no schedule", flow.id)))
}

fn compile(spec: &ScheduleSpec) -> CheckResult<Schedule> {
    Schedule::compile(spec).map_err(|errors| {
        let field = |pointer: &str| format!("schedule{}", pointer.replace('/', "."));
        let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
        match errors.as_slice() {
            [ScheduleError { pointer, message }] => invalid(field(pointer), message.as_str()),
            _ => invalid("schedule", all.join("; ")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text| {
            let spec = given(text);
            spec.and_then(|spec| compile(&spec))
                .expect_err("is refused")
                .to_string()
        };
        for (text, part) in [
            ("", "flow: "),
            ("{", "schedule: "),
            ("{\"corn\": \"x\"}", "corn"),
            ("{\"cron\": \"0 0 31 2 *\"}", "schedule.cron: "),
            ("{\"cron\": \"x\", \"timezone\": \"Mars\"}", "/timezone"),
        ] {
            assert!(error(text).contains(part), "{text}: {}", error(text));
        }
    }
}
