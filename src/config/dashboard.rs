//! The settings of the page.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use argon2::{Params, password_hash::phc::PasswordHash};

/// Bytes of a hash: argon2's default. One that was cut somewhere is shorter.
const SHORTEST_HASH: usize = 32;
/// Memory that one check may take, in KiB.
const LARGEST_HASH_KIB: u32 = 256 * 1024;
/// What it may write in all its passes, in KiB: seconds of work, while others wait.
const LONGEST_HASH_KIB: u32 = 2 * 1024 * 1024;
/// Bytes of a user's name, at most.
pub(crate) const LONGEST_NAME: usize = 100;

/// Whether a text is the hash of a password, whole, as `asynctask dashboard password` prints it.
pub(crate) fn is_hash(text: &str) -> bool {
    PasswordHash::new(text).is_ok_and(|hash| {
        hash.algorithm.as_str() == "argon2id"
            && hash.salt.is_some()
            && hash.hash.is_some_and(|hash| hash.len() >= SHORTEST_HASH)
            && Params::try_from(&hash).is_ok_and(|params| {
                params.m_cost() <= LARGEST_HASH_KIB
                    && params.m_cost().saturating_mul(params.t_cost()) <= LONGEST_HASH_KIB
            })
    })
}

/// A text that no log and no error shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Where the page listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address of the network.
    Tcp(SocketAddr),
    /// A Unix socket, which only its owner can open.
    Unix(PathBuf),
}

impl Listen {
    /// The address that is used where none is named: of this machine alone.
    pub const DEFAULT: Self = Self::Tcp(SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5555));

    /// Whether only this machine reaches it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What somebody may do. The page has no actions yet: whoever is known may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// See everything.
    Look,
    /// Also what can be undone: pause, retry, scale, restart, cancel, run now.
    Work,
    /// Also what cannot: purge.
    All,
}

impl Role {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Look, Self::Work, Self::All];

    /// The word of the settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Work => "work",
            Self::All => "all",
        }
    }
}

/// Somebody who may log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Their name.
    pub name: String,
    /// The hash of their password (`asynctask dashboard password`); `None`: the proxy says who they are.
    pub password: Option<Secret>,
    /// What they may do.
    pub role: Role,
}

/// A proxy that says who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Its address; `None`: it comes by the Unix socket.
    pub from: Option<IpAddr>,
    /// The header with the user's name.
    pub user_header: String,
    /// The header with the secret.
    pub secret_header: String,
    /// The secret that it shares with us.
    pub secret: Secret,
    /// What users may do who are not named in the settings.
    pub role: Role,
}

/// The settings of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dashboard {
    /// Where it listens.
    pub listen: Listen,
    /// The address under which people open it, where a proxy stands before it.
    pub url: Option<String>,
    /// Names of this machine under which it may be asked for, beside addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Who may log in; without any, whoever has the key.
    pub users: Vec<User>,
    /// A proxy that says who asks.
    pub proxy: Option<Proxy>,
    /// Keys of payloads whose values are not shown, with `*` for anything.
    pub hide: Vec<String>,
    /// The file of what ended; `None`: beside the control socket.
    pub history: Option<PathBuf>,
}

impl Default for Dashboard {
    fn default() -> Self {
        Self {
            listen: Listen::DEFAULT,
            url: None,
            hosts: Vec::new(),
            users: Vec::new(),
            proxy: None,
            hide: Vec::new(),
            history: None,
        }
    }
}
