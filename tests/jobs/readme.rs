//! The two steps of the README: its files are written, what it says that one types is typed, and what it says that one sees is seen.

use super::example::{repository, type_in};

const HEADING: &str = "### Two steps, one of which is killed\n";
/// What only looks is asked again, until what was begun before has come so far; and a process is killed once it is there.
const LOOKS: &[&str] = &["asynctask jobs list", "asynctask jobs show", "kill "];

/// Blocks of this language whose first line is `# NAME`: name and text.
fn files<'a>(section: &'a str, language: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let blocks = section.split("```").skip(1).step_by(2);
    let blocks: Vec<&str> = blocks.filter_map(|block| block.strip_prefix(&format!("{language}\n"))).collect();
    blocks.into_iter().filter_map(|text| Some((text.lines().next()?.strip_prefix("# ")?, text)))
}

#[test]
fn the_two_steps_of_the_readme_are_seen_to_fail_and_to_heal() {
    let readme = std::fs::read_to_string(repository("README.md")).expect("the page");
    let (_, section) = readme.split_once(HEADING).expect("the section is there");
    let (section, _) = section.split_once("\n### ").expect("another section follows");
    let folder = tempfile::Builder::new().prefix("readme-").tempdir().expect("a temporary folder");
    let written: Vec<&str> = files(section, "yaml")
        .chain(files(section, "sh"))
        .map(|(name, text)| {
            std::fs::write(folder.path().join(name), text).expect("a file in a folder of ours");
            name
        })
        .collect();
    assert_eq!(written, ["asynctask.yaml", "fetch.sh", "count.sh"]);
    type_in(folder.path(), section, LOOKS);
}
