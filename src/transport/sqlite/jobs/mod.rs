//! Jobs in the file: who coordinates them (`ledger`), what the coordinator is told (`entries`) and stores (`advance`: states of jobs in
//! `records`, void rounds and frozen jobs in `stopped`, `answers` to `orders`).

mod advance;
mod answers;
pub(super) mod asked;
mod coming_back;
pub(super) mod entries;
pub(super) mod hindrance;
pub(super) mod ledger;
pub(super) mod members;
pub(super) mod orders;
pub(super) mod records;
pub(super) mod stopped;
pub(super) mod survey;
mod undone;
pub(super) mod upkeep;
