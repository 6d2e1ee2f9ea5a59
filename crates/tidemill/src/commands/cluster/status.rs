//! `tidemill cluster status`

use clap::Args;
use serde_json::{Value, json};
use tidemill_sdk::api::{GetStatusRequest, GetStatusResponse};

use crate::{
    context::Context,
    failure::Failure,
    table::{Cell, Style, Table},
};

/// Show members, partitions and their leaders, as the node that answers sees them.
#[derive(Args, Debug)]
pub struct Status {}

impl Status {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let status = client.get_status(GetStatusRequest {}).await?;
        let output = &context.output;
        if output.is_json() {
            return output.document(&json(&status));
        }
        output.line(format!(
            "cluster {}, as node {} sees it (version {})\n",
            status.cluster, status.node_id, status.version
        ))?;
        output.table(&members(&status))?;
        output.line("")?;
        output.table(&partitions(&status))?;
        if status.disk_low {
            let warning = "The disk is nearly full: writes are refused until space returns.";
            output.line(format!("\n{}", Style::Red.paint(warning, output.color)))?;
        }
        Ok(())
    }
}

fn json(status: &GetStatusResponse) -> Value {
    let members: Vec<Value> = status
        .members
        .iter()
        .map(|member| {
            json!({
                "id": member.id,
                "peer": member.peer,
                "grpc": member.grpc,
                "http": member.http,
                "voter": member.voter,
                "reachable": member.reachable,
            })
        })
        .collect();
    let partitions: Vec<Value> = status
        .partitions
        .iter()
        .map(|partition| {
            json!({
                "id": partition.id,
                // 0 when there is none, as in the API.
                "leader": partition.leader,
                "term": partition.term,
                "last_log_index": partition.last_log_index,
                "applied_index": partition.applied_index,
                "snapshot_index": partition.snapshot_index,
                "fault": partition.fault,
            })
        })
        .collect();
    json!({
        "cluster": status.cluster,
        "node_id": status.node_id,
        "version": status.version,
        "disk_low": status.disk_low,
        "members": members,
        "partitions": partitions,
    })
}

fn members(status: &GetStatusResponse) -> Table {
    let mut table = Table::new(
        &["NODE", "ROLE", "STATE", "GRPC", "PEER", "HTTP"],
        "No members.",
    );
    for member in &status.members {
        let state = if member.id == status.node_id {
            Cell::styled("this node", Style::Green)
        } else if member.reachable {
            Cell::styled("reachable", Style::Green)
        } else {
            Cell::styled("unreachable", Style::Red)
        };
        table.row(vec![
            member.id.to_string().into(),
            if member.voter { "voter" } else { "learner" }.into(),
            state,
            member.grpc.as_str().into(),
            member.peer.as_str().into(),
            member.http.as_str().into(),
        ]);
    }
    table
}

fn partitions(status: &GetStatusResponse) -> Table {
    let header = [
        "PARTITION",
        "LEADER",
        "TERM",
        "LAST LOG",
        "APPLIED",
        "SNAPSHOT",
        "FAULT",
    ];
    let mut table = Table::new(&header, "No partitions.");
    for partition in &status.partitions {
        let name = match partition.id {
            0 => "0 (catalog)".to_owned(),
            id => id.to_string(),
        };
        let leader = match partition.leader {
            0 => Cell::styled("none", Style::Red),
            leader => leader.to_string().into(),
        };
        table.row(vec![
            name.into(),
            leader,
            partition.term.to_string().into(),
            partition.last_log_index.to_string().into(),
            partition.applied_index.to_string().into(),
            partition.snapshot_index.to_string().into(),
            Cell::styled(partition.fault.as_str(), Style::Red),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use tidemill_sdk::api::{Member, PartitionStatus};

    use super::*;

    #[test]
    fn shows_what_is_missing() {
        let status = GetStatusResponse {
            cluster: "c".to_owned(),
            node_id: 1,
            members: vec![
                Member {
                    id: 1,
                    voter: true,
                    grpc: "a:1".to_owned(),
                    ..Member::default()
                },
                Member {
                    id: 2,
                    grpc: "b:1".to_owned(),
                    ..Member::default()
                },
            ],
            partitions: vec![PartitionStatus {
                id: 0,
                fault: "corrupt".to_owned(),
                ..PartitionStatus::default()
            }],
            ..GetStatusResponse::default()
        };
        assert_eq!(
            members(&status).render(false),
            "NODE  ROLE     STATE        GRPC  PEER  HTTP\n\
             1     voter    this node    a:1\n\
             2     learner  unreachable  b:1\n"
        );
        let partitions = partitions(&status).render(false);
        assert!(partitions.contains("0 (catalog)  none"), "{partitions}");
        assert!(partitions.contains("corrupt"), "{partitions}");
        assert_eq!(json(&status)["partitions"][0]["leader"], 0);
    }
}
