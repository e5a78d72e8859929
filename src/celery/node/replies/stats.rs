//! Statistics: of the pools together, which to Celery's tools are one.

use serde_json::{Value, json};

use super::super::{
    facts::{Broker, Facts},
    view::{Pool, View},
};

/// Without `broker` or `total` Flower's page is an error.
pub(super) fn stats(view: &View, facts: &Facts) -> Value {
    json!({
        "total": view.total,
        "pid": facts.pid,
        "clock": facts.clock.to_string(),
        "uptime": facts.uptime,
        "pool": pool(view),
        "broker": broker(&facts.broker),
        "prefetch_count": view.pools.iter().map(|pool| u64::from(pool.credit)).sum::<u64>(),
        "rusage": facts.rusage,
    })
}

fn pool(view: &View) -> Value {
    let pools = &view.pools;
    let at_once = |pool: &Pool| u64::from(pool.processes) * u64::from(pool.concurrency.max(1));
    let longest = pools.iter().filter_map(|pool| pool.timeout).fold(0.0, f64::max);
    let renewed_after = pools.iter().filter_map(|pool| pool.max_tasks).min();
    let processes = pools.iter().map(|pool| pool.pids.len()).sum::<usize>();
    let begun: u64 = view.total.values().sum();
    let each = if processes == 0 { 0.0 } else { begun as f64 / processes as f64 };
    json!({
        "implementation": "asynctask",
        "max-concurrency": pools.iter().map(at_once).sum::<u64>(),
        "processes": pools.iter().flat_map(|pool| &pool.pids).collect::<Vec<_>>(),
        "max-tasks-per-child": renewed_after.map_or_else(|| "N/A".into(), Value::from),
        "put-guarded-by-semaphore": false,
        // The soft limit is the task's own.
        "timeouts": [0, longest],
        "writes": {
            "total": begun,
            "avg": format!("{each:.2}"),
            "all": "",
            "raw": "",
            "strategy": "fair",
            "inqueues": { "total": processes, "active": view.active.len() },
        },
    })
}

fn broker(broker: &Broker) -> Value {
    json!({
        "hostname": broker.host,
        "userid": broker.user,
        "virtual_host": broker.virtual_host,
        "port": broker.port,
        "insist": false,
        "ssl": broker.tls,
        "transport": "amqp",
        "connect_timeout": 10,
        "transport_options": {},
        "login_method": "PLAIN",
        "uri_prefix": null,
        "heartbeat": f64::from(broker.heartbeat),
        "failover_strategy": "round-robin",
        "alternates": [],
        "credential_provider": null,
    })
}
