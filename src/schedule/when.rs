//! The moments of a schedule: by the calendar, or at a fixed period.

use std::time::Duration;

use jiff::{Timestamp as Moment, tz::TimeZone};

use super::cron::{Bounds, Cron, FieldError, Fields};
use crate::clock::Timestamp;

/// The moments of one schedule.
#[derive(Clone, Debug, PartialEq)]
pub enum When {
    /// Those that the fields or the crontab line name.
    Calendar(Box<Cron>),
    /// `every`.
    Interval(Interval),
}

/// Moments with the same time between two of them, whatever the clocks of the zone do: `start_date` and every `period`
/// after it, or without one every moment whose distance from 1970-01-01T00:00:00Z is a multiple of `period`. So all
/// masters agree on them, and a restart neither loses nor repeats one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Milliseconds, at least 1.
    period: i64,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    /// For its bounds, and for whoever reads its moments.
    zone: TimeZone,
    /// A bound is a time on the clocks of the zone.
    is_local: bool,
}

impl When {
    /// Reads the fields; with `every` only those that bound a schedule are looked at.
    ///
    /// # Errors
    /// One for each field that is wrong.
    pub fn new(fields: &Fields, every: Option<Duration>) -> Result<Self, Vec<FieldError>> {
        let Some(every) = every else { return Cron::new(fields).map(|cron| Self::Calendar(cron.into())) };
        let mut errors = Vec::new();
        let bounds = Bounds::read(fields, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        let period = i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1);
        let [start, end] = [bounds.start, bounds.end].map(|bound| bound.map(|at| Timestamp(at.as_millisecond())));
        Ok(Self::Interval(Interval { period, start, end, zone: bounds.zone, is_local: bounds.is_local }))
    }

    /// A moment as the clocks of the schedule's zone show it: RFC 3339 with their offset.
    #[must_use]
    pub fn in_its_zone(&self, moment: Timestamp) -> String {
        let zone = self.zone();
        match Moment::from_millisecond(moment.0) {
            Ok(moment) => moment.display_with_offset(zone.to_offset(moment)).to_string(),
            Err(_) => moment.0.to_string(),
        }
    }

    fn zone(&self) -> &TimeZone {
        match self {
            Self::Calendar(cron) => cron.zone(),
            Self::Interval(interval) => &interval.zone,
        }
    }

    /// The name of the schedule's zone; `None`: it is the system's, which says none.
    #[must_use]
    pub fn zone_name(&self) -> Option<&str> {
        let zone = self.zone();
        if zone.is_unknown() { Some("UTC") } else { zone.iana_name() }
    }

    /// Whether its moments depend on the system's zone, and that cannot be told.
    #[must_use]
    pub fn lacks_zone(&self) -> bool {
        let depends = match self {
            Self::Calendar(_) => true,
            Self::Interval(interval) => interval.is_local,
        };
        depends && self.zone().is_unknown()
    }

    /// The first moment strictly after `after`; `None` if there is none.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Calendar(cron) => cron.next_after(after),
            Self::Interval(interval) => interval.next_after(after),
        }
    }
}

impl Interval {
    fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let anchor = self.start.map_or(0, |start| start.0);
        let passed = after.0.checked_sub(anchor)?;
        let periods = if passed < 0 && self.start.is_some() { 0 } else { passed.div_euclid(self.period) + 1 };
        let moment = Timestamp(anchor.checked_add(periods.checked_mul(self.period)?)?);
        Some(moment).filter(|moment| self.end.is_none_or(|end| *moment <= end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(every: u64, fields: &Fields, mut after: i64) -> Vec<i64> {
        let when = When::new(fields, Some(Duration::from_millis(every))).unwrap();
        let mut found = Vec::new();
        while let Some(Timestamp(next)) = when.next_after(Timestamp(after)).filter(|_| found.len() < 4) {
            assert!(next > after);
            found.push(next);
            after = next;
        }
        found
    }

    #[test]
    fn an_interval_is_counted_from_the_epoch_or_its_start() {
        assert_eq!(moments(90_000, &Fields::default(), 0), [90_000, 180_000, 270_000, 360_000]);
        assert_eq!(moments(90_000, &Fields::default(), 179_999), [180_000, 270_000, 360_000, 450_000]);
        assert_eq!(moments(1500, &Fields::default(), 1), [1500, 3000, 4500, 6000]);
        assert_eq!(moments(1000, &Fields::default(), -1500), [-1000, 0, 1000, 2000]);
        let bounded = Fields {
            start_date: Some("1970-01-01 00:00:07".to_owned()),
            end_date: Some("1970-01-01T00:00:27+00:00".to_owned()),
            timezone: Some("UTC".to_owned()),
            ..Fields::default()
        };
        assert_eq!(moments(10_000, &bounded, 0), [7000, 17_000, 27_000]);
        assert_eq!(moments(10_000, &bounded, 7000), [17_000, 27_000]);
        assert_eq!(moments(10_000, &bounded, 27_000), [] as [i64; 0]);
    }

    #[test]
    fn a_day_of_an_interval_has_24_hours_when_the_clocks_change() {
        let fields = Fields {
            start_date: Some("2026-10-24 12:00".to_owned()),
            timezone: Some("Europe/Berlin".to_owned()),
            ..Fields::default()
        };
        let found = moments(86_400_000, &fields, 0);
        let noon: jiff::Timestamp = "2026-10-24T10:00:00Z".parse().unwrap();
        assert_eq!(found[0], noon.as_millisecond());
        assert_eq!(found[2], noon.as_millisecond() + 2 * 86_400_000);
    }

    #[test]
    fn moments_are_shown_by_the_clocks_of_the_zone() {
        let fields = Fields { timezone: Some("Europe/Berlin".to_owned()), ..Fields::default() };
        let when = When::new(&fields, Some(Duration::from_millis(1500))).unwrap();
        assert_eq!(when.in_its_zone(Timestamp(0)), "1970-01-01T01:00:00+01:00");
        assert_eq!(when.in_its_zone(Timestamp(1500)), "1970-01-01T01:00:01.5+01:00");
        assert_eq!(when.in_its_zone(Timestamp(i64::MAX)), i64::MAX.to_string());
    }

    #[test]
    fn no_time_is_too_far_away() {
        let when = When::new(&Fields::default(), Some(Duration::from_secs(1))).unwrap();
        for at in [i64::MIN, i64::MAX, i64::MAX - 1] {
            assert!(when.next_after(Timestamp(at)).is_none_or(|next| next.0 > at), "{at}");
        }
    }
}
