//! Counts with their nouns, for log lines and tables.

use std::fmt::Display;

/// `1 task`, `2 tasks`, `2 dead letters`, `2 processes`.
pub(crate) fn counted<N: Copy + Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    let ending = match noun {
        _ if count == N::from(1) => "",
        noun if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{count} {noun}{ending}")
}

/// [`counted`] with the verb: `1 task was`, `2 tasks were`.
pub(crate) fn were<N: Copy + Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    let verb = if count == N::from(1) { "was" } else { "were" };
    format!("{} {verb}", counted(count, noun))
}

/// [`counted`] with the verb: `1 task is`, `2 tasks are`.
pub(crate) fn are<N: Copy + Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    let verb = if count == N::from(1) { "is" } else { "are" };
    format!("{} {verb}", counted(count, noun))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one() {
        assert_eq!(counted(0_u64, "task"), "0 tasks");
        assert_eq!(counted(1_usize, "dead letter"), "1 dead letter");
        assert_eq!(counted(2_u32, "process"), "2 processes");
        assert_eq!(were(1_u64, "task"), "1 task was");
        assert_eq!(are(3_u64, "task"), "3 tasks are");
    }
}
