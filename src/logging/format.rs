//! How a line of the log looks: the plain form that scripts know, a fuller one for people, JSON for machines.

use std::{borrow::Cow, str::FromStr};

use serde_json::{Map, Value};

use super::journal;
use crate::{clock::Timestamp, level::Level, text};

/// The name under which the master logs.
pub const MASTER: &str = "AsyncTaskWorkerTask";

/// Longest message of one line, in bytes.
pub(super) const MESSAGE_LIMIT: usize = 64 * 1024;

/// The form of all lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `LEVEL:Name:message`; workers' lines as they are.
    #[default]
    Plain,
    /// With the time, and the slot before workers' lines.
    Full {
        /// On a terminal that shows colours.
        colour: bool,
    },
    /// One object a line.
    Json,
}

/// How lines are written: their form, and for whom.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Form {
    pub(super) format: Format,
    /// For the journal, which wants priorities. An object has its level in it.
    pub(super) journal: bool,
}

impl Form {
    /// A line of the master, with its newline.
    pub(super) fn line(
        self,
        now: Timestamp,
        level: Level,
        name: &str,
        message: &str,
        context: Option<&LogContext>,
    ) -> String {
        self.marked(level, line(self.format, now, level, name, message, context))
    }

    /// A line that a worker wrote, given without its newline. What it prints has the priority of information, its own log
    /// lines theirs; none that it chooses otherwise: the most urgent ones reach everybody's terminal.
    pub(super) fn worker_line(self, now: Timestamp, line: &str, context: &LogContext) -> String {
        let level = if self.journal { parts(line).map_or(Level::Info, |(level, _, _)| level) } else { Level::Info };
        self.marked(level, worker_line(self.format, now, line, context))
    }

    fn marked(self, level: Level, text: String) -> String {
        let wanted = self.journal && self.format != Format::Json;
        if wanted { journal::marked(level, &text) } else { text }
    }
}

/// A line of the log in the plain form, with its newline: `LEVEL:Name:message`. Of a message of
/// several lines those after the first are indented, unless the second is of another shape than the log's own lines;
/// control characters are escaped; a message over 64 KiB is cut.
#[must_use]
pub fn format_line(level: Level, name: &str, message: &str) -> String {
    Form::default().line(Timestamp::default(), level, name, message, None)
}

/// The context of a log line: each field as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogContext {
    /// The name of the queue.
    pub queue: String,
    /// The slot, `foo[1]`.
    pub slot: Option<String>,
    /// The worker process.
    pub pid: Option<u32>,
    /// The task's id.
    pub task: Option<String>,
    /// The job that the task is of.
    pub job: Option<String>,
    /// The step of that job.
    pub step: Option<String>,
}

/// A line of the master, with its newline.
pub(super) fn line(
    format: Format,
    now: Timestamp,
    level: Level,
    name: &str,
    message: &str,
    context: Option<&LogContext>,
) -> String {
    let message = bounded(message);
    match format {
        Format::Plain => format!("{level}:{name}:{}\n", continued(&message, looks_like_ours)),
        Format::Full { colour } => {
            let slot =
                context.and_then(|context| context.slot.as_deref()).map(|slot| format!(" {slot}")).unwrap_or_default();
            let message = continued(&message, |_| true);
            format!("{} {}{slot} {name}: {message}\n", time(now), painted(level, colour))
        }
        Format::Json => object(now, level, name, &message, context),
    }
}

/// A message of one line or several, in which nothing is obeyed by a terminal and no line can be taken for another one of
/// the log: its lines but the first are indented. The second, which is the error itself where a message tells of one, stands
/// at the margin where it does not look as if it were the log's own.
fn continued(message: &str, is_indented: impl Fn(&str) -> bool) -> Cow<'_, str> {
    let message = text::escape_lines(message);
    if !message.contains('\n') {
        return message;
    }
    let mut text = String::with_capacity(message.len() + 32);
    for (number, line) in message.split('\n').enumerate() {
        if number > 0 {
            text.push('\n');
        }
        if (number > 1 || (number == 1 && is_indented(line))) && !line.is_empty() {
            text.push_str("  ");
        }
        text.push_str(line);
    }
    Cow::Owned(text)
}

/// Whether a line could be taken for one in the plain form: it begins with a level, whatever stands before that.
fn looks_like_ours(line: &str) -> bool {
    let start = line.trim_start_matches(|letter: char| !letter.is_ascii_alphanumeric());
    let word = start.split(|letter: char| !letter.is_ascii_alphanumeric()).next().unwrap_or_default();
    Level::from_str(word).is_ok()
}

fn worker_line(format: Format, now: Timestamp, line: &str, context: &LogContext) -> String {
    match format {
        Format::Plain => format!("{line}\n"),
        Format::Full { .. } => format!("{} {} | {line}\n", time(now), context.slot.as_deref().unwrap_or_default()),
        Format::Json => {
            // Workers write their own log lines in the plain form.
            let (level, name, message) = parts(line).unwrap_or((Level::Info, "", line));
            object(now, level, name, message, Some(context))
        }
    }
}

/// A worker's line in the plain form, taken apart.
fn parts(line: &str) -> Option<(Level, &str, &str)> {
    let (level, rest) = line.split_once(':')?;
    let (name, message) = rest.split_once(':')?;
    let level = Level::ALL.into_iter().find(|known| known.as_str() == level)?;
    (!name.is_empty() && !name.contains(' ')).then_some((level, name, message))
}

fn object(now: Timestamp, level: Level, name: &str, message: &str, context: Option<&LogContext>) -> String {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
    put("time", time(now).into());
    put("level", level.as_str().into());
    if !name.is_empty() {
        put("name", name.into());
    }
    put("message", message.into());
    if let Some(context) = context {
        if !context.queue.is_empty() {
            put("queue", context.queue.as_str().into());
        }
        let slot = context.slot.as_deref().map(Value::from);
        let text = |text: &Option<String>| text.as_deref().map(Value::from);
        let known = [
            ("slot", slot),
            ("pid", context.pid.map(Value::from)),
            ("task", text(&context.task)),
            ("job", text(&context.job)),
            ("step", text(&context.step)),
        ];
        for (key, value) in known {
            if let Some(value) = value {
                put(key, value);
            }
        }
    }
    Value::Object(object).to_string() + "\n"
}

fn time(now: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(now.0).map_or_else(|_| now.0.to_string(), |time| format!("{time:.3}"))
}

fn painted(level: Level, colour: bool) -> Cow<'static, str> {
    let code = match level {
        Level::Error => "31",
        Level::Warning => "33",
        Level::Info => "32",
        Level::Debug => "2",
    };
    let word = level.as_str();
    if colour { Cow::Owned(format!("\x1b[{code}m{word:7}\x1b[0m")) } else { Cow::Owned(format!("{word:7}")) }
}

/// A message is cut at 64 KiB, like a worker's line.
fn bounded(message: &str) -> Cow<'_, str> {
    if message.len() <= MESSAGE_LIMIT {
        return Cow::Borrowed(message);
    }
    Cow::Owned(format!("{} … (cut at 64 KiB)", text::cut(message, MESSAGE_LIMIT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_123);

    fn context() -> LogContext {
        let (queue, slot) = ("foo".to_owned(), Some("foo[1]".to_owned()));
        LogContext { queue, slot, pid: Some(7), task: Some("t1".to_owned()), ..LogContext::default() }
    }

    #[test]
    fn the_same_line_in_each_form() {
        let show = |format| line(format, NOW, Level::Info, "FooWorker", "Starting", Some(&context()));
        assert_eq!(show(Format::Plain), "INFO:FooWorker:Starting\n");
        let full = Format::Full { colour: false };
        assert_eq!(show(full), "2023-11-14T22:13:20.123Z INFO    foo[1] FooWorker: Starting\n");
        let read: Value = serde_json::from_str(&show(Format::Json)).unwrap();
        assert_eq!(read["message"], "Starting");
        assert_eq!((&read["queue"], &read["slot"], &read["pid"]), (&"foo".into(), &"foo[1]".into(), &7.into()));
        assert_eq!((&read["task"], &read["level"]), (&"t1".into(), &"INFO".into()));
    }

    #[test]
    fn workers_lines_are_told_by_their_slot() {
        assert_eq!(worker_line(Format::Plain, NOW, "hello", &context()), "hello\n");
        assert!(worker_line(Format::Full { colour: true }, NOW, "hello", &context()).ends_with(" foo[1] | hello\n"));
        let own = worker_line(Format::Json, NOW, "DEBUG:FooWorker:a: b", &context());
        let read: Value = serde_json::from_str(&own).unwrap();
        assert_eq!(
            (&read["level"], &read["name"], &read["message"]),
            (&"DEBUG".into(), &"FooWorker".into(), &"a: b".into())
        );
        let raw: Value = serde_json::from_str(&worker_line(Format::Json, NOW, "a \"b\"\u{1}", &context())).unwrap();
        assert_eq!(raw["message"], "a \"b\"\u{1}");
    }

    #[test]
    fn the_journal_is_told_how_much_a_line_matters() {
        let shown = |format, line: &str| Form { format, journal: true }.worker_line(NOW, line, &context());
        assert_eq!(shown(Format::Plain, "hello"), "<6>hello\n");
        assert_eq!(shown(Format::Plain, "WARNING:FooWorker:no room"), "<4>WARNING:FooWorker:no room\n");
        assert_eq!(shown(Format::Plain, "<0>the end is near"), "<6><0>the end is near\n");
        assert!(shown(Format::Full { colour: false }, "hello").starts_with("<6>2023-11-14T22:13:20.123Z foo[1] | "));
        assert!(shown(Format::Json, "hello").starts_with('{'));
        let two = Form { format: Format::Plain, journal: true };
        assert_eq!(two.line(NOW, Level::Error, "X", "a\nb", None), "<3>ERROR:X:a\n<3>b\n");
    }

    #[test]
    fn nobody_forges_a_line() {
        let forged = "x\nERROR:Y:b\u{2028}c\nINFO:AsyncTaskWorkerTask:Complete\r\n\n\x1b[31mred\u{202e}";
        assert_eq!(
            line(Format::Plain, NOW, Level::Error, "X", forged, None),
            "ERROR:X:x\n  ERROR:Y:b\\u{2028}c\n  INFO:AsyncTaskWorkerTask:Complete\\r\n\n  \\u{1b}[31mred\\u{202e}\n"
        );
        let full = line(Format::Full { colour: false }, NOW, Level::Error, "X", forged, None);
        assert!(full.lines().skip(1).all(|line| line.is_empty() || line.starts_with("  ")), "{full}");
        assert!(!full.contains('\x1b') && !full.contains('\u{2028}'), "{full}");
        let json = line(Format::Json, NOW, Level::Error, "X", forged, None);
        assert_eq!((json.lines().count(), json.contains('\x1b')), (1, false));
        for like in ["INFO:A:b", "\u{200d}debug:A:b", " > Warning: x", "ERROR"] {
            assert!(looks_like_ours(like), "{like}");
        }
        for other in ["Oops!", "", "Informal", "Traceback (most recent call last):"] {
            assert!(!looks_like_ours(other), "{other}");
        }
    }
}
