//! What the core holds: slots, pools, deadlines, and the settlements it remembers. Data with its own small rules; the
//! chapters beside this folder decide.

pub(crate) mod backlog;
pub(crate) mod celery;
pub(crate) mod in_flight;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod pause;
pub(crate) mod pending_verdict;
pub(crate) mod ping_rounds;
pub(crate) mod pool;
pub(crate) mod reload;
pub(crate) mod replies;
pub(crate) mod rings;
pub(crate) mod settlement_memory;
pub(crate) mod settlements;
pub(crate) mod slot;
pub(crate) mod stall;
pub(crate) mod start_failures;
pub(crate) mod start_line;
pub(crate) mod stop;
pub(crate) mod stuck;
pub(crate) mod tally;
pub(crate) mod task_durations;
pub(crate) mod task_rates;
pub(crate) mod timers;
pub(crate) mod unexecuted;
pub(crate) mod void_outcomes;
pub(crate) mod waiting;
pub(crate) mod window;
