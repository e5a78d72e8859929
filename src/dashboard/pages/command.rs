//! Commands as they are typed, beside each page that shows the same. Pure.

use crate::{dashboard::shown, shell_words};

/// Bytes of a command.
const LONGEST: usize = 1024;

/// A command with options that have a value, and with words that are never taken for options: whoever made a task chose its id.
pub(crate) fn typed(beginning: &str, options: &[(&str, Option<&str>)], words: &[&str]) -> String {
    let mut command = beginning.to_owned();
    for (name, value) in options {
        let Some(value) = value else { continue };
        let between = if value.starts_with('-') { '=' } else { ' ' };
        command.extend([" --", name, between.encode_utf8(&mut [0; 4]), &shell_words::as_word(value)]);
    }
    if words.iter().any(|word| word.starts_with('-')) {
        command.push_str(" --");
    }
    for word in words {
        command.extend([" ", &shell_words::as_word(word)]);
    }
    shown::line(&command, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_no_option_and_no_command_of_a_shell() {
        assert_eq!(typed("asynctask failed show", &[], &["foo", "a b"]), "asynctask failed show foo 'a b'");
        assert_eq!(typed("failed show", &[], &["foo", "--all"]), "failed show -- foo --all");
        assert_eq!(typed("failed show", &[], &["$(reboot)", "x;y"]), "failed show '$(reboot)' 'x;y'");
        assert_eq!(
            typed("failed list", &[("reason", Some("a&b")), ("fingerprint", None), ("kind", Some("-x"))], &["foo"]),
            "failed list --reason 'a&b' --kind=-x foo"
        );
    }
}
