//! Dead letters, as the page asks for them: over a transport of its own, which is opened when somebody looks for the first time.
//!
//! The transport has a thread of its own: a broker that is slow holds up no other page. Questions have a time in which they are
//! answered, and so many are under way at once. Where the transport can only walk, an [`index`] is kept of what a walk saw.

mod asking;
mod counts;
pub(crate) mod index;
pub(crate) mod payload;
mod trouble;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

pub(crate) use self::{asking::Source, trouble::Trouble};
use self::{
    asking::{Asking, LONGEST_WALK},
    counts::{Counting, Counts},
    index::{Index, MOST_INDEXED, Mark, Meant, Rows, Shelf},
};
use crate::{
    clock::{Clock, Instant, Timestamp},
    transport::{
        DeadLetter, DeadQueue, Request,
        dead_page::{self, DeadFilter, DeadFound, DeadGroup, DeadKey, DeadPage, DeadPlace},
    },
};

/// How long a view waits for the first index of a queue.
const FIRST: Duration = Duration::from_secs(3);
/// A letter that was walked for is opened again without a walk, within this.
const OPENED: Duration = Duration::from_secs(30);

/// Letters that are read and shown at once.
const VIEWS: usize = 4;

/// What the page knows of dead letters.
pub(crate) struct DeadLetters {
    asking: Asking,
    counting: Counting,
    shelves: Mutex<BTreeMap<String, Shelf>>,
    /// A walk has ended.
    news: Notify,
    opened: Mutex<Option<Opened>>,
    /// Letters that are read and shown at once: each may have 16 MiB.
    views: Arc<Semaphore>,
    clock: Clock,
}

struct Opened {
    at: Instant,
    queue: String,
    key: DeadKey,
    letter: Arc<DeadLetter>,
}

/// What a view of a queue is made of.
#[derive(Default)]
pub(crate) struct Looked {
    pub(crate) groups: Vec<DeadGroup>,
    pub(crate) page: DeadPage,
    /// When it was read, where it is not read for each view.
    pub(crate) as_of: Option<Timestamp>,
    /// What the view does not show, or why.
    pub(crate) note: Option<String>,
}

/// Beside the thread that answers requests: an index may have thousands of rows.
async fn looked_into(
    index: Arc<Index>,
    filter: &DeadFilter,
    (after, limit): (Option<DeadPlace>, usize),
    trouble: Option<String>,
) -> Result<Looked, Trouble> {
    let filter = filter.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let rows = || index.rows.all.iter();
        let cut = index.rows.is_cut.then(|| format!("only the oldest {} were read", index.rows.all.len()));
        Looked {
            groups: dead_page::groups_of(rows(), Clock::wall()),
            page: dead_page::page_of(rows(), &filter, after, limit),
            as_of: Some(index.read_at),
            note: trouble.or(cut),
        }
    });
    looked.await.map_err(|_| Trouble::Slow)
}

impl DeadLetters {
    pub(crate) fn new(source: Source) -> Arc<Self> {
        Arc::new(Self {
            asking: Asking::new(source),
            counting: Counting::default(),
            shelves: Mutex::default(),
            news: Notify::new(),
            opened: Mutex::default(),
            views: Arc::new(Semaphore::new(VIEWS)),
            clock: Clock::start(),
        })
    }

    /// All queues that are known, those of the settings first, and what lies in them.
    ///
    /// # Errors
    /// They could not be counted in the time of a view.
    pub(crate) async fn counts(&self) -> Result<Counts, Trouble> {
        self.counting.counts(&self.asking, self.clock).await
    }

    /// What was counted last, and when.
    pub(crate) fn last_counts(&self) -> Option<(Timestamp, Counts)> {
        self.counting.last()
    }

    /// The queue of this name.
    ///
    /// # Errors
    /// There is none, as far as the settings and the transport tell.
    pub(crate) async fn queue(&self, name: &str) -> Result<DeadQueue, Trouble> {
        if let Some(queue) = self.asking.source.queues.iter().find(|queue| queue.queue == name) {
            return Ok(queue.clone());
        }
        let counts = self.counts().await?;
        counts.iter().map(|(queue, _)| queue).find(|queue| queue.queue == name).cloned().ok_or(Trouble::NoQueue)
    }

    /// A page of the dead letters of a queue, with their groups if these are `wanted`. `deaths` counts the dead letters that the
    /// master made.
    ///
    /// # Errors
    /// The transport does not tell.
    pub(crate) async fn look(
        self: &Arc<Self>,
        queue: &DeadQueue,
        filter: &DeadFilter,
        (after, limit): (Option<DeadPlace>, usize),
        wanted: bool,
        deaths: Option<u64>,
    ) -> Result<Looked, Trouble> {
        let (asked, wants) = (queue.clone(), filter.clone());
        let page =
            self.asking.ask(|reply| Request::DeadPage { queue: asked, filter: wants, after, limit, reply }).await?;
        let Some(mut page) = page else {
            return self.look_into_index(queue, filter, (after, limit), deaths).await;
        };
        for row in &mut page.rows {
            index::without_passwords(&mut row.failure.error);
        }
        let mut groups = Vec::new();
        if wanted {
            let asked = queue.clone();
            groups = self.asking.ask(|reply| Request::DeadGroups { queue: asked, reply }).await?.unwrap_or_default();
            for group in &mut groups {
                index::without_passwords(&mut group.error);
            }
        }
        Ok(Looked { groups, page, ..Looked::default() })
    }

    async fn look_into_index(
        self: &Arc<Self>,
        queue: &DeadQueue,
        filter: &DeadFilter,
        (after, limit): (Option<DeadPlace>, usize),
        deaths: Option<u64>,
    ) -> Result<Looked, Trouble> {
        let is_walked = self.shelf(&queue.queue).is_some_and(|(.., is_walked)| is_walked);
        // While it is walked nothing is counted, and what it was before is shown.
        let mark = match if is_walked { Ok(Mark::default()) } else { self.mark(queue, deaths).await } {
            Ok(mark) => mark,
            // What was read before is better than nothing.
            Err(trouble) => {
                let index = self.shelf(&queue.queue).and_then(|(index, ..)| index).ok_or_else(|| trouble.clone())?;
                return looked_into(index, filter, (after, limit), Some(trouble.to_string())).await;
            }
        };
        let (index, trouble) = self.index(queue, mark).await;
        let Some(index) = index else {
            let note = trouble.unwrap_or_else(|| "they are being read: look again in a moment".to_owned());
            return Ok(Looked { note: Some(note), ..Looked::default() });
        };
        looked_into(index, filter, (after, limit), trouble).await
    }

    async fn mark(&self, queue: &DeadQueue, deaths: Option<u64>) -> Result<Mark, Trouble> {
        let counts = self.counts().await?;
        let failed = counts.iter().find(|(known, _)| known.queue == queue.queue).map_or(0, |(_, depth)| depth.failed);
        Ok(Mark { failed, deaths })
    }

    /// The index of a queue as it is known, and why there is no newer one. Begins a walk if one is due.
    async fn index(self: &Arc<Self>, queue: &DeadQueue, mark: Mark) -> (Option<Arc<Index>>, Option<String>) {
        self.begin_if_due(queue, mark);
        let wait = async {
            loop {
                // Before the look, so that a walk that ends in between is heard of.
                let news = self.news.notified();
                match self.shelf(&queue.queue) {
                    Some((None, None, true)) => news.await,
                    Some((index, trouble, _)) => return (index, trouble),
                    None => return (None, None),
                }
            }
        };
        timeout(FIRST, wait).await.unwrap_or_default()
    }

    fn shelf(&self, queue: &str) -> Option<(Option<Arc<Index>>, Option<String>, bool)> {
        let shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let found = shelves.get(queue)?;
        Some((found.index.clone(), found.trouble.clone(), found.is_walked))
    }

    fn begin_if_due(self: &Arc<Self>, queue: &DeadQueue, mark: Mark) {
        let now = self.clock.now().at;
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let place = shelves.entry(queue.queue.clone()).or_default();
        place.looked_at = now;
        if !place.is_due(now, mark) {
            return;
        }
        place.begin(now);
        drop(shelves);
        let (letters, queue) = (Arc::clone(self), queue.clone());
        drop(tokio::spawn(async move {
            let walked = letters.walk_all(&queue, mark).await;
            let mut shelves = letters.shelves.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(place) = shelves.get_mut(&queue.queue) {
                place.end(walked);
            }
            index::evict(&mut shelves, &queue.queue);
            drop(shelves);
            letters.news.notify_waiters();
        }));
    }

    async fn walk_all(&self, queue: &DeadQueue, mark: Mark) -> Result<Index, Trouble> {
        let rows: Arc<Mutex<Rows>> = Arc::default();
        let seen = Arc::clone(&rows);
        let until = self.clock.now().at + LONGEST_WALK;
        let clock = self.clock;
        let visit = move |letter: &DeadLetter| {
            let rows = &mut *seen.lock().unwrap_or_else(PoisonError::into_inner);
            if clock.now().at >= until {
                rows.is_cut = true;
            } else {
                rows.push(letter);
            }
            !rows.is_cut
        };
        self.asking.walk(queue, visit).await?;
        let rows = std::mem::take(&mut *rows.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Index { rows, mark, read_at: Clock::wall() })
    }

    /// A turn to read and show a letter.
    ///
    /// # Errors
    /// It did not come in the time of a view.
    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit, Trouble> {
        match timeout(FIRST, Arc::clone(&self.views).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(Trouble::Busy),
        }
    }

    /// One dead letter, whole.
    ///
    /// # Errors
    /// The transport does not tell, or a walk for it took too long.
    pub(crate) async fn letter(&self, queue: &DeadQueue, key: &DeadKey) -> Result<Option<Arc<DeadLetter>>, Trouble> {
        let (asked, wanted) = (queue.clone(), key.clone());
        match self.asking.ask(|reply| Request::DeadLetter { queue: asked, key: wanted, reply }).await? {
            DeadFound::Letter(letter) => Ok(Some(Arc::new(*letter))),
            DeadFound::Absent => Ok(None),
            DeadFound::Impossible => self.walk_for(queue, key).await,
        }
    }

    /// What the worker of a dead letter said last; `None` where the transport does not find the letter without a walk.
    pub(crate) async fn last_output(&self, queue: &str, id: &str) -> Option<String> {
        let _its_turn = self.turn().await.ok()?;
        let queue = self.queue(queue).await.ok()?;
        let key = DeadKey { id: Some(id.to_owned()), place: None };
        match self.asking.ask(|reply| Request::DeadLetter { queue, key, reply }).await.ok()? {
            DeadFound::Letter(letter) => Some(letter.failure.output_tail),
            DeadFound::Absent | DeadFound::Impossible => None,
        }
    }

    async fn walk_for(&self, queue: &DeadQueue, key: &DeadKey) -> Result<Option<Arc<DeadLetter>>, Trouble> {
        let now = self.clock.now().at;
        if let Some(opened) = &*self.opened.lock().unwrap_or_else(PoisonError::into_inner)
            && (&opened.queue, &opened.key) == (&queue.queue, key)
            && now.since(opened.at) < OPENED
        {
            return Ok(Some(Arc::clone(&opened.letter)));
        }
        let found: Arc<Mutex<(Option<DeadLetter>, bool)>> = Arc::default();
        let (seen, wanted, clock) = (Arc::clone(&found), key.clone(), self.clock);
        let until = now + LONGEST_WALK;
        let mut number = 0;
        let visit = move |letter: &DeadLetter| {
            let (found, is_cut) = &mut *seen.lock().unwrap_or_else(PoisonError::into_inner);
            match index::meant(&wanted, number, letter) {
                Meant::Yes => {
                    *found = Some(letter.clone());
                    return false;
                }
                // Unless the other one comes, the oldest of them.
                Meant::IdAlone if found.is_none() => *found = Some(letter.clone()),
                Meant::IdAlone | Meant::No => {}
            }
            number += 1;
            *is_cut = number >= MOST_INDEXED || clock.now().at >= until;
            !*is_cut
        };
        self.asking.walk(queue, visit).await?;
        let (found, is_cut) = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(letter) = found.map(Arc::new) else {
            return if is_cut { Err(Trouble::TooMany) } else { Ok(None) };
        };
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(Opened {
            at: self.clock.now().at,
            queue: queue.queue.clone(),
            key: key.clone(),
            letter: Arc::clone(&letter),
        });
        Ok(Some(letter))
    }
}
