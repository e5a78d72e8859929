//! The name of the machine.

/// The name of this host; empty where it has none that is text.
#[must_use]
pub fn host() -> String {
    nix::unistd::gethostname().map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned())
}
