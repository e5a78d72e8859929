//! What the shell alone can show: schedules, counts since the start, settings in force. Nothing here changes anything.

use serde_json::{Map, Value, json};

use super::state::Shell;
use crate::{
    clock::Timestamp,
    control::types::Command,
    metrics::{
        QueueReading, SLOT_STATES,
        counts::{BOUNDS, Cause, Times},
    },
    process,
    schedule::{Schedule, Timer, shown},
    task::Reason,
};

impl Shell {
    /// The answer to a question that this side knows alone; `None`: it is another one's.
    pub(super) fn view(&self, command: &Command) -> Option<Value> {
        match command {
            Command::Schedules {} => Some(self.schedules()),
            Command::Counters {} => Some(self.counters()),
            Command::Settings {} => Some(self.settings.clone()),
            _ => None,
        }
    }

    /// The scheduler's view: whether this master fires, and the moments of its schedules, past ones as far as it remembers them.
    fn schedules(&self) -> Value {
        let moments = self.timer.iter().flat_map(Timer::last_moments);
        let moments = moments.map(|(id, last)| (id.to_owned(), last.map(|last| last.0).into()));
        let now = self.clock.now().wall;
        json!({
            "pid": std::process::id(),
            "host": process::host(),
            "application": self.application,
            "transport": self.uri.to_string(),
            "leading": self.leading,
            "last_moments": moments.collect::<Map<_, _>>(),
            "schedules": self.timer.iter().flat_map(Timer::known).map(|(schedule, last)| moments_of(schedule, last, now)).collect::<Vec<_>>(),
        })
    }

    /// All counts of this run, which never go down. Whoever asks twice has rates.
    fn counters(&self) -> Value {
        let (connected, reconnects) = self.core.sessions();
        let queues = self.core.readings().into_iter().map(|reading| (reading.name.clone(), counts_of(&reading)));
        json!({
            "pid": std::process::id(),
            "host": process::host(),
            "run": self.run,
            "application": self.application,
            "uptime_seconds": self.core.elapsed().as_secs_f64(),
            "connected": connected,
            "reconnects": reconnects,
            "lines_dropped": self.logger.dropped(),
            "bounds_seconds": BOUNDS,
            "queues": queues.collect::<Map<_, _>>(),
        })
    }
}

fn moments_of(schedule: &Schedule, last: Option<Timestamp>, now: Timestamp) -> Value {
    json!({
        "id": schedule.id,
        "queue": schedule.queue,
        "target": shown::target(schedule).1,
        "zone": schedule.zone(),
        "next": shown::upcoming(schedule, now),
        "last_at": last.map(|last| schedule.when.in_its_zone(last)),
    })
}

fn counts_of(reading: &QueueReading) -> Value {
    let counts = &reading.counts;
    json!({
        "kind": reading.kind,
        "state": reading.state,
        "in_hand": reading.in_hand,
        "waiting": reading.waiting,
        "stuck": reading.stuck,
        "slots": named(SLOT_STATES, &reading.slots),
        "done": counts.done,
        "snoozed": counts.snoozed,
        "released": counts.released,
        "retried": named(Reason::ALL.map(Reason::as_str), &counts.retried),
        "dead": named(Reason::ALL.map(Reason::as_str), &counts.dead),
        "restarts": named(Cause::ALL.map(Cause::as_str), &counts.restarts),
        "ran": times(&counts.ran),
        "waited": times(&counts.waited),
    })
}

fn named<const N: usize>(names: [&str; N], counts: &[u64; N]) -> Map<String, Value> {
    names.into_iter().zip(counts).map(|(name, count)| (name.to_owned(), (*count).into())).collect()
}

/// One a bucket, as the bounds have them, and one more for what is longer than all of these.
fn times(times: &Times) -> Value {
    json!({ "buckets": times.buckets, "sum_seconds": times.sum.as_secs_f64() })
}
