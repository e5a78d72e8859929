//! The fields on the calendar alone, where no clock is ever changed.

use jiff::civil::{Date, DateTime, Time};

use super::{
    expression::{DAY, DAY_OF_WEEK, Field, HOUR, MINUTE, MONTH, Month, SECOND, Set, WEEK, YEAR},
    fields::{FieldError, Fields},
};

/// The calendar repeats itself, weekdays and ISO weeks included, after 400 years: what is not found in as many
/// matching years does not exist.
const YEARS: usize = 400;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Calendar {
    year: Set,
    month: Set,
    day: Set,
    week: Set,
    day_of_week: Set,
    pub(super) hour: Set,
    pub(super) minute: Set,
    pub(super) second: Set,
    /// One of day and day of week is enough.
    either_day: bool,
}

impl Calendar {
    pub(super) fn new(fields: &Fields, errors: &mut Vec<FieldError>) -> Self {
        // In the order of significance. Week and day of week have no minimum to fall back to: both are `*` then.
        let given = [
            (YEAR, &fields.year),
            (MONTH, &fields.month),
            (DAY, &fields.day),
            (WEEK, &fields.week),
            (DAY_OF_WEEK, &fields.day_of_week),
            (HOUR, &fields.hour),
            (MINUTE, &fields.minute),
            (SECOND, &fields.second),
        ];
        let least = given.iter().rposition(|(_, text)| text.is_some()).unwrap_or(0);
        let [year, month, day, week, day_of_week, hour, minute, second] = std::array::from_fn(|position| -> Set {
            let (field, text): (Field, &Option<String>) = given[position];
            match text {
                Some(text) => Set::parse(field, text).unwrap_or_else(|message| {
                    errors.push(FieldError { field: field.name, message });
                    Set::all(field)
                }),
                None if position > least && field != WEEK && field != DAY_OF_WEEK => Set::minimum(field),
                None => Set::all(field),
            }
        });
        Self { year, month, day, week, day_of_week, hour, minute, second, either_day: false }
    }

    /// Of a crontab's fields; `either_day`: one of day and day of week is enough.
    pub(super) fn of_crontab(month: Set, day: Set, day_of_week: Set, hour: Set, minute: Set, either_day: bool) -> Self {
        let (year, week, second) = (Set::all(YEAR), Set::all(WEEK), Set::minimum(SECOND));
        Self { year, month, day, week, day_of_week, hour, minute, second, either_day }
    }

    /// Whether there is such a day at all: the 31st of February is none.
    pub(super) fn is_possible(&self) -> bool {
        let first = Date::new(self.year.first(0).map_or(1, |year| year as i16), 1, 1);
        first.is_ok_and(|first| self.first_date(first).is_some())
    }

    /// The first matching second that is not before `from` (whole seconds).
    pub(super) fn first(&self, from: DateTime) -> Option<DateTime> {
        if let Some(date) = self.first_date(from.date()) {
            if date > from.date() {
                return Some(date.to_datetime(self.first_time(Time::midnight())?));
            }
            if let Some(time) = self.first_time(from.time()) {
                return Some(date.to_datetime(time));
            }
        }
        let date = self.first_date(from.date().tomorrow().ok()?)?;
        Some(date.to_datetime(self.first_time(Time::midnight())?))
    }

    fn first_time(&self, from: Time) -> Option<Time> {
        let (hour, minute, second) = (from.hour() as u16, from.minute() as u16, from.second() as u16);
        let time = |hour, minute, second| Time::new(hour as i8, minute as i8, second as i8, 0).ok();
        if self.hour.contains(hour) {
            if self.minute.contains(minute)
                && let Some(second) = self.second.first(second)
            {
                return time(hour, minute, second);
            }
            if let Some(minute) = self.minute.first(minute + 1) {
                return time(hour, minute, self.second.first(0)?);
            }
        }
        time(self.hour.first(hour + 1)?, self.minute.first(0)?, self.second.first(0)?)
    }

    fn first_date(&self, from: Date) -> Option<Date> {
        let mut next_year = from.year().max(0) as u16;
        for _ in 0..YEARS {
            let year = self.year.first(next_year)? as i16;
            let start = if year == from.year() { from } else { Date::new(year, 1, 1).ok()? };
            if let Some(date) = self.first_date_in_year(start) {
                return Some(date);
            }
            next_year = year as u16 + 1;
        }
        None
    }

    fn first_date_in_year(&self, from: Date) -> Option<Date> {
        let mut next_month = from.month() as u16;
        while let Some(month) = self.month.first(next_month) {
            let first = Date::new(from.year(), month as i8, 1).ok()?;
            let shape = Month {
                days: first.days_in_month() as u16,
                first_weekday: first.weekday().to_monday_zero_offset() as u8,
            };
            let mut next_day = if month == from.month() as u16 { from.day() as u16 } else { 1 };
            while let Some(day) = self.candidate(next_day, shape) {
                let date = Date::new(from.year(), month as i8, day as i8).ok()?;
                let named = self.either_day && self.day.first_day(day, shape) == Some(day);
                if (named || self.day_of_week.contains(date.weekday().to_monday_zero_offset() as u16))
                    && self.week.contains(date.iso_week_date().week() as u16)
                {
                    return Some(date);
                }
                next_day = day + 1;
            }
            next_month = month + 1;
        }
        None
    }

    /// The next day of a month that is worth a look.
    fn candidate(&self, from: u16, month: Month) -> Option<u16> {
        if self.either_day { Some(from).filter(|day| *day <= month.days) } else { self.day.first_day(from, month) }
    }

    /// Whether a second is named, by looking at each field alone: what [`Calendar::first`] is tested against.
    #[cfg(test)]
    pub(super) fn matches(&self, at: DateTime) -> bool {
        let date = at.date();
        let first = date.first_of_month();
        let month =
            Month { days: date.days_in_month() as u16, first_weekday: first.weekday().to_monday_zero_offset() as u8 };
        let day = self.day.first_day(date.day() as u16, month) == Some(date.day() as u16);
        let weekday = self.day_of_week.contains(date.weekday().to_monday_zero_offset() as u16);
        self.year.contains(date.year() as u16)
            && self.month.contains(date.month() as u16)
            && if self.either_day { day || weekday } else { day && weekday }
            && self.week.contains(date.iso_week_date().week() as u16)
            && self.hour.contains(at.hour() as u16)
            && self.minute.contains(at.minute() as u16)
            && self.second.contains(at.second() as u16)
    }
}
