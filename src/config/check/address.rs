//! Addresses to listen at.

use std::net::SocketAddr;

use crate::config::reader::Item;

/// Of numbers alone: a name may stand for several addresses, or for another one tomorrow.
pub(super) fn address(item: &Item<'_>) -> Option<SocketAddr> {
    let address = item.text()?.parse().ok();
    address.or_else(|| item.expected("an address of numbers with its port, such as 127.0.0.1:9464 or [::1]:9464"))
}
