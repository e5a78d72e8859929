//! What a command writes: results, tables, the error at its end. Never a secret, and never a control character of a text that a
//! worker, a producer or a broker made.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    sync::mpsc,
    thread,
    time::Duration,
};

use crate::{
    clock::Timestamp,
    exit_code::{Code, Error},
    logging::{Format, Level, Logger, journal},
    redact::redact,
    text, units,
};

/// How long the end of the run waits for a reader of the log that has stopped reading.
pub(in crate::cli) const LAST_LINES: Duration = Duration::from_secs(2);

/// Writes a result to stdout; a reader that went away (`| head`) is not an error of ours.
pub(in crate::cli) fn print(text: &str) -> Result<(), Error> {
    print_while_read(text).map(drop)
}

/// [`print()`]; `false` if the reader of stdout is gone.
pub(in crate::cli) fn print_while_read(text: &str) -> Result<bool, Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::new(Code::Internal, format!("cannot write to standard output: {error}"))),
    }
}

/// A text of workers, producers or brokers for a terminal: control characters escaped, secrets redacted.
pub(in crate::cli) fn escape_control(text: &str) -> String {
    text::escape_lines(&redact(text)).into_owned()
}

/// A table without lines, which `awk` can read.
pub(in crate::cli) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| text::escape_line(&redact(cell)).into_owned()));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}

/// RFC 3339 with zone.
pub(in crate::cli) fn rfc3339(moment: Timestamp) -> String {
    units::rfc3339(moment.0)
}

/// Writes to stderr why a command ended; to the journal as an error. Secrets are redacted: an address may have been typed in the
/// wrong place. Takes no longer than `limit` where stderr has no reader.
pub(in crate::cli) fn print_error(text: &str, limit: Option<Duration>) {
    // The lines of problems are ours; what they quote is not.
    let text = &*text::escape_lines(text.trim_end());
    let text = &*format!("{}\n", redact(text));
    let mut stderr = io::stderr();
    let named = std::env::var("JOURNAL_STREAM").ok();
    let to_journal = journal::is_journal(named.as_deref(), &stderr);
    let text = if to_journal { Cow::Owned(journal::marked(Level::Error, text)) } else { Cow::Borrowed(text) };
    // A closed stderr takes no message.
    let Some(limit) = limit else { return drop(stderr.write_all(text.as_bytes())) };
    let text = text.into_owned();
    let (written, answer) = mpsc::channel();
    let say = move || {
        let _ = stderr.write_all(text.as_bytes());
        // The receiver is gone if the time was over.
        let _ = written.send(());
    };
    // The thread ends with the process, as does what waits for a reader. Without one nothing can be said in bounded time.
    if thread::Builder::new().name("stderr".to_owned()).spawn(say).is_ok() {
        let _ = answer.recv_timeout(limit);
    }
}

/// The log of a master, on stdout.
pub(in crate::cli) fn logger(level: Level, format: Format, quiet: bool) -> Result<Logger, Error> {
    if quiet {
        return Ok(Logger::quiet());
    }
    io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|stdout| Logger::start_with(File::from(stdout), level, format))
        .map_err(|error| Error::new(Code::Internal, format!("cannot open the log: {error}")))
}
