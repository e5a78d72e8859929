//! Reads, merges and checks the settings; all problems are reported at once.

use super::{check, file::Sources, problem::Problems, report::Report, types::Config};

/// Reads, merges and checks all settings.
///
/// # Errors
/// Everything that is wrong with them, at once.
pub fn load(sources: &Sources) -> Result<Config, Problems> {
    checked(sources, false)
}

/// [`load`] for commands that fire schedules, or show when they fire: a system's time zone that is not known is wrong, too, if
/// a schedule depends on it.
///
/// # Errors
/// Everything that is wrong with them, at once.
pub fn load_to_fire(sources: &Sources) -> Result<Config, Problems> {
    checked(sources, true)
}

fn checked(sources: &Sources, fires: bool) -> Result<Config, Problems> {
    let mut report = Report::default();
    let typed = sources.read(&mut report);
    let config = check::check(sources, typed, &report, fires);
    let problems = report.finish();
    if problems.is_empty() { Ok(config) } else { Err(Problems(problems)) }
}
