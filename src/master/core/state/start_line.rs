//! Workers that are starting, and slots that wait for their turn to be started.

use std::collections::{BTreeMap, VecDeque};

use crate::{clock::Instant, master::core::event::WorkerId};

/// Who is starting, and who waits for a place.
#[derive(Debug, Default)]
pub(in crate::master::core) struct StartLine {
    /// Not ready when last looked at.
    pub(in crate::master::core) starting: Vec<WorkerId>,
    /// Slots whose worker died at work.
    pub(in crate::master::core) first: VecDeque<usize>,
    /// The other slots by queue, in the order in which they came. Both may hold slots that do not wait any more.
    pub(in crate::master::core) others: BTreeMap<usize, VecDeque<usize>>,
    /// The queue that got the last place.
    pub(in crate::master::core) served: usize,
    /// When a start last began or ended.
    pub(in crate::master::core) moved_at: Instant,
    /// Something has happened by which a turn may have come: nearly all events of tasks are none, and cost nothing here.
    pub(in crate::master::core) may_move: bool,
}

impl StartLine {
    /// Has the line looked at after this event.
    pub(in crate::master::core) const fn may_move(&mut self) {
        self.may_move = true;
    }
}
