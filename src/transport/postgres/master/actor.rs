//! The thread of the transport: takes requests, runs steps, and waits in one place.
//!
//! Whatever claims and settles is done here, one thing after the other, over the session for work. Submits, questions, walks and the
//! upkeep run beside it, over sessions of their own, and tell it in notes what came of them.

use std::{collections::VecDeque, rc::Rc, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    asked::{Change, Lease, Ledger, Pause},
    attach,
    claimer::Claimer,
    closing::Closing,
    judge::Judge,
    notes::Note,
    submitter::{self, Submit},
    vacuum::Vacuum,
    wake::{Wake, Woken},
    work::Work,
};
use crate::{
    clock::{Clock, Instant},
    task::QueueIndex,
    transport::{
        Error, Event, Events, QueueSetup, Reply, Request,
        postgres::{
            connect::{
                address::Address,
                lane::Lane,
                session::{Heard, Role},
            },
            jobs::stopped::Seen,
            schema::queue_ids::QueueIds,
        },
    },
};

/// A master tries so long to connect for a submit or a question.
const PATIENCE: Duration = Duration::from_secs(10);

/// The state of the thread. Its flags are independent of each other.
#[expect(clippy::struct_excessive_bools, reason = "each is set and read by itself")]
pub(in crate::transport::postgres) struct Actor {
    pub(super) address: Rc<Address>,
    pub(super) events: Events,
    pub(super) requests: mpsc::UnboundedReceiver<Request>,
    pub(super) closing: Arc<Closing>,
    pub(super) clock: Clock,
    /// For `application_name`.
    pub(super) name: Rc<str>,
    /// Submits and short questions.
    pub(super) side: Rc<Lane>,
    /// What may take long.
    pub(super) long: Rc<Lane>,
    /// The upkeep.
    pub(super) keeper: Rc<Lane>,
    pub(super) ids: Rc<QueueIds>,
    pub(super) submits: mpsc::UnboundedSender<Submit>,
    pub(super) notes: mpsc::UnboundedSender<Note>,
    heard_notes: mpsc::UnboundedReceiver<Note>,
    pub(super) work: Work,
    /// The queues that were attached first, until that is done; whether nothing is to be created.
    pub(super) attach: Option<Vec<QueueSetup>>,
    pub(super) passive: bool,
    /// It attaches, or has attached.
    pub(super) is_master: bool,
    pub(super) sessions: u32,
    pub(super) claimer: Claimer,
    /// Queues to be added and removed, in the order of the requests.
    pub(super) changes: VecDeque<Change>,
    /// Credit that came before its queue was there.
    pub(super) credits: Vec<(QueueIndex, u32)>,
    pub(super) survey: Option<(u64, Option<String>)>,
    pub(super) lease: Option<Lease>,
    pub(super) ledger: Option<Ledger>,
    pub(super) seen: Seen,
    pub(super) judge: Judge,
    pub(super) wake: Wake,
    /// Others are told that we wait for tasks.
    pub(super) waits: bool,
    /// We waited for tasks since the last look.
    pub(super) was_idle: bool,
    pub(super) is_keeper: bool,
    pub(super) keeps: bool,
    pub(super) vacuum: Rc<Vacuum>,
    pub(super) looks: u64,
    pub(super) look_at: Instant,
    /// Why every request fails from now on.
    pub(super) refused: Option<Error>,
    /// After a step that failed and may succeed later.
    pub(super) pause: Option<Pause>,
    /// Settlements in the next step, at most: fewer after a fault of one of them.
    pub(super) most: usize,
}

impl Actor {
    pub(in crate::transport::postgres) fn new(
        address: Address,
        events: Events,
        requests: mpsc::UnboundedReceiver<Request>,
        closing: Arc<Closing>,
        is_client: bool,
    ) -> Self {
        let address = Rc::new(address);
        let host: String = attach::host().chars().filter(char::is_ascii_graphic).take(20).collect();
        let number = std::process::id();
        let random = super::super::keys::new_owner().unwrap_or(0) & 0xff_ffff;
        let name: Rc<str> = format!("asynctask/{host}/{number}.{random:x}").into();
        let patience = if is_client { Duration::ZERO } else { PATIENCE };
        let lane = |role| Rc::new(Lane::new(&address, role, &name, patience));
        let (side, long, keeper) = (lane(Role::Side), lane(Role::Long), lane(Role::Keeper));
        let (notes, heard_notes) = mpsc::unbounded_channel();
        let (submits, waiting) = mpsc::unbounded_channel();
        let ids = Rc::<QueueIds>::default();
        tokio::task::spawn_local(submitter::run(waiting, Rc::clone(&side), Rc::clone(&ids), notes.clone()));
        Self {
            address,
            events,
            requests,
            closing,
            clock: Clock::start(),
            name,
            side,
            long,
            keeper,
            ids,
            submits,
            notes,
            heard_notes,
            work: Work::None,
            attach: None,
            passive: false,
            is_master: false,
            sessions: 0,
            claimer: Claimer::default(),
            changes: VecDeque::new(),
            credits: Vec::new(),
            survey: None,
            lease: None,
            ledger: None,
            seen: Seen::default(),
            judge: Judge::default(),
            wake: Wake::default(),
            waits: false,
            was_idle: false,
            is_keeper: false,
            keeps: false,
            vacuum: Rc::new(Vacuum::new()),
            looks: 0,
            look_at: Instant::default(),
            refused: None,
            pause: None,
            most: usize::MAX,
        }
    }

    /// Runs until the transport is closed or dropped.
    pub(in crate::transport::postgres) async fn run(mut self) {
        loop {
            while let Ok(request) = self.requests.try_recv() {
                if let Some(reply) = self.serve(request).await {
                    return self.close(reply).await;
                }
            }
            if self.requests.is_closed() && self.requests.is_empty() {
                // Dropped, which counts as a death: sessions end without a word.
                return;
            }
            self.advance().await;
            let wait = self.timeout();
            let heard = tokio::select! {
                biased;
                request = self.requests.recv() => match request {
                    Some(request) => match self.serve(request).await {
                        Some(reply) => return self.close(reply).await,
                        None => continue,
                    },
                    None => return,
                },
                Some(note) = self.heard_notes.recv() => {
                    self.on_note(note);
                    continue;
                }
                heard = self.work.hear() => Some(heard),
                () = sleep(wait) => None,
            };
            match heard {
                Some(Heard::Notified(payload)) => self.on_woken(&Woken::of(&payload)),
                Some(Heard::Ended(cause)) => self.lost(cause),
                None => {}
            }
            if self.clock.now().at >= self.look_at {
                self.look().await;
            }
        }
    }

    /// Time until the next deadline; `None`: nothing is waited for but requests, notes and notifications.
    fn timeout(&self) -> Option<Duration> {
        let now = self.clock.now().at;
        if self.refused.is_some() || self.work.is_none() {
            return self.wake.due().filter(|_| self.refused.is_none()).map(|at| at.since(now));
        }
        let mut at = Some(self.look_at);
        let mut or = |other: Option<Instant>| at = at.min(other).or(at).or(other);
        or(self.work.retry_at());
        if self.work.session().is_some() {
            match self.pause {
                Some(pause) => or(Some(pause.again_at)),
                None => or(self.claimer.next_due()),
            }
            or(self.wake.due());
        }
        at.map(|at| at.since(now))
    }

    fn on_note(&mut self, note: Note) {
        match note {
            Note::Connected(result) => self.connected(result),
            Note::Stored { queues, may_be_old, told } => {
                for queue in queues {
                    self.claimer.recheck(queue, may_be_old.then_some(i64::MIN));
                    self.wake.queue(queue, may_be_old);
                }
                self.ledgers_were_told(told.iter().map(String::as_str));
            }
            Note::Surveyed { serial, left, jobs } => self.surveyed(serial, left, jobs),
            Note::Kept(kept) => self.kept(kept),
        }
    }

    /// Ledgers were told something: ours is looked at, others are woken.
    pub(super) fn ledgers_were_told<'a>(&mut self, told: impl IntoIterator<Item = &'a str>) {
        for application in told {
            match &mut self.ledger {
                Some(ledger) if ledger.application == application && ledger.is_held() => ledger.is_told = true,
                _ => self.wake.ledgers(),
            }
        }
    }

    fn on_woken(&mut self, woken: &Woken) {
        match woken {
            Woken::Queue(id, due) => self.claimer.recheck(*id, *due),
            Woken::Entries => {
                if let Some(ledger) = &mut self.ledger {
                    ledger.is_told = true;
                }
            }
            // What it is about is looked at as a whole.
            Woken::Members => self.look_at = Instant::default(),
        }
    }

    /// Sends an event. The receiver may be gone; the thread ends when its transport is dropped.
    pub(super) fn tell(&self, event: Event) {
        drop(self.events.send(event));
    }

    /// The answer to what is asked while nothing can be done any more.
    pub(super) fn gone(&self) -> Option<Error> {
        self.refused.clone()
    }

    /// A lost session, as it is answered.
    pub(super) fn no_session(&self, cause: &str) -> Error {
        Error::Lost { uri: self.address.shown.clone(), cause: cause.to_owned() }
    }

    async fn close(mut self, reply: Reply<()>) {
        while let Ok(note) = self.heard_notes.try_recv() {
            if let Note::Stored { .. } = note {
                self.on_note(note);
            }
        }
        self.leave().await;
        self.tell_last().await;
        futures_util::future::join3(self.side.close(), self.long.close(), self.keeper.close()).await;
        drop(reply.send(Ok(())));
    }
}

/// Waits for this long, or for ever.
async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
