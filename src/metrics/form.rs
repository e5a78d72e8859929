//! The forms of the page: the choice by a request's `Accept` headers, and the classic form made from the other.
//!
//! A name that a number has may never differ between the two, or one alarm would hold for half of the readers.
//!
//! `OpenMetrics` is the form that the page is made in. The classic text form (version 0.0.4 of Prometheus' exposition formats)
//! is what every reader knows, and so what is given to whoever says nothing. It names a counter's family with its `_total`,
//! and knows no units and no end mark.

use std::fmt::Write as _;

/// A form of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `text/plain; version=0.0.4`.
    Classic,
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
}

impl Form {
    /// What it is served as.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The one that a request's `Accept` headers prefer (RFC 9110, section 12.5.1); of two that they like as much,
    /// `OpenMetrics` if they name it. A client that accepts neither gets the classic one: it is text.
    pub(super) fn wanted<'a>(accept: impl Iterator<Item = &'a str>) -> Self {
        let (mut openmetrics, mut text) = (Liking::default(), Liking::default());
        for range in accept.flat_map(|header| header.split(',')).filter_map(Range::read) {
            openmetrics.heed(&range, "application/openmetrics-text", &["1.0.0", "0.0.1"]);
            text.heed(&range, "text/plain", &["0.0.4"]);
        }
        let is_named = openmetrics.closeness == Closeness::Named && openmetrics.quality > 0.0;
        if openmetrics.quality > text.quality || (is_named && openmetrics.quality >= text.quality) {
            Self::OpenMetrics
        } else {
            Self::Classic
        }
    }
}

/// How closely a range of media types speaks of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Closeness {
    #[default]
    Not,
    Anything,
    Group,
    Named,
}

/// How much a form is liked, by the range that speaks of it most closely.
#[derive(Clone, Copy, Debug, Default)]
struct Liking {
    closeness: Closeness,
    quality: f32,
}

impl Liking {
    fn heed(&mut self, range: &Range<'_>, media: &str, versions: &[&str]) {
        let group = media.split('/').next().unwrap_or_default();
        let closeness = match range.media {
            "*/*" => Closeness::Anything,
            _ if range.media.eq_ignore_ascii_case(media) => Closeness::Named,
            _ if range.media.strip_suffix("/*").is_some_and(|other| other.eq_ignore_ascii_case(group)) => {
                Closeness::Group
            }
            _ => return,
        };
        let is_ours = range.version.is_none_or(|version| versions.contains(&version));
        // The same said twice, of two versions: the one that is liked more.
        let counts = closeness > self.closeness || (closeness == self.closeness && range.quality > self.quality);
        if is_ours && counts {
            *self = Self { closeness, quality: range.quality };
        }
    }
}

/// One range of an `Accept` header.
struct Range<'a> {
    media: &'a str,
    version: Option<&'a str>,
    quality: f32,
}

impl<'a> Range<'a> {
    /// `None`: it cannot be read.
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().filter(|media| media.contains('/'))?;
        let mut range = Self { media, version: None, quality: 1.0 };
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => range.quality = value.parse().ok().filter(|quality| (0.0..=1.0).contains(quality))?,
                "version" => range.version = Some(value),
                _ => {}
            }
        }
        Some(range)
    }
}

/// The classic form of a page.
pub(super) fn classic(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            text.push_str(line);
            text.push('\n');
            continue;
        };
        // A family's help comes before its type, which says what the family is called here.
        if let Some(rest) = comment.strip_prefix("HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = comment.strip_prefix("TYPE ").and_then(|rest| rest.split_once(' ')) {
            let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
            if let Some((_, help)) = help.take() {
                // Quotes are not escaped in this one.
                let help = help.replace("\\\"", "\"");
                let _ = writeln!(text, "# HELP {name} {help}");
            }
            let _ = writeln!(text, "# TYPE {name} {kind}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(accept: &[&str]) -> Form {
        Form::wanted(accept.iter().copied())
    }

    #[test]
    fn who_asks_for_a_form_gets_it() {
        for accept in [
            &["application/openmetrics-text"][..],
            &["application/openmetrics-text; version=1.0.0; charset=utf-8"],
            &["Application/OpenMetrics-Text;version=\"0.0.1\""],
            &["application/*"],
            &["text/plain;version=0.0.4;q=0.5", "application/openmetrics-text;version=1.0.0;q=0.75,*/*;q=0.1"],
            &["text/plain, application/openmetrics-text"],
            &["*/*, application/openmetrics-text"],
            // What Prometheus says, 2.40 and 3.0.
            &["application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
               text/plain;version=0.0.4;q=0.5,*/*;q=0.1"],
            &["application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;\
               version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,\
               */*;q=0.2"],
            &["text/plain;q=0, application/openmetrics-text;q=0.1"],
        ] {
            assert_eq!(wanted(accept), Form::OpenMetrics, "{accept:?}");
        }
        for accept in [
            &[][..],
            &["*/*"],
            &["text/plain"],
            &["text/plain; version=0.0.4"],
            &["text/*;q=0.1, */*;q=0.9, application/openmetrics-text;q=0"],
            &["application/openmetrics-text;q=0.4, text/plain;q=0.5"],
            &["application/openmetrics-text;version=2.0.0, text/plain;q=0.1"],
            &["text/html,application/xhtml+xml,*/*;q=0.8"],
            &["application/openmetrics-text;q=much, */*"],
            &["application/openmetrics-text;q=2"],
            &["application/openmetrics-text;q=nan"],
            &["nonsense", ",;,=,", ";q=1"],
            &["text/html"],
        ] {
            assert_eq!(wanted(accept), Form::Classic, "{accept:?}");
        }
    }

    #[test]
    fn the_classic_form_names_counters_with_their_end_and_has_no_units() {
        let openmetrics = "# HELP a_tasks What \\\"became\\\" of a\\\\b.\n# TYPE a_tasks counter\na_tasks_total{queue=\"# TYPE\"} 1\n\
                           # HELP b_seconds Time.\n# TYPE b_seconds histogram\n# UNIT b_seconds seconds\n\
                           b_seconds_bucket{le=\"+Inf\"} 1\n# EOF\n";
        assert_eq!(
            classic(openmetrics),
            "# HELP a_tasks_total What \"became\" of a\\\\b.\n# TYPE a_tasks_total counter\na_tasks_total{queue=\"# TYPE\"} 1\n\
             # HELP b_seconds Time.\n# TYPE b_seconds histogram\nb_seconds_bucket{le=\"+Inf\"} 1\n"
        );
    }
}
