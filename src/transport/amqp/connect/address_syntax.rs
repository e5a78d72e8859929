//! An address as it was written: what is wrong with it, in words that help and show nothing of it, and its parameters.
//!
//! The parser of the library is lenient: it takes the beginning of a password for the host, drops what follows a `#`, and
//! passes over parameters that it does not know. So everything is looked at here first.

use std::path::Path;

use lapin::uri::AMQPUri;

use super::tls::Tls;
use crate::suggest::nearest;

/// What may stand behind the `?`. The names are RabbitMQ's.
const PARAMETERS: [&str; 10] = [
    "heartbeat",
    "frame_max",
    "channel_max",
    "connection_timeout",
    "auth_mechanism",
    "cacertfile",
    "certfile",
    "keyfile",
    "verify",
    "server_name_indication",
];

const ESCAPING: &str = "characters such as @ # / ? % in user and password, and in the name of a virtual host, are written \
                        %40 %23 %2F %3F %25";

/// What the broker's side of the protocol allows at least.
const SMALLEST_FRAME: u32 = 4096;

/// An address, understood.
pub(crate) struct Written {
    pub(crate) uri: AMQPUri,
    pub(crate) tls: Tls,
}

impl Written {
    /// Reads an address; files in it are relative to `folder`.
    ///
    /// # Errors
    /// What is wrong with it; nothing of the address is in it but names of parameters, and values of those that are no secret.
    pub(crate) fn read(text: &str, folder: &Path) -> Result<Self, String> {
        let (_, rest) = text.split_once("://").ok_or("it should begin with amqp:// or amqps://")?;
        if rest.is_empty() || rest.starts_with('/') {
            return Err("it names no host, as in amqp://localhost".to_owned());
        }
        let is_tls = is_tls(text);
        let (user, location) = split(rest)?;
        let (location, query) =
            location.split_once('?').map_or((location, None), |(location, query)| (location, Some(query)));
        let (host, vhost) = location.split_once('/').map_or((location, ""), |(host, vhost)| (host, vhost));
        let port = port_of(host)?;
        for part in [user, vhost] {
            decoded(part).ok_or_else(|| format!("a % in it is not followed by the number of a letter; {ESCAPING}"))?;
        }
        if port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port == 0)) {
            return Err("no broker has the port 0".to_owned());
        }
        let parameters = parameters(query, is_tls)?;
        if host.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
            return Err("there is a blank in the name of its host".to_owned());
        }
        // What is clear without escaping may stand as it is; the library drops some of it.
        let scheme = if is_tls { "amqps" } else { "amqp" };
        let user = if user.is_empty() { String::new() } else { escaped(user) + "@" };
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let clear = format!("{scheme}://{user}{host}/{}{query}", escaped(vhost));
        let mut uri: AMQPUri = clear.parse().map_err(|cause: String| {
            // The one that can quote the address.
            if cause.starts_with("Invalid URL") { "it cannot be read".to_owned() } else { cause }
        })?;
        if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(address, _)| address)
        {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("what stands between [ and ] is no IPv6 address".to_owned());
            }
            // The library reads an IPv6 address as no host at all, and that as localhost.
            address.clone_into(&mut uri.authority.host);
        }
        if uri.vhost.is_empty() {
            // `amqp://host/` means the default virtual host to everyone who writes it.
            "/".clone_into(&mut uri.vhost);
        }
        let value = |name: &str| parameters.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        let file = |name: &str| value(name).map(|path| folder.join(path));
        let tls = Tls {
            ca: file("cacertfile"),
            certificate: file("certfile"),
            key: file("keyfile"),
            server_name: value("server_name_indication"),
        };
        tls.check()?;
        Ok(Self { uri, tls })
    }
}

/// Whether an address asks for TLS.
pub(crate) fn is_tls(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("amqps"))
}

/// The address with these settings for TLS, where it says nothing of them itself; files in it are relative to `folder`.
pub(crate) fn with_tls(text: &str, folder: &Path, tls: &Tls) -> Result<String, String> {
    let own = Written::read(text, folder)?.tls;
    let (location, query) = text.split_once('?').unwrap_or((text, ""));
    let is_tls = |part: &&str| {
        !part.is_empty()
            && !["cacertfile=", "certfile=", "keyfile=", "server_name_indication="]
                .iter()
                .any(|name| part.starts_with(name))
    };
    let mut parts: Vec<String> = query.split('&').filter(is_tls).map(str::to_owned).collect();
    let path = |path: &Path| encoded(&path.to_string_lossy());
    let mut put = |name: &str, own: Option<String>, set: Option<String>| {
        if own.is_some() && set.is_some() {
            return Err(format!("the address says {name} itself; one of both is too much"));
        }
        parts.extend(own.or(set).map(|value| format!("{name}={value}")));
        Ok(())
    };
    put("cacertfile", own.ca.as_deref().map(path), tls.ca.as_deref().map(path))?;
    put("certfile", own.certificate.as_deref().map(path), tls.certificate.as_deref().map(path))?;
    put("keyfile", own.key.as_deref().map(path), tls.key.as_deref().map(path))?;
    put("server_name_indication", own.server_name.as_deref().map(encoded), tls.server_name.as_deref().map(encoded))?;
    Ok(if parts.is_empty() { location.to_owned() } else { format!("{location}?{}", parts.join("&")) })
}

/// User and password, and what follows them. What was not escaped is found out by where the `@`s are.
fn split(rest: &str) -> Result<(&str, &str), String> {
    let Some((user, location)) = rest.rsplit_once('@') else {
        if rest.contains('#') {
            return Err(format!("there is a # in it; {ESCAPING}"));
        }
        return Ok(("", rest));
    };
    let wrong = user.find(['@', '/', '?', '#']).map(|at| &user[at..=at]);
    if let Some(wrong) = wrong {
        return Err(format!("there is a {wrong} before its last @; {ESCAPING}"));
    }
    if location.contains('#') {
        return Err(format!("there is a # in it; {ESCAPING}"));
    }
    Ok((user, location))
}

/// The port of `HOST:PORT`, if there is one.
fn port_of(host: &str) -> Result<Option<&str>, String> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (name, rest) = rest.split_once(']').ok_or("a [ in it is not closed")?;
            (name, rest)
        }
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    if name.is_empty() {
        return Err("it names no host, as in amqp://localhost".to_owned());
    }
    if host.contains([',', ';']) {
        return Err(
            "each address of a cluster is written whole, as in amqp://a.example/v, amqp://b.example/v".to_owned()
        );
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok(None),
        Some("") => Ok(None),
        Some(number) if number.parse::<u16>().is_ok() => Ok(Some(number)),
        _ => Err("what follows the : of its host is no number of a port, and with user and password it reads \
                  amqp://USER:PASSWORD@HOST:PORT/VHOST"
            .to_owned()),
    }
}

fn parameters(query: Option<&str>, is_tls: bool) -> Result<Vec<(&'static str, String)>, String> {
    let mut read: Vec<(&'static str, String)> = Vec::new();
    for part in query.into_iter().flat_map(|query| query.split('&')).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let Some(known) = PARAMETERS.into_iter().find(|known| *known == name) else {
            return Err(unknown(name));
        };
        if read.iter().any(|(before, _)| *before == known) {
            return Err(format!("its parameter {known} is given twice"));
        }
        let value = decoded(value).ok_or_else(|| format!("the value of its parameter {known} cannot be decoded"))?;
        right(known, &value, is_tls)?;
        read.push((known, value));
    }
    Ok(read)
}

fn unknown(name: &str) -> String {
    // It may be anything, a part of a password too, but for what reads like a name.
    let is_name = name.len() <= 40 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let near = nearest(name, PARAMETERS);
    match (near, name) {
        (Some(near), _) if is_name => format!("it has an unknown parameter \"{name}\"; did you mean \"{near}\"?"),
        (None, "password") => "keys that are encrypted with a password are not supported".to_owned(),
        (None, _) if is_name => format!("it has an unknown parameter \"{name}\"; known are {}", PARAMETERS.join(", ")),
        _ => format!("it has an unknown parameter; known are {}", PARAMETERS.join(", ")),
    }
}

/// Whether a parameter can have this value.
fn right(name: &str, value: &str, is_tls: bool) -> Result<(), String> {
    let number = |most: u64| match value.parse::<u64>() {
        Ok(number) if number <= most => Ok(number),
        _ => Err(format!("its parameter {name} takes a whole number from 0 to {most}, not {value:?}")),
    };
    match name {
        "heartbeat" | "channel_max" => drop(number(u16::MAX.into())?),
        "connection_timeout" if number(600_000)? == 0 => {
            return Err("its parameter connection_timeout takes milliseconds, more than 0".to_owned());
        }
        "frame_max" => {
            let bytes = number(u32::MAX.into())?;
            if bytes != 0 && bytes < SMALLEST_FRAME.into() {
                return Err(format!("its parameter frame_max takes 0 or at least {SMALLEST_FRAME}, not {value:?}"));
            }
        }
        "auth_mechanism" if value.parse::<lapin::uri::SASLMechanism>().is_err() => {
            return Err(format!("its parameter auth_mechanism takes plain, amqplain or external, not {value:?}"));
        }
        "connection_timeout" | "auth_mechanism" => {}
        "verify" if value == "verify_none" => {
            return Err("with verify_none anybody could be the broker and would get the password; name its authority \
                        with cacertfile, or in the settings with tls.ca"
                .to_owned());
        }
        "verify" if value != "verify_peer" => {
            return Err(format!("its parameter verify takes verify_peer, not {value:?}"));
        }
        "server_name_indication" if value == "disable" || value.is_empty() => {
            return Err("its parameter server_name_indication takes the name of the broker's certificate".to_owned());
        }
        _ if value.is_empty() => return Err(format!("its parameter {name} has no value")),
        _ => {}
    }
    let is_of_tls =
        !matches!(name, "heartbeat" | "frame_max" | "channel_max" | "connection_timeout" | "auth_mechanism");
    if is_of_tls && !is_tls {
        return Err(format!("its parameter {name} is for amqps://"));
    }
    Ok(())
}

/// The text without its `%XX`s; `None` if it is none.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digit = |at: usize| rest.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        bytes.push(u8::try_from(digit(0)? * 16 + digit(1)?).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

/// What is escaped stays so, and so does what need not be; all else is.
fn escaped(text: &str) -> String {
    encode(text, b"/._-:~%!$&'()*+,;=")
}

fn encoded(text: &str) -> String {
    encode(text, b"/._-:~")
}

fn encode(text: &str, clear: &[u8]) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || clear.contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.extend(format!("%{byte:02X}").chars());
        }
    }
    encoded
}

/// Checks the addresses of one cluster; the same with the files in them as seen from everywhere.
///
/// # Errors
/// What is wrong, without anything that could be a password.
pub(crate) fn check_cluster(addresses: &[&str], folder: &Path) -> Result<Vec<String>, String> {
    let mut vhosts = Vec::new();
    for address in addresses {
        vhosts.push(Written::read(address, folder)?.uri.vhost);
    }
    if vhosts.iter().any(|vhost| *vhost != vhosts[0]) {
        return Err("the addresses are those of one cluster, and name different virtual hosts".to_owned());
    }
    addresses.iter().map(|address| with_tls(address, folder, &Tls::default())).collect()
}

/// The addresses with these settings for TLS.
///
/// # Errors
/// What is wrong, without anything that could be a password.
pub(crate) fn cluster_with_tls(addresses: &[&str], tls: &Tls) -> Result<Vec<String>, String> {
    if !addresses.iter().any(|address| is_tls(address)) {
        return Err("is for a transport of amqps:// addresses, and there is none".to_owned());
    }
    let own = |address: &&str| {
        if is_tls(address) { with_tls(address, Path::new(""), tls) } else { Ok((*address).to_owned()) }
    };
    addresses.iter().map(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        let cause = Written::read(text, Path::new("/etc/app")).err().unwrap_or_else(|| panic!("{text} is taken"));
        assert!(!cause.contains("ecret"), "{cause}");
        cause
    }

    #[test]
    fn what_was_not_escaped_is_told_and_not_shown() {
        for text in [
            "amqp://u:p@ss#Secret1@h:1",
            "amqp://u:Secr#Secret@h",
            "amqp://u:Sec/ret@h",
            "amqp://u:Secret?x@h",
            "amqp://u:Secret%@h",
            "amqp://u:Secret%zz@h",
            "amqp://u:Secret%ff@h",
            "amqp://u@corp:Secret@h",
            "amqp://h/vhost#Secret",
            "amqp://h/%",
            "amqp://u:p@h/v@Secret",
        ] {
            assert!(wrong(text).contains("%40 %23"), "{}", wrong(text));
        }
        for text in [
            "amqp://u:Secret",
            "amqp://h:99999",
            "amqp://u:p@h:x",
            "amqp://[::1",
            "amqp://[h]",
            "amqp://u:p@",
            "amqp://:5672",
            "amqp://a b",
            "amqp://u:p@h1,h2/v",
            "amqp://",
            "amqp:///v",
            "amqp://h:0",
        ] {
            wrong(text);
        }
        let read = |text| Written::read(text, Path::new("/")).unwrap().uri;
        let uri = read("AMQP://u:p%40ss%23%2F%3F%25%3A:x@h:1/a%2Fb");
        assert_eq!((&*uri.authority.userinfo.password, &*uri.vhost), ("p@ss#/?%::x", "a/b"));
        assert_eq!(read("amqp://u:a: b}, [c\nd\\@h").authority.userinfo.password, "a: b}, [c\nd\\");
        assert_eq!(read("amqp://h/").vhost, "/");
        assert_eq!(read("amqp://u:p@[::1]:5672/v").authority.host, "::1");
    }

    #[test]
    fn parameters_are_known_and_right() {
        assert!(wrong("amqp://h?hearbeat=5").contains("did you mean \"heartbeat\"?"));
        assert!(wrong("amqp://h/v?heartbeat=5&heartbeat=6").contains("twice"));
        assert!(wrong("amqp://h?colour=red").contains("known are heartbeat"));
        assert!(wrong("amqp://h?heartbeat=-1").contains("\"-1\""));
        for text in [
            "amqp://h?heartbeat",
            "amqp://h?heartbeat=70000",
            "amqp://h?frame_max=17",
            "amqp://h?channel_max=x",
            "amqp://h?connection_timeout=0",
            "amqp://h?auth_mechanism=magic",
            "amqps://h?verify=maybe",
            "amqp://h?verify=verify_peer",
            "amqps://h?cacertfile=",
            "amqps://h?cacertfile=/nowhere.pem",
            "amqps://h?certfile=/a.pem",
            "amqps://h?password=Secret",
        ] {
            wrong(text);
        }
        assert!(wrong("amqps://h?verify=verify_none").contains("anybody could be the broker"));
        for text in [
            "amqp://h?",
            "amqps://h?verify=verify_peer&server_name_indication=x",
            "amqp://h?heartbeat=0&frame_max=8192&channel_max=100&connection_timeout=5000&auth_mechanism=PLAIN",
        ] {
            assert!(Written::read(text, Path::new("/")).is_ok(), "{text}");
        }
    }
}
