//! What can be typed about jobs. Definitions only.

use clap::{Args, Subcommand};

/// What follows "asynctask jobs".
#[derive(Debug, Subcommand)]
pub(super) enum Jobs {
    /// Start a job of a pipeline, and print its id
    #[command(after_help = "Examples:\n  asynctask jobs start registry '{\"publication\": \"chile\"}'\n  \
        asynctask jobs start build --wait --timeout 20m\n  \
        asynctask jobs start build --id \"$COMMIT\"\n\n\
        Twice with the same --id starts one job. Exit code: 0 it began or is planned, with --wait: it is done; 1 refused, as for a \
        key that another job holds; 3 stored, and not yet carried out; 80 with --wait: it failed or was cancelled; 81 \
        with --timeout: it takes longer")]
    Start(Start),
    /// List jobs, the newest first
    #[command(after_help = "Examples:\n  asynctask jobs list --state failed\n  asynctask jobs list --stalled --json")]
    List(List),
    /// Show a job: its steps, what they gave, why they failed
    #[command(after_help = "Example:\n  asynctask jobs show registry/chile --watch")]
    Show(Show),
    /// Do a job again, or some of its steps and what needs them
    #[command(after_help = "Examples:\n  asynctask jobs restart registry/chile export\n  \
        asynctask jobs restart registry/chile --failed\n\n\
        Dead letters of a job heal it also by asynctask failed retry")]
    Restart(Restart),
    /// End jobs: what is in hand is stopped, what waits is removed, and what they left is wiped
    #[command(after_help = "Example:\n  asynctask jobs cancel registry/chile registry/peru")]
    Cancel(Cancel),
    /// Begin no task of a job, or no job of a pipeline; what is in hand goes on
    #[command(after_help = "Examples:\n  asynctask jobs freeze registry/chile\n  \
        asynctask jobs freeze --pipeline registry --key chile\n\n\
        registry/chile is the job that there is; --pipeline and --key keep others from beginning")]
    #[command(override_usage = "asynctask jobs freeze JOB | --pipeline PIPELINE [--key KEY]")]
    Freeze(Scoped),
    /// Begin again what freeze holds back
    #[command(after_help = "Example:\n  asynctask jobs resume --pipeline registry")]
    #[command(override_usage = "asynctask jobs resume JOB | --pipeline PIPELINE [--key KEY]")]
    Resume(Scoped),
    /// Have a planned job begin earlier or later than others
    #[command(after_help = "Example:\n  asynctask jobs priority registry/chile 10")]
    Priority(Priority),
    /// Wipe nothing at the end of a job
    #[command(after_help = "Example:\n  asynctask jobs keep registry/chile")]
    Keep(One),
    /// Wipe what a job left: again, or before its time
    #[command(after_help = "Examples:\n  asynctask jobs wipe registry/chile\n  asynctask jobs wipe 0198c5 --all")]
    Wipe(Wipe),
}

/// Every order has these.
#[derive(Args, Clone, Debug)]
pub(super) struct Given {
    /// Print the answer as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Start {
    /// The pipeline
    pub(super) pipeline: String,
    /// The job's payload as JSON; `-`: all of standard input [default: {}]
    pub(super) payload: Option<String>,
    /// Its id; made when not given
    #[arg(long)]
    pub(super) id: Option<String>,
    /// The higher, the earlier it begins, where a pipeline has `max_running`
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true)]
    pub(super) priority: i32,
    /// Wait for its end
    #[arg(long)]
    pub(super) wait: bool,
    /// With --wait: exit with 81 if it has not ended after this long (30s, 10m); it goes on
    #[arg(long, value_name = "DURATION", requires = "wait", allow_hyphen_values = true)]
    pub(super) timeout: Option<String>,
    #[command(flatten)]
    pub(super) given: Given,
}

#[derive(Args, Debug)]
pub(super) struct List {
    /// Only those in this state
    #[arg(long, value_name = "STATE", value_parser = ["planned", "running", "done", "failed", "cancelled"])]
    pub(super) state: Option<String>,
    /// Only those of this pipeline
    #[arg(long, value_name = "PIPELINE")]
    pub(super) pipeline: Option<String>,
    /// Only those with this key
    #[arg(long)]
    pub(super) key: Option<String>,
    /// Only those that run and of which nothing was heard for an hour, or, on an SQLite file, no task is anywhere
    #[arg(long, conflicts_with = "state")]
    pub(super) stalled: bool,
    /// At most N
    #[arg(long, value_name = "N", default_value_t = 1000, allow_hyphen_values = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) limit: u32,
    /// Print a JSON object for each
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Show {
    /// Its id, a beginning of it that no other has, or PIPELINE/KEY: the live or newest one
    pub(super) job: String,
    /// Again at each change, until it has ended
    #[arg(long)]
    pub(super) watch: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct Restart {
    /// Its id, a beginning of it that no other has, or PIPELINE/KEY: the live or newest one
    pub(super) job: String,
    /// These steps, and what needs them [default: all]
    #[arg(value_name = "STEP")]
    pub(super) steps: Vec<String>,
    /// Only these steps, not what needs them
    #[arg(long, requires = "steps")]
    pub(super) only: bool,
    /// Only tasks that failed or never ran; those that are done stay so
    #[arg(long, conflicts_with = "only")]
    pub(super) failed: bool,
    /// With the definition that is in the settings now
    #[arg(long)]
    pub(super) redefine: bool,
    /// Although what it left was wiped
    #[arg(long)]
    pub(super) even_if_wiped: bool,
    #[command(flatten)]
    pub(super) given: Given,
}

#[derive(Args, Debug)]
pub(super) struct Cancel {
    /// Their ids, beginnings of them that no others have, or PIPELINE/KEY: the live or newest one
    #[arg(value_name = "JOB", required = true)]
    pub(super) jobs: Vec<String>,
    /// Print the answers as JSON objects, one a line
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Scoped {
    /// Its id, a beginning of it that no other has, or PIPELINE/KEY: the live or newest one
    #[arg(required_unless_present_any = ["pipeline", "key"], conflicts_with = "pipeline")]
    pub(super) job: Option<String>,
    /// All jobs of this pipeline that begin from now on
    #[arg(long, value_name = "PIPELINE")]
    pub(super) pipeline: Option<String>,
    /// Only those with this key
    #[arg(long, requires = "pipeline")]
    pub(super) key: Option<String>,
    #[command(flatten)]
    pub(super) given: Given,
}

#[derive(Args, Debug)]
pub(super) struct Priority {
    /// Its id, a beginning of it that no other has, or PIPELINE/KEY: the live or newest one
    pub(super) job: String,
    /// The higher, the earlier
    #[arg(value_name = "N", allow_hyphen_values = true)]
    pub(super) number: i32,
    #[command(flatten)]
    pub(super) given: Given,
}

#[derive(Args, Debug)]
pub(super) struct One {
    /// Its id, a beginning of it that no other has, or PIPELINE/KEY: the live or newest one
    pub(super) job: String,
    #[command(flatten)]
    pub(super) given: Given,
}

#[derive(Args, Debug)]
pub(super) struct Wipe {
    /// Its id, a beginning of it that no other has, or PIPELINE/KEY: the live or newest one
    pub(super) job: String,
    /// Final outputs, too, and forget the job
    #[arg(long)]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) given: Given,
}
