//! The items that the crate promises, held against the list in `tests/public_api/items.txt`: a change of the public API is
//! seen in a review, and not only by users.
//!
//! The list is made from rustdoc's JSON. Its format changes with the toolchain; where it is another one than this test
//! reads, the test is left out and says so. Hidden items are no promise and not on the list; of what is passed on from a hidden module
//! the name alone stands there.

#[path = "../support/left_out.rs"]
mod left_out;

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use public_api::Builder;

/// The format of rustdoc's JSON that is read: that of Rust 1.95.
const FORMAT: u64 = 57;

/// Set to anything, it has the list written anew.
const RENEW: &str = "ASYNCTASK_RENEW";

#[test]
fn the_public_api_is_the_one_on_the_list() {
    let Some(json) = rustdoc_json() else { return };
    let api = Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .build()
        .expect("rustdoc's JSON is read");
    let items: Vec<String> = api.items().map(ToString::to_string).collect();
    let items = items.join("\n") + "\n";
    let list = folder().join("items.txt");
    if env::var_os(RENEW).is_some() {
        fs::write(&list, &items).expect("the list is written");
    }
    let listed = fs::read_to_string(&list).unwrap_or_default();
    let changes = changes(&listed, &items);
    assert!(
        changes.is_empty(),
        "the public API has changed (- listed, + found):\n{changes}If this is meant, say so in CHANGELOG.md and renew the \
         list: {RENEW}=1 cargo test --test public_api"
    );
}

#[test]
fn changes_are_told_line_by_line() {
    assert_eq!(changes("fn a()\nfn b()\n", "fn a()\nfn b()\n"), "");
    assert_eq!(changes("fn a()\nfn b()\n", "fn b(x: u8)\nfn a()\n"), "- fn b()\n+ fn b(x: u8)\n");
}

/// The lines of one text that the other has not.
fn changes(listed: &str, found: &str) -> String {
    let (old, new): (BTreeSet<&str>, BTreeSet<&str>) = (listed.lines().collect(), found.lines().collect());
    let gone = old.difference(&new).map(|line| format!("- {line}\n"));
    gone.chain(new.difference(&old).map(|line| format!("+ {line}\n"))).collect()
}

/// The library's documentation as JSON, made by the toolchain that built this test.
fn rustdoc_json() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target folder");
    // What cargo tells this test of itself would count as a change where a dependency's build looks at it.
    let of_this_test = env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name == "OUT_DIR" || ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|begin| name.starts_with(begin))
    });
    let mut cargo = Command::new(env!("CARGO"));
    for name in of_this_test {
        cargo.env_remove(name);
    }
    let output = cargo
        .args(["rustdoc", "--lib", "--offline", "--quiet", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .args(["--", "-Z", "unstable-options", "--output-format", "json"])
        .env("RUSTDOC", folder().join("rustdoc"))
        .env_remove("RUSTDOCFLAGS")
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json = target.join("doc/asynctask.json");
    let text = fs::read(&json).expect("rustdoc has written it");
    let text: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let format = text["format_version"].as_u64();
    if format != Some(FORMAT) {
        left_out::left_out(&format!("the public API: rustdoc's JSON has the format {format:?}, and {FORMAT} is read"));
        return None;
    }
    Some(json)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/public_api")
}
