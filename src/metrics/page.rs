//! The page of numbers, in the `OpenMetrics` text form that Prometheus reads.
//!
//! A name or a label that was given out may never change, because the graphs and alarms of others stand on it. Nor may a
//! number that is not known be shown as 0: it is left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::{
    counts::{Cause, Times},
    family::family,
    jobs_page,
    reading::{QUEUE_STATES, QueueReading, Reading, SLOT_STATES},
};
use crate::{process::self_usage::Usage, task::Reason, transport::Depth};

/// What stands on the page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) reading: Reading,
    /// Of queues by name, as far as the transport counted them in time.
    pub(super) depths: BTreeMap<String, Depth>,
    pub(super) usage: Usage,
}

impl Page {
    /// Its text.
    pub(super) fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // Writing to a String does not fail, and the names are ours: a page that is cut off lacks its end mark.
        let _ = text::encode(&mut text, &registry);
        text
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.of_tasks(&mut encoder)?;
        self.of_workers(&mut encoder)?;
        self.of_queues(&mut encoder)?;
        if let Some(jobs) = &self.reading.jobs {
            jobs_page::write(jobs, &mut encoder)?;
        }
        self.of_the_master(&mut encoder)
    }
}

impl Page {
    fn of_tasks(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "What became of tasks that came to an outcome or were taken from a worker";
        let mut family = family(encoder, "asynctask_tasks", help, None, MetricType::Counter)?;
        for queue in &self.reading.queues {
            let counts = &queue.counts;
            let outcomes = [
                ("done", counts.done),
                ("retried", counts.retried.iter().sum()),
                ("snoozed", counts.snoozed),
                ("dead_lettered", counts.dead.iter().sum()),
                ("released", counts.released),
            ];
            for (outcome, count) in outcomes {
                family.count(&[("queue", queue.name.as_str()), ("outcome", outcome)], count)?;
            }
        }
        let by_reason: [(&str, &str, Counted); 2] = [
            ("asynctask_retries", "Failed attempts that are made again", |queue| &queue.counts.retried),
            ("asynctask_dead_letters", "Tasks dead-lettered", |queue| &queue.counts.dead),
        ];
        for (name, help, counted) in by_reason {
            let mut family = self::family(encoder, name, help, None, MetricType::Counter)?;
            for queue in &self.reading.queues {
                for (reason, count) in Reason::ALL.into_iter().zip(counted(queue)) {
                    family.count(&[("queue", queue.name.as_str()), ("reason", reason.as_str())], *count)?;
                }
            }
        }
        let times: [(&str, &str, Timed); 2] = [
            ("asynctask_task_run", "Time in a worker's hands until an outcome", |queue| &queue.counts.ran),
            ("asynctask_task_wait", "Time from being due until a worker had it", |queue| &queue.counts.waited),
        ];
        for (name, help, of) in times {
            let mut family = self::family(encoder, name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
            for queue in &self.reading.queues {
                family.times(&[("queue", queue.name.as_str())], of(queue))?;
            }
        }
        Ok(())
    }

    fn of_workers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Worker processes that had to be started again";
        let mut restarts = family(encoder, "asynctask_worker_restarts", help, None, MetricType::Counter)?;
        for queue in &self.reading.queues {
            for (cause, count) in Cause::ALL.into_iter().zip(queue.counts.restarts) {
                restarts.count(&[("queue", queue.name.as_str()), ("cause", cause.as_str())], count)?;
            }
        }
        let mut slots = family(encoder, "asynctask_slots", "Places for workers", None, MetricType::Gauge)?;
        for queue in &self.reading.queues {
            for (state, count) in SLOT_STATES.into_iter().zip(queue.slots) {
                slots.gauge(&[("queue", queue.name.as_str()), ("state", state)], count)?;
            }
        }
        Ok(())
    }

    fn of_queues(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let queues = &self.reading.queues;
        let mut kinds = family(encoder, "asynctask_queue_kind", "Which kind works a queue", None, MetricType::Gauge)?;
        for queue in queues {
            kinds.gauge(&[("queue", queue.name.as_str()), ("kind", queue.kind.as_str())], 1)?;
        }
        let mut states = family(encoder, "asynctask_queue_state", "1 for the state it is in", None, MetricType::Gauge)?;
        for queue in queues {
            for state in QUEUE_STATES {
                let is_in = u64::from(queue.state == state);
                states.gauge(&[("queue", queue.name.as_str()), ("state", state)], is_in)?;
            }
        }
        let mut places =
            family(encoder, "asynctask_tasks_held", "Tasks delivered to this master", None, MetricType::Gauge)?;
        for queue in queues {
            for (place, count) in [("in_hand", queue.in_hand), ("waiting", queue.waiting)] {
                places.gauge(&[("queue", queue.name.as_str()), ("place", place)], count as u64)?;
            }
        }
        let help = "Tasks that have ended and cannot be settled, because a queue takes none of them";
        let mut stuck = family(encoder, "asynctask_tasks_stuck", help, None, MetricType::Gauge)?;
        for queue in queues {
            stuck.gauge(&[("queue", queue.name.as_str())], queue.stuck)?;
        }
        let help = "Tasks on the transport; absent while it cannot count them";
        let mut family = family(encoder, "asynctask_queue_depth", help, None, MetricType::Gauge)?;
        let mut counted = BTreeSet::new();
        for queue in queues {
            let Some(depth) = self.depths.get(&queue.name).filter(|depth| !depth.unknown) else { continue };
            // One that several queues share is counted once, at the first of them.
            let failed = (!depth.failed_shared || counted.insert(&queue.dead.name)).then_some(("failed", depth.failed));
            let in_hand = self.reading.sees_all_hands.then_some(("in_hand", depth.in_hand));
            let counts = [("ready", depth.ready), ("delayed", depth.delayed)];
            for (state, count) in counts.into_iter().chain(failed).chain(in_hand) {
                family.gauge(&[("queue", queue.name.as_str()), ("state", state)], count)?;
            }
        }
        Ok(())
    }

    fn of_the_master(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Self { reading, usage, .. } = self;
        let counters = [
            ("asynctask_session_reconnects", "Sessions with the transport after the first", reading.reconnects),
            ("asynctask_log_lines_dropped", "Log lines that nobody read in time", reading.lines_dropped),
        ];
        for (name, help, value) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            family.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
        }
        let up = u64::from(reading.connected);
        let help = "Whether a session with the transport stands";
        encoder.encode_descriptor("asynctask_session_up", help, None, MetricType::Gauge)?.encode_gauge(&up)?;
        let mut build = family(encoder, "asynctask_build", "Always 1", None, MetricType::Gauge)?;
        build.gauge(&[("version", env!("CARGO_PKG_VERSION"))], 1)?;
        // The names that every program of Prometheus's has.
        let bytes = [("process_resident_memory", "Memory of the master", usage.resident_bytes)];
        for (name, help, value) in bytes.into_iter().filter_map(|(name, help, value)| Some((name, help, value?))) {
            encoder.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?.encode_gauge(&value)?;
        }
        let counts = [
            ("process_open_fds", "Descriptors the master has open", usage.open_files),
            ("process_max_fds", "Descriptors it may have open", usage.most_files),
        ];
        for (name, help, value) in counts.into_iter().filter_map(|(name, help, value)| Some((name, help, value?))) {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        let help = "When the master began, since 1970";
        encoder
            .encode_descriptor("process_start_time", help, Some(&Unit::Seconds), MetricType::Gauge)?
            .encode_gauge(&usage.began_at)?;
        let help = "Processor time of the master without its workers";
        encoder
            .encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?
            .encode_counter::<NoLabelSet, f64, f64>(&usage.cpu_seconds, None)
    }
}

type Counted = fn(&QueueReading) -> &[u64; Reason::ALL.len()];
type Timed = fn(&QueueReading) -> &Times;
