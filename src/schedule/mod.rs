//! Schedules: what is done by the calendar.
pub mod cron;
