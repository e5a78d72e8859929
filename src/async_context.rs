//! Whether this thread is polling a future at this moment: code that blocks refuses to run there, with an error of its own
//! instead of the runtime's panic.
//!
//! Only Tokio is seen. It gives each poll of a task a budget of steps, and none to code that may block (`spawn_blocking`,
//! `block_in_place`, threads outside of a runtime). The budget is used up to see whether there is one; the task that is
//! refused then yields once more than it would. A future under `tokio::task::unconstrained` has no budget and is not seen.

use std::{
    pin::pin,
    task::{Context, Waker},
};

use tokio::{runtime::Handle, task::consume_budget};

/// More steps than Tokio gives to one poll, which are 128.
const STEPS: u32 = 1024;

/// Whether Tokio polls a future on this thread.
pub(crate) fn is_polled() -> bool {
    let mut context = Context::from_waker(Waker::noop());
    Handle::try_current().is_ok() && (0..STEPS).any(|_| pin!(consume_budget()).poll(&mut context).is_pending())
}

#[cfg(test)]
mod tests {
    use tokio::{
        runtime::Builder,
        task::{LocalSet, spawn_blocking},
    };

    use super::*;

    #[test]
    fn futures_are_told_from_code_that_may_block() {
        assert!(!is_polled());
        let runtime = Builder::new_current_thread().build().unwrap();
        assert!(runtime.block_on(async { is_polled() }));
        assert!(runtime.block_on(async { tokio::spawn(async { is_polled() }).await.unwrap() }));
        assert!(LocalSet::new().block_on(&runtime, async { is_polled() }));
        assert!(!runtime.block_on(async { spawn_blocking(is_polled).await.unwrap() }));
        let _entered = runtime.enter();
        assert!(!is_polled());
    }
}
