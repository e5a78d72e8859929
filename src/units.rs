//! Moments, durations, sizes and percentages as they are written.

use std::time::Duration;

/// Nothing that is configured lasts longer.
const LONGEST: Duration = Duration::from_hours(87600);

/// A moment in milliseconds since 1970, as everywhere in JSON: RFC 3339 with zone.
#[must_use]
pub(crate) fn rfc3339(milliseconds: i64) -> String {
    jiff::Timestamp::from_millisecond(milliseconds)
        .map_or_else(|_| milliseconds.to_string(), |moment| moment.to_string())
}

/// Reads a duration as it is written in settings and options: `500ms`, `30s`, `10m`, `1.5h`, `1h30m`, `2d`, `2w`; a bare number
/// is seconds.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return seconds_to_duration(seconds);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = split(after.trim_start(), |c| c.is_ascii_alphabetic());
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            "w" => 604_800.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = after.trim_start();
    }
    (!text.is_empty()).then(|| seconds_to_duration(total)).flatten()
}

/// Whole microseconds, so that 0.1 is not 100000000.00000001 ns.
pub(crate) fn seconds_to_duration(seconds: f64) -> Option<Duration> {
    let duration = Duration::try_from_secs_f64(seconds).ok()?;
    let micros = u64::try_from((duration + Duration::from_nanos(500)).as_micros()).ok()?;
    Some(Duration::from_micros(micros)).filter(|duration| *duration <= LONGEST)
}

/// `512MiB`, `1.5GB`; a bare number is bytes.
pub(crate) fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text.trim(), |c| c.is_ascii_digit() || c == '.');
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    if let Ok(number) = number.parse::<u64>() {
        return number.checked_mul(factor);
    }
    let bytes = number.parse::<f64>().ok()? * factor as f64;
    (factor > 1 && bytes < 9e15).then_some(bytes as u64)
}

/// `10%`; a bare number is a fraction.
pub(crate) fn fraction(text: &str) -> Option<f64> {
    let number = match text.trim().strip_suffix('%') {
        Some(number) => number.trim().parse::<f64>().ok()? / 100.0,
        None => text.trim().parse().ok()?,
    };
    (0.0..=1.0).contains(&number).then_some(number)
}

fn split(text: &str, inside: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !inside(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("30s", 30_000),
            ("10m", 600_000),
            ("96h", 345_600_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("500ms", 500),
            ("2d", 172_800_000),
            ("2w", 1_209_600_000),
            ("1w2d", 777_600_000),
            ("90", 90_000),
            ("0.1", 100),
            ("0", 0),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "s", "10", "10x", "-1s", "-1", "nan", "inf", "1e300", "1s2", "1..5s", "9999999h", "ü", "1h-2m"]
        {
            assert_eq!(parse_duration(bad), (bad == "10").then_some(Duration::from_secs(10)), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("512MiB"), Some(512 << 20));
        assert_eq!(size("1.5 kb"), Some(1500));
        assert_eq!(size("4096"), Some(4096));
        for bad in ["", "MiB", "-1", "1.5", "12 parsecs", "99999999999999999999", "1M"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn fractions() {
        assert_eq!(fraction("10%"), Some(0.1));
        assert_eq!(fraction("0.25"), Some(0.25));
        for bad in ["", "%", "10", "101%", "-1%", "nan"] {
            assert_eq!(fraction(bad), None, "{bad}");
        }
    }
}
