//! What can be typed. Definitions only: nothing here does anything.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::{
    control_args::{Control, Health, Schedules, Status},
    dashboard_args::Dashboard,
    failed_args::Failed,
    jobs_args::Jobs,
};

/// Runs tasks in the background and does not lose them.
#[derive(Debug, Parser)]
#[command(disable_help_subcommand = true, max_term_width = 110, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub(super) struct Global {
    /// Configuration file; several are merged, later ones win [default: $ASYNCTASK_CONFIG, ./asynctask.yaml]
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true)]
    pub(super) config: Vec<PathBuf>,
    /// Override a setting; `workers."a.b".processes=2` names a key that holds dots
    #[arg(long, value_name = "KEY=YAML", global = true)]
    pub(super) set: Vec<String>,
    /// error, warning, info or debug [default: $LOG_LEVEL, info]
    #[arg(long, value_name = "LEVEL", global = true)]
    pub(super) log_level: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Start the master: worker processes for the configured queues
    #[command(after_help = "Example:\n  asynctask workers -c asynctask.yaml --scheduler\n  \
        asynctask workers --halt-when-empty --set 'workers={\"foo\": \"demo_foo_worker\"}'")]
    Workers(Workers),
    /// Put a task into a queue, or one per line of JSON from standard input
    #[command(after_help = "Examples:\n  asynctask submit thumbnails '{\"file\": \"a.png\"}'\n  \
        asynctask submit thumbnails - < tasks.jsonl\n  \
        asynctask submit reports '{}' --at 2027-01-31T08:00 --priority 9\n\n\
        Exit code: 0 stored, 1 refused (a full queue, too large), 69 the transport cannot be reached or did not answer in time;\n\
        where lines break off, the hint says which are stored")]
    Submit(Submit),
    /// Do one payload in the foreground, through no queue
    #[command(after_help = "Examples:\n  asynctask run thumbnail '{\"file\": \"a.png\"}'\n  \
        asynctask run resize - < a.png\n\nExit code: 0 done, 1 any other outcome")]
    Run(RunArgs),
    /// Do the tasks of a queue in the foreground until it is empty, and print how many were done
    #[command(after_help = "Examples:\n  asynctask process thumbnails\n  \
        asynctask process thumbnails_old --worker thumbnail --json")]
    Process(Process),
    /// Play the master against a program, and say what is right and wrong about it as a worker
    #[command(after_help = "Examples:\n  asynctask check-worker -- python3 worker.py\n  \
        asynctask check-worker --payload '{\"file\": \"a.png\"}' --json -- node worker.mjs\n\n\
        Exit code: 0 all is right, 1 something is wrong")]
    CheckWorker(CheckWorker),
    /// Show what lies in the queues: ready, delayed, in hand, failed
    #[command(
        args_conflicts_with_subcommands = true,
        disable_help_subcommand = true,
        after_help = "Examples:\n  asynctask queues --json\n  asynctask queues purge thumbnails"
    )]
    Queues(Queues),
    /// When the schedules fire: the next three moments of each, the last one, and who fires them
    #[command(after_help = "Example:\n  asynctask schedules -c asynctask.yaml")]
    Schedules(Schedules),
    /// The tables of a PostgreSQL database: made, or brought to the newest version
    #[command(after_help = "Examples:\n  asynctask schema -c asynctask.yaml\n  asynctask schema --sql | psql shop")]
    Schema(Schema),
    /// Dead letters: what failed for good, and why
    #[command(after_help = "Example:\n  asynctask failed list thumbnails")]
    Failed {
        #[command(subcommand)]
        verb: Failed,
    },
    /// Jobs of pipelines: start, watch, restart and end them
    #[command(after_help = "Example:\n  asynctask jobs start registry '{\"publication\": \"chile\"}' --wait")]
    Jobs {
        #[command(subcommand)]
        verb: Jobs,
    },
    /// What a running master does: queues, workers, tasks in hand
    #[command(after_help = "Example:\n  asynctask status --watch")]
    Status(Status),
    /// Whether tasks are being taken and done; exit code 0 or 1
    #[command(after_help = "Example:\n  asynctask health --wait 30s")]
    Health(Health),
    /// Tell a running master something
    #[command(after_help = "Examples:\n  asynctask control pause thumbnails\n  asynctask control restart")]
    Control(Control),
    /// A page in the browser: what a running master does, and why things died
    #[command(
        args_conflicts_with_subcommands = true,
        disable_help_subcommand = true,
        after_help = "Example:\n  asynctask dashboard\n\n\
            It is closed: whoever has the link that it prints can do what the page can do, which is to look, and nobody else can."
    )]
    Dashboard(Dashboard),
    /// What the settings mean after merging
    #[command(after_help = "Example:\n  asynctask config check -c asynctask.yaml")]
    Config {
        #[command(subcommand)]
        verb: Config,
    },
    /// What the settings of a Celery application are here
    #[command(after_help = "Example:\n  asynctask celery import-beat --app shop:app > beat.yaml")]
    Celery {
        #[command(subcommand)]
        verb: Celery,
    },
    /// Print a script that completes commands and options in a shell
    #[command(
        after_help = "Example:\n  asynctask completions bash > ~/.local/share/bash-completion/completions/asynctask"
    )]
    Completions(Completions),
    /// Print the manual page
    #[command(after_help = "Example:\n  asynctask man | man -l -")]
    Man,
}

#[derive(Args, Debug)]
pub(super) struct Schema {
    /// Only print the SQL that makes them in an empty database, for those whose programs may not
    #[arg(long)]
    pub(super) sql: bool,
}

#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct Workers {
    /// Fire the configured schedules; the processes agree on one that does
    #[arg(long)]
    pub(super) scheduler: bool,
    /// End when every queue is empty and nothing is delayed or in hand
    #[arg(long)]
    pub(super) halt_when_empty: bool,
    /// Write nothing to standard output
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Work only this queue; may be given several times
    #[arg(long = "queue", visible_alias = "queue-name", value_name = "NAME")]
    pub(super) queues: Vec<String>,
    /// At most N tasks at once over the chosen queues together, and N processes of each
    #[arg(short = 'm', long, value_name = "N", allow_hyphen_values = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) processes: Option<u32>,
    /// With --halt-when-empty: exit with 80 if tasks were dead-lettered
    #[arg(long, requires = "halt_when_empty")]
    pub(super) fail_on_dead_letter: bool,
    /// With --halt-when-empty: exit with 81 if not everything is done after this long (30s, 10m)
    #[arg(long, value_name = "DURATION", requires = "halt_when_empty", allow_hyphen_values = true)]
    pub(super) halt_timeout: Option<String>,
    /// Write a report for continuous integration: JUnit XML, a test case for each task that came to an end
    #[arg(long, value_name = "FILE.xml")]
    pub(super) report: Option<PathBuf>,
    /// Where status and control find this master [default: in $`RUNTIME_DIRECTORY`, else beside the first file]
    #[arg(long, value_name = "PATH|none")]
    pub(super) socket: Option<PathBuf>,
    /// Format of the log
    #[arg(long, value_name = "FORMAT", default_value = "plain", value_parser = ["plain", "full", "json"])]
    pub(super) log_format: String,
}

#[derive(Args, Debug)]
pub(super) struct Submit {
    /// The queue
    pub(super) queue: String,
    /// The payload as JSON; `-` or nothing: one per line of standard input
    pub(super) payload: Option<String>,
    /// Not due before this much time has passed (500ms, 10s, 2h, 3d, 2w)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, conflicts_with = "at")]
    pub(super) delay: Option<String>,
    /// Due at this moment: RFC 3339, or a local time of this system (2027-01-31T08:00); at once, if it has passed
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(super) at: Option<String>,
    /// Dead-letter it instead of running it after this much time, or after this moment (as --at)
    #[arg(long, value_name = "DURATION|TIME", allow_hyphen_values = true)]
    pub(super) expires: Option<String>,
    /// From 0 to 255; the higher, the earlier, where the queue has priorities (RabbitMQ, x-max-priority)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(super) priority: Option<u8>,
    /// Give up with exit code 69 after this much time without an answer [default: 60s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub(super) wait: Option<String>,
    /// Its id; made when not given
    #[arg(long)]
    pub(super) id: Option<String>,
    /// Print a JSON object for each task
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct RunArgs {
    /// The worker kind
    pub(super) kind: String,
    /// The payload; `-`: all of standard input [default: {}]
    pub(super) payload: Option<String>,
    /// Print the outcome as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Process {
    /// The queue
    pub(super) queue: String,
    /// The worker kind, if not the one that is configured for the queue
    #[arg(long, value_name = "KIND")]
    pub(super) worker: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct CheckWorker {
    /// Payload of tasks that it is to do well [default: {}, with which any outcome will do]
    #[arg(long, value_name = "JSON")]
    pub(super) payload: Option<String>,
    /// How long it may take for each answer
    #[arg(long, value_name = "DURATION", default_value = "10s", allow_hyphen_values = true)]
    pub(super) within: String,
    /// Print a JSON object for each check
    #[arg(long)]
    pub(super) json: bool,
    /// Program and arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(super) command: Vec<std::ffi::OsString>,
}

#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(super) shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub(super) struct Queues {
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) verb: Option<QueuesVerb>,
}

#[derive(Debug, Subcommand)]
pub(super) enum QueuesVerb {
    /// Delete what is ready and delayed in a queue; what is in hand and what is dead stays
    Purge(QueueEnd),
    /// Delete a queue with what is ready and delayed in it; refused while tasks are in hand. Dead letters stay
    Delete(QueueEnd),
}

#[derive(Args, Debug)]
pub(super) struct QueueEnd {
    /// The queue
    pub(super) queue: String,
    /// Do not ask
    #[arg(short, long)]
    pub(super) yes: bool,
    /// Give up with exit code 69 after this much time without an answer [default: 60s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub(super) wait: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Celery {
    /// Print the `beat_schedule` of an application as `scheduled_workers`
    #[command(after_help = "Example:\n  asynctask celery import-beat --app shop:app > beat.yaml\n  \
        asynctask config check -c asynctask.yaml -c beat.yaml\n\n\
        What cannot be said is a comment with the reason. Exit code: 0 printed, 1 the application was not found or failed")]
    ImportBeat {
        /// The application, as for `celery -A`: `shop`, `shop.celery`, `shop:app`
        #[arg(short = 'A', long, value_name = "APP", allow_hyphen_values = true)]
        app: String,
        /// The Python that has the application, its celery and `asynctask_celery`
        #[arg(long, value_name = "PROGRAM", default_value = "python3")]
        python: std::path::PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Print the merged settings, secrets masked, in a form that can be read as a configuration again
    Show {
        /// As JSON instead of YAML
        #[arg(long)]
        json: bool,
    },
    /// Check the settings and say everything that is wrong with them
    Check {
        /// Print the problems as one JSON array
        #[arg(long)]
        json: bool,
    },
}
