//! Numbers and ends in words.

use serde_json::Value;

/// The cause of death as a sentence, from a record of what ended or a dead letter.
pub(crate) fn cause(record: &Value) -> String {
    let signal = record["exit"]["signal"].as_str();
    let code = record["exit"]["code"].as_i64();
    let reason = record["reason"].as_str().unwrap_or_default();
    let how = match (reason, signal, code) {
        _ if record["oom"] == true => "killed by the kernel for want of memory".to_owned(),
        ("timeout", ..) => "killed at its time limit".to_owned(),
        ("cancelled", ..) => "cancelled".to_owned(),
        ("expired", ..) => "not run before its time was over".to_owned(),
        ("malformed", ..) => "a message that cannot be read".to_owned(),
        ("deliveries", ..) => "delivered too often without an end".to_owned(),
        (_, Some(signal), _) => format!("killed by {signal}"),
        ("crash", _, Some(code)) => format!("its worker ended with exit status {code}"),
        ("failed", ..) => "failed for good".to_owned(),
        ("", ..) => return String::new(),
        _ => "failed".to_owned(),
    };
    let after = record["ran_seconds"]
        .as_f64()
        .or(record["in_hand_seconds"].as_f64())
        .map(|time| format!(" after {}", seconds(time)));
    let memory = record["max_rss_bytes"].as_f64().map(|size| format!(", {} of memory at most", bytes(size)));
    let attempt =
        record["attempt"].as_u64().or(record["attempts"].as_u64()).map(|attempt| format!(", attempt {attempt}"));
    [Some(how), after, memory, attempt].into_iter().flatten().collect()
}

/// A cause with the error that goes with it, where that says more.
pub(crate) fn with_error(cause: &str, error: &str) -> String {
    let error = error.trim();
    let says_more = match error.strip_prefix("the worker died: ") {
        Some(how) => !cause.starts_with(how),
        None => !error.is_empty(),
    };
    match (cause, says_more) {
        (cause, false) => cause.to_owned(),
        ("", true) => error.to_owned(),
        (cause, true) => format!("{cause}: {error}"),
    }
}

/// A time, in the unit in which it is read best.
pub(crate) fn seconds(time: f64) -> String {
    match time {
        time if !time.is_finite() || time < 0.0 => "-".to_owned(),
        time if time < 0.001 => format!("{:.0} µs", time * 1e6),
        time if time < 1.0 => format!("{:.0} ms", time * 1000.0),
        time if time < 100.0 => format!("{time:.1} s"),
        time if time < 7200.0 => format!("{:.0} min", time / 60.0),
        time if time < 172_800.0 => format!("{:.0} h", time / 3600.0),
        time => format!("{:.0} d", time / 86400.0),
    }
}

/// A size.
pub(crate) fn bytes(size: f64) -> String {
    match size {
        size if size < 1024.0 => format!("{size:.0} B"),
        size if size < 1_048_576.0 => format!("{:.0} KiB", size / 1024.0),
        size if size < 1_073_741_824.0 => format!("{:.0} MiB", size / 1_048_576.0),
        size => format!("{:.1} GiB", size / 1_073_741_824.0),
    }
}

/// A count, with spaces between thousands; `-` where it is not known.
pub(crate) fn count(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".to_owned(), number)
}

/// A number, with spaces between thousands.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// So many in a second.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second >= 10.0 { number(per_second.round() as u64) } else { format!("{per_second:.1}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_death_is_a_sentence() {
        let record = json!({
            "reason": "crash", "exit": { "signal": "SIGKILL", "core_dumped": false }, "oom": true, "ran_seconds": 41.2,
            "max_rss_bytes": 2_040_109_466_u64, "attempt": 3,
        });
        assert_eq!(
            cause(&record),
            "killed by the kernel for want of memory after 41.2 s, 1.9 GiB of memory at most, attempt 3"
        );
        let record = json!({ "reason": "crash", "exit": { "signal": "SIGSEGV" }, "oom": false });
        assert_eq!(cause(&record), "killed by SIGSEGV");
        assert_eq!(cause(&json!({ "reason": "timeout", "exit": { "signal": "SIGKILL" } })), "killed at its time limit");
        assert_eq!(cause(&json!({})), "");
        assert_eq!(
            with_error("killed by SIGSEGV after 2.0 s", "the worker died: killed by SIGSEGV"),
            "killed by SIGSEGV after 2.0 s"
        );
        assert_eq!(with_error("failed", " no such row\n"), "failed: no such row");
        assert_eq!([with_error("failed", ""), with_error("", "x")], ["failed", "x"]);
    }

    #[test]
    fn numbers_are_read_at_a_glance() {
        assert_eq!([number(7), number(1234), number(1_234_567)], ["7", "1\u{202f}234", "1\u{202f}234\u{202f}567"]);
        assert_eq!(
            [seconds(0.0005), seconds(0.25), seconds(12.34), seconds(600.0), seconds(f64::NAN)],
            ["500 µs", "250 ms", "12.3 s", "10 min", "-"]
        );
        assert_eq!([bytes(10.0), bytes(5e6), bytes(3e9)], ["10 B", "5 MiB", "2.8 GiB"]);
        assert_eq!([rate(0.25), rate(1234.0)], ["0.2", "1\u{202f}234"]);
    }
}
