//! What can be asked over the control socket, and what is answered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::units;

/// Longest command, in bytes.
pub const COMMAND_LIMIT: usize = 64 * 1024;

/// A command. Its documentation is the help of `asynctask control`, where it is a verb of that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, clap::Subcommand)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Everything there is to know about the run.
    #[command(skip)]
    Status {},
    /// Whether tasks are being taken and done.
    #[command(skip)]
    Health {},
    /// The state of the schedules: which master fires them, and when each fired last.
    #[command(skip)]
    Schedules {},
    /// What was counted since this master began, of each queue.
    #[command(skip)]
    Counters {},
    /// What ended lately: tasks done, retried, snoozed, released, dead. Kept only while somebody asks, once a minute at least.
    #[command(skip)]
    Events {
        /// The number of the last record that is known; 0: from the first that there is.
        #[serde(default)]
        after: u64,
        /// Records in the answer, at most; no more than 256 come in any.
        #[serde(default)]
        most: Option<usize>,
    },
    /// The settings in force, secrets masked, and the files that they were read from.
    #[command(skip)]
    Settings {},
    /// The link that opens the page which this master keeps.
    #[command(skip)]
    DashboardLink {},
    /// Submit the task of a schedule now, beside its moments
    RunNow {
        /// The schedule's id
        schedule: String,
    },
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
        /// Resume it by itself after this much time (500ms, 10s, 15m, 2h)
        #[arg(long = "for", value_name = "DURATION", value_parser = milliseconds)]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit_ms: Option<u64>,
        /// Forget it with this master: the next one works the queue.
        #[arg(skip)]
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unkept: bool,
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
    /// What the Celery node of this master tells monitors.
    #[command(skip)]
    CeleryView {},
    /// Whether somebody listens to Celery's events of tasks.
    #[command(skip)]
    CeleryEvents {
        /// Somebody does.
        wanted: bool,
    },
    /// Tasks of Celery's queues that are not to be run any more.
    #[command(skip)]
    CeleryRevoke {
        /// Their ids.
        ids: Vec<String>,
        /// Those in hand are ended.
        terminate: bool,
    },
    /// Tasks of Celery's queues with one of these stamps are not to be run any more.
    #[command(skip)]
    CeleryRevokeStamped {
        /// Values by the header that they stand in: texts, numbers, truth values.
        stamps: BTreeMap<String, Vec<serde_json::Value>>,
        /// Those in hand are ended.
        terminate: bool,
    },
    /// Revoked tasks that are not here get their results from workers of the applications. Answered when those have stored them.
    #[command(skip)]
    CeleryStoreRevoked {
        /// Their ids.
        ids: Vec<String>,
    },
    /// Time limits of a task of a Celery application, in milliseconds.
    #[command(skip)]
    CeleryTimeLimit {
        /// The task's name.
        task: String,
        /// It is told; `None`: it has no such limit.
        soft_ms: Option<u64>,
        /// Its worker is killed; `None`: it has no such limit.
        hard_ms: Option<u64>,
    },
    /// The rate of a task of a Celery application.
    #[command(skip)]
    CeleryRateLimit {
        /// The task's name.
        task: String,
        /// `10`, `10/s`, `100/m`, `5/h`; 0: none.
        rate: String,
    },
    /// Change how much is logged
    LogLevel {
        /// error, warning, info or debug
        level: String,
    },
}

impl Command {
    /// Whether it changes anything: such a command is noted in the log with who gave it.
    #[must_use]
    pub const fn changes(&self) -> bool {
        !matches!(
            self,
            Self::Status {}
                | Self::Health {}
                | Self::Schedules {}
                | Self::Counters {}
                | Self::DashboardLink {}
                | Self::Events { .. }
                | Self::Settings {}
                | Self::CeleryView {}
                | Self::CeleryEvents { .. }
                | Self::CeleryStoreRevoked { .. }
        )
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It was done, or here is what was asked for.
    Done(serde_json::Value),
    /// It was not done.
    Refused {
        /// Why.
        message: String,
    },
    /// The settings are not right, so nothing was done.
    Invalid {
        /// All that is wrong with them, as `config check` says it.
        problems: String,
    },
}

impl Answer {
    /// It was not done, and why.
    #[must_use]
    pub fn refused(message: impl Into<String>) -> Self {
        Self::Refused { message: message.into() }
    }

    /// It was done; a sentence for a person.
    #[must_use]
    pub fn said(message: impl Into<String>) -> Self {
        Self::Done(serde_json::Value::String(message.into()))
    }
}

/// Bytes of the name of somebody for whom a command is given, at most.
const NAME_LIMIT: usize = 100;

/// A command, and for whom it is given: a program may give commands for people that it knows (`"for": "anna"`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The command.
    pub command: Command,
    /// For whom, if that is said. It is a claim of whoever asks.
    pub for_whom: Option<String>,
}

/// Reads a line as a command.
///
/// # Errors
/// What is wrong with it.
pub fn parse(line: &[u8]) -> Result<Line, String> {
    let not_a_command = |error: serde_json::Error| format!("not a command: {error}");
    let mut fields: serde_json::Value = serde_json::from_slice(line).map_err(not_a_command)?;
    let for_whom = match fields.as_object_mut().and_then(|fields| fields.remove("for")) {
        None => None,
        Some(serde_json::Value::String(name))
            if !name.is_empty() && name.len() <= NAME_LIMIT && !name.chars().any(char::is_control) =>
        {
            Some(name)
        }
        Some(_) => return Err(format!("not a command: `for` is a name of at most {NAME_LIMIT} bytes in one line")),
    };
    let command = serde_json::from_value(fields).map_err(not_a_command)?;
    Ok(Line { command, for_whom })
}

fn milliseconds(text: &str) -> Result<u64, String> {
    let duration = units::parse_duration(text).filter(|duration| !duration.is_zero());
    let duration = duration.ok_or_else(|| "expected a duration as 500ms, 10s, 15m, 2h or 3d".to_owned())?;
    u64::try_from(duration.as_millis()).map_err(|_| "it is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_read_as_they_are_written() {
        let commands = [
            Command::Status {},
            Command::Restart { queue: None },
            Command::Scale { queue: "foo".to_owned(), processes: 3 },
            Command::LogLevel { level: "debug".to_owned() },
        ];
        for command in commands {
            let text = serde_json::to_vec(&command).unwrap();
            assert_eq!(parse(&text).unwrap(), Line { command, for_whom: None });
        }
        assert_eq!(parse(br#"{"command":"status"}"#).unwrap().command, Command::Status {});
        for bad in ["", "{}", "[]", r#"{"command":"explode"}"#, r#"{"command":"pause"}"#, "\u{0}\u{1}"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
