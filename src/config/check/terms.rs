//! The terms on which a program runs. Users and groups are looked up here, so that an unknown one is a mistake with a
//! place.

use nix::unistd::{Gid, Group, Uid, User};

use super::super::{
    Mode,
    reader::{Item, Section},
};
use crate::terms::{self, Limits, Terms};

pub(super) const LIMITS: &[&str] = &["memory", "cpu", "files"];

/// Reads the terms of a kind.
pub(super) fn read(section: &Section<'_>, mode: Mode) -> Terms {
    let limits = section.section("limits", LIMITS);
    Terms {
        user: section.get("user").and_then(|item| user(&item)),
        group: section.get("group").and_then(|item| group(&item)),
        umask: section.get("umask").and_then(|item| umask(&item)),
        nice: section.get("nice").and_then(|item| nice(&item)),
        limits: Limits {
            memory: limits.get("memory").and_then(|item| item.size()),
            cpu: limits.get("cpu").and_then(|item| item.duration()),
            files: limits.get("files").and_then(|item| item.integer(1, 1 << 20)).map(u64::from),
        },
        pass_env: passed(section),
        payload_in_file: in_file(section, mode),
    }
}

fn user(item: &Item<'_>) -> Option<terms::User> {
    let Some(name) = item.word() else { return item.expected("a user's name or number") };
    let number = name.parse().ok();
    let found = number.map_or_else(|| User::from_name(&name), |number| User::from_uid(Uid::from_raw(number)));
    if let Ok(Some(user)) = found {
        return Some(terms::User { name: user.name, id: user.uid.as_raw(), group: user.gid.as_raw(), home: user.dir });
    }
    // In containers numbers that nobody has a name for are the rule. -1 means "as it is" to the kernel.
    if let Some(id) = number.filter(|number| *number != u32::MAX) {
        return Some(terms::User { name, id, group: id, home: "/".into() });
    }
    item.problem(format!("there is no user {} on this system", item.shown()), None);
    None
}

fn group(item: &Item<'_>) -> Option<(String, u32)> {
    let Some(name) = item.word() else { return item.expected("a group's name or number") };
    let number = name.parse().ok();
    let found = number.map_or_else(|| Group::from_name(&name), |number| Group::from_gid(Gid::from_raw(number)));
    if let Ok(Some(group)) = found {
        return Some((group.name, group.gid.as_raw()));
    }
    if let Some(number) = number.filter(|number| *number != u32::MAX) {
        return Some((name, number));
    }
    item.problem(format!("there is no group {} on this system", item.shown()), None);
    None
}

/// As it was written: 027 is octal for everybody but YAML.
fn umask(item: &Item<'_>) -> Option<u32> {
    let text = item.word().unwrap_or_default();
    let digits = text.strip_prefix("0o").unwrap_or(&text);
    let mask = u32::from_str_radix(digits, 8).ok().filter(|mask| *mask <= 0o777 && digits.len() >= 3);
    mask.or_else(|| item.expected("three or four octal digits such as 027"))
}

fn nice(item: &Item<'_>) -> Option<i32> {
    let nice = item.word().and_then(|text| text.trim().parse().ok());
    nice.filter(|nice| (-20..=19).contains(nice)).or_else(|| item.expected("a whole number from -20 to 19"))
}

/// Of the master's environment, if not all of it is passed on.
fn passed(section: &Section<'_>) -> Option<Vec<String>> {
    let clear = section.get("clear_env").and_then(|item| item.boolean()).unwrap_or(false);
    let Some(item) = section.get("pass_env") else { return clear.then(Vec::new) };
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
