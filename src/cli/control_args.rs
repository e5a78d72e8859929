//! What can be typed to ask a running master and to command it. Definitions only.

use std::path::PathBuf;

use clap::Args;

use crate::control::types::Command;

#[derive(Args, Debug)]
pub(super) struct Status {
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
    /// Again each second, until interrupted
    #[arg(long)]
    pub(super) watch: bool,
    /// The master's control socket
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct Schedules {
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
    /// The master's control socket
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
}

/// How long `health --wait` waits where no time is given.
pub(super) const HEALTH_WAIT: &str = "30s";

#[derive(Args, Debug)]
pub(super) struct Health {
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
    /// Wait until it is healthy, at most this long; 30s where no time is given
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = HEALTH_WAIT, allow_hyphen_values = true)]
    pub(super) wait: Option<String>,
    /// The master's control socket
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct Control {
    /// The master's control socket
    #[arg(long, value_name = "PATH", global = true)]
    pub(super) socket: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) verb: Command,
}
