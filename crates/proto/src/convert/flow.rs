//! Flows and versions.

use std::collections::HashMap;

use tidemill_rows::table::{FlowRow, FlowStatus, FlowVersionRow};
use tidemill_types::FlowId;

use super::timestamp;
use crate::v1;

/// To the wire.
#[must_use]
pub const fn flow_status(status: FlowStatus) -> v1::FlowStatus {
    match status {
        FlowStatus::Inactive => v1::FlowStatus::Inactive,
        FlowStatus::Starting => v1::FlowStatus::Starting,
        FlowStatus::Active => v1::FlowStatus::Active,
        FlowStatus::Stopping => v1::FlowStatus::Stopping,
    }
}

/// From the wire: none for "any".
///
/// # Errors
/// The number, when there is no such status.
pub fn flow_status_filter(number: i32) -> Result<Option<FlowStatus>, i32> {
    Ok(
        match v1::FlowStatus::try_from(number).map_err(|_| number)? {
            v1::FlowStatus::Unspecified => None,
            v1::FlowStatus::Inactive => Some(FlowStatus::Inactive),
            v1::FlowStatus::Starting => Some(FlowStatus::Starting),
            v1::FlowStatus::Active => Some(FlowStatus::Active),
            v1::FlowStatus::Stopping => Some(FlowStatus::Stopping),
        },
    )
}

/// What a flow's row has inside of its document only.
#[derive(Clone, Debug, Default)]
pub struct FlowText {
    /// For people.
    pub description: String,
    /// The author's own.
    pub labels: HashMap<String, String>,
}

impl FlowText {
    /// Reads both from a canonical document; what is not there stays empty.
    #[must_use]
    pub fn of(document: &[u8]) -> Self {
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(document) else {
            return Self::default();
        };
        let labels = value.get("labels").and_then(|labels| labels.as_object());
        Self {
            description: value["description"].as_str().unwrap_or_default().to_owned(),
            labels: labels
                .into_iter()
                .flatten()
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
        }
    }
}

/// To the wire; with its document when asked for.
#[must_use]
pub fn flow(id: FlowId, row: FlowRow, with_document: bool) -> v1::Flow {
    let text = FlowText::of(&row.document);
    v1::Flow {
        id: id.to_string(),
        name: row.name,
        description: text.description,
        labels: text.labels,
        status: flow_status(row.status).into(),
        status_reason: row.reason,
        draft_revision: row.revision,
        latest_version: row.latest_version,
        active_version: row.active_version,
        partition: u32::from(id.partition().0),
        created_at: Some(timestamp(row.created_at)),
        updated_at: Some(timestamp(row.updated_at)),
        document: if with_document {
            String::from_utf8_lossy(&row.document).into_owned()
        } else {
            String::new()
        },
    }
}

/// To the wire; with its document when asked for.
#[must_use]
pub fn flow_version(
    flow: FlowId,
    version: u32,
    row: &FlowVersionRow,
    with_document: bool,
) -> v1::FlowVersion {
    v1::FlowVersion {
        flow_id: flow.to_string(),
        version,
        content_hash: row.content_hash.to_string(),
        published_at: Some(timestamp(row.published_at)),
        document: if with_document {
            String::from_utf8_lossy(&row.document).into_owned()
        } else {
            String::new()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_can_be_filtered_for() {
        for number in 1..=4 {
            let status = FlowStatus::from_number(number).expect("a status");
            let wire = flow_status(status);
            assert_eq!(flow_status_filter(wire.into()), Ok(Some(status)));
            assert!(
                wire.as_str_name()
                    .ends_with(&status.as_str().to_uppercase())
            );
        }
        assert_eq!(flow_status_filter(0), Ok(None));
        assert_eq!(flow_status_filter(-1), Err(-1));
    }

    #[test]
    fn reads_description_and_labels() {
        let text = FlowText::of(br#"{"description":"d","labels":{"a":"b","c":1}}"#);
        assert_eq!(text.description, "d");
        assert_eq!(text.labels, HashMap::from([("a".into(), "b".into())]));
        assert!(FlowText::of(b"no json").labels.is_empty());
    }
}
