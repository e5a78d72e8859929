//! Who may see the page, and who may change something by it.
//!
//! It is closed until it is opened: with a key, which is in the link that is printed once at the start, or with names and passwords
//! of the settings. What a request may do is decided here, from its headers and address alone, before any page is made.
//!
//! ```text
//! Host is none of ours ── 421 (another name that leads here could be any site's)
//! no key, no proxy that vouches, no session ── 401, or the login page
//! change in a session, and Origin is not the page's own ── 403
//! the role does not suffice ── 403
//! ```

pub(crate) mod hosts;
pub(crate) mod password;
pub(crate) mod secret;
pub(crate) mod sessions;
pub(crate) mod throttle;
pub(crate) mod visitor;
pub(crate) mod waiting;

use std::net::IpAddr;

use self::{hosts::Hosts, secret::Hashed, sessions::Sessions, visitor::Visitor};
use crate::{
    clock::Instant,
    config::dashboard::{LONGEST_NAME, Role, User},
};

/// Where a connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    /// Over the network.
    Address(IpAddr),
    /// Over a Unix socket, which its permissions guard.
    Local,
}

/// What of a request decides.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Headers<'a> {
    pub(crate) host: Option<&'a str>,
    pub(crate) origin: Option<&'a str>,
    pub(crate) cookie: Option<&'a str>,
    pub(crate) authorization: Option<&'a str>,
    /// The user, as the proxy says, and the secret that it shares with us.
    pub(crate) proxied: Option<(&'a str, &'a str)>,
    /// The page's script asks by itself: nobody did anything.
    pub(crate) is_automatic: bool,
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Its `Host` is none of ours.
    Misdirected,
    /// Nobody is known by it.
    Unknown,
    /// It comes from a page of another origin, or from none.
    ForeignOrigin,
    /// Who asks may not do that.
    Forbidden,
}

/// A proxy that says who asks.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    pub(crate) peer: Option<IpAddr>,
    pub(crate) secret: Hashed,
    pub(crate) role: Role,
}

/// The rules, and who is logged in.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) hosts: Hosts,
    /// The key of this process. With users it is for programs alone.
    pub(crate) key: Hashed,
    pub(crate) users: Vec<User>,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) sessions: Sessions,
    pub(crate) cookie: String,
}

impl Access {
    /// Whether people log in with names.
    pub(crate) fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    /// Who asks, if the request may be served at all. `changes`: it is no GET.
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        peer: Peer,
        headers: &Headers<'_>,
        changes: bool,
    ) -> Result<Visitor, Denied> {
        self.check_host(headers.host)?;
        if headers.authorization.and_then(bearer).is_some_and(|key| self.key.is_of(key)) {
            // No browser adds that by itself: what says it was meant to.
            return Ok(Visitor { name: None, role: Role::All, has_session: false });
        }
        // A key that is none of ours may be meant for a proxy on the way.
        let visitor = self
            .proxied(peer, headers)
            .or_else(|| headers.authorization.is_none().then(|| self.in_session(now, headers))?);
        let visitor = visitor.ok_or(Denied::Unknown)?;
        if changes {
            self.check_origin(headers)?;
        }
        Ok(visitor)
    }

    /// Whether the request is for us.
    pub(crate) fn check_host(&self, host: Option<&str>) -> Result<(), Denied> {
        host.is_some_and(|host| self.hosts.is_ours(host)).then_some(()).ok_or(Denied::Misdirected)
    }

    /// A change must come from a page of ours: cookies go along with what other pages of the same host send.
    pub(crate) fn check_origin(&self, headers: &Headers<'_>) -> Result<(), Denied> {
        let is_own = match (headers.origin, headers.host) {
            (Some(origin), Some(host)) => self.hosts.is_origin(origin, host),
            _ => false,
        };
        is_own.then_some(()).ok_or(Denied::ForeignOrigin)
    }

    fn proxied(&self, peer: Peer, headers: &Headers<'_>) -> Option<Visitor> {
        let (proxy, (name, secret)) = (self.proxy.as_ref()?, headers.proxied?);
        let is_peer = match (peer, proxy.peer) {
            (Peer::Local, None) => true,
            (Peer::Address(address), Some(proxy)) => address.to_canonical() == proxy,
            _ => false,
        };
        let is_name = !name.is_empty() && name.len() <= LONGEST_NAME && !name.chars().any(char::is_control);
        if !is_peer || !is_name || !proxy.secret.is_of(secret) {
            return None;
        }
        let user = self.users.iter().find(|user| user.name == name);
        let role = user.map_or(proxy.role, |user| user.role);
        Some(Visitor { name: Some(name.to_owned()), role, has_session: false })
    }

    fn in_session(&mut self, now: Instant, headers: &Headers<'_>) -> Option<Visitor> {
        let mut values = cookies(headers.cookie?, &self.cookie);
        values.find_map(|value| self.sessions.visitor(now, value, !headers.is_automatic))
    }

    /// The session of this header, for who asks about it later.
    pub(crate) fn session(&self, now: Instant, header: &str) -> Option<Hashed> {
        cookies(header, &self.cookie).map(Hashed::of).find(|session| self.sessions.is_open(now, session))
    }
}

/// The key of an `Authorization` header. Schemes are written in any letters (RFC 9110, 11.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, key) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key)
}

/// The values of the cookies of this name: another program of this host may have set one of its own, which is none of ours.
pub(crate) fn cookies<'a>(header: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let pairs = header.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOST: Option<&str> = Some("127.0.0.1:5555");
    const ORIGIN: Option<&str> = Some("http://127.0.0.1:5555");

    fn access(users: Vec<User>) -> Access {
        Access {
            hosts: Hosts::new(&["ops.example".to_owned()], None),
            key: Hashed::of("the-key"),
            users,
            proxy: None,
            sessions: Sessions::default(),
            cookie: "asynctask_5555".to_owned(),
        }
    }

    fn now() -> Instant {
        Instant::default() + Duration::from_secs(5)
    }

    const NEAR: Peer = Peer::Address(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    #[test]
    fn nobody_is_known_without_key_session_or_proxy() {
        let mut access = access(Vec::new());
        let mut asks = |headers: Headers<'_>, changes| access.admit(now(), NEAR, &headers, changes);
        let ours = Headers { host: HOST, ..Headers::default() };
        assert_eq!(asks(ours, false), Err(Denied::Unknown));
        assert_eq!(asks(Headers::default(), false), Err(Denied::Misdirected));
        assert_eq!(asks(Headers { host: Some("evil.example"), ..ours }, false), Err(Denied::Misdirected));
        for wrong in ["Bearer", "Bearer ", "Bearer the-key ", "Basic the-key", "bearer  the-key", "Bearer the-kex"] {
            assert_eq!(asks(Headers { authorization: Some(wrong), ..ours }, false), Err(Denied::Unknown), "{wrong}");
        }
        let key = Headers { authorization: Some("Bearer the-key"), ..ours };
        for key in [key, Headers { authorization: Some("bearer the-key"), ..ours }] {
            assert_eq!(asks(key, true), Ok(Visitor { name: None, role: Role::All, has_session: false }));
        }
        for wrong in ["asynctask_5555=", "asynctask_5555=x", "a=b", ";;=;"] {
            assert_eq!(asks(Headers { cookie: Some(wrong), ..ours }, false), Err(Denied::Unknown), "{wrong}");
        }
        let proxied = Headers { proxied: Some(("anna", "")), ..ours };
        assert_eq!(asks(proxied, false), Err(Denied::Unknown), "there is no proxy");
    }

    #[test]
    fn a_session_changes_only_from_its_own_origin() {
        let mut access = access(Vec::new());
        let visitor = Visitor { name: Some("anna".to_owned()), role: Role::Work, has_session: true };
        let value = access.sessions.open(now(), visitor.clone()).unwrap();
        let cookie = format!("theme=dark; asynctask_5555=; asynctask_5555=x; asynctask_5555={value}");
        let session = Headers { host: HOST, cookie: Some(&cookie), ..Headers::default() };
        assert_eq!(access.admit(now(), NEAR, &session, false), Ok(visitor.clone()));
        for foreign in [
            None,
            Some("null"),
            Some("http://127.0.0.1:5556"),
            Some("https://127.0.0.1:5555"),
            Some("http://evil.example"),
        ] {
            let headers = Headers { origin: foreign, ..session };
            assert_eq!(access.admit(now(), NEAR, &headers, true), Err(Denied::ForeignOrigin), "{foreign:?}");
        }
        assert_eq!(access.admit(now(), NEAR, &Headers { origin: ORIGIN, ..session }, true), Ok(visitor));
    }

    #[test]
    fn a_proxy_is_believed_from_its_address_with_its_secret_alone() {
        let user = User { name: "anna".to_owned(), password: None, role: Role::All };
        let mut access = access(vec![user]);
        let peer: IpAddr = "10.0.0.7".parse().unwrap();
        access.proxy = Some(Proxy { peer: Some(peer), secret: Hashed::of("shared"), role: Role::Look });
        let mut asks = |from, name, secret| {
            let headers = Headers { host: HOST, proxied: Some((name, secret)), ..Headers::default() };
            access.admit(now(), from, &headers, false)
        };
        let mapped: IpAddr = "::ffff:10.0.0.7".parse().unwrap();
        let known = |name: &str, role| Ok(Visitor { name: Some(name.to_owned()), role, has_session: false });
        assert_eq!(asks(Peer::Address(peer), "anna", "shared"), known("anna", Role::All));
        assert_eq!(asks(Peer::Address(mapped), "otto", "shared"), known("otto", Role::Look));
        for (from, name, secret) in [
            (NEAR, "anna", "shared"),
            (Peer::Local, "anna", "shared"),
            (Peer::Address(peer), "anna", "Shared"),
            (Peer::Address(peer), "", "shared"),
            (Peer::Address(peer), "a\nb", "shared"),
        ] {
            assert_eq!(asks(from, name, secret), Err(Denied::Unknown), "{from:?} {name} {secret}");
        }
    }
}
