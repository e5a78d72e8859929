//! Problems of the settings, each with its place.

use std::{fmt, path::PathBuf};

use super::index::Position;

/// Everything that is wrong, in the order of files, lines, and options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(#[doc(hidden)] pub Vec<Problem>);

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was typed.
    pub origin: Origin,
    /// The key's path, `workers.foo.processes`; empty where there is none.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What may help.
    pub hint: Option<String>,
    /// The line of the file, secrets masked, and the column of the caret.
    pub snippet: Option<(String, usize)>,
    /// Layer and position, for sorting.
    pub(super) order: (usize, Option<Position>),
}

/// Where a setting was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a file.
    File {
        /// As it was named.
        path: PathBuf,
        /// Where in it; `None` is the file as a whole.
        position: Option<Position>,
    },
    /// In an option or an environment variable: `--set KEY`, `$ASYNCTASK_CONFIG`. Without its value.
    Option(String),
}

impl Problems {
    /// One object a problem: `file`, `line`, `column` or `option`; `path`, `message`, `hint`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        self.0.iter().map(Problem::to_json).collect()
    }
}

impl Problem {
    fn to_json(&self) -> serde_json::Value {
        let mut object = serde_json::json!({ "path": self.path, "message": self.what, "hint": self.hint });
        match &self.origin {
            Origin::File { path, position } => {
                object["file"] = path.display().to_string().into();
                if let Some(at) = position {
                    object["line"] = at.line.into();
                    object["column"] = at.column.into();
                }
            }
            Origin::Option(option) => object["option"] = option.as_str().into(),
        }
        object
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, position: None } => path.display().fmt(f),
            Self::File { path, position: Some(at) } => write!(f, "{}:{}:{}", path.display(), at.line, at.column),
            Self::Option(option) => f.write_str(option),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}: ", self.origin)?;
        // An option's name holds the key already, but for what is wrong deeper in its value.
        let said = matches!(&self.origin, Origin::Option(option) if option.strip_prefix("--set ") == Some(&self.path));
        if !self.path.is_empty() && !said {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)?;
        if let (Origin::File { position: Some(at), .. }, Some((line, column))) = (&self.origin, &self.snippet) {
            let number = at.line.to_string();
            let margin = " ".repeat(number.len());
            write!(f, "\n {number} | {line}\n {margin} | {}^", " ".repeat(column.saturating_sub(1)))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_a_compilers() {
        let at = Position { line: 12, column: 5 };
        let problem = Problem {
            origin: Origin::File { path: "a.yaml".into(), position: Some(at) },
            path: "workers.foo.procesess".into(),
            what: "unknown key".into(),
            hint: Some("did you mean \"processes\"?".into()),
            snippet: Some(("    procesess: 2".into(), 5)),
            order: (0, Some(at)),
        };
        let option = Problem { origin: Origin::Option("--set x".into()), snippet: None, hint: None, ..problem.clone() };
        let problems = Problems(vec![problem, option]);
        assert_eq!(
            problems.to_string(),
            "error: a.yaml:12:5: workers.foo.procesess: unknown key\n 12 |     procesess: 2\n    |     ^\n\
             hint: did you mean \"processes\"?\nerror: --set x: workers.foo.procesess: unknown key"
        );
        assert_eq!(problems.to_json()[0]["line"], 12);
        assert_eq!(problems.to_json()[1]["option"], "--set x");
    }
}
