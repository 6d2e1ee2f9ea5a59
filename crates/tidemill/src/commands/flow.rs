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
mod trigger;
mod validate;
mod versions;

/// Define flows, publish them, start and stop them.
#[derive(Debug, Subcommand)]
pub enum Flow {
    Apply(apply::Apply),
    Validate(validate::Validate),
    List(list::List),
    Get(get::Get),
    Versions(versions::Versions),
    Publish(publish::Publish),
    Start(start::Start),
    Stop(stop::Stop),
    Trigger(trigger::Trigger),
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
            Self::Trigger(command) => command.run(context).await,
            Self::Delete(command) => command.run(context).await,
        }
    }
}
