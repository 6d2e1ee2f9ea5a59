//! `tidemill flow …`

use clap::{Args, Subcommand};

use crate::{context::Context, failure::Failure};

mod apply;
mod delete;
mod get;
mod list;
mod publish;
mod read;
mod start;
mod stop;
mod validate;
mod versions;

/// Define flows, publish them, start and stop them.
#[derive(Debug, Subcommand)]
pub enum Flow {
    /// Create flows from files, or replace their drafts.
    Apply(apply::Apply),
    /// Check files without any server.
    Validate(validate::Validate),
    /// List flows by name.
    List(list::List),
    /// Show one flow.
    Get(get::Get),
    /// List the published versions of a flow.
    Versions(versions::Versions),
    /// Make the draft an immutable version.
    Publish(publish::Publish),
    /// Make a published version active, so that it can run.
    Start(start::Start),
    /// Make a flow inactive; what runs, finishes.
    Stop(stop::Stop),
    /// Delete an inactive flow.
    Delete(delete::Delete),
}

/// What makes a command safe to repeat.
#[derive(Args, Debug)]
pub struct RequestId {
    /// Makes the command safe to repeat: the same id never does it twice.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    pub request_id: String,
}

impl Flow {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Apply(command) => command.run(context).await,
            Self::Validate(command) => command.run(context),
            Self::List(command) => command.run(context).await,
            Self::Get(command) => command.run(context).await,
            Self::Versions(command) => command.run(context).await,
            Self::Publish(command) => command.run(context).await,
            Self::Start(command) => command.run(context).await,
            Self::Stop(command) => command.run(context).await,
            Self::Delete(command) => command.run(context).await,
        }
    }
}
