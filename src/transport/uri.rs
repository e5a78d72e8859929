//! The address of a transport: which one, and where.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{
    Error,
    amqp::{self, Tls},
};
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
    /// `localmem:` or `localmem:NAME`; the same name in one process is the same memory.
    Localmem(String),
}

impl Uri {
    /// Reads an address; a relative file is taken from `folder`.
    ///
    /// # Errors
    /// [`Error::BadUri`], with what is wrong.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Error> {
        let bad = |cause: &str| Error::BadUri { text: redact_address(text), cause: cause.to_owned() };
        let text = text.trim();
        let (scheme, rest) = text
            .split_once(':')
            .ok_or_else(|| bad("it has no scheme; sqlite:, amqp:, amqps: and localmem: are known"))?;
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
                let addresses = amqp::checked(&split(text), folder).map_err(|cause| bad(&cause))?;
                Ok(Self::Amqp(addresses.join(",")))
            }
            "localmem" => Ok(Self::Localmem(rest.trim_start_matches('/').to_owned())),
            _ => Err(bad("its scheme is unknown; sqlite:, amqp:, amqps: and localmem: are known")),
        }
    }

    /// Several addresses as those of one cluster, which are tried in turn.
    ///
    /// # Errors
    /// [`Error::BadUri`] if they cannot be that.
    pub fn cluster(mut addresses: Vec<Self>) -> Result<Self, Error> {
        if addresses.len() == 1 {
            return Ok(addresses.remove(0));
        }
        let bad = |cause: String| Error::BadUri { text: "a list".to_owned(), cause };
        let text = |uri: &Self| match uri {
            Self::Amqp(text) => Ok(text.clone()),
            _ => Err(bad("several addresses are those of a cluster, all amqp:// or amqps://".to_owned())),
        };
        let texts: Vec<String> = addresses.iter().map(text).collect::<Result<_, _>>()?;
        let list: Vec<&str> = texts.iter().flat_map(|text| split(text)).collect();
        Ok(Self::Amqp(amqp::checked(&list, Path::new("")).map_err(bad)?.join(",")))
    }

    /// The same with these settings for TLS.
    ///
    /// # Errors
    /// What is wrong with that, as the end of a sentence about the settings.
    pub fn with_tls(&self, tls: &Tls) -> Result<Self, String> {
        match self {
            Self::Amqp(text) => Ok(Self::Amqp(amqp::with_tls(&split(text), tls)?.join(","))),
            _ => Err("is for a transport of amqps:// addresses, and there is none".to_owned()),
        }
    }
}

impl Uri {
    /// Whether a queue may have this name here. Where a queue is made by whoever comes first there are none but ours.
    #[must_use]
    pub fn may_have(&self, queue: &str) -> bool {
        is_queue_name(queue) || (matches!(self, Self::Amqp(_)) && is_foreign_queue_name(queue))
    }

    /// Whether its password is the `***` that is shown in the place of one: it was copied from where it is masked.
    #[must_use]
    pub fn is_masked(&self) -> bool {
        matches!(self, Self::Amqp(address) if [":***@", "://***@"].iter().any(|masked| address.contains(masked)))
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Amqp(text) => {
                f.write_str(&split(text).into_iter().map(redact_address).collect::<Vec<_>>().join(", "))
            }
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
        if ["amqp:", "amqps:", "sqlite:", "localmem:"].iter().any(|scheme| next.starts_with(scheme)) {
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
    fn passwords_are_not_shown() {
        let uri = Uri::parse("amqps://u:secret@h", Path::new("/")).unwrap();
        assert!(!format!("{uri} {uri:?}").contains("secret"));
        for bad in ["amqp://u:se/secret@h", "amqp:/u:secret@h", "u:secret@h", "amqp://u:secret", "redis://:secret@h"] {
            let error = Uri::parse(bad, Path::new("/")).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn several_addresses_are_those_of_a_cluster() {
        let parse = |text| Uri::parse(text, Path::new("/"));
        let two = parse("amqp://u:p@a/v, AMQPS://u:p@b/v;amqp://c/v?heartbeat=5").unwrap();
        assert_eq!(two.to_string(), "amqp://u:***@a/v, AMQPS://u:***@b/v, amqp://c/v?heartbeat=5");
        assert_eq!(
            Uri::cluster(vec![parse("amqp://u:p@a/v").unwrap(), parse("amqp://b/v").unwrap()]).unwrap(),
            parse("amqp://u:p@a/v,amqp://b/v").unwrap()
        );
        for bad in ["amqp://a/v,amqp://b/w", "amqp://a,b/v", "amqp://a/v,sqlite:x", "amqp://a/v,amqp://b?x=1"] {
            assert!(matches!(parse(bad), Err(Error::BadUri { .. })), "{bad}");
        }
        assert!(Uri::cluster(vec![parse("amqp://a/v").unwrap(), parse("sqlite:x").unwrap()]).is_err());
        let tls = Tls { server_name: Some("x".to_owned()), ..Tls::default() };
        assert_eq!(
            parse("amqps://h").unwrap().with_tls(&tls).unwrap().to_string(),
            "amqps://h?server_name_indication=x"
        );
        assert!(parse("amqps://h?server_name_indication=y").unwrap().with_tls(&tls).is_err());
        assert!(
            parse("amqp://h").unwrap().with_tls(&tls).is_err() && parse("sqlite:x").unwrap().with_tls(&tls).is_err()
        );
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
