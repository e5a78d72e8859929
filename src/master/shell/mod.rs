//! What the loop works with: worker processes, questions from outside, settings read again. Performs, never decides.

pub(super) mod deadlines;
pub(super) mod orphans;
pub(super) mod questions;
pub(super) mod reload_settings;
pub(super) mod stopped;
pub(super) mod views;
pub(super) mod workers;
