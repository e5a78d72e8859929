//! What the node knows of itself, beside the view of the master. Pure.

use serde_json::Value;

/// What the node knows beside the view of the master.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Its name.
    pub(super) node: String,
    /// What its clock shows.
    pub(super) clock: u64,
    /// Whole seconds.
    pub(super) uptime: u64,
    pub(super) pid: u32,
    pub(super) broker: Broker,
    /// As `getrusage` tells it.
    pub(super) rusage: Value,
}

/// Where the node is connected to.
#[derive(Clone, Debug, Default)]
pub(super) struct Broker {
    /// The address without its password.
    pub(super) shown: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) virtual_host: String,
    pub(super) tls: bool,
    /// In seconds; 0: none.
    pub(super) heartbeat: u16,
}
