//! The fields that bound a schedule in time and place it in a zone.

use jiff::{Timestamp as Moment, civil::DateTime, tz::TimeZone};

use super::fields::{FieldError, Fields};

/// What bounds and places a schedule.
pub(in crate::schedule) struct Bounds {
    pub(in crate::schedule) start: Option<Moment>,
    pub(in crate::schedule) end: Option<Moment>,
    pub(in crate::schedule) zone: TimeZone,
    /// One of them is a time on the clocks of the zone.
    pub(in crate::schedule) is_local: bool,
}

impl Bounds {
    /// Reads them; what is wrong reads as absent.
    pub(in crate::schedule) fn read(fields: &Fields, errors: &mut Vec<FieldError>) -> Self {
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
