//! Suggests the known word that a mistyped one was probably meant to be.

/// The nearest of `known` to what was written, if it is near enough to be worth saying.
pub(crate) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |word: &str| word.to_lowercase().replace(['-', ' '], "_");
    let written: String = plain(written).chars().take(64).collect();
    // Insertions, deletions, changes and swaps of neighbours.
    let near = known.into_iter().map(|word| (strsim::osa_distance(&written, &plain(word)), word));
    let (distance, word) = near.min_by_key(|(distance, _)| *distance)?;
    let length = written.chars().count();
    let bearable = (length.min(word.len()) / 3).max(1);
    // Of a short word little is left after one change: `a` is not near to `b`.
    (distance <= bearable && distance < word.len().min(length).max(1)).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_near() {
        let known = ["processes", "concurrency", "retry", "acks", "timeout"];
        for (written, meant) in [
            ("procesess", Some("processes")),
            ("Processes", Some("processes")),
            ("retyr", Some("retry")),
            ("ack", Some("acks")),
            ("time-out", Some("timeout")),
            ("banana", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, known), meant, "{written}");
        }
        assert_eq!(nearest("max_memroy", ["max_tasks", "max_memory", "max_age"]), Some("max_memory"));
    }
}
