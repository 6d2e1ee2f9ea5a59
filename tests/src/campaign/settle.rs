//! After the faults: waits until all is settled, reads everything at its end, exports the journals.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::json;
use tidemill_checker::{
    Recorder,
    history::{Event, LedgerOutcome, LedgerRow},
};
use tidemill_sdk::{
    Client,
    api::{
        ExecutionState, GetHeadsRequest, ListExecutionsRequest, ListStepsRequest, OccurrenceKind,
        OccurrenceOutcome, PageRequest, ReadJournalRequest, StopFlowRequest,
    },
};
use tidemill_types::limits::PAGE_SIZE_MAX;

use crate::{ledger, within};

/// How long executions may take to end once all is well: retries, leases and clocks that were ahead included.
const END_TIMEOUT: Duration = Duration::from_secs(90);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const HEADS_TIMEOUT: Duration = Duration::from_secs(60);
/// Of so many executions one is read with its steps; of those that failed each is.
const STEPS_OF_EVERY: usize = 10;

/// Stops a flow, repeating until it is answered.
///
/// # Errors
/// When it cannot be stopped in time.
pub async fn stop_flow(client: &Client, flow: &str) -> Result<()> {
    within(STOP_TIMEOUT, &format!("flow {flow} stops"), async || {
        let request = StopFlowRequest {
            flow: flow.to_owned(),
            ..StopFlowRequest::default()
        };
        client.stop_flow(request).await.ok()
    })
    .await?;
    Ok(())
}

/// Waits until no execution of these flows runs.
///
/// # Errors
/// When some still do when the time is up.
pub async fn all_ended(client: &Client, flows: &[String]) -> Result<()> {
    for flow in flows {
        within(
            END_TIMEOUT,
            &format!("all executions of {flow} end"),
            async || {
                let request = ListExecutionsRequest {
                    flow: flow.clone(),
                    state: ExecutionState::Running.into(),
                    page: Some(PageRequest {
                        size: 1,
                        token: String::new(),
                    }),
                };
                let listed = client.list_executions(request).await.ok()?;
                listed.executions.is_empty().then_some(())
            },
        )
        .await?;
    }
    Ok(())
}

/// Reads all executions of these flows, and the steps of some.
///
/// # Errors
/// When they cannot be read.
pub async fn read_finals(client: &Client, flows: &[String], recorder: &Recorder) -> Result<()> {
    for flow in flows {
        let mut token = String::new();
        let mut number = 0_usize;
        loop {
            let request = ListExecutionsRequest {
                flow: flow.clone(),
                page: Some(PageRequest {
                    size: PAGE_SIZE_MAX,
                    token,
                }),
                ..ListExecutionsRequest::default()
            };
            let page = client.list_executions(request).await?;
            for read in page.executions {
                number += 1;
                let state = super::load::state_name(read.state().as_str_name(), "EXECUTION_STATE_");
                let with_steps = state != "succeeded" || number.is_multiple_of(STEPS_OF_EVERY);
                let step_states = match with_steps {
                    true => Some(steps(client, &read.id).await?),
                    false => None,
                };
                recorder.write(Event::Final {
                    execution: read.id,
                    state,
                    steps: read.steps,
                    dead: read.steps_dead,
                    step_states,
                });
            }
            token = page.next_token;
            if token.is_empty() {
                break;
            }
        }
    }
    recorder.write(Event::FinalsComplete);
    Ok(())
}

async fn steps(client: &Client, execution: &str) -> Result<Vec<(String, u32)>> {
    let request = ListStepsRequest {
        execution_id: execution.to_owned(),
        page: Some(PageRequest {
            size: PAGE_SIZE_MAX,
            token: String::new(),
        }),
        ..ListStepsRequest::default()
    };
    let listed = client.list_steps(request).await?.steps;
    let state = |name: &str| super::load::state_name(name, "STEP_STATE_");
    Ok(listed
        .iter()
        .map(|step| (state(step.state().as_str_name()), step.attempt))
        .collect())
}

/// Reads the ledgers of flows that are due every second.
///
/// # Errors
/// When they cannot be read.
pub async fn read_ledgers(client: &Client, flows: &[String], recorder: &Recorder) -> Result<()> {
    for flow in flows {
        let mut rows = Vec::new();
        for row in ledger::occurrences(client, flow).await? {
            if row.kind() != OccurrenceKind::Regular {
                continue;
            }
            let at = row.at.as_ref().context("an instant")?;
            rows.push(LedgerRow {
                at_us: at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000,
                outcome: match row.outcome() {
                    OccurrenceOutcome::Fired => LedgerOutcome::Fired,
                    OccurrenceOutcome::Late => LedgerOutcome::Late,
                    OccurrenceOutcome::Skipped => LedgerOutcome::Skipped,
                    OccurrenceOutcome::Queued | OccurrenceOutcome::Unspecified => {
                        LedgerOutcome::Queued
                    }
                },
                execution: row.execution_id,
            });
        }
        recorder.write(Event::Ledger {
            flow: flow.clone(),
            rows,
        });
    }
    Ok(())
}

/// Waits until all nodes have the same journal.
///
/// # Errors
/// When they do not in time.
pub async fn equal_heads(clients: &[Client]) -> Result<()> {
    within(
        HEADS_TIMEOUT,
        "equal journal heads on all nodes",
        async || {
            let mut all = Vec::new();
            for client in clients {
                all.push(client.get_heads(GetHeadsRequest {}).await.ok()?.heads);
            }
            all.windows(2).all(|two| two[0] == two[1]).then_some(())
        },
    )
    .await
}

/// Writes a node's own journal as `tidemill journal export` does. The client must know no other node.
///
/// # Errors
/// When it cannot be read or written.
pub async fn export(client: &Client, folder: &Path) -> Result<PathBuf> {
    let answer = client.get_heads(GetHeadsRequest {}).await?;
    let path = folder.join(format!("journal-{}.jsonl", answer.node_id));
    let mut file = BufWriter::new(File::create(&path)?);
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let head = |head: &tidemill_sdk::api::Head| json!({"partition": head.partition, "seq": head.seq, "hash": hex(&head.hash)});
    let heads: Vec<_> = answer.heads.iter().map(head).collect();
    let header = json!({"tidemill_journal": 1, "cluster": "campaign", "node_id": answer.node_id, "heads": heads});
    writeln!(file, "{header}")?;
    for head in answer.heads.iter().filter(|head| head.seq > 0) {
        let mut reader = client.read_journal(ReadJournalRequest {
            partition: head.partition,
            from_seq: 1,
            limit: head.seq,
            ..ReadJournalRequest::default()
        });
        while let Some(entries) = reader.next().await? {
            for entry in entries {
                let (record, hash) = (BASE64.encode(&entry.record), hex(&entry.hash));
                let line = json!({"partition": head.partition, "record": record, "hash": hash});
                writeln!(file, "{line}")?;
            }
        }
    }
    file.flush()?;
    Ok(path)
}
