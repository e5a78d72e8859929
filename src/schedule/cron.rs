//! The fields of a schedule and the moments they name. Pure.
/// stub
#[derive(Clone, Debug, PartialEq)]
pub struct Cron;
