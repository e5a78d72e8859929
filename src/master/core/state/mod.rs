//! What the core holds: slots, pools, deadlines, and the settlements it remembers. Data with its own small rules; the
//! chapters beside this folder decide.

pub(crate) mod pool;
pub(crate) mod settlement_memory;
pub(crate) mod slot;
pub(crate) mod stuck;
pub(crate) mod task_durations;
pub(crate) mod timers;
pub(crate) mod unexecuted;
