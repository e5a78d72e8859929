//! An order on its way through the ledger.

use crate::jobs::{
    order::Order,
    record::{EntryId, Record},
};

/// An order that is not carried out.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) entry: EntryId,
    pub(super) order: Order,
    /// The number of the fold that asked which jobs there are.
    pub(super) asked_in: Option<u64>,
    /// The answer to that.
    pub(super) found: Option<Vec<Record>>,
}

impl Waiting {
    pub(super) const fn new(entry: EntryId, order: Order) -> Self {
        Self { entry, order, asked_in: None, found: None }
    }
}
