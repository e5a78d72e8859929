//! How many messages the broker sends ahead while void tasks come. Pure.
//!
//! The tasks of a job that was cancelled lie together in their queue, and are dropped as they come. With a window of a few tasks each few
//! would cost a question and an answer: 10,000 of them took 12 s. So after many in a row the window is wide, until a task comes that is
//! to be worked. What came with that one beyond the credit goes back to the queue.

/// So many in a row, and more are to be expected.
const MANY: u32 = 32;
/// Messages that are sent ahead then.
const WIDE: u16 = 256;

#[derive(Debug, Default)]
pub(crate) struct VoidWindow {
    in_a_row: u32,
    /// The consumer has a wide window, or had one and there is no other one yet.
    is_wide: bool,
}

impl VoidWindow {
    /// A task came and is void.
    pub(crate) const fn void_came(&mut self) {
        self.in_a_row = self.in_a_row.saturating_add(1);
    }

    /// A task came that is to be worked.
    pub(crate) const fn live_came(&mut self) {
        self.in_a_row = 0;
    }

    /// The window in the place of one that the credit asks for.
    pub(crate) fn of(&self, wanted: u16) -> u16 {
        if self.in_a_row >= MANY && wanted > 0 { wanted.max(WIDE) } else { wanted }
    }

    /// The consumer has another window; 0: there is none.
    pub(crate) const fn switched(&mut self, window: u16) {
        if window > 0 {
            self.is_wide = window >= WIDE;
        }
    }

    pub(crate) const fn is_wide(&self) -> bool {
        self.is_wide
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_wide_from_many_void_tasks_in_a_row_to_the_next_live_one() {
        let mut window = VoidWindow::default();
        for _ in 1..MANY {
            window.void_came();
        }
        assert_eq!(window.of(2), 2);
        window.void_came();
        assert_eq!((window.of(2), window.of(1_000), window.of(0)), (WIDE, 1_000, 0));
        window.live_came();
        window.switched(WIDE);
        assert_eq!((window.of(2), window.is_wide()), (2, true));
        window.switched(0);
        assert!(window.is_wide(), "what it was sent is still here");
        window.switched(2);
        assert!(!window.is_wide());
    }
}
