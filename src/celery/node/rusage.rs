//! The resources that this process uses, as `getrusage` tells them, under the names that Celery's tools know.

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};
use serde_json::{Value, json};

/// Of this moment; `"N/A"` where the kernel does not tell.
pub(super) fn read() -> Value {
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return "N/A".into() };
    json!({
        "utime": seconds(usage.user_time()),
        "stime": seconds(usage.system_time()),
        "maxrss": usage.max_rss(),
        "ixrss": usage.shared_integral(),
        "idrss": usage.unshared_data_integral(),
        "isrss": usage.unshared_stack_integral(),
        "minflt": usage.minor_page_faults(),
        "majflt": usage.major_page_faults(),
        "nswap": usage.full_swaps(),
        "inblock": usage.block_reads(),
        "oublock": usage.block_writes(),
        "msgsnd": usage.ipc_sends(),
        "msgrcv": usage.ipc_receives(),
        "nsignals": usage.signals(),
        "nvcsw": usage.voluntary_context_switches(),
        "nivcsw": usage.involuntary_context_switches(),
    })
}
