use std::{
    io::{PipeReader, Read},
    os::fd::OwnedFd,
};

use super::*;
use crate::logging::{QUEUE_LIMIT, format::MESSAGE_LIMIT, format_line};

const LONG: Duration = Duration::from_secs(20);

fn piped(level: Level) -> (Logger, PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    (Logger::start(OwnedFd::from(writer).into(), level).unwrap(), reader)
}

/// Ends the log and gives what it wrote; for what fits into a pipe.
fn written(logger: &Logger, mut reader: PipeReader) -> String {
    assert!(logger.close(LONG));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn lines_have_level_name_and_message_and_respect_the_level() {
    let (logger, reader) = piped(Level::Info);
    logger.line(Level::Info, "FooWorker", "Starting; queue=foo");
    logger.line(Level::Debug, "FooWorker", "no");
    logger.raw("FOO processed: {\"foo\":1}");
    logger.set_level(Level::Debug);
    logger.clone().line(Level::Debug, "FooWorker", "a\nb");
    assert!(logger.flush(LONG));
    assert_eq!(
        written(&logger, reader),
        "INFO:FooWorker:Starting; queue=foo\nFOO processed: {\"foo\":1}\nDEBUG:FooWorker:a\nb\n"
    );
    logger.line(Level::Error, "FooWorker", "after the end");
    assert!(!logger.enabled(Level::Error));
}

#[test]
fn a_message_of_any_length_is_a_line_of_bounded_length() {
    let line = format_line(Level::Info, "X", &"ä".repeat(MESSAGE_LIMIT));
    assert!(line.len() < MESSAGE_LIMIT + 100 && line.ends_with("ä … (cut at 64 KiB)\n"));
}

#[test]
fn a_stuck_stdout_costs_lines_and_not_the_master() {
    let (logger, mut reader) = piped(Level::Info);
    let message = "x".repeat(1000);
    let mut count = 0;
    while logger.has_room() {
        logger.line(Level::Info, MASTER, &message);
        count += 1;
    }
    assert!(count > QUEUE_LIMIT / 1100 && count < 2 * QUEUE_LIMIT / 1000, "{count}");
    for _ in 0..1000 {
        logger.line(Level::Info, MASTER, "lost");
    }
    logger.raw("the last words of a worker");
    assert!(!logger.flush(Duration::from_millis(20)), "nobody reads");

    // Somebody begins to read: there is room again.
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LONG, logger.room()).await }).unwrap();
    logger.line(Level::Info, MASTER, "later");
    assert!(logger.close(LONG));
    let text = reading.join().unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert!(!text.contains("lost"));
    let told: Vec<_> =
        lines.iter().filter(|line| line.ends_with("lines dropped") || line.ends_with("line dropped")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        ["WARNING:AsyncTaskWorkerTask:1000 lines dropped", "WARNING:AsyncTaskWorkerTask:1001 lines dropped"]
            .contains(told[0]),
        "{told:?}"
    );
    assert_eq!(lines[lines.len() - 2..], ["the last words of a worker", "INFO:AsyncTaskWorkerTask:later"]);
}

#[test]
fn in_a_hurry_workers_output_is_taken_though_nobody_reads_and_what_is_lost_is_told() {
    let (logger, mut reader) = piped(Level::Info);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let room = || async { tokio::time::timeout(LONG, logger.room()).await };
    while logger.has_room() {
        logger.raw(&"x".repeat(1000));
    }
    // Whoever waits already hears of it.
    runtime.block_on(async {
        tokio::join!(room(), async { logger.hurry() }).0.unwrap();
        for _ in 0..2 * QUEUE_LIMIT / 1000 {
            room().await.unwrap();
            logger.raw(&"y".repeat(1000));
        }
    });
    assert!(!logger.has_room() && logger.dropped() > 0);
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    assert!(logger.close(LONG));
    let text = reading.join().unwrap();
    let told = format!("WARNING:AsyncTaskWorkerTask:{} lines dropped", logger.dropped());
    assert_eq!(text.lines().last(), Some(told.as_str()));
    // Somebody reads: no line is lost for a reader that is only slow.
    assert!(logger.has_room() && !logger.queue.is_stuck());
}

#[test]
fn dropped_lines_are_told_even_if_no_line_follows() {
    let (logger, mut reader) = piped(Level::Info);
    while logger.has_room() {
        logger.line(Level::Info, MASTER, &"x".repeat(1000));
    }
    for _ in 0..5 {
        logger.line(Level::Info, MASTER, "lost");
    }
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    assert!(logger.close(LONG));
    let text = reading.join().unwrap();
    assert!(text.ends_with("lines dropped\n"), "{}", &text[text.len() - 100..]);
}

#[test]
fn a_stuck_stdout_does_not_keep_the_process() {
    let (logger, _reader) = piped(Level::Info);
    while logger.has_room() {
        logger.raw(&"x".repeat(1000));
    }
    assert!(!logger.close(Duration::from_millis(20)));
}

#[test]
fn a_closed_stdout_ends_the_log_and_not_the_work() {
    let (logger, reader) = piped(Level::Info);
    drop(reader);
    logger.line(Level::Info, MASTER, "to nobody");
    assert!(logger.flush(LONG));
    assert!(logger.has_room() && !logger.enabled(Level::Error));
    logger.line(Level::Info, MASTER, "to nobody");
    logger.raw("to nobody");
    assert!(logger.close(LONG));
}

#[test]
fn a_full_disk_costs_lines_and_no_time() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let logger = Logger::start(full, Level::Info).unwrap();
    for _ in 0..3 {
        logger.line(Level::Info, MASTER, "lost");
        assert!(logger.flush(LONG));
    }
    assert!(logger.enabled(Level::Error));
    assert!(logger.close(LONG));
}

#[test]
fn a_non_blocking_stdout_is_waited_for() {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let (mut reader, writer) = io::pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let logger = Logger::start(OwnedFd::from(writer).into(), Level::Info).unwrap();
    for _ in 0..300 {
        logger.raw(&"x".repeat(999));
    }
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    assert!(logger.close(LONG));
    assert_eq!(reading.join().unwrap().len(), 300_000);
}

#[test]
fn a_quiet_log_takes_everything_and_says_nothing() {
    let logger = Logger::quiet();
    logger.line(Level::Error, MASTER, "no");
    logger.raw("no");
    assert!(!logger.enabled(Level::Error) && logger.has_room());
    assert!(logger.flush(LONG) && logger.close(LONG));
}

#[test]
fn tracing_events_of_this_crate_become_lines_of_the_master() {
    let (logger, reader) = piped(Level::Info);
    tracing::subscriber::with_default(logger.subscriber(), || {
        let event = |logger: &Logger| {
            tracing::warn!(target: "asynctask::transport::sqlite", queue = "foo", waited = 3, "slow {}", "disk");
            tracing::info!(target: "lapin::channel", "not ours");
            tracing::error!(target: "asynctasks", "not ours either");
            tracing::debug!(target: "asynctask", "detail at {}", logger.level());
        };
        event(&logger);
        logger.set_level(Level::Debug);
        event(&logger);
    });
    let slow = "WARNING:AsyncTaskWorkerTask:slow disk queue=\"foo\" waited=3\n";
    assert_eq!(written(&logger, reader), format!("{slow}{slow}DEBUG:AsyncTaskWorkerTask:detail at DEBUG\n"));
}
