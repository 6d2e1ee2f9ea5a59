//! Which flow a request is for, and how that flow takes requests.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tidemill_core::{Rows, flow};
use tidemill_proto::v1::{FlowStatus, GetFlowRequest, GetFlowVersionRequest};
use tidemill_rows::table::{ArmedFlowRow, PlanVersionRow, armed_flow_key, plan_version_key};
use tidemill_types::{FlowId, flow::WebhookTrigger, limits::PLANS_CACHED_MAX};
use tonic::Code;

use super::answer::Refusal;
use crate::{
    actor::AskError,
    gateway::{Checks, Open, Origin, check::FlowRef, flow as flows, status},
    rows::{damaged, stored},
};

/// How an active flow takes requests.
#[derive(Debug)]
pub(super) struct Trigger {
    pub flow: FlowId,
    /// None: it has a schedule, and takes no requests.
    pub webhook: Option<WebhookTrigger>,
}

/// The triggers of versions that were asked for lately. Versions never change.
#[derive(Default)]
pub(super) struct Triggers {
    known: Mutex<BTreeMap<(FlowId, u32), Arc<Trigger>>>,
}

impl Triggers {
    /// The trigger of an active flow, by id or name.
    ///
    /// What this node's copy says is armed is taken as it is: the start is decided by the leader. What it
    /// does not know may have been started a moment ago, so the leader is asked.
    pub async fn find(&self, open: &Open, text: &str) -> Result<Arc<Trigger>, Refusal> {
        let not_found = || Refusal::not_found(text);
        let flow = Checks::flow("flow", text).map_err(|_| not_found())?;
        let failed = |status: &tonic::Status| Refusal::of(status, text, "");
        let id = flows::resolve(open, &flow, false)
            .await
            .map_err(|error| failed(&error))?;
        let home = open.node.partition(id.partition()).ok_or_else(not_found)?;
        let rows = home.stale();
        let armed = armed_version(&rows, id).map_err(|error| failed(&status(error)))?;
        let trigger = match armed {
            Some(version) => match self.known(id, version) {
                Some(trigger) => trigger,
                None => {
                    let row: Option<PlanVersionRow> = stored(&rows, &plan_version_key(id, version))
                        .map_err(|error| failed(&status(error)))?;
                    let row = row.ok_or_else(|| {
                        failed(&status(damaged(format!(
                            "version {version} of {id} is missing"
                        ))))
                    })?;
                    self.keep(id, version, &row.document)
                        .map_err(|error| failed(&status(error)))?
                }
            },
            None => self.at_leader(open, &flow).await?.ok_or_else(not_found)?,
        };
        Ok(trigger)
    }

    /// What the catalog's leader knows; none when the flow is not active.
    async fn at_leader(
        &self,
        open: &Open,
        flow: &FlowRef,
    ) -> Result<Option<Arc<Trigger>>, Refusal> {
        let text = flow.to_string();
        let found = flows::get(open, Origin::Client, GetFlowRequest { flow: text.clone() }).await;
        let found = match found {
            Ok(found) => found.flow.unwrap_or_default(),
            Err(error) if error.code() == Code::NotFound => return Ok(None),
            Err(error) => return Err(Refusal::of(&error, &text, "")),
        };
        let Ok(id) = found.id.parse::<FlowId>() else {
            return Ok(None);
        };
        if found.status() != FlowStatus::Active {
            return Ok(None);
        }
        let version = found.active_version;
        if let Some(trigger) = self.known(id, version) {
            return Ok(Some(trigger));
        }
        let request = GetFlowVersionRequest {
            flow: found.id,
            version,
        };
        let answer = flows::get_version(open, Origin::Client, request).await;
        let document = answer
            .map_err(|error| Refusal::of(&error, &text, ""))?
            .version
            .unwrap_or_default()
            .document;
        let trigger = self.keep(id, version, document.as_bytes());
        trigger
            .map(Some)
            .map_err(|error| Refusal::of(&status(error), &text, ""))
    }

    fn known(&self, flow: FlowId, version: u32) -> Option<Arc<Trigger>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(flow, version)).cloned()
    }

    fn keep(&self, flow: FlowId, version: u32, document: &[u8]) -> Result<Arc<Trigger>, AskError> {
        let trigger = Arc::new(trigger_of(flow, version, document)?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        while known.len() >= PLANS_CACHED_MAX {
            known.pop_first();
        }
        known.insert((flow, version), Arc::clone(&trigger));
        Ok(trigger)
    }
}

/// The version of a flow that is armed, as far as these rows know.
fn armed_version(rows: &dyn Rows, flow: FlowId) -> Result<Option<u32>, AskError> {
    let row: Option<ArmedFlowRow> = stored(rows, &armed_flow_key(flow))?;
    Ok(row.filter(|row| row.armed).map(|row| row.version))
}

/// How a version takes requests.
fn trigger_of(flow: FlowId, version: u32, document: &[u8]) -> Result<Trigger, AskError> {
    let unreadable = |reason: String| {
        damaged(format!(
            "version {version} of {flow} cannot be read: {reason}"
        ))
    };
    let document =
        serde_json::from_slice(document).map_err(|error| unreadable(error.to_string()))?;
    let document = flow::parse_value(&document).map_err(|problems| {
        unreadable(
            problems
                .first()
                .map(ToString::to_string)
                .unwrap_or_default(),
        )
    })?;
    let has_schedule = document.trigger.schedule.is_some() || document.cron.is_some();
    let webhook = (!has_schedule).then(|| document.trigger.webhook.unwrap_or_default());
    Ok(Trigger { flow, webhook })
}

#[cfg(test)]
mod tests {
    use tidemill_types::PartitionId;

    use super::*;

    #[test]
    fn so_many_triggers_are_kept() {
        let triggers = Triggers::default();
        let document = br#"{"name": "x", "graph": {"nodes": [{"id": "a", "componentId": "c", "function": "f"}], "edges": []}}"#;
        let flow = |number| FlowId::new(0, PartitionId(1), number);
        for number in 0..PLANS_CACHED_MAX as u64 + 1 {
            let kept = triggers.keep(flow(number), 1, document);
            assert_eq!(kept.expect("a version").flow, flow(number));
        }
        assert_eq!(
            triggers.known.lock().expect("whole").len(),
            PLANS_CACHED_MAX
        );
        assert!(triggers.known(flow(0), 1).is_none(), "it has made room");
        assert!(triggers.known(flow(1), 1).is_some());
    }
}
