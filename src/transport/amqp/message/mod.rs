//! One message: its headers and properties as a task or a dead letter, and back.

pub(super) mod celery;
pub(super) mod dead_letter;
pub(super) mod headers;
mod memo;
pub(super) mod moments;
pub(crate) mod place;
pub(super) mod properties;
mod sending;
