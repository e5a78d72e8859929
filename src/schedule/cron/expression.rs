//! One field: a list of expressions, read into the set of values they name.

/// A field with numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) min: u16,
    pub(super) max: u16,
    /// Names for numbers, the first for `min`.
    pub(super) names: &'static [&'static str],
    /// What the names are, for the message.
    pub(super) names_are: &'static str,
}

pub(super) const MONTHS: &[&str] =
    &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const POSITIONS: &[&str] = &["1st", "2nd", "3rd", "4th", "5th", "last"];

pub(super) const YEAR: Field = Field { name: "year", min: 1970, max: 9999, names: &[], names_are: "" };
pub(super) const MONTH: Field = Field { name: "month", min: 1, max: 12, names: MONTHS, names_are: "month" };
pub(super) const DAY: Field = Field { name: "day", min: 1, max: 31, names: &[], names_are: "" };
pub(super) const WEEK: Field = Field { name: "week", min: 1, max: 53, names: &[], names_are: "" };
pub(super) const DAY_OF_WEEK: Field =
    Field { name: "day_of_week", min: 0, max: 6, names: WEEKDAYS, names_are: "weekday" };
pub(super) const HOUR: Field = Field { name: "hour", min: 0, max: 23, names: &[], names_are: "" };
pub(super) const MINUTE: Field = Field { name: "minute", min: 0, max: 59, names: &[], names_are: "" };
pub(super) const SECOND: Field = Field { name: "second", min: 0, max: 59, names: &[], names_are: "" };

/// The values that a field names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set(Vec<Expression>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    /// `*`, `*/n`, `a`, `a-b`, `a-b/n`, `a/n`.
    Range { first: u16, last: u16, step: u16, star: bool },
    /// `2nd fri`, `last sun`: the nth (from 0) of a weekday in its month; `None` is the last.
    Weekday { nth: Option<u8>, weekday: u8 },
    /// `last`: the last day of its month.
    LastDay,
}

/// What the day expressions need to know of a month.
#[derive(Clone, Copy, Debug)]
pub(super) struct Month {
    pub(super) days: u16,
    /// Weekday of its first day, Monday is 0.
    pub(super) first_weekday: u8,
}

impl Set {
    /// Reads a comma-separated list.
    pub(super) fn parse(field: Field, text: &str) -> Result<Self, String> {
        text.trim().split(',').map(|part| expression(field, part.trim_matches(' '))).collect::<Result<_, _>>().map(Self)
    }

    /// Every value of the field.
    pub(super) fn all(field: Field) -> Self {
        Self(vec![Expression::Range { first: field.min, last: field.max, step: 1, star: true }])
    }

    /// The least value of the field alone.
    pub(super) fn minimum(field: Field) -> Self {
        Self(vec![Expression::Range { first: field.min, last: field.min, step: 1, star: false }])
    }

    /// These values; `star`: they were written with `*`.
    pub(super) fn of_values(values: Vec<u16>, star: bool) -> Self {
        Self(values.into_iter().map(|value| Expression::Range { first: value, last: value, step: 1, star }).collect())
    }

    /// Whether some expression begins with `*`.
    pub(super) fn has_star(&self) -> bool {
        self.0.iter().any(|expression| matches!(expression, Expression::Range { star: true, .. }))
    }

    /// The least value that is not below `from`, for a field that does not depend on the month.
    pub(super) fn first(&self, from: u16) -> Option<u16> {
        self.0.iter().filter_map(|expression| expression.first(from, None)).min()
    }

    /// The least day that is not below `from` in a month.
    pub(super) fn first_day(&self, from: u16, month: Month) -> Option<u16> {
        let days = self.0.iter().filter_map(|expression| expression.first(from, Some(month)));
        days.filter(|day| *day <= month.days).min()
    }

    pub(super) fn contains(&self, value: u16) -> bool {
        self.first(value) == Some(value)
    }
}

impl Expression {
    fn first(&self, from: u16, month: Option<Month>) -> Option<u16> {
        let day = match (self, month) {
            (Self::Range { first, last, step, .. }, _) => {
                let past = from.saturating_sub(*first);
                first.checked_add(past.div_ceil(*step).checked_mul(*step)?).filter(|value| value <= last)?
            }
            (Self::LastDay, Some(month)) => month.days,
            (Self::Weekday { nth, weekday }, Some(month)) => {
                let first = u16::from((weekday + 7 - month.first_weekday) % 7) + 1;
                match nth {
                    Some(nth) => first + u16::from(*nth) * 7,
                    None => first + (month.days - first) / 7 * 7,
                }
            }
            (Self::LastDay | Self::Weekday { .. }, None) => return None,
        };
        (day >= from).then_some(day)
    }
}

fn expression(field: Field, text: &str) -> Result<Expression, String> {
    let unrecognized = || format!("Unrecognized expression \"{text}\" for field \"{}\"", field.name);
    if field == DAY
        && let Some(day) = day_expression(text)?
    {
        return Ok(day);
    }
    let (range, step) = match text.split_once('/') {
        Some((range, step)) => (range, Some(number(step).ok_or_else(unrecognized)?)),
        None => (text, None),
    };
    if step == Some(0) {
        return Err("Increment must be higher than 0".to_owned());
    }
    if range == "*" {
        check_step(step, u32::from(field.max - field.min))?;
        let step = step.map_or(1, |step| step as u16);
        return Ok(Expression::Range { first: field.min, last: field.max, step, star: true });
    }
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (first, Some(last)),
        None => (range, None),
    };
    let value = |text: &str| -> Result<u32, String> {
        if let Some(number) = number(text) {
            return Ok(number);
        }
        let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic());
        if field.names.is_empty() || !is_word || step.is_some() {
            return Err(unrecognized());
        }
        let position = field.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let position = position.ok_or_else(|| format!("Invalid {} name \"{text}\"", field.names_are))?;
        Ok(position as u32 + u32::from(field.min))
    };
    let first = value(first)?;
    let last = match last {
        Some(last) => value(last)?,
        None if step.is_some() => u32::from(field.max),
        None => first,
    };
    if first < u32::from(field.min) {
        return Err(format!("the first value ({first}) is lower than the minimum value ({})", field.min));
    }
    if first > last {
        // Without an upper end it is the number itself that is out of range.
        if last == u32::from(field.max) && !range.contains('-') {
            return Err(too_high(first, field));
        }
        return Err("The minimum value in a range must not be higher than the maximum".to_owned());
    }
    if last > u32::from(field.max) {
        return Err(too_high(last, field));
    }
    // A last value of 0 counts as none in this check, there as here: `0-0/5` is allowed.
    check_step(step, if last == 0 { u32::from(field.max) } else { last - first })?;
    // All are at most `field.max` by now; a step is at most the width of the range.
    let step = step.map_or(1, |step| step as u16);
    Ok(Expression::Range { first: first as u16, last: last as u16, step, star: false })
}

fn too_high(value: u32, field: Field) -> String {
    format!("the last value ({value}) is higher than the maximum value ({})", field.max)
}

fn check_step(step: Option<u32>, width: u32) -> Result<(), String> {
    match step {
        Some(step) if step > width => {
            Err(format!("the step value ({step}) is higher than the total range of the expression ({width})"))
        }
        _ => Ok(()),
    }
}

fn day_expression(text: &str) -> Result<Option<Expression>, String> {
    if text.eq_ignore_ascii_case("last") {
        return Ok(Some(Expression::LastDay));
    }
    let Some((position, weekday)) = text.split_once(' ') else { return Ok(None) };
    let Some(nth) = POSITIONS.iter().position(|name| name.eq_ignore_ascii_case(position)) else { return Ok(None) };
    let weekday = weekday.trim_start();
    let index = WEEKDAYS.iter().position(|name| name.eq_ignore_ascii_case(weekday));
    let index = index.ok_or_else(|| format!("Invalid weekday name \"{weekday}\""))?;
    Ok(Some(Expression::Weekday { nth: (nth < 5).then_some(nth as u8), weekday: index as u8 }))
}

/// Digits alone; a number too long for any field is as good as the greatest.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u32::MAX))
}
