//! Replies to Celery's remote control in the shapes that its command line and Flower read. Pure: what they are made of is an
//! argument.
//!
//! The sets of keys are those of a worker of Celery 5.7: `golden.json` beside this file holds them as such a worker answered.

mod queues;
mod report;
mod stats;
mod tasks;

use serde_json::Value;

use super::{facts::Facts, methods::Look, view::View, wording::ok};

/// What is answered from a view of the master.
pub(super) fn look(look: &Look, view: &View, facts: &Facts) -> Value {
    match look {
        Look::Stats => stats::stats(view, facts),
        Look::Active { safe } => tasks::held(&view.active, *safe, &facts.node),
        Look::Reserved => tasks::held(&view.reserved, false, &facts.node),
        Look::Registered { items, builtins } => tasks::registered(view, items, *builtins),
        Look::ActiveQueues => queues::active(&view.pools),
        Look::Conf => report::conf(view, facts),
        Look::QueryTask { ids } => tasks::found(view, ids, &facts.node),
        Look::Report => ok(report::text(view, facts)),
    }
}

#[cfg(test)]
mod tests;
