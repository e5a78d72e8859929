//! Reads and checks the address of the transport, or several of one cluster, and the files of TLS.

use std::path::PathBuf;

use super::super::{
    node::Value,
    reader::{Item, Section},
    working_folder,
};
use crate::transport::{Error, Uri, amqp::Tls, cluster, read_uri, with_tls};

pub(super) const TLS: &[&str] = &["ca", "certificate", "key", "server_name"];

/// Reads `transport` and `tls`; `None` where the transport is not given, or is wrong.
pub(super) fn read(top: &Section<'_>) -> Option<Uri> {
    let tls = top.get("tls").map(|item| (tls(top), item));
    let uri = top.get("transport").and_then(|item| uri(&item));
    let Some((tls, item)) = tls else { return uri };
    let Some(read) = &uri else {
        if top.get("transport").is_none() {
            item.key_problem("is for a transport of amqps:// addresses, and there is none", None);
        }
        return None;
    };
    match with_tls(read, &tls) {
        Ok(uri) => Some(uri),
        Err(cause) => {
            item.key_problem(cause, None);
            None
        }
    }
}

/// One address, or a list.
fn uri(item: &Item<'_>) -> Option<Uri> {
    if !matches!(item.node.value, Value::List(_)) {
        return address(item);
    }
    let items = item.list()?;
    if items.is_empty() {
        return item.expected("at least one address");
    }
    // All of them are read, so that all that is wrong is told.
    let addresses: Vec<_> = items.iter().map(address).collect();
    let addresses: Vec<Uri> = addresses.into_iter().collect::<Option<_>>()?;
    told(item, cluster(addresses))
}

fn address(item: &Item<'_>) -> Option<Uri> {
    let text = item.text()?;
    let uri = told(item, read_uri(text, item.folder()));
    if let Some(Uri::Sqlite(path)) = &uri
        && path.is_relative()
    {
        item.problem(working_folder::UNKNOWN, Some(working_folder::elsewhere()));
    }
    if uri.is_some() && text.contains('@') {
        item.report.hide_password(text);
    } else if uri.is_none() {
        // What is not an address may still be, or hold, a password: only what is wrong with it is told.
        item.report.hide_at(item.node.place, text);
        item.report.hide(text);
    }
    uri
}

fn told(item: &Item<'_>, uri: Result<Uri, Error>) -> Option<Uri> {
    let cause = match uri {
        Ok(uri) => return Some(uri),
        Err(Error::BadUri { cause, .. }) => cause,
        Err(other) => other.to_string(),
    };
    item.problem(format!("is not the address of a transport: {cause}"), None);
    None
}

fn tls(top: &Section<'_>) -> Tls {
    let section = top.section("tls", TLS);
    let tls = Tls {
        ca: section.get("ca").and_then(|item| file(&item, Tls::read_certificates)),
        certificate: section.get("certificate").and_then(|item| file(&item, Tls::read_certificates)),
        key: section.get("key").and_then(|item| file(&item, Tls::read_key)),
        server_name: section.get("server_name").and_then(|item| item.text()).map(str::to_owned),
    };
    let both = ["certificate", "key"].map(|key| section.get(key));
    if let [Some(item), None] | [None, Some(item)] = both {
        item.key_problem("certificate and key go together", None);
    } else if let ([Some(_), Some(item)], true) = (both, tls.certificate.is_some() && tls.key.is_some())
        && let Err(cause) = tls.check()
    {
        item.problem(cause, None);
    }
    tls
}

/// A file that is there and holds what it should.
fn file<T>(item: &Item<'_>, read: impl Fn(&std::path::Path) -> Result<T, String>) -> Option<PathBuf> {
    let path = item.path(item.text()?);
    match read(&path) {
        Ok(_) => Some(path),
        Err(cause) => {
            item.problem(cause, None);
            None
        }
    }
}
