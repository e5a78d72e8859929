//! What can be typed to ask and steer a running master. Definitions only.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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
    pub(super) verb: Steer,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Steer {
    /// Change the number of worker processes of a queue
    Scale {
        /// The queue
        queue: String,
        /// Processes
        processes: u32,
    },
    /// Take no tasks of a queue until it is resumed
    Pause {
        /// The queue
        queue: String,
    },
    /// Take tasks of a paused queue again
    Resume {
        /// The queue
        queue: String,
    },
    /// Work a parked queue now
    Unpark {
        /// The queue
        queue: String,
    },
    /// Renew the workers of a queue, or of all, each replaced before it goes
    Restart {
        /// The queue
        queue: Option<String>,
    },
    /// Read the settings again and do what is different, as a HUP does
    Reload {
        /// Until the new settings are in force: workers ready, removed queues done with
        #[arg(long)]
        wait: bool,
    },
    /// Stop the master as a SIGTERM does
    Stop {
        /// Interrupt what is in hand
        #[arg(long)]
        now: bool,
    },
    /// End a task: in hand here it becomes a dead letter, waiting in an SQLite file it is removed
    Cancel {
        /// The task's id
        id: String,
    },
    /// Change how much is logged
    LogLevel {
        /// error, warning, info or debug
        level: String,
    },
}
