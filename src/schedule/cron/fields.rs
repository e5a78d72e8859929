//! The fields of a schedule as they were written, and the errors in them.

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
