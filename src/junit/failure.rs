//! What is said of a task that failed.

use super::xml::Verdict;
use crate::task::Reason;

/// The texts of a failure in the report.
#[derive(Debug)]
pub(super) struct FailureTexts {
    pub(super) reason: Reason,
    pub(super) message: String,
    pub(super) text: String,
}

impl FailureTexts {
    pub(super) fn verdict(&self) -> Verdict<'_> {
        Verdict::Failure { kind: self.reason.as_str(), message: &self.message, text: &self.text }
    }
}
