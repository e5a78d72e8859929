//! Reads and checks the options of a kind with which its program is executed. Users and groups are looked up here: an unknown one is a
//! mistake with a place in the file, and starting a program never looks anything up.

use nix::errno::Errno;

use super::accounts;
use crate::{
    config::{
        reader::{Item, Section},
        types::Mode,
    },
    exec_options::{self, ExecOptions, Limits},
};

pub(super) const LIMITS: &[&str] = &["memory", "cpu", "files"];

/// What a program of another user is passed on of the master's environment by default: PATH, which is passed on always,
/// and what says how text and times are written (locale(7)). Nothing of it is a secret.
const PASSED: [&str; 16] = [
    "LANG",
    "LANGUAGE",
    "LC_ADDRESS",
    "LC_ALL",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_IDENTIFICATION",
    "LC_MEASUREMENT",
    "LC_MESSAGES",
    "LC_MONETARY",
    "LC_NAME",
    "LC_NUMERIC",
    "LC_PAPER",
    "LC_TELEPHONE",
    "LC_TIME",
    "TZ",
];

/// Reads the options of a kind.
pub(super) fn read(section: &Section<'_>, mode: Mode) -> ExecOptions {
    let limits = section.section("limits", LIMITS);
    let user = section.get("user").and_then(|item| user(&item));
    let group = section.get("group").and_then(|item| group(&item));
    ExecOptions {
        groups: groups(section, user.as_ref(), group.as_ref()),
        user,
        group,
        umask: section.get("umask").and_then(|item| umask(&item)),
        nice: section.get("nice").and_then(|item| whole_number(&item, -20, 19)),
        oom_score_adj: section.get("oom_score_adj").and_then(|item| whole_number(&item, -1000, 1000)),
        no_new_privs: section.get("no_new_privs").and_then(|item| item.boolean()).unwrap_or(true),
        limits: Limits {
            memory: limits.get("memory").and_then(|item| item.size()),
            cpu: limits.get("cpu").and_then(|item| item.duration()),
            files: limits.get("files").and_then(|item| item.integer(1, 1 << 20)).map(u64::from),
        },
        pass_env: passed(section),
        payload_in_file: in_file(section, mode),
    }
}

fn user(item: &Item<'_>) -> Option<exec_options::User> {
    let Some(name) = item.word() else { return item.expected("a user's name or number") };
    found(item, "user", accounts::user(&name))
}

fn group(item: &Item<'_>) -> Option<(String, u32)> {
    let Some(name) = item.word() else { return item.expected("a group's name or number") };
    found(item, "group", accounts::group(&name))
}

fn found<T>(item: &Item<'_>, what: &str, found: Result<Option<T>, Errno>) -> Option<T> {
    match found {
        Ok(Some(found)) => return Some(found),
        Ok(None) => item.problem(format!("there is no {what} {} on this system", item.shown()), None),
        Err(error) => {
            let hint = "the system's databases of users do not answer: see /etc/nsswitch.conf".to_owned();
            item.problem(format!("cannot look up the {what} {}: {}", item.shown(), error.desc()), Some(hint));
        }
    }
    None
}

fn groups(section: &Section<'_>, user: Option<&exec_options::User>, group: Option<&(String, u32)>) -> Vec<u32> {
    let group = group.map(|(_, number)| *number);
    let Some(user) = user else { return group.into_iter().collect() };
    accounts::groups(user, group.unwrap_or(user.group)).unwrap_or_else(|error| {
        if let Some(item) = section.get("user") {
            item.problem(format!("cannot look up the groups of {}: {}", item.shown(), error.desc()), None);
        }
        Vec::new()
    })
}

/// As it was written: 027 is octal for everybody but YAML.
fn umask(item: &Item<'_>) -> Option<u32> {
    let text = item.word().unwrap_or_default();
    let digits = text.strip_prefix("0o").unwrap_or(&text);
    let mask = u32::from_str_radix(digits, 8).ok().filter(|mask| *mask <= 0o777 && digits.len() >= 3);
    mask.or_else(|| item.expected("three or four octal digits such as 027"))
}

fn whole_number(item: &Item<'_>, least: i32, most: i32) -> Option<i32> {
    let number = item.word().and_then(|text| text.trim().parse().ok());
    let number = number.filter(|number| (least..=most).contains(number));
    number.or_else(|| item.expected(&format!("a whole number from {least} to {most}")))
}

/// Of the master's environment, if not all of it is passed on. The environment of a privileged master is not for the
/// programs of other users, unless somebody says so.
fn passed(section: &Section<'_>) -> Option<Vec<String>> {
    let of_other = section.get("user").is_some();
    let clear = section.get("clear_env").and_then(|item| item.boolean()).unwrap_or(of_other);
    let Some(item) = section.get("pass_env") else {
        let by_default = if of_other { &PASSED[..] } else { &[] };
        return clear.then(|| by_default.iter().map(ToString::to_string).collect());
    };
    if !clear {
        item.key_problem("all variables are passed on", Some("clear_env: true passes on these alone".to_owned()));
    }
    let is_name = |name: &String| !name.is_empty() && !name.contains(['=', '\0']);
    let name =
        |item: &Item<'_>| item.word().filter(is_name).or_else(|| item.expected("the name of an environment variable"));
    Some(item.list()?.iter().filter_map(name).collect())
}

fn in_file(section: &Section<'_>, mode: Mode) -> bool {
    let Some(item) = section.get("input") else { return false };
    if mode != Mode::Once {
        item.key_problem("is for kinds with mode: once; others get their payloads in frames", None);
    }
    item.choice(&[("stdin", false), ("file", true)]).unwrap_or(false)
}
