//! The text of a report: suites of cases as XML.

use std::{
    collections::{HashMap, HashSet},
    fmt::{self, Write as _},
    io::{self, Write},
};

use crate::clock::Timestamp;

/// Cases that belong together, and what there is to know of all of them.
pub(super) struct Suite<'a> {
    pub(super) name: String,
    pub(super) began_at: Timestamp,
    pub(super) seconds: f64,
    pub(super) properties: Vec<(&'a str, String)>,
    pub(super) cases: Vec<Case<'a>>,
}

/// One of them.
pub(super) struct Case<'a> {
    pub(super) class: &'a str,
    pub(super) name: String,
    pub(super) seconds: f64,
    pub(super) verdict: Verdict<'a>,
}

/// How it ended.
pub(super) enum Verdict<'a> {
    Good,
    Skipped { why: String },
    Failure { kind: &'a str, message: &'a str, text: &'a str },
    Error { kind: &'a str, message: &'a str, text: &'a str },
}

/// How many cases of suites ended in each way.
#[derive(Clone, Copy, Default)]
struct Totals {
    tests: usize,
    failures: usize,
    errors: usize,
    skipped: usize,
}

impl Totals {
    fn of<'a>(cases: impl IntoIterator<Item = &'a Case<'a>>) -> Self {
        cases.into_iter().fold(Self::default(), |mut totals, case| {
            totals.tests += 1;
            match case.verdict {
                Verdict::Good => {}
                Verdict::Skipped { .. } => totals.skipped += 1,
                Verdict::Failure { .. } => totals.failures += 1,
                Verdict::Error { .. } => totals.errors += 1,
            }
            totals
        })
    }

    fn attributes(self, seconds: f64) -> String {
        let Self { tests, failures, errors, .. } = self;
        format!(r#"tests="{tests}" failures="{failures}" errors="{errors}" time="{seconds:.3}""#)
    }
}

/// Writes all of them; `name` and `seconds` are those of the run.
pub(super) fn write(out: &mut impl Write, name: &str, seconds: f64, suites: &[Suite<'_>]) -> io::Result<()> {
    let totals = Totals::of(suites.iter().flat_map(|suite| &suite.cases)).attributes(seconds);
    writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
    writeln!(out, r#"<testsuites name="{}" {totals}>"#, Attribute(name))?;
    suites.iter().try_for_each(|suite| write_suite(out, suite))?;
    writeln!(out, "</testsuites>")
}

fn write_suite(out: &mut impl Write, suite: &Suite<'_>) -> io::Result<()> {
    let totals = Totals::of(&suite.cases);
    let (name, counts, skipped) = (Attribute(&suite.name), totals.attributes(suite.seconds), totals.skipped);
    let began_at = jiff::Timestamp::from_millisecond(suite.began_at.0).unwrap_or_default().to_string();
    let began_at = began_at.trim_end_matches('Z');
    writeln!(out, r#"<testsuite name="{name}" {counts} skipped="{skipped}" timestamp="{began_at}">"#)?;
    writeln!(out, "<properties>")?;
    for (name, value) in &suite.properties {
        writeln!(out, r#"<property name="{name}" value="{}"/>"#, Attribute(value))?;
    }
    writeln!(out, "</properties>")?;
    let mut names = Names::default();
    for case in &suite.cases {
        let name = names.unused(case.class, Attribute(&case.name).to_string());
        let (class, seconds) = (Attribute(case.class), case.seconds);
        write!(out, r#"<testcase classname="{class}" name="{name}" time="{seconds:.6}""#)?;
        match &case.verdict {
            Verdict::Good => writeln!(out, "/>")?,
            Verdict::Skipped { why } => writeln!(out, r#"><skipped message="{}"/></testcase>"#, Attribute(why))?,
            Verdict::Failure { kind, message, text } => {
                let (message, text) = (Attribute(message), Text(text));
                writeln!(out, r#"><failure type="{kind}" message="{message}">{text}</failure></testcase>"#)?;
            }
            Verdict::Error { kind, message, text } => {
                let (message, text) = (Attribute(message), Text(text));
                writeln!(out, r#"><error type="{kind}" message="{message}">{text}</error></testcase>"#)?;
            }
        }
    }
    writeln!(out, "</testsuite>")
}

/// Names that were given out, each once in its class.
#[derive(Default)]
struct Names<'a> {
    used: HashSet<(&'a str, String)>,
    /// How often each was asked for.
    asked: HashMap<(&'a str, String), u32>,
}

impl<'a> Names<'a> {
    /// The name, or if it was given out before, the name with the first number that makes it another.
    fn unused(&mut self, class: &'a str, name: String) -> String {
        if self.used.insert((class, name.clone())) {
            return name;
        }
        let asked = self.asked.entry((class, name.clone())).or_insert(1);
        loop {
            *asked += 1;
            let numbered = format!("{name} ({asked})");
            if self.used.insert((class, numbered.clone())) {
                return numbered;
            }
        }
    }
}

/// Text between tags.
struct Text<'a>(&'a str);

/// Text of an attribute: line ends and tabs would be read as spaces.
struct Attribute<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            // As it stands, a reader would turn it into a line end.
            '\r' => f.write_str("&#13;"),
            '\n' | '\t' => f.write_char(letter),
            letter => escape(letter, f),
        })
    }
}

impl fmt::Display for Attribute<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '\n' | '\r' | '\t' => write!(f, "&#{};", u32::from(letter)),
            letter => escape(letter, f),
        })
    }
}

/// Control characters cannot be in XML 1.0, not even escaped.
fn escape(letter: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match letter {
        '&' => f.write_str("&amp;"),
        '<' => f.write_str("&lt;"),
        '>' => f.write_str("&gt;"),
        '"' => f.write_str("&quot;"),
        '\0'..=' ' if letter != ' ' => f.write_char('\u{fffd}'),
        '\u{fffe}' | '\u{ffff}' => f.write_char('\u{fffd}'),
        letter => f.write_char(letter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_say_is_replaced_and_the_rest_escaped() {
        let hostile = "a<b>&\"'\u{1b}[31m\r\n\t\0\u{ffff}🦀]]>";
        assert_eq!(Text(hostile).to_string(), "a&lt;b&gt;&amp;&quot;'\u{fffd}[31m&#13;\n\t\u{fffd}\u{fffd}🦀]]&gt;");
        assert_eq!(Attribute("a\r\n\tb").to_string(), "a&#13;&#10;&#9;b");
    }
}
