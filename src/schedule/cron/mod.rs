//! The fields of a schedule and the moments they name. Pure: time is an argument.
//!
//! The fields mean exactly what they mean to the `cron` trigger of `APScheduler` 3, which files of older systems are written for: Monday is
//! 0, `week` is the ISO week, `day` and `day_of_week` must both match, fields below the least significant one
//! given take their minimum and all others are `*`.
//!
//! Where local time jumps, the rules are those of Vixie cron, so that nothing is skipped and nothing daily runs
//! twice: a time that the clock leaps over in spring runs once, as much later as the clock leapt; a time that
//! occurs twice in autumn runs at the first occurrence, unless hour, minute or second is written with `*`: such
//! a schedule means "every so often" and runs through.
//!
//! ```text
//! fields ─┬─ bounds ────────────────────────────────┐
//!         └─ expression ── calendar ── crontab ─────┴─ trigger
//! ```

mod bounds;
mod calendar;
mod crontab;
mod expression;
mod fields;
mod trigger;

pub(super) use self::bounds::Bounds;
pub use self::{
    fields::{FieldError, Fields},
    trigger::Cron,
};
