//! The names of the configured queues: another name that a task is submitted to may be mistyped.

use super::types::Config;
use crate::suggest::nearest;

/// The names of queues that are made for schedules begin so; they are not typed.
const SCHEDULED: &str = "scheduled_0_";

/// The names of the configured queues, those that are disabled included: they are worked elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(Vec<String>);

impl Names {
    /// If no configured queue has this name, though some are configured: that, and the name that was probably meant.
    #[must_use]
    pub fn unknown(&self, name: &str) -> Option<String> {
        if self.0.is_empty() || name.starts_with(SCHEDULED) || self.0.iter().any(|known| known == name) {
            return None;
        }
        let meant = nearest(name, self.0.iter().map(String::as_str));
        let meant = meant.map(|meant| format!("; did you mean \"{meant}\"?")).unwrap_or_default();
        Some(format!("no configured queue is named \"{name}\"{meant}"))
    }
}

impl Config {
    /// The names that a task can be submitted to so that a master works it, as far as these settings know.
    #[must_use]
    pub fn known_queues(&self) -> Names {
        let names = self.queues.iter().map(|queue| &queue.name).chain(&self.disabled);
        Names(names.filter(|name| !name.starts_with(SCHEDULED)).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn only_a_name_beside_known_ones_is_unknown() {
        let names = Names(vec!["thumbnails".to_owned(), "exports".to_owned()]);
        assert_eq!(names.unknown("thumbnails"), None);
        assert_eq!(names.unknown("scheduled_0_foo"), None);
        let told = names.unknown("tumbnails").unwrap();
        assert_eq!(told, r#"no configured queue is named "tumbnails"; did you mean "thumbnails"?"#);
        assert_eq!(names.unknown("zebra").unwrap(), r#"no configured queue is named "zebra""#);
        assert_eq!(Names::default().unknown("tumbnails"), None);
    }
}
