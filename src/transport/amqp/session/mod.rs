//! The actor and its sessions.
#![doc = include_str!("LIFECYCLE.md")]

pub(super) mod actor;
pub(super) mod connections;
pub(super) mod lifecycle;
pub(super) mod local_turns;
pub(super) mod membership;
pub(super) mod note;
pub(super) mod pauses;
pub(super) mod reply_guard;
pub(super) mod requests;
pub(super) mod shared;
pub(super) mod state;
pub(super) mod unavailable;
pub(super) mod up;
