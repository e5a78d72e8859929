//! The environment variables that hold secrets of the settings, which workers do not inherit.

use super::super::{
    file::Sources,
    node::{Node, Value},
    reader::Section,
};

/// Those of the `${NAME}`s of the transport's addresses and of the page's passwords and secret, and ours that hold one of
/// the addresses.
pub(super) fn variables(top: &Section<'_>, sources: &Sources) -> Vec<String> {
    let mut names = of_transport(top, sources);
    if let Some(dashboard) = top.get("dashboard").and_then(|item| item.section_quietly()) {
        let users = dashboard.get("users").and_then(|item| item.section_quietly());
        let passwords =
            users.iter().flat_map(Section::items).filter_map(|(_, user)| user.section_quietly()?.get("password"));
        let proxy = dashboard.get("proxy").and_then(|item| item.section_quietly()?.get("secret"));
        for secret in passwords.chain(proxy) {
            names.extend(written(secret.node));
        }
    }
    names.sort();
    names.dedup();
    names
}

fn of_transport(top: &Section<'_>, sources: &Sources) -> Vec<String> {
    let Some(item) = top.get("transport") else { return Vec::new() };
    let nodes: Vec<&Node> = match &item.node.value {
        Value::List(nodes) => nodes.iter().collect(),
        _ => vec![item.node],
    };
    let mut names: Vec<String> = Vec::new();
    for node in nodes {
        // A path is no secret, and what it was made of, HOME perhaps, is what workers need.
        let is_path = |text: &String| ["sqlite:", "localmem:"].iter().any(|scheme| text.starts_with(scheme));
        if matches!(&node.value, Value::Text(text) if is_path(text)) {
            continue;
        }
        names.extend(written(node));
        if let Value::Text(text) = &node.value
            && text.contains('@')
        {
            let pairs = sources.env.iter().filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
            let ours = pairs.filter(|(name, value)| name.starts_with("ASYNCTASK_") && value.contains(text));
            names.extend(ours.map(|(name, _)| name.to_owned()));
        }
    }
    names
}

/// The names in a value as it is written.
fn written(node: &Node) -> Vec<String> {
    let parts = node.written.iter().flat_map(|written| written.split("${").skip(1));
    let name = |part: &str| {
        let end = part.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        part[..end.unwrap_or(part.len())].to_owned()
    };
    parts.map(name).filter(|name| !name.is_empty()).collect()
}
