//! Names under which the page may be asked for.
//!
//! A site of somebody else can have its own name lead to this machine, and its scripts then speak to us as to their own origin. Their
//! `Host` is that name, so only addresses, `localhost` and names of the settings are ours. The port does not matter: such a name has
//! any, and a port that is forwarded to the page (`ssh -L`) is another one than its own.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The allowed names.
#[derive(Clone, Debug)]
pub(crate) struct Hosts {
    /// Of the settings, in small letters.
    names: Vec<String>,
    /// The address under which people open it, as `https://ops.example`, where a proxy stands before it.
    url: Option<String>,
}

impl Hosts {
    /// Those of a page.
    pub(crate) fn new(names: &[String], url: Option<&str>) -> Self {
        let small = |text: &str| text.trim_end_matches('/').to_ascii_lowercase();
        Self {
            names: names.iter().map(|name| small(name)).collect(),
            url: url.map(|url| without_default_port(&small(url))),
        }
    }

    /// Whether the value of a `Host` header is one of ours.
    pub(crate) fn is_ours(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        if self.is_url(&host) {
            return true;
        }
        let Some(name) = name_of(&host) else { return false };
        if self.names.iter().any(|known| known == name) {
            return true;
        }
        let is_address = name.parse::<Ipv4Addr>().is_ok()
            || name
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
                .is_some_and(|name| name.parse::<Ipv6Addr>().is_ok());
        is_address || name == "localhost"
    }

    /// Whether a `Host` is that of the configured address.
    pub(crate) fn is_url(&self, host: &str) -> bool {
        let url = self.url.as_deref().and_then(|url| url.split_once("://"));
        url.is_some_and(|(scheme, _)| {
            let asked = without_default_port(&format!("{scheme}://{}", host.to_ascii_lowercase()));
            self.url.as_ref() == Some(&asked)
        })
    }

    /// Whether an `Origin` is that of the page which was asked for under this `Host`. Where a proxy speaks https before it, http is
    /// another origin.
    pub(crate) fn is_origin(&self, origin: &str, host: &str) -> bool {
        let (origin, host) = (origin.to_ascii_lowercase(), host.to_ascii_lowercase());
        self.url.as_ref().is_some_and(|url| *url == origin)
            || (!self.is_url(&host) && origin.strip_prefix("http://").is_some_and(|authority| authority == host))
    }
}

/// An address as a browser says it, which leaves out the port that goes without saying.
fn without_default_port(url: &str) -> String {
    let port = if url.starts_with("https://") { ":443" } else { ":80" };
    url.strip_suffix(port).unwrap_or(url).to_owned()
}

/// The name of an authority, if that is one. An address of version 6 keeps its brackets.
fn name_of(host: &str) -> Option<&str> {
    let end = if host.starts_with('[') { host.find(']')? + 1 } else { host.find(':').unwrap_or(host.len()) };
    let (name, rest) = host.split_at(end);
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_of_the_settings_are_ours() {
        let hosts = Hosts::new(&["Ops.example".to_owned()], Some("https://jobs.example:443/"));
        for ours in [
            "127.0.0.1:5555",
            "localhost:5555",
            "LOCALHOST:5555",
            "[::1]:5555",
            "10.1.2.3:5555",
            "127.0.0.1",
            "localhost:8080",
            "ops.example",
            "ops.example:8080",
            "jobs.example",
            "Jobs.example:443",
        ] {
            assert!(hosts.is_ours(ours), "{ours}");
        }
        for foreign in [
            "",
            "evil.example:5555",
            "127.0.0.1:",
            "127.0.0.1:70000",
            "127.0.0.1:5555:5555",
            "127.0.0.1:5555@evil.example",
            "localhost.evil.example:5555",
            "ops.example.evil.example",
            "[::1:5555",
            "::1:5555",
            "127.0.0.1:+5555",
            "0x7f.1:5555",
            "jobs.example:444",
        ] {
            assert!(!hosts.is_ours(foreign), "{foreign}");
        }
    }

    #[test]
    fn an_origin_is_the_pages_own_or_the_configured_one() {
        let hosts = Hosts::new(&[], Some("https://jobs.example"));
        assert!(hosts.is_origin("http://127.0.0.1:5555", "127.0.0.1:5555"));
        assert!(hosts.is_origin("https://jobs.example", "10.0.0.1:5555"));
        assert!(hosts.is_origin("https://jobs.example", "jobs.example"));
        assert!(!hosts.is_origin("http://jobs.example", "jobs.example") && hosts.is_url("jobs.example"));
        for foreign in ["", "null", "http://127.0.0.1:5556", "https://127.0.0.1:5555", "http://jobs.example"] {
            assert!(!hosts.is_origin(foreign, "127.0.0.1:5555"), "{foreign}");
        }
    }
}
