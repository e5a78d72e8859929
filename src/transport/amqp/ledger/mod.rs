//! The ledger of an application's jobs on a broker: `names` is what the coordinator and the masters share.

#[allow(
    dead_code,
    reason = "the holder of the ledger and the masters' side use these names, each from its first part on"
)]
pub(super) mod names;
