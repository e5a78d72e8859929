//! Reads and checks the section of the page.

use std::net::IpAddr;

use super::address::address;
use crate::config::{
    dashboard::{Dashboard, LONGEST_NAME, Listen, Proxy, Role, Secret, User, is_hash},
    reader::{Item, Section},
};

/// Keys of the section.
pub(super) const SECTION: &[&str] = &["listen", "url", "hosts", "users", "proxy", "hide", "history"];
/// Keys of a user.
pub(super) const USER: &[&str] = &["password", "role"];
/// Keys of the proxy.
pub(super) const PROXY: &[&str] = &["from", "user_header", "secret_header", "secret", "role"];

const ROLES: [(&str, Role); 3] = [("look", Role::Look), ("work", Role::Work), ("all", Role::All)];

/// The section, if it is there: then the master keeps the page's process.
pub(super) fn read(top: &Section<'_>) -> Option<Dashboard> {
    top.get("dashboard")?;
    let section = top.section("dashboard", SECTION);
    let default = Dashboard::default();
    let listen = section.get("listen").and_then(|item| listen(&item)).unwrap_or(default.listen);
    let proxy = section.get("proxy").and_then(|item| proxy(&item, &listen));
    let users = users(&section, proxy.is_some());
    if !listen.is_local() && users.is_empty() && proxy.is_none() {
        let hint = "users: { NAME: { password: HASH, role: look } }; `asynctask dashboard password` makes the hash";
        let item = section.get("listen");
        let what = "others can reach this address, and there are no users";
        if let Some(item) = item {
            item.problem(what, Some(hint.to_owned()));
        }
    }
    Some(Dashboard {
        listen,
        url: section.get("url").and_then(|item| url(&item)),
        hosts: texts(&section, "hosts", is_host, "a name of this machine, without a port"),
        users,
        proxy,
        hide: texts(&section, "hide", |text| text.len() <= 200, "a key, as password or card.*"),
        history: section.get("history").and_then(|item| Some(item.path(item.text()?))),
    })
}

fn listen(item: &Item<'_>) -> Option<Listen> {
    match item.text()?.strip_prefix("unix:") {
        Some("") => item.expected("unix: and the path of a socket"),
        Some(path) => Some(Listen::Unix(item.path(path))),
        None => address(item).map(Listen::Tcp),
    }
}

fn url(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    let authority = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let is_url = authority
        .map(|authority| authority.strip_suffix('/').unwrap_or(authority))
        .is_some_and(|authority| !authority.is_empty() && !authority.contains(['/', '@', '?', '#', ' ']));
    if is_url { Some(text.to_owned()) } else { item.expected("http:// or https:// and a name, with nothing behind it") }
}

fn is_host(text: &str) -> bool {
    text.len() <= 253 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

fn texts(section: &Section<'_>, key: &str, is_right: impl Fn(&str) -> bool, expected: &str) -> Vec<String> {
    let items = section.get(key).and_then(|item| item.list()).unwrap_or_default();
    let text = |item: Item<'_>| {
        let text = item.text()?;
        if is_right(text) { Some(text.to_owned()) } else { item.expected(expected) }
    };
    items.into_iter().filter_map(text).collect()
}

fn users(section: &Section<'_>, has_proxy: bool) -> Vec<User> {
    let Some(users) = section.get("users").and_then(|item| item.section()) else { return Vec::new() };
    let user = |(entry, item): (&crate::config::node::Entry, Item<'_>)| {
        if entry.key.is_empty() || entry.key.len() > LONGEST_NAME || entry.key.contains(char::is_control) {
            item.key_problem(format!("a user's name has at most {LONGEST_NAME} bytes and no control characters"), None);
        }
        let settings = item.section()?.only(USER);
        let role = settings.get("role").and_then(|item| item.choice(&ROLES)).unwrap_or(Role::Look);
        let password = settings.get("password");
        if password.is_none() && !has_proxy {
            let hint = "asynctask dashboard password".to_owned();
            item.key_problem("this user has no password", Some(hint));
        }
        let password = password.and_then(|item| {
            let hash = item.text()?;
            // It may be the password itself.
            item.report.hide_at(item.node.place, hash);
            if is_hash(hash) {
                return Some(Secret(hash.to_owned()));
            }
            item.problem(
                "expected a whole hash of argon2id",
                Some("`asynctask dashboard password` makes one".to_owned()),
            );
            None
        });
        Some(User { name: entry.key.clone(), password, role })
    };
    users.items().filter_map(user).collect()
}

fn proxy(item: &Item<'_>, listen: &Listen) -> Option<Proxy> {
    let section = item.section()?.only(PROXY);
    let from = section.get("from").and_then(|item| {
        let address = item.text()?.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        address.or_else(|| item.expected("the proxy's address, of numbers alone"))
    });
    if matches!(listen, Listen::Tcp(_)) && section.get("from").is_none() {
        item.key_problem("'from' says from which address the proxy comes", None);
    }
    let header = |key: &str, default: &str| {
        let name = section.get(key).and_then(|item| {
            let name = item.text()?;
            let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            if is_name { Some(name.to_ascii_lowercase()) } else { item.expected("the name of a header") }
        });
        name.unwrap_or_else(|| default.to_owned())
    };
    let secret = section.get("secret").and_then(|item| {
        let secret = item.text()?;
        item.report.hide_at(item.node.place, secret);
        if secret.len() >= 16 {
            return Some(Secret(secret.to_owned()));
        }
        item.problem("a secret has at least 16 bytes", None);
        None
    });
    if section.get("secret").is_none() {
        item.key_problem("'secret' is what the proxy sends to show that it is the proxy", None);
    }
    Some(Proxy {
        from,
        user_header: header("user_header", "x-forwarded-user"),
        secret_header: header("secret_header", "x-asynctask-secret"),
        secret: secret?,
        role: section.get("role").and_then(|item| item.choice(&ROLES)).unwrap_or(Role::Look),
    })
}
