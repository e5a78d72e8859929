//! Patterns for names of nodes, as Python's `fnmatch` reads them: `*`, `?`, `[abc]`, `[a-z]`, `[!abc]`. Pure.
//!
//! The work is bounded by the product of both lengths: anyone may send a pattern.

/// Whether all of `text` matches.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut read) = (0, 0);
    // Where the last `*` stands, and how much of the text it has taken.
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        match one(&pattern[at..], text[read]) {
            Some(Match::Star) => {
                star = Some((at, read));
                at += 1;
            }
            Some(Match::Sign { length }) => {
                at += length;
                read += 1;
            }
            None => {
                let Some((place, taken)) = &mut star else { return false };
                *taken += 1;
                (at, read) = (*place + 1, *taken);
            }
        }
    }
    pattern[at..].iter().all(|sign| *sign == '*')
}

enum Match {
    Star,
    Sign {
        /// Of the pattern for it.
        length: usize,
    },
}

/// Whether the pattern begins with something that this sign matches.
fn one(pattern: &[char], sign: char) -> Option<Match> {
    match pattern.first()? {
        '*' => Some(Match::Star),
        '?' => Some(Match::Sign { length: 1 }),
        '[' => match set(pattern) {
            Some((signs, inverted, length)) => (holds(signs, sign) != inverted).then_some(Match::Sign { length }),
            None => (sign == '[').then_some(Match::Sign { length: 1 }),
        },
        other => (*other == sign).then_some(Match::Sign { length: 1 }),
    }
}

/// The signs of a set, whether it is inverted, and its length with brackets. One that does not end is none.
fn set(pattern: &[char]) -> Option<(&[char], bool, usize)> {
    let inverted = pattern.get(1) == Some(&'!');
    let begin = if inverted { 2 } else { 1 };
    // A bracket that stands first is one of the signs.
    let end = begin + 1 + pattern.get(begin + 1..)?.iter().position(|sign| *sign == ']')?;
    Some((&pattern[begin..end], inverted, end + 1))
}

fn holds(signs: &[char], sign: char) -> bool {
    let mut at = 0;
    while let Some(first) = signs.get(at) {
        if let (Some('-'), Some(last)) = (signs.get(at + 1), signs.get(at + 2)) {
            if (*first..=*last).contains(&sign) {
                return true;
            }
            at += 3;
        } else {
            if *first == sign {
                return true;
            }
            at += 1;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_python() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "asynctask@vm"),
            ("asynctask@*", "asynctask@vm"),
            ("*@vm", "asynctask@vm"),
            ("a*c*@v?", "asynctask@vm"),
            ("w[0-9]@h", "w7@h"),
            ("w[!a-c]@h", "wd@h"),
            ("w[]x]@h", "w]@h"),
            ("w[a-]@h", "w-@h"),
            ("w[@h", "w[@h"),
            ("", ""),
            ("ä?", "äö"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("asynctask", "asynctask@vm"),
            ("*@other", "asynctask@vm"),
            ("w[0-9]@h", "wx@h"),
            ("w[!a-c]@h", "wb@h"),
            ("?", ""),
            ("W1@h", "w1@h"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_bad_pattern_costs_little() {
        assert!(!matches(&format!("{}b", "*a".repeat(2000)), &"a".repeat(2000)));
    }
}
