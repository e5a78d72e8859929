//! The file: how it is opened and written, what lies in it, and how it stays small and sound.

pub(super) mod access;
pub(super) mod clock_offset;
pub(super) mod columns;
pub(super) mod database;
pub(super) mod error;
pub(super) mod housekeeping;
pub(super) mod lock_wait;
mod no_room;
pub(super) mod paths;
pub(super) mod schema;
