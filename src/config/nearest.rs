//! The word that was probably meant.

/// The nearest of `known` to what was written, if it is near enough to be worth saying.
pub(crate) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |word: &str| word.to_lowercase().replace(['-', ' '], "_");
    let written: Vec<char> = plain(written).chars().take(64).collect();
    let near = known.into_iter().map(|word| (distance(&written, &plain(word).chars().collect::<Vec<_>>()), word));
    let (distance, word) = near.min_by_key(|(distance, _)| *distance)?;
    let bearable = (written.len().min(word.len()) / 3).max(1);
    // Of a short word little is left after one change: `a` is not near to `b`.
    (distance <= bearable && distance < word.len().min(written.len()).max(1)).then_some(word)
}

/// Insertions, deletions, changes and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, right) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(left != right)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *left == b[j - 1] && a[i - 1] == *right {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
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
