//! The queues that are worked, with all that Celery's own description of a queue holds; Flower's page reads each of the keys.

use serde_json::{Map, Value, json};

use super::super::view::Pool;

/// Those that are not paused.
pub(super) fn active(pools: &[Pool]) -> Value {
    pools.iter().filter(|pool| !pool.paused).map(queue).collect()
}

fn queue(pool: &Pool) -> Value {
    json!({
        "name": pool.queue,
        "exchange": {
            "name": pool.exchange,
            "type": "direct",
            "arguments": null,
            "durable": true,
            "passive": false,
            "auto_delete": false,
            "delivery_mode": null,
            "no_declare": false,
        },
        "routing_key": pool.queue,
        "queue_arguments": arguments(pool),
        "binding_arguments": null,
        "consumer_arguments": null,
        "durable": true,
        "exclusive": false,
        "auto_delete": false,
        "no_ack": false,
        "alias": null,
        "bindings": [],
        "no_declare": null,
        "expires": null,
        "message_ttl": null,
        "max_length": null,
        "max_length_bytes": null,
        "max_priority": pool.max_priority,
    })
}

/// Null where there are none.
fn arguments(pool: &Pool) -> Value {
    let quorum = (pool.declare_as == "quorum").then(|| ("x-queue-type".to_owned(), "quorum".into()));
    let priority = pool.max_priority.map(|most| ("x-max-priority".to_owned(), most.into()));
    let arguments: Map<String, Value> = quorum.into_iter().chain(priority).collect();
    if arguments.is_empty() { Value::Null } else { Value::Object(arguments) }
}
