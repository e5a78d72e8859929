//! Reading the address of a transport, and opening the transport that it names: for a master, or for a client, whose
//! patience has an end.

use std::{path::Path, time::Duration};

use super::{
    amqp::{Amqp, Tls, check_cluster, cluster_with_tls},
    contract::{Events, Transport},
    error::Error,
    localmem::Localmem,
    sqlite::Sqlite,
    uri::{Uri, split},
};
use crate::redact::redact_address;

/// How long a client waits by itself for what others hold up: a lock of the file, a broker that takes nothing from
/// publishers. A master has none of it: it waits for a lock for 10 s, then keeps what must be stored, and waits for a broker
/// as long as that says it is short of something.
pub const CLIENT_PATIENCE: Duration = Duration::from_mins(1);

/// Reads an address and checks all that can be checked without a connection; a relative file is taken from `folder`.
///
/// # Errors
/// [`Error::BadUri`], with what is wrong and without anything that could be a password.
pub fn read_uri(text: &str, folder: &Path) -> Result<Uri, Error> {
    match Uri::parse(text, folder)? {
        Uri::Amqp(addresses) => {
            let bad = |cause| Error::BadUri { text: redact_address(text), cause };
            Ok(Uri::Amqp(check_cluster(&split(&addresses), folder).map_err(bad)?.join(",")))
        }
        #[cfg(feature = "postgres")]
        Uri::Postgres(address) => {
            let bad = |cause| Error::BadUri { text: redact_address(text), cause };
            Ok(Uri::Postgres(super::postgres::check_address(&address, folder).map_err(bad)?))
        }
        uri => Ok(uri),
    }
}

/// Several addresses as those of one cluster, which are tried in turn.
///
/// # Errors
/// [`Error::BadUri`] if they cannot be that.
pub fn cluster(mut uris: Vec<Uri>) -> Result<Uri, Error> {
    if uris.len() == 1 {
        return Ok(uris.remove(0));
    }
    let bad = |cause: String| Error::BadUri { text: "a list".to_owned(), cause };
    let text = |uri: &Uri| match uri {
        Uri::Amqp(text) => Ok(text.clone()),
        _ => Err(bad("several addresses are those of a cluster, all amqp:// or amqps://".to_owned())),
    };
    let texts: Vec<String> = uris.iter().map(text).collect::<Result<_, _>>()?;
    let list: Vec<&str> = texts.iter().flat_map(|text| split(text)).collect();
    Ok(Uri::Amqp(check_cluster(&list, Path::new("")).map_err(bad)?.join(",")))
}

/// An address with these settings for TLS.
///
/// # Errors
/// What is wrong with that, as the end of a sentence about the settings.
pub fn with_tls(uri: &Uri, tls: &Tls) -> Result<Uri, String> {
    match uri {
        Uri::Amqp(text) => Ok(Uri::Amqp(cluster_with_tls(&split(text), tls)?.join(","))),
        #[cfg(feature = "postgres")]
        Uri::Postgres(_) if tls.server_name.is_some() => {
            Err("has no server_name for postgres://; a certificate is for the host of the address".to_owned())
        }
        #[cfg(feature = "postgres")]
        Uri::Postgres(text) => {
            let Tls { ca, certificate, key, .. } = tls.clone();
            let files = super::postgres::TlsFiles { ca, certificate, key };
            Ok(Uri::Postgres(super::postgres::address_with_tls(text, &files)?))
        }
        _ => Err("is for a transport of amqps:// addresses, and there is none".to_owned()),
    }
}

/// Opens the transport that `uri` names. Returns at once; whether it can be reached is told by events and replies.
///
/// # Errors
/// If a thread or the files beside a database cannot be made, or the address has no password but the `***` that is shown
/// in its place.
pub fn open(uri: &Uri, events: Events) -> Result<Box<dyn Transport>, Error> {
    opened(uri, events, None)
}

/// [`open`] for a client, which attaches to no queues: its requests end with an error when they were held up for
/// `patience`, and [`Event::Waits`](super::Event::Waits) says by what.
///
/// # Errors
/// As [`open`].
pub fn open_client(uri: &Uri, events: Events, patience: Duration) -> Result<Box<dyn Transport>, Error> {
    opened(uri, events, Some(patience))
}

/// What makes the tables of a PostgreSQL database, as SQL.
///
/// # Errors
/// [`Error::BadUri`] for any other transport.
pub fn schema_sql(uri: &Uri) -> Result<String, Error> {
    match uri {
        #[cfg(feature = "postgres")]
        Uri::Postgres(address) => super::postgres::Postgres::schema_sql(address),
        uri => Err(without_tables(uri)),
    }
}

/// Makes the tables of a PostgreSQL database, or brings them to the newest version. Gives a line that says which that is.
///
/// # Errors
/// [`Error::BadUri`] for any other transport; [`Error::Unreachable`] and [`Error::Refused`] as the server says.
pub fn schema_version(uri: &Uri) -> Result<String, Error> {
    match uri {
        #[cfg(feature = "postgres")]
        Uri::Postgres(address) => super::postgres::Postgres::provide_schema(address),
        uri => Err(without_tables(uri)),
    }
}

fn without_tables(uri: &Uri) -> Error {
    Error::BadUri { text: uri.to_string(), cause: "it has no tables that are made apart".to_owned() }
}

fn opened(uri: &Uri, events: Events, patience: Option<Duration>) -> Result<Box<dyn Transport>, Error> {
    if uri.is_masked() {
        let cause = "its password is masked, as config show prints it: the password itself has to stand there";
        return Err(Error::BadUri { text: uri.to_string(), cause: cause.to_owned() });
    }
    Ok(match uri {
        Uri::Sqlite(path) => Box::new(Sqlite::open(path, events, patience)?),
        Uri::Amqp(address) => Box::new(Amqp::open(address, events, patience)?),
        #[cfg(feature = "postgres")]
        Uri::Postgres(address) => Box::new(super::postgres::Postgres::open(address, events, patience)?),
        #[cfg(not(feature = "postgres"))]
        Uri::Postgres(_) => {
            let cause = "this program was built without the feature postgres".to_owned();
            return Err(Error::BadUri { text: uri.to_string(), cause });
        }
        Uri::Localmem(name) => Box::new(Localmem::open(name, events)),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{super::amqp::Tls, *};

    #[test]
    fn passwords_are_not_shown() {
        let uri = read_uri("amqps://u:secret@h", Path::new("/")).unwrap();
        assert!(!format!("{uri} {uri:?}").contains("secret"));
        for bad in ["amqp://u:se/secret@h", "amqp:/u:secret@h", "u:secret@h", "amqp://u:secret", "redis://:secret@h"] {
            let error = read_uri(bad, Path::new("/")).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn several_addresses_are_those_of_a_cluster() {
        let parse = |text| read_uri(text, Path::new("/"));
        let two = parse("amqp://u:p@a/v, AMQPS://u:p@b/v;amqp://c/v?heartbeat=5").unwrap();
        assert_eq!(two.to_string(), "amqp://u:***@a/v, AMQPS://u:***@b/v, amqp://c/v?heartbeat=5");
        assert_eq!(
            cluster(vec![parse("amqp://u:p@a/v").unwrap(), parse("amqp://b/v").unwrap()]).unwrap(),
            parse("amqp://u:p@a/v,amqp://b/v").unwrap()
        );
        for bad in ["amqp://a/v,amqp://b/w", "amqp://a,b/v", "amqp://a/v,sqlite:x", "amqp://a/v,amqp://b?x=1"] {
            assert!(matches!(parse(bad), Err(Error::BadUri { .. })), "{bad}");
        }
        assert!(cluster(vec![parse("amqp://a/v").unwrap(), parse("sqlite:x").unwrap()]).is_err());
        let tls = Tls { server_name: Some("x".to_owned()), ..Tls::default() };
        assert_eq!(
            with_tls(&parse("amqps://h").unwrap(), &tls).unwrap().to_string(),
            "amqps://h?server_name_indication=x"
        );
        assert!(with_tls(&parse("amqps://h?server_name_indication=y").unwrap(), &tls).is_err());
        assert!(
            with_tls(&parse("amqp://h").unwrap(), &tls).is_err()
                && with_tls(&parse("sqlite:x").unwrap(), &tls).is_err()
        );
    }
}
