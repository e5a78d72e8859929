//! Workers that are starting, and slots that wait for their turn to be started.

use std::collections::{BTreeMap, VecDeque};

use crate::{clock::Instant, master::core::event::WorkerId};

/// The workers that are starting, and the slots that wait for a place among them.
#[derive(Debug, Default)]
pub(in crate::master::core) struct StartLine {
    /// Workers that were not ready when the line was last examined.
    pub(in crate::master::core) starting: Vec<WorkerId>,
    /// Slots whose worker died at work.
    pub(in crate::master::core) first: VecDeque<usize>,
    /// The other slots by queue, in order of arrival. This list and `first` may hold slots that no longer wait.
    pub(in crate::master::core) others: BTreeMap<usize, VecDeque<usize>>,
    /// The queue that got the last place.
    pub(in crate::master::core) served: usize,
    /// When a start last began or ended.
    pub(in crate::master::core) moved_at: Instant,
    /// An event happened that may have freed a place, so that the line must be examined. Hardly any event of a task does.
    pub(in crate::master::core) may_move: bool,
}

impl StartLine {
    /// Has the line examined after this event.
    pub(in crate::master::core) const fn may_move(&mut self) {
        self.may_move = true;
    }
}
