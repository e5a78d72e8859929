//! Jobs in the tables: what the coordinator is told (`entries`) and stores (`advance`: states of jobs in `records`, void rounds and
//! frozen jobs in `stopped`, what comes back of them in `coming_back`), orders and their `answers`.

pub(super) mod advance;
pub(super) mod answers;
pub(super) mod coming_back;
pub(super) mod entries;
pub(super) mod hindrance;
pub(super) mod records;
pub(super) mod stopped;
pub(super) mod survey;
pub(super) mod taken_out;
pub(super) mod upkeep;
