//! The worker kinds of one program, by name, and the name of that program.
//!
//! The command line and the drain look kinds up here. Never a kind that is a program of its own: those are settings.

use std::{collections::BTreeMap, ffi::OsString, process::ExitCode};

use super::{Kind, ctl, serve};
use crate::task::is_queue_name;

/// The hidden subcommand by which the master starts a worker: `__worker KIND QUEUE`.
pub const WORKER: &str = "__worker";

/// A program's name and its worker kinds.
#[derive(Debug)]
pub struct Registry {
    name: String,
    kinds: BTreeMap<String, Kind>,
}

impl Registry {
    /// A registry with the built-in kind `ctl_executor`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let ctl_executor = Kind::worker(ctl::CtlExecutorWorker::from_environment);
        Self { name: name.into(), kinds: BTreeMap::from([(ctl::KIND.to_owned(), ctl_executor)]) }
    }

    /// Adds a kind.
    ///
    /// # Panics
    /// If the name is taken, or cannot be part of a queue's name.
    #[track_caller]
    pub fn register(&mut self, name: String, kind: Kind) {
        assert!(is_queue_name(&name), "\"{name}\" cannot be the name of a worker kind");
        assert!(!self.kinds.contains_key(&name), "the worker kind \"{name}\" is registered twice");
        self.kinds.insert(name, kind);
    }

    /// Has a registered kind get the properties of messages.
    ///
    /// # Panics
    /// If there is no such kind.
    #[track_caller]
    pub fn want_properties(&mut self, kind: &str) {
        let Some(registered) = self.kinds.get_mut(kind) else {
            panic!("there is no worker kind \"{kind}\" to be told properties");
        };
        registered.want_properties();
    }

    /// The program's name, which is also the application's default name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kinds by name.
    #[must_use]
    pub const fn kinds(&self) -> &BTreeMap<String, Kind> {
        &self.kinds
    }

    /// Runs this process as a worker of a kind, to its end. `kind`: the argument after [`WORKER`].
    #[must_use]
    pub fn serve(&self, kind: Option<&OsString>) -> ExitCode {
        let name = kind.map(|kind| kind.to_string_lossy()).unwrap_or_default();
        if let Some(kind) = self.kinds.get(&*name) {
            return serve(&name, kind);
        }
        eprintln!("error: {} has no worker kind \"{name}\"", self.name);
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::{Context, Outcome, TaskResult};

    #[expect(clippy::unnecessary_wraps, reason = "the shape of a worker's function")]
    fn nothing(_: (), _: &Context) -> TaskResult {
        Ok(Outcome::Done)
    }

    fn with(names: &[&str]) -> Registry {
        let mut registry = Registry::new("images");
        for name in names {
            registry.register((*name).to_owned(), Kind::worker_fn(nothing));
        }
        registry
    }

    #[test]
    fn kinds_are_known_by_name_and_the_built_in_one_is_there() {
        let mut registry = with(&["b", "a"]);
        assert_eq!(registry.kinds().keys().collect::<Vec<_>>(), ["a", "b", ctl::KIND]);
        assert_eq!(registry.kinds()[ctl::KIND].shown_as(ctl::KIND), "CtlExecutorWorker");
        assert_eq!(registry.kinds()["a"].shown_as("a"), "a");
        registry.want_properties("a");
        assert!(registry.kinds()["a"].wants_properties() && !registry.kinds()["b"].wants_properties());
    }

    #[test]
    #[should_panic(expected = "there is no worker kind \"b\"")]
    fn properties_are_told_to_kinds_that_are_there() {
        with(&["a"]).want_properties("b");
    }

    #[test]
    #[should_panic(expected = "registered twice")]
    fn a_name_is_given_once() {
        with(&["a", "a"]);
    }
}
