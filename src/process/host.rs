//! The name of the machine, as the status and dead letters give it to people. Nothing is decided by it: it may be empty, and two
//! machines may have the same.

/// The name of this host; empty where it has none that is text.
#[must_use]
pub fn host() -> String {
    nix::unistd::gethostname().map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned())
}
