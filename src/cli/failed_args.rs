//! What can be typed about dead letters. Definitions only.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(super) enum Failed {
    /// List dead letters, oldest first, with counts per reason and error
    #[command(after_help = "Examples:\n  asynctask failed list thumbnails --reason crash\n  \
        asynctask failed list --job registry/chile")]
    List(FailedList),
    /// Show one dead letter with all that is known of its end
    Show(FailedShow),
    /// Put dead letters back to work: attempts start again, the history is kept
    #[command(after_help = "Examples:\n  asynctask failed retry thumbnails --all --rate 50/s\n  \
        asynctask failed retry thumbnails 0198c5 --set-payload size.width=100")]
    Retry(FailedRetry),
    /// Delete dead letters
    #[command(after_help = "Example:\n  asynctask failed purge thumbnails --reason crash --older-than 24h")]
    Purge(FailedPurge),
    /// Print dead letters whole, a JSON object a line; they stay where they are
    #[command(after_help = "Example:\n  asynctask failed export thumbnails > thumbnails.jsonl")]
    Export(FailedExport),
}

/// Which dead letters; all conditions must hold.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Filter {
    /// Only those with this reason
    #[arg(long, value_name = "REASON")]
    pub(super) reason: Option<String>,
    /// Only those with this fingerprint of their error
    #[arg(long, value_name = "HEX")]
    pub(super) fingerprint: Option<String>,
    /// Only those of this job, by its id, or of jobs by PIPELINE/KEY
    #[arg(long, value_name = "JOB")]
    pub(super) job: Option<String>,
    /// Only those that died longer ago than this (30m, 24h)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub(super) older_than: Option<String>,
}

/// Dead letters that are chosen to be acted upon: nothing is chosen by saying nothing.
#[derive(Args, Debug)]
pub(super) struct SelectionArgs {
    /// The work queue
    pub(super) queue: String,
    /// The tasks' ids
    #[arg(value_name = "ID", required_unless_present_any = ["all", "reason", "fingerprint", "job", "older_than"],
          conflicts_with_all = ["all", "reason", "fingerprint", "job", "older_than"])]
    pub(super) ids: Vec<String>,
    /// All of them; with --job: all of that job
    #[arg(long, conflicts_with_all = ["reason", "fingerprint", "older_than"])]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) filter: Filter,
    /// Only say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Give up with exit code 69 after this much time without an answer [default: 60s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub(super) wait: Option<String>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct FailedRetry {
    #[command(flatten)]
    pub(super) chosen: SelectionArgs,
    /// At most N a second (or `N/m`, `N/h`)
    #[arg(long, value_name = "N/s", allow_hyphen_values = true)]
    pub(super) rate: Option<String>,
    /// Change the payload, which must be JSON: `size.width=100`, `pages.0="a"`; VALUE is JSON, else a string
    #[arg(long, value_name = "PATH=VALUE")]
    pub(super) set_payload: Vec<String>,
}

#[derive(Args, Debug)]
pub(super) struct FailedPurge {
    #[command(flatten)]
    pub(super) chosen: SelectionArgs,
    /// Do not ask
    #[arg(short, long)]
    pub(super) yes: bool,
}

#[derive(Args, Debug)]
pub(super) struct FailedExport {
    /// The work queue
    pub(super) queue: String,
    #[command(flatten)]
    pub(super) filter: Filter,
}

#[derive(Args, Debug)]
pub(super) struct FailedList {
    /// The work queue; with --job: all queues of that job
    #[arg(required_unless_present = "job")]
    pub(super) queue: Option<String>,
    #[command(flatten)]
    pub(super) filter: Filter,
    /// At most N
    #[arg(long, value_name = "N", default_value_t = 1000, allow_hyphen_values = true)]
    pub(super) limit: usize,
    /// Only the counts
    #[arg(long)]
    pub(super) summary: bool,
    /// Print a JSON object for each
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct FailedShow {
    /// The work queue
    pub(super) queue: String,
    /// The task's id
    pub(super) id: String,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}
