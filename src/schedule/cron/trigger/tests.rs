use std::collections::BTreeSet;

use super::*;

fn fields(given: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::default();
    for (name, text) in given {
        *fields.by_name(name).unwrap() = Some((*text).to_owned());
    }
    fields
}

fn cron(zone: &str, given: &[(&str, &str)]) -> Cron {
    let mut fields = fields(given);
    fields.timezone.get_or_insert_with(|| zone.to_owned());
    Cron::new(&fields).unwrap()
}

fn moment(text: &str) -> Timestamp {
    Timestamp(text.parse::<Moment>().unwrap().as_millisecond())
}

/// The next `count` moments, in the schedule's own local time.
fn next(cron: &Cron, after: &str, count: usize) -> Vec<String> {
    let mut at = moment(after);
    let mut found = Vec::new();
    while found.len() < count {
        let Some(next) = cron.next_after(at) else { break };
        assert!(next > at, "{next:?} is not after {at:?}");
        at = next;
        let moment = Moment::from_millisecond(at.0).unwrap();
        found.push(cron.zone.to_datetime(moment).to_string());
    }
    found
}

fn errors(given: &[(&str, &str)]) -> Vec<String> {
    Cron::new(&fields(given)).unwrap_err().into_iter().map(|error| error.message).collect()
}

/// What `APScheduler` 3.11 answered, asked for the first four moments after 2026-11-21 10:20:30.5 UTC.
const APSCHEDULER: &[(&[(&str, &str)], &str)] = &[
    (&[("minute", "*/5")], "2026-11-21T10:25:00 2026-11-21T10:30:00 2026-11-21T10:35:00 2026-11-21T10:40:00"),
    (&[("second", "0")], "2026-11-21T10:21:00 2026-11-21T10:22:00 2026-11-21T10:23:00 2026-11-21T10:24:00"),
    (&[("hour", "*/3")], "2026-11-21T12:00:00 2026-11-21T15:00:00 2026-11-21T18:00:00 2026-11-21T21:00:00"),
    (&[("week", "53")], "2026-12-28T00:00:00 2026-12-29T00:00:00 2026-12-30T00:00:00 2026-12-31T00:00:00"),
    (&[("day", "31")], "2026-12-31T00:00:00 2027-01-31T00:00:00 2027-03-31T00:00:00 2027-05-31T00:00:00"),
    (&[("day", "last")], "2026-11-30T00:00:00 2026-12-31T00:00:00 2027-01-31T00:00:00 2027-02-28T00:00:00"),
    (&[("day", "2nd fri")], "2026-12-11T00:00:00 2027-01-08T00:00:00 2027-02-12T00:00:00 2027-03-12T00:00:00"),
    (
        &[("day", "last sun"), ("hour", "4-10/3")],
        "2026-11-29T04:00:00 2026-11-29T07:00:00 2026-11-29T10:00:00 2026-12-27T04:00:00",
    ),
    (
        &[("month", "feb-apr"), ("day", "1,15"), ("hour", "6")],
        "2027-02-01T06:00:00 2027-02-15T06:00:00 2027-03-01T06:00:00 2027-03-15T06:00:00",
    ),
    (
        &[("day", "13"), ("day_of_week", "fri")],
        "2027-08-13T00:00:00 2028-10-13T00:00:00 2029-04-13T00:00:00 2029-07-13T00:00:00",
    ),
    (
        &[("day_of_week", "mon-wed"), ("hour", "7,19")],
        "2026-11-23T07:00:00 2026-11-23T19:00:00 2026-11-24T07:00:00 2026-11-24T19:00:00",
    ),
    (
        &[("day_of_week", "0"), ("minute", "30")],
        "2026-11-23T00:30:00 2026-11-23T01:30:00 2026-11-23T02:30:00 2026-11-23T03:30:00",
    ),
    (&[("month", "1")], "2027-01-01T00:00:00 2028-01-01T00:00:00 2029-01-01T00:00:00 2030-01-01T00:00:00"),
    (&[("year", "2028"), ("month", "2"), ("day", "29")], "2028-02-29T00:00:00"),
    (&[("year", "*/10")], "2030-01-01T00:00:00 2040-01-01T00:00:00 2050-01-01T00:00:00 2060-01-01T00:00:00"),
    (
        &[("week", "1"), ("day_of_week", "6")],
        "2027-01-10T00:00:00 2028-01-09T00:00:00 2029-01-07T00:00:00 2030-01-06T00:00:00",
    ),
    (&[("day", "5th mon")], "2026-11-30T00:00:00 2027-03-29T00:00:00 2027-05-31T00:00:00 2027-08-30T00:00:00"),
    (&[("second", "5/20")], "2026-11-21T10:20:45 2026-11-21T10:21:05 2026-11-21T10:21:25 2026-11-21T10:21:45"),
    (
        &[("minute", "50-59/4,3"), ("hour", "23")],
        "2026-11-21T23:03:00 2026-11-21T23:50:00 2026-11-21T23:54:00 2026-11-21T23:58:00",
    ),
    (
        &[("month", "*/5"), ("day", "*/10")],
        "2027-01-01T00:00:00 2027-01-11T00:00:00 2027-01-21T00:00:00 2027-01-31T00:00:00",
    ),
    (
        &[("day", "1-31/7,last"), ("hour", "12")],
        "2026-11-22T12:00:00 2026-11-29T12:00:00 2026-11-30T12:00:00 2026-12-01T12:00:00",
    ),
    (
        &[("year", "2024-2040/6"), ("day", "last fri")],
        "2030-01-25T00:00:00 2030-02-22T00:00:00 2030-03-29T00:00:00 2030-04-26T00:00:00",
    ),
];

#[test]
fn agrees_with_apscheduler() {
    for (given, expected) in APSCHEDULER {
        assert_eq!(next(&cron("UTC", given), "2026-11-21T10:20:30.5Z", 4).join(" "), *expected, "{given:?}");
    }
}

#[test]
fn strictly_after_to_the_millisecond() {
    let cron = cron("UTC", &[("second", "*/10")]);
    assert_eq!(cron.next_after(moment("2026-01-01T00:00:10Z")), Some(moment("2026-01-01T00:00:20Z")));
    assert_eq!(cron.next_after(moment("2026-01-01T00:00:09.999Z")), Some(moment("2026-01-01T00:00:10Z")));
    assert_eq!(cron.next_after(moment("1969-12-31T23:59:59.5Z")), Some(moment("1970-01-01T00:00:00Z")));
}

#[test]
fn what_never_comes_is_refused() {
    let never: &[&[(&str, &str)]] = &[
        &[("month", "2"), ("day", "31")],
        &[("week", "53"), ("month", "3-11")],
        &[("day", "1st mon"), ("day_of_week", "tue")],
        &[("day", "5th mon"), ("month", "feb"), ("year", "2025-2027")],
    ];
    for given in never {
        assert_eq!(errors(given), ["never comes together with the other fields: there is no such day"], "{given:?}");
    }
    assert_eq!(errors(&[("month", "2"), ("day", "31"), ("hour", "3")]).len(), 1);
}

#[test]
fn what_is_over_is_none_at_once() {
    for given in [&[("year", "2023")][..], &[("second", "*"), ("end_date", "2026-11-20")]] {
        assert_eq!(next(&cron("Europe/Berlin", given), "2026-11-21T00:00:00Z", 1), [""; 0], "{given:?}");
    }
    assert_eq!(cron("UTC", &[("minute", "*")]).next_after(Timestamp(i64::MAX)), None);
}

#[test]
fn what_is_rare_is_found() {
    let rare = cron("America/New_York", &[("month", "2"), ("day", "29"), ("day_of_week", "sun")]);
    assert_eq!(next(&rare, "2096-03-01T00:00:00Z", 1), ["2128-02-29T00:00:00"]);
    let far = cron("America/New_York", &[("year", "9000")]);
    assert_eq!(next(&far, "2026-03-01T00:00:00Z", 2), ["9000-01-01T00:00:00"]);
}

#[test]
fn bounds_are_inclusive() {
    let within = [("hour", "*"), ("start_date", "2030-01-01 05:00:00"), ("end_date", "2030-01-01T07:00:00+00:00")];
    let found = next(&cron("UTC", &within), "2026-11-21T00:00:00Z", 9);
    assert_eq!(found, ["2030-01-01T05:00:00", "2030-01-01T06:00:00", "2030-01-01T07:00:00"]);
    let day = cron("Europe/Berlin", &[("day", "*"), ("start_date", "2030-01-01")]);
    assert_eq!(next(&day, "2026-11-21T00:00:00Z", 1), ["2030-01-01T00:00:00"]);
}

#[test]
fn spring_shifts_and_autumn_does_not_repeat() {
    let zone = "America/New_York";
    let daily = cron(zone, &[("hour", "2"), ("minute", "30")]);
    assert_eq!(
        next(&daily, "2026-03-07T12:00:00Z", 2),
        ["2026-03-08T03:30:00", "2026-03-09T02:30:00"],
        "02:30 does not exist on 8 March"
    );
    let daily = cron(zone, &[("hour", "1"), ("minute", "30")]);
    assert_eq!(daily.next_after(moment("2026-11-01T00:00:00-04:00")), Some(moment("2026-11-01T01:30:00-04:00")));
    assert_eq!(daily.next_after(moment("2026-11-01T01:30:00-04:00")), Some(moment("2026-11-02T01:30:00-05:00")));
    assert_eq!(daily.next_after(moment("2026-11-01T01:15:00-05:00")), Some(moment("2026-11-02T01:30:00-05:00")));
    let often = cron(zone, &[("minute", "*/30")]);
    assert_eq!(
        next(&often, "2026-11-01T04:59:00Z", 5).iter().map(|at| &at[11..16]).collect::<Vec<_>>(),
        ["01:00", "01:30", "01:00", "01:30", "02:00"]
    );
}

/// All moments between two, found the slow way: each minute of the local calendar is compared with the fields
/// and then placed on the time line.
fn slow(cron: &Cron, from: Moment, to: Moment) -> BTreeSet<Timestamp> {
    let mut found = BTreeSet::new();
    let mut local = Offset::UTC.to_datetime(from).checked_sub(2.days()).unwrap();
    let end = Offset::UTC.to_datetime(to).checked_add(2.days()).unwrap();
    while local < end {
        if cron.calendar.matches(local) {
            let ambiguous = cron.zone.to_ambiguous_timestamp(local);
            found.insert(ambiguous.compatible().unwrap());
            if cron.runs_through && matches!(ambiguous.offset(), jiff::tz::AmbiguousOffset::Fold { .. }) {
                found.insert(ambiguous.later().unwrap());
            }
        }
        local = local.checked_add(1.minute()).unwrap();
    }
    found.into_iter().filter(|at| *at > from && *at <= to).map(|at| Timestamp(at.as_millisecond())).collect()
}

#[test]
fn agrees_with_the_slow_way_around_changes_of_the_clock() {
    let schedules: &[&[(&str, &str)]] = &[
        &[("minute", "*/30")],
        &[("hour", "1-3"), ("minute", "10,40")],
        &[("hour", "1-3"), ("minute", "*/20")],
        &[("hour", "*/2"), ("minute", "15")],
        &[("hour", "0"), ("minute", "0")],
        &[("hour", "2"), ("minute", "5")],
        &[("hour", "23"), ("minute", "59")],
        &[("day_of_week", "sun"), ("hour", "1,2,3"), ("minute", "30")],
        &[("day", "last sun,1st sun"), ("hour", "2"), ("minute", "15")],
        &[("day", "*/2"), ("hour", "*/5")],
        &[("week", "*/2"), ("day_of_week", "sat,sun"), ("hour", "1")],
    ];
    let places = [
        ("America/New_York", "2026-03-06T00:00:00Z"),
        ("America/New_York", "2026-10-30T00:00:00Z"),
        ("Europe/Berlin", "2026-03-27T00:00:00Z"),
        ("Europe/Berlin", "2026-10-23T00:00:00Z"),
        ("Australia/Lord_Howe", "2026-04-03T00:00:00Z"),
        ("Australia/Lord_Howe", "2026-10-02T00:00:00Z"),
        ("Pacific/Apia", "2011-12-28T00:00:00Z"),
        ("America/Havana", "2026-03-06T00:00:00Z"),
        ("UTC", "2026-12-29T00:00:00Z"),
    ];
    for given in schedules {
        for (zone, from) in places {
            let cron = cron(zone, given);
            let from: Moment = from.parse().unwrap();
            let to = from.checked_add(96.hours()).unwrap();
            let expected = slow(&cron, from, to);
            let mut found = BTreeSet::new();
            let mut at = Timestamp(from.as_millisecond());
            while let Some(next) = cron.next_after(at).filter(|next| next.0 <= to.as_millisecond()) {
                found.insert(next);
                at = next;
            }
            assert_eq!(found, expected, "{given:?} in {zone} from {from}");
        }
    }
}

#[test]
fn messages() {
    assert_eq!(errors(&[("second", "banana")]), ["Unrecognized expression \"banana\" for field \"second\""]);
    assert_eq!(errors(&[("second", "70")]), ["the last value (70) is higher than the maximum value (59)"]);
    assert_eq!(errors(&[("day", "0")]), ["the first value (0) is lower than the minimum value (1)"]);
    assert_eq!(errors(&[("hour", "*/0")]), ["Increment must be higher than 0"]);
    assert_eq!(next(&cron("UTC", &[("hour", "0-0/5")]), "2026-01-01T00:00:00Z", 1), ["2026-01-02T00:00:00"]);
    assert_eq!(errors(&[("hour", "5-3")]), ["The minimum value in a range must not be higher than the maximum"]);
    assert_eq!(errors(&[("day_of_week", "mon,fry")]), ["Invalid weekday name \"fry\""]);
    assert_eq!(errors(&[("month", "january")]), ["Invalid month name \"january\""]);
    assert_eq!(errors(&[("day", "2nd day")]), ["Invalid weekday name \"day\""]);
    assert_eq!(
        errors(&[("hour", "1-5/9")]),
        ["the step value (9) is higher than the total range of the expression (4)"]
    );
    assert_eq!(errors(&[("timezone", "Mars/Olympus")]), ["\"Mars/Olympus\" is not a known time zone"]);
    assert_eq!(errors(&[("start_date", "soon")]).len(), 1);
    assert_eq!(errors(&[("start_date", "2030-01-02"), ("end_date", "2030-01-01")]), ["lies before start_date"]);
    assert_eq!(errors(&[("second", "x"), ("minute", "y")]).len(), 2, "all at once");
    for bad in ["", ",", "*/", "1-", "-1", "1-2-3", "1/2/3", "99999999999999", "1 2", "*-3", "last", "２"] {
        assert_eq!(errors(&[("minute", bad)]).len(), 1, "{bad}");
    }
}

/// A line, and the first four moments after Saturday 2026-11-21 10:20:30.5 UTC.
const CRONTABS: &[(&str, &str)] = &[
    ("0 3 * * *", "2026-11-22T03:00:00 2026-11-23T03:00:00 2026-11-24T03:00:00 2026-11-25T03:00:00"),
    ("*/20 * * * *", "2026-11-21T10:40:00 2026-11-21T11:00:00 2026-11-21T11:20:00 2026-11-21T11:40:00"),
    ("5/25 9-10 * * *", "2026-11-21T10:30:00 2026-11-21T10:55:00 2026-11-22T09:05:00 2026-11-22T09:30:00"),
    ("0 12 * * 0", "2026-11-22T12:00:00 2026-11-29T12:00:00 2026-12-06T12:00:00 2026-12-13T12:00:00"),
    ("0 12 * * 7", "2026-11-22T12:00:00 2026-11-29T12:00:00 2026-12-06T12:00:00 2026-12-13T12:00:00"),
    ("0 12 * * 1", "2026-11-23T12:00:00 2026-11-30T12:00:00 2026-12-07T12:00:00 2026-12-14T12:00:00"),
    ("0 0 * * 5-7", "2026-11-22T00:00:00 2026-11-27T00:00:00 2026-11-28T00:00:00 2026-11-29T00:00:00"),
    ("0 0 * * fri-Sun", "2026-11-22T00:00:00 2026-11-27T00:00:00 2026-11-28T00:00:00 2026-11-29T00:00:00"),
    ("0 0 * * sun-mon", "2026-11-22T00:00:00 2026-11-23T00:00:00 2026-11-29T00:00:00 2026-11-30T00:00:00"),
    ("0 0 * * mon-fri/2", "2026-11-23T00:00:00 2026-11-25T00:00:00 2026-11-27T00:00:00 2026-11-30T00:00:00"),
    ("0 0 * * */3", "2026-11-22T00:00:00 2026-11-25T00:00:00 2026-11-28T00:00:00 2026-11-29T00:00:00"),
    ("15,45 6 1 jan,JUL *", "2027-01-01T06:15:00 2027-01-01T06:45:00 2027-07-01T06:15:00 2027-07-01T06:45:00"),
    // Both restricted: one is enough. Friday the 13th is not what this says.
    ("0 0 13 * 5", "2026-11-27T00:00:00 2026-12-04T00:00:00 2026-12-11T00:00:00 2026-12-13T00:00:00"),
    ("0 0 31 2 mon", "2027-02-01T00:00:00 2027-02-08T00:00:00 2027-02-15T00:00:00 2027-02-22T00:00:00"),
    ("0 0 1-31 * 0", "2026-11-22T00:00:00 2026-11-23T00:00:00 2026-11-24T00:00:00 2026-11-25T00:00:00"),
    // One of them begins with *: both have to match.
    ("0 0 */2 * 1", "2026-11-23T00:00:00 2026-12-07T00:00:00 2026-12-21T00:00:00 2027-01-11T00:00:00"),
    ("0 0 13 * *", "2026-12-13T00:00:00 2027-01-13T00:00:00 2027-02-13T00:00:00 2027-03-13T00:00:00"),
    ("@hourly", "2026-11-21T11:00:00 2026-11-21T12:00:00 2026-11-21T13:00:00 2026-11-21T14:00:00"),
    ("@Daily", "2026-11-22T00:00:00 2026-11-23T00:00:00 2026-11-24T00:00:00 2026-11-25T00:00:00"),
    ("@midnight", "2026-11-22T00:00:00 2026-11-23T00:00:00 2026-11-24T00:00:00 2026-11-25T00:00:00"),
    ("@weekly", "2026-11-22T00:00:00 2026-11-29T00:00:00 2026-12-06T00:00:00 2026-12-13T00:00:00"),
    ("@monthly", "2026-12-01T00:00:00 2027-01-01T00:00:00 2027-02-01T00:00:00 2027-03-01T00:00:00"),
    ("@yearly", "2027-01-01T00:00:00 2028-01-01T00:00:00 2029-01-01T00:00:00 2030-01-01T00:00:00"),
    (" 59  23\t31 12 * ", "2026-12-31T23:59:00 2027-12-31T23:59:00 2028-12-31T23:59:00 2029-12-31T23:59:00"),
];

#[test]
fn lines_of_a_crontab_mean_what_they_mean_to_cron() {
    for (line, expected) in CRONTABS {
        assert_eq!(next(&cron("UTC", &[("cron", line)]), "2026-11-21T10:20:30.5Z", 4).join(" "), *expected, "{line}");
    }
    let bounded = [("cron", "0 3 * * *"), ("start_date", "2026-12-01 03:00"), ("end_date", "2026-12-02 03:00")];
    assert_eq!(next(&cron("UTC", &bounded), "2026-11-21T10:20:30Z", 4), ["2026-12-01T03:00:00", "2026-12-02T03:00:00"]);
}

#[test]
fn what_cron_does_not_know_is_refused() {
    for (line, error) in [
        ("", "\"\" has 0 fields, not five: minute hour day month weekday"),
        ("0 0 3 * * *", "\"0 0 3 * * *\" has 6 fields, not five: minute hour day month weekday"),
        ("60 * * * *", "Unrecognized expression \"60\" for minute"),
        ("0 24 * * *", "Unrecognized expression \"24\" for hour"),
        ("0 0 0 * *", "Unrecognized expression \"0\" for day"),
        ("0 0 L * *", "Unrecognized expression \"L\" for day"),
        ("0 0 * 13 *", "Unrecognized expression \"13\" for month"),
        ("0 0 * * 8", "Unrecognized expression \"8\" for weekday"),
        ("0 0 * * mo", "Unrecognized expression \"mo\" for weekday"),
        ("0 0 ? * 1", "Unrecognized expression \"?\" for day"),
        ("0 22-2 * * *", "the range \"22-2\" for hour ends before it begins"),
        ("*/0 * * * *", "the step in \"*/0\" for minute lies not between 1 and 59"),
        ("*/90 * * * *", "the step in \"*/90\" for minute lies not between 1 and 59"),
        ("1, * * * *", "Unrecognized expression \"\" for minute"),
        ("1-2-3 * * * *", "Unrecognized expression \"1-2-3\" for minute"),
        ("0 -2 * * *", "Unrecognized expression \"-2\" for hour"),
        ("0 0 30 2 *", "there is no such day"),
    ] {
        assert_eq!(errors(&[("cron", line)]), [error], "{line}");
    }
    let words = "@yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly";
    assert_eq!(errors(&[("cron", "@reboot")]), [format!("\"@reboot\" is not one of {words}")]);
}

#[test]
fn a_crontab_line_keeps_to_the_rules_where_clocks_change() {
    let berlin = |line: &str, after: &str, count| next(&cron("Europe/Berlin", &[("cron", line)]), after, count);
    // 02:30 does not exist on 29 March and occurs twice on 25 October.
    assert_eq!(berlin("30 2 * * *", "2026-03-28T12:00:00Z", 2), ["2026-03-29T03:30:00", "2026-03-30T02:30:00"]);
    assert_eq!(berlin("30 2 * * *", "2026-10-24T12:00:00Z", 2), ["2026-10-25T02:30:00", "2026-10-26T02:30:00"]);
    assert_eq!(
        berlin("30 * * * *", "2026-10-24T23:45:00Z", 3),
        ["2026-10-25T02:30:00", "2026-10-25T02:30:00", "2026-10-25T03:30:00"]
    );
}
