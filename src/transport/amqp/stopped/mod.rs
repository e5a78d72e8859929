//! Void rounds and frozen jobs, as a master hears of them: `known` is what it knows, `subscription` where it hears it, `heard` what
//! becomes of the tasks that it has, `fetch` what brings tasks back that were put aside, `wipes` what a task that wipes waits for.
//!
//! A broker cannot remove a message from the middle of a queue, so a task is judged when it comes: one of a void round is
//! acknowledged unseen, one of a frozen job goes to a queue beside its own (`asynctask.frozen.foo`), from where it comes back when the
//! job is thawed, or after ten minutes, should nobody hear of that. No survey counts what lies there: it is nobody's work.
//!
//! A master listens to the ledgers of the applications that it has tasks of, and of its own. Before the first task of an application
//! is judged in a session its coordinator is asked what is stopped; the task is held for so long, at most a second where nobody answers.

pub(super) mod fetch;
pub(super) mod heard;
pub(super) mod known;
pub(super) mod subscription;
pub(super) mod wipes;
