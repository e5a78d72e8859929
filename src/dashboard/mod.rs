//! The page: what a person sees of a running master, in a browser.
//!
//! It is a process of its own, beside the master: killed, stuck or out of memory, it changes nothing for the work.
//!
//! ```text
//! office ── once a second ──> the master's control socket        what is known now, series for charts
//!    └── what ended ──> history: a file of the page's own
//! dead_letters ── when somebody looks ──> the transport          the page's own handle of it
//! browser ── server ── access (who may) ── routes ── pages (server-drawn) · api (JSON) · stream (numbers that change)
//! ```
//!
//! Nothing here decides about tasks. What is shown is text: templates escape it, and the script puts it where text goes.

pub(crate) mod access;
pub(crate) mod answer;
pub(crate) mod assets;
mod connections;
pub(crate) mod dead_letters;
pub(crate) mod history;
pub(crate) mod large_answers;
pub(crate) mod live;
pub(crate) mod login;
pub(crate) mod mask;
pub(crate) mod numbers;
pub(crate) mod office;
pub(crate) mod page;
pub(crate) mod pages;
pub(crate) mod routes;
pub(crate) mod series;
pub(crate) mod server;
pub(crate) mod shown;
mod socket_file;
pub(crate) mod stream;
pub(crate) mod words;
