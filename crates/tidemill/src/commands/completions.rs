//! `tidemill completions`

use clap::{Args, CommandFactory as _};

use crate::{cli::Cli, context::Context, failure::Failure};

/// Print the completions of a shell.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tidemill completions bash > /etc/bash_completion.d/tidemill")]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

impl Completions {
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "tidemill", &mut script);
        context
            .output
            .line(String::from_utf8_lossy(&script).trim_end())
    }
}
