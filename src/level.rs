//! Levels of log lines: in the settings, in frames, in the log.

use std::{
    fmt::{self, Display},
    str::FromStr,
};

/// The importance of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A person must look at it.
    Error,
    /// A person should look at it.
    Warning,
    /// What the program did.
    Info,
    /// How it did that.
    Debug,
}

impl Level {
    /// All levels, the most important one first: the index of one is its number.
    pub(crate) const ALL: [Self; 4] = [Self::Error, Self::Warning, Self::Info, Self::Debug];

    /// The word in a log line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
        }
    }
}

impl Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is no level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a log level: error, warning, info or debug")]
pub struct UnknownLevel(pub String);

impl FromStr for Level {
    type Err = UnknownLevel;

    /// Any case. The neighbours in other libraries' scales are taken too: `warn`, `critical` and `fatal`, `notice`,
    /// `trace`.
    fn from_str(word: &str) -> Result<Self, UnknownLevel> {
        match word.to_ascii_lowercase().as_str() {
            "error" | "critical" | "fatal" => Ok(Self::Error),
            "warning" | "warn" => Ok(Self::Warning),
            "info" | "notice" => Ok(Self::Info),
            "debug" | "trace" => Ok(Self::Debug),
            _ => Err(UnknownLevel(word.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_by_their_names() {
        for (word, level) in [
            ("error", Level::Error),
            ("CRITICAL", Level::Error),
            ("Warning", Level::Warning),
            ("WARN", Level::Warning),
            ("info", Level::Info),
            ("DEBUG", Level::Debug),
            ("trace", Level::Debug),
        ] {
            assert_eq!(word.parse(), Ok(level), "{word}");
        }
        assert_eq!(
            "loud".parse::<Level>().unwrap_err().to_string(),
            r#""loud" is not a log level: error, warning, info or debug"#
        );
    }
}
