//! The address of a transport: which one, and where.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::error::Error;
use crate::{
    redact::redact_address,
    task::{is_foreign_queue_name, is_queue_name},
};

/// A transport's address. Displayed without its password.
#[derive(Clone, PartialEq, Eq)]
pub enum Uri {
    /// `sqlite:FILE`.
    Sqlite(PathBuf),
    /// `amqp://…` or `amqps://…`, whole; or several, of one cluster, with commas between them.
    Amqp(String),
    /// `postgres://…`, whole; `postgresql:` and `pgsql:` are the same.
    Postgres(String),
    /// `localmem:` or `localmem:NAME`; the same name in one process is the same memory.
    Localmem(String),
}

impl Uri {
    /// Reads which transport an address names; a relative file of a database is taken from `folder`. What stands behind
    /// `amqp://` is not looked at: [`read_uri`](super::read_uri) does that.
    ///
    /// # Errors
    /// [`Error::BadUri`], with what is wrong.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Error> {
        let bad = |cause: &str| Error::BadUri { text: redact_address(text), cause: cause.to_owned() };
        let text = text.trim();
        let (scheme, rest) = text
            .split_once(':')
            .ok_or_else(|| bad("it has no scheme; sqlite:, postgres:, amqp:, amqps: and localmem: are known"))?;
        match scheme.to_ascii_lowercase().as_str() {
            "sqlite" | "localmem" if rest.contains('?') => Err(bad("it takes no parameters: there can be no ? in it")),
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
                Ok(Self::Amqp(text.to_owned()))
            }
            "postgres" | "postgresql" | "pgsql" => {
                if !rest.starts_with("//") {
                    return Err(bad("it should begin with postgres://"));
                }
                Ok(Self::Postgres(format!("postgres:{rest}")))
            }
            "redis" | "rediss" | "valkey" => Err(bad(
                "Redis may lose tasks that it has confirmed when it fails over; sqlite:FILE needs no server, postgres:// and \
                 amqp:// serve several hosts",
            )),
            "filesys" | "file" => Err(bad("tasks in files lie in a database: sqlite:FILE")),
            "localmem" => Ok(Self::Localmem(rest.trim_start_matches('/').to_owned())),
            _ => Err(bad("its scheme is unknown; sqlite:, postgres:, amqp:, amqps: and localmem: are known")),
        }
    }

    /// Whether a queue may have this name here. Where a queue is made by whoever comes first there are none but ours.
    #[must_use]
    pub fn may_have(&self, queue: &str) -> bool {
        is_queue_name(queue) || (matches!(self, Self::Amqp(_)) && is_foreign_queue_name(queue))
    }

    /// Whether its password is the `***` that is shown in the place of one: it was copied from where it is masked.
    #[must_use]
    pub fn is_masked(&self) -> bool {
        matches!(self, Self::Amqp(address) | Self::Postgres(address) if [":***@", "://***@"].iter().any(|masked| address.contains(masked)))
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Amqp(text) => {
                f.write_str(&split(text).into_iter().map(redact_address).collect::<Vec<_>>().join(", "))
            }
            Self::Postgres(text) => f.write_str(&redact_address(text)),
            Self::Localmem(name) => write!(f, "localmem:{name}"),
        }
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uri({self})")
    }
}

/// The addresses of a list: separated by `,` or `;`, each whole. In one that was not escaped these may stand, too; so only
/// those count behind which another address begins.
pub(super) fn split(text: &str) -> Vec<&str> {
    let mut addresses = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices([',', ';']) {
        let next = text[at + 1..].trim_start().to_ascii_lowercase();
        if ["amqp:", "amqps:", "postgres:", "postgresql:", "pgsql:", "sqlite:", "localmem:"]
            .iter()
            .any(|scheme| next.starts_with(scheme))
        {
            addresses.push(text[start..at].trim());
            start = at + 1;
        }
    }
    addresses.push(text[start..].trim());
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_has_three_names_and_what_is_not_built_names_what_is() {
        let parse = |text| Uri::parse(text, Path::new("/"));
        for text in ["postgres://h/d", "postgresql://h/d", "PGSQL://h/d"] {
            assert_eq!(parse(text).unwrap(), Uri::Postgres("postgres://h/d".to_owned()));
        }
        for (text, said) in
            [("redis://h", "postgres://"), ("filesys:/var", "sqlite:FILE"), ("postgres:h", "begin with")]
        {
            assert!(parse(text).unwrap_err().to_string().contains(said), "{text}");
        }
    }

    #[test]
    fn files_are_taken_from_the_folder() {
        let parse = |text| Uri::parse(text, Path::new("/etc/app"));
        assert_eq!(parse("sqlite:a.db").unwrap(), Uri::Sqlite("/etc/app/a.db".into()));
        assert_eq!(parse("sqlite:/var/a.db").unwrap(), Uri::Sqlite("/var/a.db".into()));
        assert_eq!(parse("sqlite:///var/a.db").unwrap(), Uri::Sqlite("/var/a.db".into()));
        for bad in ["", "sqlite:", "amqp:x", "redis://h", "asynctask.db", "sqlite:a.db?mode=ro", "localmem:?x"] {
            assert!(matches!(parse(bad), Err(Error::BadUri { .. })), "{bad}");
        }
    }
}
