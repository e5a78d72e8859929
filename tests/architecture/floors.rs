//! Floors: each module stands on a floor of the table in `src/lib.rs`, and imports only from lower ones. Below that, no file
//! imports, through others, itself: what must be read together is read in one place.
//!
//! An import is a path in a file's text. A name that another file passes on (`pub use`) is an import from the file that
//! has it; passing on is none.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, is_name, module_of, none, sources, unfold_named};

/// Circles of imports that there are. The list may only shrink.
const CIRCLES: &[&[&str]] = &[];

#[test]
fn a_module_imports_only_from_lower_floors() {
    let house = House::new(&sources());
    let floors = floors(include_str!("../../src/lib.rs"));
    assert!(floors.len() > 10, "the table of floors in src/lib.rs was not found");
    none(&upward(&house, &floors));
}

#[test]
fn no_file_imports_itself_through_others() {
    let house = House::new(&sources());
    let circles = house.circles();
    let listed: Vec<Vec<String>> =
        CIRCLES.iter().map(|circle| circle.iter().map(|file| (*file).to_owned()).collect()).collect();
    let told = |circle: &Vec<String>| format!("a circle of imports:\n{}", house.within(circle));
    none(&circles.iter().filter(|circle| !listed.contains(circle)).map(told).collect::<Vec<_>>());
    let gone = listed.iter().filter(|circle| !circles.contains(circle));
    none(
        &gone
            .map(|circle| format!("no circle any more, take it off the list: {}", circle.join(", ")))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn the_rules_about_floors_see_what_they_are_about() {
    let house = |files: &[(&str, &str)]| {
        House::new(&files.iter().map(|(name, text)| Source::new(name, text)).collect::<Vec<_>>())
    };
    let table = "//! | 2 | [`master`] | decides |\n//! | 1 | [`transport`], `task` | carries |\n";
    let floors = floors(table);
    let broken = |files: &[(&str, &str)]| upward(&house(files), &floors).len();
    let task = ("task.rs", "pub struct Task;");
    assert_eq!(broken(&[task, ("transport/mod.rs", "pub use self::a::A;"), ("transport/a.rs", "pub struct A;")]), 0);
    assert_eq!(broken(&[task, ("master/mod.rs", "use crate::task::Task;")]), 0);
    assert_eq!(broken(&[("master/mod.rs", "pub struct M;"), ("task.rs", "use crate::master::M;")]), 1, "upward");
    assert_eq!(broken(&[task, ("transport/a.rs", "use crate::task::Task;")]), 1, "sideward");
    assert_eq!(broken(&[("nowhere.rs", "")]), 1, "a module without a floor");

    let circles = |files: &[(&str, &str)]| house(files).circles().len();
    let (a, b) = (("x/a.rs", "use super::b; fn f() { b::g() }"), ("x/b.rs", "use super::a::A;"));
    assert_eq!(circles(&[a, b]), 1);
    assert_eq!(circles(&[a, ("x/b.rs", "")]), 0);
    let passes_on = ("x/mod.rs", "mod a;\nmod b;\npub use a::A;");
    assert_eq!(circles(&[passes_on, ("x/a.rs", "pub struct A;"), ("x/b.rs", "use super::A;")]), 0);
    let uses = ("x/mod.rs", "mod a;\nmod b;\npub use a::A;\npub struct X(A);");
    assert_eq!(circles(&[uses, ("x/a.rs", "use super::X;")]), 1, "what is passed on and used is imported");
}

/// A module's name to its floor, from the rows of the table: floor, names in backticks, what they are.
fn floors(table: &str) -> BTreeMap<String, u32> {
    let mut floors = BTreeMap::new();
    for line in table.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let mut cells = line.split(" | ");
        let Some(floor) = cells.next().and_then(|cell| cell.parse().ok()) else { continue };
        let names = cells.next().unwrap_or_default();
        for name in names.split('`').skip(1).step_by(2) {
            assert!(floors.insert(format!("crate::{name}"), floor).is_none(), "{name} stands on two floors");
        }
    }
    floors
}

/// The imports that do not go down.
fn upward(house: &House, floors: &BTreeMap<String, u32>) -> Vec<String> {
    let place = |file: &str| {
        let module = module_of(file).join("::");
        let holds = |name: &&String| {
            module.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        floors.keys().filter(holds).max_by_key(|name| name.len()).cloned()
    };
    let mut broken = Vec::new();
    for (file, imports) in &house.imports {
        if ["lib.rs", "main.rs"].contains(&file.as_str()) || file.starts_with("bin/") {
            continue;
        }
        let Some(here) = place(file) else {
            broken.push(format!("src/{file} stands on no floor of the table in src/lib.rs"));
            continue;
        };
        for other in imports {
            match place(other) {
                Some(there) if there != here && floors[&there] >= floors[&here] => broken.push(format!(
                    "src/{file} (floor {}) imports from src/{other} (floor {})",
                    floors[&here], floors[&there]
                )),
                _ => {}
            }
        }
    }
    broken
}

/// All files and who imports from whom.
struct House {
    imports: BTreeMap<String, BTreeSet<String>>,
}

/// A `use` of one name.
struct Import {
    path: Vec<String>,
    name: String,
    passes_on: bool,
}

impl House {
    fn new(sources: &[Source]) -> Self {
        let files: BTreeMap<Vec<String>, &Source> =
            sources.iter().map(|source| (module_of(&source.name), source)).collect();
        let uses: BTreeMap<&str, Vec<Import>> =
            sources.iter().map(|source| (source.name.as_str(), imports(source))).collect();
        let mut all = BTreeMap::new();
        for source in sources {
            let module = module_of(&source.name);
            let uses_here = &uses[source.name.as_str()];
            // What is passed on and not used here besides.
            let passed_on = |path: &[String]| {
                let import = uses_here.iter().find(|import| import.passes_on && import.path == path);
                import.is_some_and(|import| source.tokens.iter().filter(|token| **token == import.name).count() == 1)
            };
            let words = |path: &String| path.split("::").map(str::to_owned).collect::<Vec<_>>();
            let written = source.paths.iter().map(words).filter(|path| !passed_on(path));
            let paths: Vec<Vec<String>> = written.map(|path| absolute(path, &module, uses_here, &files)).collect();
            let defining = paths.iter().filter_map(|path| defines(path, &files, &uses, 0));
            let others = defining.filter(|file| *file != source.name);
            all.insert(source.name.clone(), others.collect());
        }
        Self { imports: all }
    }

    /// The files that reach each other, sorted; each file stands in one circle at most.
    fn circles(&self) -> Vec<Vec<String>> {
        let reach: BTreeMap<&String, BTreeSet<&String>> =
            self.imports.keys().map(|file| (file, self.reached_from(file))).collect();
        let mut circles = BTreeSet::new();
        for (file, reached) in &reach {
            let back: Vec<String> =
                reached.iter().filter(|other| reach[*other].contains(file)).map(|other| (*other).clone()).collect();
            if !back.is_empty() {
                circles.insert(back);
            }
        }
        circles.into_iter().collect()
    }

    /// Who imports from whom among these files, a line for each.
    fn within(&self, files: &[String]) -> String {
        let line = |file: &String| {
            let inside: Vec<_> = self.imports[file].iter().filter(|other| files.contains(other)).cloned().collect();
            format!("  src/{file} imports from {}\n", inside.join(", "))
        };
        files.iter().map(line).collect()
    }

    fn reached_from<'a>(&'a self, file: &'a String) -> BTreeSet<&'a String> {
        let mut reached = BTreeSet::new();
        let mut open = vec![file];
        while let Some(file) = open.pop() {
            open.extend(self.imports[file].iter().filter(|other| reached.insert(*other)));
        }
        reached
    }
}

/// What a file has `use` for.
fn imports(source: &Source) -> Vec<Import> {
    let module = module_of(&source.name);
    let mut found = Vec::new();
    for (at, _) in source.tokens.iter().enumerate().filter(|(_, token)| *token == "use") {
        let mut named = BTreeSet::new();
        unfold_named(&source.tokens, at + 1, &mut named);
        // `pub use`, `pub(crate) use`.
        let passes_on = at > 0 && matches!(source.tokens[at - 1].as_str(), "pub" | ")");
        for (path, name) in named {
            if path.first().is_some_and(|first| is_name(first)) {
                let words = super::resolved(&path, &module).split("::").map(str::to_owned).collect();
                found.push(Import { path: words, name, passes_on });
            }
        }
    }
    found
}

/// From `crate` on, where the first word is a module below this one or a name that was imported.
fn absolute(
    path: Vec<String>,
    module: &[String],
    imports: &[Import],
    files: &BTreeMap<Vec<String>, &Source>,
) -> Vec<String> {
    if path[0] == "crate" {
        return path;
    }
    let below: Vec<String> = module.iter().chain([&path[0]]).cloned().collect();
    if files.contains_key(&below) {
        return below.into_iter().chain(path.into_iter().skip(1)).collect();
    }
    match imports.iter().find(|import| import.name == path[0] && import.path[0] == "crate") {
        Some(import) => import.path.iter().cloned().chain(path.into_iter().skip(1)).collect(),
        None => path,
    }
}

/// The file with what a path means; none for what is not ours, and for a module as such, whose items are seen where they are
/// used.
fn defines(
    path: &[String],
    files: &BTreeMap<Vec<String>, &Source>,
    uses: &BTreeMap<&str, Vec<Import>>,
    depth: u32,
) -> Option<String> {
    let module = (1..=path.len()).rev().find(|length| files.contains_key(&path[..*length]))?;
    let file = files[&path[..module]];
    let item = path.get(module)?;
    if file.name == "lib.rs" && module == 1 && !uses["lib.rs"].iter().any(|import| import.name == *item) {
        return None;
    }
    let passed_on = uses[file.name.as_str()].iter().find(|import| import.passes_on && import.name == *item);
    match passed_on {
        Some(import) if depth < 8 => {
            let base = &path[..module];
            let inner = absolute(import.path.clone(), base, &[], files);
            let whole: Vec<String> = inner.into_iter().chain(path[module + 1..].iter().cloned()).collect();
            defines(&whole, files, uses, depth + 1)
        }
        _ => Some(file.name.clone()),
    }
}
