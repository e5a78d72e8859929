//! The address of a database, `postgres://user:password@host:port/database?…`: what the client library reads of it, and parameters
//! of ours.
//!
//! | parameter | meaning | without it |
//! | --- | --- | --- |
//! | `schema` | the schema of our tables | `asynctask` |
//! | `dead_after` | seconds after which a host that does not answer counts as gone, 6 to 300 | 15 |
//! | `grace` | seconds that a master waits before it judges others after all sessions were cut, 0 to 300 | 15 |
//! | `notify` | `off`: nothing is listened for (poolers, forks without LISTEN); looks five times a second instead | on |
//! | `sslmode` | `disable`, or `require` or `verify-full`, which are the same here: the certificate is verified, and for this host | `disable` on the loopback and Unix sockets, else `verify-full` |
//! | `sslrootcert`, `sslcert`, `sslkey` | files in PEM: trusted authorities, our own certificate, its key | those that the system trusts; none |

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio_postgres::config::{Config, Host, SslMode, TargetSessionAttrs};

use super::tls::TlsFiles;
use crate::redact::redact_address;

/// Attempts to connect end after this.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// An address, read.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) config: Config,
    /// Without its password.
    pub(crate) shown: String,
    /// Name of the schema, which needs no quotes.
    pub(crate) schema: String,
    pub(crate) dead_after: Duration,
    pub(crate) grace: Duration,
    pub(crate) listens: bool,
    /// `None`: without TLS.
    pub(crate) tls: Option<TlsFiles>,
}

/// What stands in an address, as `(name, value)` behind the `?`.
fn split(text: &str) -> (&str, Vec<(&str, &str)>) {
    let (front, query) = text.split_once('?').unwrap_or((text, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    (front, pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect())
}

fn joined(front: &str, pairs: &[(String, String)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if pairs.is_empty() { front.to_owned() } else { format!("{front}?{}", pairs.join("&")) }
}

/// Checks an address; relative files are taken from `folder`. Gives it with whole paths.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_address(text: &str, folder: &Path) -> Result<String, String> {
    let (front, pairs) = split(text);
    let whole = |(name, value): (&str, &str)| {
        let is_file = ["sslrootcert", "sslcert", "sslkey"].contains(&name);
        let value = if is_file { folder.join(value).display().to_string() } else { value.to_owned() };
        (name.to_owned(), value)
    };
    let text = joined(front, &pairs.into_iter().map(whole).collect::<Vec<_>>());
    Address::parse(&text).map(|_| text)
}

/// An address with files for TLS.
///
/// # Errors
/// What is wrong with that, as the end of a sentence about the settings.
pub(crate) fn address_with_tls(text: &str, files: &TlsFiles) -> Result<String, String> {
    let (front, pairs) = split(text);
    let mut pairs: Vec<_> = pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    for (name, file) in [("sslrootcert", &files.ca), ("sslcert", &files.certificate), ("sslkey", &files.key)] {
        let Some(file) = file else { continue };
        if pairs.iter().any(|(known, _)| known == name) {
            return Err(format!("and the address both say {name}"));
        }
        pairs.push((name.to_owned(), file.display().to_string()));
    }
    let text = joined(front, &pairs);
    if Address::parse(&text)?.tls.is_none() {
        return Err(
            "is for a transport that is spoken to by TLS; sslmode=verify-full in the address says so".to_owned()
        );
    }
    Ok(text)
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it, without its password.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (front, pairs) = split(text);
        let mut files = TlsFiles::default();
        let (mut schema, mut dead_after, mut grace, mut listens) = ("asynctask".to_owned(), 15, 15, true);
        let mut mode = None;
        let mut theirs = Vec::new();
        for (name, value) in pairs {
            match name {
                "schema" if is_schema_name(value) => value.clone_into(&mut schema),
                "schema" => return Err("schema is 1 to 40 small letters, digits and _, a letter first".to_owned()),
                "dead_after" => dead_after = seconds(name, value, 6)?,
                "grace" => grace = seconds(name, value, 0)?,
                "notify" if value == "on" || value == "off" => listens = value == "on",
                "notify" => return Err("notify is on or off".to_owned()),
                "sslmode" => mode = Some(value),
                "sslrootcert" => files.ca = Some(PathBuf::from(value)),
                "sslcert" => files.certificate = Some(PathBuf::from(value)),
                "sslkey" => files.key = Some(PathBuf::from(value)),
                "options" | "application_name" | "target_session_attrs" => {
                    return Err(format!("{name} is set by this program"));
                }
                _ => theirs.push((name.to_owned(), value.to_owned())),
            }
        }
        // The library's own words may hold a part of the text.
        let unreadable = |_| "it cannot be read; postgres://user:password@host:5432/database is one".to_owned();
        let mut config: Config = joined(front, &theirs).parse().map_err(unreadable)?;
        if config.get_hosts().is_empty() {
            return Err("it names no host, as in postgres://localhost/database".to_owned());
        }
        let is_near = config.get_hosts().iter().all(is_near);
        let tls = match mode {
            Some("disable") => None,
            None if is_near && files == TlsFiles::default() => None,
            None | Some("require" | "verify-full") => Some(files.clone()),
            Some(_) => return Err("sslmode is disable, require or verify-full".to_owned()),
        };
        if tls.is_none() && files != TlsFiles::default() {
            return Err("sslmode=disable uses none of the files that it names".to_owned());
        }
        if files.certificate.is_some() != files.key.is_some() {
            return Err("sslcert and sslkey go together".to_owned());
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_WITHIN);
        }
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.keepalives(true);
        config.keepalives_idle(Duration::from_secs(5));
        config.keepalives_interval(Duration::from_secs(2));
        config.keepalives_retries(3);
        let (dead_after, grace) = (Duration::from_secs(dead_after), Duration::from_secs(grace));
        config.tcp_user_timeout(dead_after.saturating_sub(Duration::from_secs(4)));
        Ok(Self { config, shown: redact_address(text), schema, dead_after, grace, listens, tls })
    }
}

/// Whether nobody can listen in on the way.
fn is_near(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
    }
}

fn is_schema_name(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn seconds(name: &str, value: &str, least: u64) -> Result<u64, String> {
    let number = value.parse().ok().filter(|number| (least..=300).contains(number));
    number.ok_or_else(|| format!("{name} is a whole number of seconds, {least} to 300"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_spoken_to_in_plain_and_what_is_far_by_tls() {
        let has_tls = |text: &str| Address::parse(text).unwrap().tls.is_some();
        for near in
            ["postgres://localhost/d", "postgres://u:p@127.0.0.1:5/d", "postgres://[::1]/d", "postgres:///d?host=/run"]
        {
            assert!(!has_tls(near), "{near}");
        }
        for far in ["postgres://db.example/d", "postgres://10.0.0.1/d", "postgres://localhost,db.example/d"] {
            assert!(has_tls(far), "{far}");
        }
        assert!(!has_tls("postgres://h/d?sslmode=disable") && has_tls("postgres://localhost/d?sslmode=require"));
    }

    #[test]
    fn parameters_are_checked_and_passwords_not_told() {
        let address = Address::parse("postgres://u:secret@h/d?schema=a_1&dead_after=6&grace=0&notify=off").unwrap();
        assert_eq!((&*address.schema, address.dead_after.as_secs(), address.listens), ("a_1", 6, false));
        assert!(!address.shown.contains("secret"), "{}", address.shown);
        for bad in [
            "postgres:///d",
            "postgres://u:secret@h:x/d",
            "postgres://h/d?schema=A",
            "postgres://h/d?schema=a;b",
            "postgres://h/d?dead_after=1",
            "postgres://h/d?grace=x",
            "postgres://h/d?sslmode=prefer",
            "postgres://h/d?sslmode=disable&sslrootcert=/a",
            "postgres://h/d?sslcert=/a",
            "postgres://h/d?nonsense=1",
            "postgres://h/d?options=-c",
        ] {
            let said = Address::parse(bad).err().unwrap_or_else(|| panic!("{bad}"));
            assert!(!said.contains("secret"), "{said}");
        }
        let checked = check_address("postgres://h/d?sslrootcert=ca.pem", Path::new("/etc")).unwrap();
        assert_eq!(checked, "postgres://h/d?sslrootcert=/etc/ca.pem");
    }
}
