//! Arguments as clap is to read them: options spelled with `_`, and `health --wait` without a time.

use std::ffi::OsString;

use clap::CommandFactory;

use super::{args::Cli, control_args::HEALTH_WAIT};

/// The arguments in the spelling of the definitions; the program's name first.
pub(super) fn normalized(arguments: &[OsString]) -> Vec<OsString> {
    with_times(with_hyphens(arguments))
}

/// Options spelled with `_` work as with `-`; values are left alone.
fn with_hyphens(arguments: &[OsString]) -> Vec<OsString> {
    let mut options = true;
    let respell = |argument: &OsString| {
        options &= argument != "--";
        match argument.to_str() {
            Some(text) if options && text.starts_with("--") => {
                let (name, value) = text.split_at(text.find('=').unwrap_or(text.len()));
                OsString::from(name.replace('_', "-") + value)
            }
            _ => argument.clone(),
        }
    };
    arguments.iter().map(respell).collect()
}

/// `health --wait` takes a time or none; what follows it is one unless it is an option. A time below zero is none, but meant
/// as one.
fn with_times(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let Some(verb) = verb_of(&arguments).filter(|verb| arguments[*verb] == "health") else { return arguments };
    let is_option = |argument: &OsString| {
        let rest = argument.as_encoded_bytes().strip_prefix(b"-");
        rest.and_then(|rest| rest.first()).is_some_and(|next| !next.is_ascii_digit() && *next != b'.')
    };
    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    for at in verb + 1..end {
        if arguments[at] == "--wait" && arguments.get(at + 1).is_some_and(is_option) {
            arguments[at].push(format!("={HEALTH_WAIT}"));
        }
    }
    arguments
}

/// Where the verb is: the first that is neither an option nor the value of one.
fn verb_of(arguments: &[OsString]) -> Option<usize> {
    let cli = Cli::command();
    // All options before the verb take a value.
    let takes_next = |argument: &OsString| {
        cli.get_arguments().any(|option| {
            let (long, short) = (option.get_long(), option.get_short());
            long.is_some_and(|long| *argument == *format!("--{long}"))
                || short.is_some_and(|short| *argument == *format!("-{short}"))
        })
    };
    let mut at = 1;
    while arguments.get(at)?.as_encoded_bytes().starts_with(b"-") {
        at += if takes_next(&arguments[at]) { 2 } else { 1 };
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_alone_waits_without_a_time() {
        let spelled = |line: &str| {
            let words = with_times(line.split(' ').map(OsString::from).collect());
            words.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        for (typed, meant) in [
            ("asynctask health --wait --json", "asynctask health --wait=30s --json"),
            (
                "asynctask -c a.yaml --set x=1 health --wait -c b",
                "asynctask -c a.yaml --set x=1 health --wait=30s -c b",
            ),
            (
                "asynctask --set=x=1 -ca.yaml health --wait --json",
                "asynctask --set=x=1 -ca.yaml health --wait=30s --json",
            ),
        ] {
            assert_eq!(spelled(typed), meant);
        }
        for as_it_is in [
            "asynctask health --wait -5s",
            "asynctask health --wait 5s --json",
            "asynctask health -- --wait --json",
            "asynctask submit health --wait --json",
            "asynctask -c health submit foo --wait --json",
            "asynctask control reload --wait --json --socket health",
            "asynctask",
            "asynctask -c",
        ] {
            assert_eq!(spelled(as_it_is), as_it_is);
        }
    }
}
