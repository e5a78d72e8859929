//! The fields of a schedule and the moments they name. Pure: time is an argument.
//!
//! The fields mean exactly what they mean to the `cron` trigger of `APScheduler` 3, which files of older systems are written for: Monday is
//! 0, `week` is the ISO week, `day` and `day_of_week` must both match, fields below the least significant one
//! given take their minimum and all others are `*`.
//!
//! Where local time jumps, the rules are those of Vixie cron, so that nothing is skipped and nothing daily runs
//! twice: a time that the clock leaps over in spring runs once, as much later as the clock leapt; a time that
//! occurs twice in autumn runs at the first occurrence, unless hour, minute or second is written with `*`: such
//! a schedule means "every so often" and runs through.

mod calendar;
mod crontab;
mod expression;

use jiff::{
    Timestamp as Moment, ToSpan,
    civil::DateTime,
    tz::{Offset, TimeZone},
};

use self::{calendar::Calendar, expression::Set};
use crate::clock::Timestamp;

/// The fields of a schedule, as they were written. `None` is not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// Four digits.
    pub year: Option<String>,
    /// 1–12 or jan–dec.
    pub month: Option<String>,
    /// 1–31, `last`, `2nd fri`, `last sun`.
    pub day: Option<String>,
    /// ISO week, 1–53.
    pub week: Option<String>,
    /// 0–6 or mon–sun; 0 is Monday.
    pub day_of_week: Option<String>,
    /// 0–23.
    pub hour: Option<String>,
    /// 0–59.
    pub minute: Option<String>,
    /// 0–59.
    pub second: Option<String>,
    /// A line of a crontab in the place of all of these: `0 3 * * mon-fri`.
    pub cron: Option<String>,
    /// Nothing before this; a date, or date and time, with or without offset.
    pub start_date: Option<String>,
    /// Nothing after this.
    pub end_date: Option<String>,
    /// IANA name; the system's zone if not given.
    pub timezone: Option<String>,
}

impl Fields {
    /// The fields that name moments, in the order of significance.
    pub const CALENDAR: [&str; 8] = ["year", "month", "day", "week", "day_of_week", "hour", "minute", "second"];

    /// The fields that bound or place them.
    pub const BOUNDS: [&str; 3] = ["start_date", "end_date", "timezone"];

    /// A field by its name.
    pub fn by_name(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name {
            "year" => &mut self.year,
            "month" => &mut self.month,
            "day" => &mut self.day,
            "week" => &mut self.week,
            "day_of_week" => &mut self.day_of_week,
            "hour" => &mut self.hour,
            "minute" => &mut self.minute,
            "second" => &mut self.second,
            "cron" => &mut self.cron,
            "start_date" => &mut self.start_date,
            "end_date" => &mut self.end_date,
            "timezone" => &mut self.timezone,
            _ => return None,
        })
    }
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// Its name.
    pub field: &'static str,
    /// What is wrong.
    pub message: String,
}

/// A schedule's calendar: which moments it names.
#[derive(Clone, Debug, PartialEq)]
pub struct Cron {
    calendar: Calendar,
    /// Runs in both passes of a repeated hour.
    runs_through: bool,
    start: Option<Moment>,
    end: Option<Moment>,
    /// Unknown, with the clocks of UTC, where it is the system's and that cannot be told.
    zone: TimeZone,
}

/// A stretch of time with one offset from UTC.
struct Stretch {
    offset: Offset,
    /// The offset before it and the moment it began, if it began in this calendar.
    began: Option<(Offset, Moment)>,
    ends_at: Option<Moment>,
}

impl Cron {
    /// Reads the fields; with `cron`, only those that bound a schedule are looked at besides.
    ///
    /// # Errors
    /// One for each field that is wrong.
    pub fn new(fields: &Fields) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let Bounds { start, end, zone, .. } = Bounds::read(fields, &mut errors);
        let calendar = match &fields.cron {
            Some(line) => crontab::calendar(line).unwrap_or_else(|message| {
                errors.push(FieldError { field: "cron", message });
                Calendar::new(&Fields::default(), &mut errors)
            }),
            None => Calendar::new(fields, &mut errors),
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        if !calendar.is_possible() {
            if fields.cron.is_some() {
                return Err(vec![FieldError { field: "cron", message: "there is no such day".to_owned() }]);
            }
            let given = [("day", &fields.day), ("week", &fields.week), ("month", &fields.month)];
            let field = given.iter().find(|(_, text)| text.is_some()).map_or("day_of_week", |(field, _)| *field);
            let message = "never comes together with the other fields: there is no such day".to_owned();
            return Err(vec![FieldError { field, message }]);
        }
        let runs_through = [&calendar.hour, &calendar.minute, &calendar.second].into_iter().any(Set::has_star);
        Ok(Self { calendar, runs_through, start, end, zone })
    }

    /// The zone whose clocks it goes by.
    pub(super) fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first moment strictly after `after`; `None` if there is none.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let mut from = Moment::from_second(after.0.div_euclid(1000).checked_add(1)?).ok()?;
        if let Some(start) = self.start {
            let whole = if start.subsec_nanosecond() > 0 { start.as_second() + 1 } else { start.as_second() };
            from = from.max(Moment::from_second(whole).ok()?);
        }
        loop {
            let stretch = self.stretch(from);
            if let Some(moment) = self.first_in(&stretch, from) {
                let late = self.end.is_some_and(|end| moment > end);
                return (!late).then(|| Timestamp(moment.as_millisecond()));
            }
            let next = stretch.ends_at?;
            // Years may lie between two dates: go on a day before the next date rather than stretch by stretch.
            let date = self.calendar.first(stretch.offset.to_datetime(next).checked_sub(1.day()).ok()?)?;
            let near = date.checked_sub(2.days()).ok().and_then(|date| date.to_zoned(TimeZone::UTC).ok());
            from = near.map_or(next, |near| near.timestamp().max(next));
            if self.end.is_some_and(|end| from > end) {
                return None;
            }
        }
    }

    fn stretch(&self, at: Moment) -> Stretch {
        // `preceding` is strict, and a stretch contains its first moment.
        let began = at.checked_add(1.nanosecond()).ok().and_then(|at| self.zone.preceding(at).next());
        Stretch {
            offset: self.zone.to_offset(at),
            began: began.and_then(|change| {
                let before = change.timestamp().checked_sub(1.nanosecond()).ok()?;
                Some((self.zone.to_offset(before), change.timestamp()))
            }),
            ends_at: self.zone.following(at).next().map(|change| change.timestamp()),
        }
    }

    /// The first moment of the stretch that is not before `from`.
    fn first_in(&self, stretch: &Stretch, from: Moment) -> Option<Moment> {
        let inside = |moment: &Moment| stretch.ends_at.is_none_or(|end| *moment < end);
        let mut local = stretch.offset.to_datetime(from);
        let mut leapt_over = None;
        if let Some((before, began)) = stretch.began {
            let (old, new) = (before.to_datetime(began), stretch.offset.to_datetime(began));
            if old < new {
                // Spring: what lies between `old` and `new` was leapt over. With the offset of before it names the
                // moments right after the leap.
                let leapt_from = before.to_datetime(from).max(old);
                if leapt_from < new {
                    let found = self.calendar.first(leapt_from).filter(|found| *found < new);
                    leapt_over = found.and_then(|found| before.to_timestamp(found).ok()).filter(inside);
                }
            } else if old > new && !self.runs_through {
                // Autumn: what lies between `new` and `old` has been before.
                local = local.max(old);
            }
        }
        let plain = self.calendar.first(local).and_then(|found| stretch.offset.to_timestamp(found).ok()).filter(inside);
        [leapt_over, plain].into_iter().flatten().min()
    }
}

/// What bounds and places a schedule.
pub(super) struct Bounds {
    pub(super) start: Option<Moment>,
    pub(super) end: Option<Moment>,
    pub(super) zone: TimeZone,
    /// One of them is a time on the clocks of the zone.
    pub(super) is_local: bool,
}

impl Bounds {
    /// Reads them; what is wrong reads as absent.
    pub(super) fn read(fields: &Fields, errors: &mut Vec<FieldError>) -> Self {
        let zone = match &fields.timezone {
            // The unknown one where it cannot be told.
            None => TimeZone::system(),
            Some(name) => TimeZone::get(name).ok().filter(|zone| !zone.is_unknown()).unwrap_or_else(|| {
                errors.push(FieldError { field: "timezone", message: format!("\"{name}\" is not a known time zone") });
                TimeZone::UTC
            }),
        };
        let start = bound("start_date", fields.start_date.as_deref(), &zone, errors);
        let end = bound("end_date", fields.end_date.as_deref(), &zone, errors);
        let bounds = [&fields.start_date, &fields.end_date].into_iter().flatten();
        let is_local = bounds.into_iter().any(|text| text.trim().parse::<Moment>().is_err());
        if let (Some(start), Some(end)) = (start, end)
            && end < start
        {
            errors.push(FieldError { field: "end_date", message: "lies before start_date".to_owned() });
        }
        Self { start, end, zone, is_local }
    }
}

fn bound(field: &'static str, text: Option<&str>, zone: &TimeZone, errors: &mut Vec<FieldError>) -> Option<Moment> {
    let text = text?.trim();
    let moment = text.parse::<Moment>().ok().or_else(|| {
        let local: DateTime = text.parse().ok()?;
        zone.to_timestamp(local).ok()
    });
    if moment.is_none() {
        let message = format!("\"{text}\" is not a date, as in 2030-12-31 or 2030-12-31 23:59:59");
        errors.push(FieldError { field, message });
    }
    moment
}

#[cfg(test)]
mod tests;
