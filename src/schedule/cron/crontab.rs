//! A line of a crontab: `minute hour day month weekday`, or one of the words for common ones.
//!
//! As `crontab(5)` of Vixie cron has it: weekdays count from Sunday, which is 0 and 7; where both day and weekday are
//! restricted, which is when neither begins with `*`, one of them has to match; else both have to.

use super::{
    calendar::Calendar,
    expression::{MONTHS, Set},
};

/// Words that stand for lines.
const WORDS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

struct Field {
    name: &'static str,
    min: u16,
    max: u16,
    /// Names for numbers, the first for `min`.
    names: &'static [&'static str],
}

const MINUTE: Field = Field { name: "minute", min: 0, max: 59, names: &[] };
const HOUR: Field = Field { name: "hour", min: 0, max: 23, names: &[] };
const DAY: Field = Field { name: "day", min: 1, max: 31, names: &[] };
const MONTH: Field = Field { name: "month", min: 1, max: 12, names: MONTHS };
const WEEKDAY: Field =
    Field { name: "weekday", min: 0, max: 7, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// Reads a line.
pub(super) fn calendar(line: &str) -> Result<Calendar, String> {
    let line = line.trim();
    let meant = match WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(line)) {
        Some((_, meant)) => meant,
        None if line.starts_with('@') => {
            let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
            return Err(format!("\"{line}\" is not one of {}", words.join(", ")));
        }
        None => line,
    };
    let fields: Vec<&str> = meant.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields[..] else {
        return Err(format!("\"{line}\" has {} fields, not five: minute hour day month weekday", fields.len()));
    };
    let days: Vec<u16> = values(&WEEKDAY, weekday)?.into_iter().map(|day| (day + 6) % 7).collect();
    let is_restricted = |text: &str| !text.starts_with('*');
    Ok(Calendar::of_crontab(
        Set::of_values(values(&MONTH, month)?, !is_restricted(month)),
        Set::of_values(values(&DAY, day)?, !is_restricted(day)),
        Set::of_values(days, !is_restricted(weekday)),
        Set::of_values(values(&HOUR, hour)?, !is_restricted(hour)),
        Set::of_values(values(&MINUTE, minute)?, !is_restricted(minute)),
        is_restricted(day) && is_restricted(weekday),
    ))
}

/// The values that a field names: a list of `*`, `a`, `a-b`, each with `/n` or without.
fn values(field: &Field, text: &str) -> Result<Vec<u16>, String> {
    let mut values = Vec::new();
    for part in text.split(',') {
        let unrecognized = || format!("Unrecognized expression \"{part}\" for {}", field.name);
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(number(step).ok_or_else(unrecognized)?)),
            None => (part, None),
        };
        let value = |text: &str| value(field, text).ok_or_else(unrecognized);
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (field.min, field.max),
            // A week that is written by names may end with its Sunday.
            Some((first, last)) if field.max == 7 && last.eq_ignore_ascii_case("sun") => (value(first)?, 7),
            Some((first, last)) => (value(first)?, value(last)?),
            None if step.is_some() => (value(range)?, field.max),
            None => (value(range)?, value(range)?),
        };
        if first > last {
            return Err(format!("the range \"{range}\" for {} ends before it begins", field.name));
        }
        let step = step.unwrap_or(1);
        if step == 0 || step > field.max - field.min {
            return Err(format!(
                "the step in \"{part}\" for {} lies not between 1 and {}",
                field.name,
                field.max - field.min
            ));
        }
        values.extend((first..=last).step_by(step.into()));
    }
    Ok(values)
}

fn value(field: &Field, text: &str) -> Option<u16> {
    let named = field.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    let value = named.map(|position| position as u16 + field.min).or_else(|| number(text));
    value.filter(|value| (field.min..=field.max).contains(value))
}

fn number(text: &str) -> Option<u16> {
    let digits = (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}
