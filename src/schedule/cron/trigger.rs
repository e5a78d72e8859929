//! The moments of a schedule: its calendar on the clocks of a zone, with what they leap over and what they repeat.

use jiff::{
    Timestamp as Moment, ToSpan,
    tz::{Offset, TimeZone},
};

use super::{
    bounds::Bounds,
    calendar::Calendar,
    crontab,
    expression::Set,
    fields::{FieldError, Fields},
};
use crate::clock::Timestamp;

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
    pub(in crate::schedule) fn zone(&self) -> &TimeZone {
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

#[cfg(test)]
mod tests;
