//! What several test programs share. Each uses a part of it.
#![allow(dead_code, unreachable_pub)]

pub mod broker;
pub mod certificates;
pub mod demo;
pub mod foreign;
pub mod http;
pub mod log;
pub mod proxy;

#[allow(unused_imports)]
pub use demo::{Demo, Place, in_order};
