//! The address of a transport: which one, and where.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::Error;

/// A transport's address. Displayed without its password.
#[derive(Clone, PartialEq, Eq)]
pub enum Uri {
    /// `sqlite:FILE`.
    Sqlite(PathBuf),
    /// `amqp://…` or `amqps://…`, whole.
    Amqp(String),
    /// `localmem:` or `localmem:NAME`; the same name in one process is the same memory.
    Localmem(String),
}

impl Uri {
    /// Reads an address; a relative file is taken from `folder`.
    ///
    /// # Errors
    /// [`Error::BadUri`], with what is wrong.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Error> {
        let bad = |cause: &str| Error::BadUri { text: mask(text), cause: cause.to_owned() };
        let (scheme, rest) = text
            .split_once(':')
            .ok_or_else(|| bad("it has no scheme; sqlite:, amqp:, amqps: and localmem: are known"))?;
        match scheme {
            "sqlite" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                if path.is_empty() {
                    return Err(bad("it names no file, as in sqlite:asynctask.db"));
                }
                Ok(Self::Sqlite(folder.join(path)))
            }
            "amqp" | "amqps" => {
                if !rest.starts_with("//") {
                    return Err(bad("it should begin with amqp:// or amqps://"));
                }
                if rest == "//" || rest.starts_with("///") {
                    return Err(bad("it names no host, as in amqp://localhost"));
                }
                super::amqp::check(text)?;
                Ok(Self::Amqp(text.to_owned()))
            }
            "localmem" => Ok(Self::Localmem(rest.trim_start_matches('/').to_owned())),
            _ => Err(bad("its scheme is unknown; sqlite:, amqp:, amqps: and localmem: are known")),
        }
    }
}

impl Uri {
    /// Whether its password is the `***` that is shown in the place of one: it was copied from where it is masked.
    #[must_use]
    pub fn is_masked(&self) -> bool {
        matches!(self, Self::Amqp(address) if address.contains(":***@"))
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Amqp(address) => f.write_str(&mask(address)),
            Self::Localmem(name) => write!(f, "localmem:{name}"),
        }
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uri({self})")
    }
}

/// Replaces the password of one address by `***`. The text is the address alone, so whatever stands before the `@` is
/// masked, blanks and quotes included; the settings' own mask finds addresses in a line, which end at those.
#[must_use]
pub(crate) fn mask(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority_ends = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // The last @: a password may hold one that was not escaped, and must not be shown for that.
    let Some(at) = rest[..authority_ends].rfind('@').or_else(|| rest.rfind('@')) else { return text.to_owned() };
    match rest[..at].split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***{}", &rest[at..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(mask("amqp://u:secret@h:1/v"), "amqp://u:***@h:1/v");
        assert_eq!(mask("amqp://u:se/cr@t@h:1/v"), "amqp://u:***@h:1/v");
        assert_eq!(mask("amqp://h:1/v"), "amqp://h:1/v");
        assert_eq!(mask("sqlite:a.db"), "sqlite:a.db");
        let uri = Uri::parse("amqps://u:secret@h", Path::new("/")).unwrap();
        assert!(!format!("{uri} {uri:?}").contains("secret"));
    }

    #[test]
    fn files_are_taken_from_the_folder() {
        let parse = |text| Uri::parse(text, Path::new("/etc/app"));
        assert_eq!(parse("sqlite:a.db").unwrap(), Uri::Sqlite("/etc/app/a.db".into()));
        assert_eq!(parse("sqlite:/var/a.db").unwrap(), Uri::Sqlite("/var/a.db".into()));
        assert_eq!(parse("sqlite:///var/a.db").unwrap(), Uri::Sqlite("/var/a.db".into()));
        for bad in ["", "sqlite:", "amqp:x", "redis://h", "asynctask.db"] {
            assert!(matches!(parse(bad), Err(Error::BadUri { .. })), "{bad}");
        }
    }
}
