//! Moments, as messages and ids say them.

use lapin::types::AMQPValue;

use super::headers;
use crate::clock::Timestamp;

/// Milliseconds since 1970, an AMQP timestamp (seconds), or RFC 3339.
pub(crate) fn moment(value: &AMQPValue) -> Option<Timestamp> {
    if let AMQPValue::Timestamp(seconds) = value {
        return Some(Timestamp(i64::try_from(*seconds).ok()?.saturating_mul(1000)));
    }
    headers::number(value).map(Timestamp).or_else(|| {
        let parsed: jiff::Timestamp = headers::text(value)?.trim().parse().ok()?;
        Some(Timestamp(parsed.as_millisecond()))
    })
}

/// The moment of a message's timestamp: seconds since 1970, or milliseconds, as some libraries write them, where seconds
/// would be after the year 9999.
pub(super) fn made(timestamp: u64) -> Option<String> {
    let timestamp = i64::try_from(timestamp).ok()?;
    let moment = jiff::Timestamp::from_second(timestamp).or_else(|_| jiff::Timestamp::from_millisecond(timestamp));
    moment.ok().map(|moment| moment.to_string())
}

/// When an id was made, if it is one that tells.
pub(super) fn made_at(id: &str) -> Option<Timestamp> {
    let id = uuid::Uuid::try_parse(id).ok().filter(|id| id.get_version_num() == 7)?;
    let (seconds, nanoseconds) = id.get_timestamp()?.to_unix();
    Some(Timestamp(i64::try_from(seconds).ok()?.checked_mul(1000)? + i64::from(nanoseconds / 1_000_000)))
}
