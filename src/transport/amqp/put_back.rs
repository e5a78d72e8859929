//! Putting dead letters back to work, a window at a time: stored first, removed after.

use std::rc::Rc;

use lapin::{
    Acker,
    options::{BasicAckOptions, BasicQosOptions},
};

use super::{
    bulk::CLIENT_SENDS,
    fates::{Fate, Fates},
    progress::Broke,
    topology::{Fault, answer},
    walk::{FIRST, Walk},
};

impl Walk<'_> {
    /// Stores a window in the work queue, and removes its dead letters after all of it is confirmed. If not all of it can be
    /// stored, those that are stored are removed, and the walk ends.
    pub(super) async fn store_window(&mut self) -> Result<(), Broke> {
        let window = std::mem::take(&mut self.window);
        self.window_bytes = 0;
        let (parcels, ackers): (Vec<_>, Vec<_>) = window.into_iter().unzip();
        let (false, Some((channel, kept))) = (ackers.is_empty(), self.held.last()) else { return Ok(()) };
        let fates = Rc::new(Fates::new(parcels.len()));
        self.progress.window.replace(Some(Rc::clone(&fates)));
        let stored = self.store.bulk_of(&parcels, &fates, CLIENT_SENDS).await;
        let stored = stored.map_err(|unstored| Broke::Unstored(unstored.into()));
        // One acknowledgement for as many as can be: of more than 32 one by one a quorum queue forgets those that it has not
        // got to when the channel is closed, and they come back (16 of 50, measured on 3.10.8).
        let together = if *kept == 0 { fates.extent().stored } else { 0 };
        let first = together.checked_sub(1).map(|last| (&ackers[last], true));
        let others = ackers.iter().enumerate().skip(together).filter(|(position, _)| fates.is_stored(*position));
        for (acker, multiple) in first.into_iter().chain(others.map(|(_, acker)| (acker, false))) {
            if let Err(fault) = remove(acker, multiple).await {
                // Why it was not stored says more.
                stored?;
                return Err(fault.into());
            }
        }
        // Any question will do: once it is answered, what was said before is known to the queue, and the death of this
        // process takes nothing of it back. (Measured without: seven windows in both queues after a kill.)
        let known =
            answer(channel.basic_qos(FIRST, BasicQosOptions::default())).await.map_err(|error| Fault::of(&error));
        if let Err(fault) = known {
            stored?;
            return Err(fault.into());
        }
        let gone = (0..ackers.len()).filter(|position| fates.is_stored(*position));
        self.walked.retried += gone.map(|position| fates.set(position, Fate::Absent)).count() as u64;
        self.progress.set(self.walked);
        stored
    }
}

/// With `multiple`, all on its channel that came before it, too.
pub(super) async fn remove(acker: &Acker, multiple: bool) -> Result<(), Fault> {
    if matches!(answer(acker.ack(BasicAckOptions { multiple })).await, Ok(true)) {
        return Ok(());
    }
    Err(Fault::Broken("the channel of the dead letters is closed".to_owned()))
}
