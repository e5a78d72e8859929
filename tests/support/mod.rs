//! What several test programs share. Each uses a part of it.
#![allow(dead_code, unreachable_pub)]

pub mod broker;
pub mod celery;
pub mod certificates;
pub mod demo;
pub mod foreign;
pub mod http;
pub mod junit;
pub mod left_out;
pub mod log;
pub mod notify;
pub mod page;
pub mod postgres;
pub mod proxy;
pub mod storm;

#[allow(unused_imports)]
pub use demo::{Demo, Place, in_order, on_each, on_each_in_turn};
pub use left_out::left_out;
