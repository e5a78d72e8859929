//! `asynctask schema`: the tables of a PostgreSQL database.

use super::{
    args::{Global, Schema},
    connection::from_transport_error,
    output::print,
    settings::load,
};
use crate::{
    exit_code::{Code, Error},
    transport::{Uri, schema_sql, schema_version},
    worker::registry::Registry,
};

pub(super) fn run(registry: &Registry, global: &Global, verb: &Schema) -> Result<Code, Error> {
    let config = load(registry, global)?;
    let uri = &config.transport;
    if !matches!(uri, Uri::Postgres(_)) {
        let message = format!("{uri}: only a PostgreSQL database has tables that are made apart");
        return Err(Error::new(Code::Config, message).hint("name one: --set transport=postgres://localhost/shop"));
    }
    let text = if verb.sql { schema_sql(uri) } else { schema_version(uri).map(|version| format!("{version}\n")) };
    print(&text.map_err(|error| from_transport_error(&error))?)?;
    Ok(Code::Ok)
}
