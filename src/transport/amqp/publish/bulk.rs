//! Storing many messages in their order, up to the first that cannot be: nothing after it may be sent, and what is known
//! of each is noted as it becomes known.
//!
//! Windows are fast, but what is sent after a message that the broker refuses is lost with the channel, and what was sent
//! before it is perhaps never confirmed. So a message that is larger than all that were confirmed before goes alone:
//! the limit of the broker is not known, and what it took once it takes again.

use std::ops::Range;

use super::{
    bulk_results::{Fate, Fates},
    outbox::{FULL, Parcel, Store, Tried, Unstored, not_stored},
    publisher::{Outgoing, Silence, WINDOW, Went},
};

/// How often a message that is not answered is sent: by a master, who will not lose it, and by a client, who is to be told.
pub(crate) const MASTER_SENDS: u32 = 3;
pub(crate) const CLIENT_SENDS: u32 = 1;

impl Store {
    /// Stores those that are not stored yet.
    pub(crate) async fn in_order(&self, parcels: &[Parcel], fates: &Fates, sends: u32) -> Result<(), Unstored> {
        let mut next = 0;
        while next < parcels.len() {
            if fates.is_stored(next) {
                next += 1;
                continue;
            }
            let window = self.window_from(parcels, fates, next);
            next = window.end;
            let went = if window.len() == 1 { Went::Badly } else { self.window(parcels, fates, window.clone()).await };
            let refused = match went {
                Went::Well => continue,
                Went::Lost(silence) if sends == CLIENT_SENDS => {
                    return Err(Unstored::Now(self.session.publisher.error(silence)));
                }
                Went::Refused => true,
                Went::Badly | Went::Lost(_) => false,
            };
            self.singly(parcels, fates, window, refused, sends).await?;
        }
        Ok(())
    }

    /// Those from here on that go together.
    fn window_from(&self, parcels: &[Parcel], fates: &Fates, from: usize) -> Range<usize> {
        let largest = self.session.publisher.largest();
        let fits = |position: &usize| !fates.is_stored(*position) && parcels[*position].outgoing.body.len() <= largest;
        let most = parcels.len().min(from + WINDOW);
        let end = (from..most).find(|position| !fits(position)).unwrap_or(most);
        from..end.max(from + 1)
    }

    async fn window(&self, parcels: &[Parcel], fates: &Fates, window: Range<usize>) -> Went {
        let outgoing: Vec<Outgoing> = parcels[window.clone()].iter().map(|parcel| parcel.outgoing.clone()).collect();
        fates.set_all(window.clone(), Fate::Sent);
        let went = self.session.publisher.window_of(&outgoing, |at, fate| fates.set(window.start + at, fate)).await;
        if matches!(went, Went::Lost(Silence::Unsent(_))) {
            fates.set_all(window, Fate::Absent);
        }
        went
    }

    /// One after the other, those of a window that are not stored. After one that the broker `refused`, it took nothing more
    /// of the window.
    async fn singly(
        &self,
        parcels: &[Parcel],
        fates: &Fates,
        window: Range<usize>,
        refused: bool,
        sends: u32,
    ) -> Result<(), Unstored> {
        for position in window.clone() {
            if fates.is_stored(position) {
                continue;
            }
            let mut one = parcels[position].clone();
            fates.set(position, Fate::Sent);
            let failed = match self.try_times(&mut one, sends).await {
                Ok(Tried::Stored) => {
                    fates.set(position, Fate::Stored);
                    continue;
                }
                failed => failed,
            };
            if !matches!(failed, Err(()) | Ok(Tried::Unanswered(Silence::Late(_) | Silence::Broken(_)))) {
                fates.set(position, Fate::Absent);
            }
            let (parcel, publisher) = (&parcels[position], &self.session.publisher);
            return Err(match failed {
                Ok(Tried::Unanswered(silence)) => Unstored::Now(publisher.error(silence)),
                Ok(Tried::Again(cause)) => Unstored::Now(not_stored(parcel, cause)),
                Ok(Tried::Full) => Unstored::Full(not_stored(parcel, format!("it {FULL}"))),
                Ok(Tried::No(cause)) => {
                    let rest = (position..window.end).filter(|at| refused && !fates.is_stored(*at));
                    rest.for_each(|at| fates.set(at, Fate::Absent));
                    Unstored::Ever(not_stored(parcel, cause))
                }
                Ok(Tried::Stored) | Err(()) => {
                    Unstored::Now(publisher.error(Silence::Broken("the session ended".to_owned())))
                }
            });
        }
        Ok(())
    }
}
