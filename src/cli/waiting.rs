//! Waiting for a transport's answer in front of a person: what is waited for is said, it is not waited for ever, and Ctrl-C
//! ends it, with what is known by then.
//!
//! A wait is ended by dropping the transport. It then answers with what it knows of the request by then.

use std::{io::Write as _, sync::Arc, time::Duration};

use indicatif::ProgressBar;
use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{connection::from_transport_error, settings::duration, visits::Visits};
use crate::{
    clock::{Clock, Instant},
    config::Config,
    exit_code::{Code, Error},
    process::{Interrupt, Interrupts, Watch},
    redact::redact,
    transport::{self, DeadLetter, DeadQueue, Depth, Event, Reply, Request, Transport, Visitor, Walked},
};

/// After so long without an answer it is said what is waited for.
const TOLD_AFTER: Duration = Duration::from_secs(2);
/// How often progress is looked at, where there may be some.
const LOOK: Duration = Duration::from_millis(500);
/// The transport ends a wait by itself, and knows best why; after so much longer it is ended.
const GRACE: Duration = Duration::from_secs(3);
/// How long a transport that was dropped may take for its last answer: it may wait for a lock for 2 s.
const LAST_ANSWER: Duration = Duration::from_secs(4);

/// Asks a transport, and waits for its answers.
pub(super) struct WaitingClient {
    /// `None` after a wait was ended.
    transport: Option<Box<dyn Transport>>,
    events: mpsc::UnboundedReceiver<Event>,
    runtime: Runtime,
    clock: Clock,
    longest: Duration,
    waits_for: String,
    interrupts: Option<(Interrupts, Watch)>,
    /// Is out of the way while something is said.
    pub(super) bar: ProgressBar,
}

/// Why something was not answered well.
#[derive(Debug)]
pub(super) struct CallFailed<T> {
    why: Box<Why>,
    /// The transport did not even answer when it was dropped.
    hung: bool,
    /// The answer that came nevertheless, once the wait was ended: what was asked is done.
    pub(super) done: Option<T>,
}

#[derive(Debug)]
enum Why {
    /// The transport says so.
    Answer(transport::Error),
    /// It took too long.
    GaveUp { after: Duration, waits_for: String, last: Option<transport::Error> },
    /// A signal.
    Interrupted { by: Interrupt, last: Option<transport::Error> },
}

impl<T> CallFailed<T> {
    /// What the transport said in the end.
    pub(super) fn last(&self) -> Option<&transport::Error> {
        match &*self.why {
            Why::Answer(error) => Some(error),
            Why::GaveUp { last, .. } | Why::Interrupted { last, .. } => last.as_ref(),
        }
    }

    /// The transport did not answer, not even in the end.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(*self.why, Why::GaveUp { last: None, .. } | Why::Interrupted { last: None, .. }) && self.hung
    }

    /// One of which nothing is known.
    #[cfg(test)]
    pub(super) fn unanswered() -> Self {
        let why = Why::GaveUp { after: Duration::from_secs(1), waits_for: "an answer".to_owned(), last: None };
        Self { why: Box::new(why), hung: true, done: None }
    }

    /// Why, as the end of a command, without a hint of how far it came.
    pub(super) fn error(&self) -> Error {
        match &*self.why {
            Why::Answer(error) => from_transport_error(error),
            Why::GaveUp { after, waits_for, .. } => {
                let seconds = after.as_secs_f64();
                Error::new(Code::Unavailable, format!("gave up after {seconds} s of waiting for {waits_for}"))
            }
            Why::Interrupted { by, .. } => interrupted(*by),
        }
    }
}

/// A command that was stopped.
pub(super) fn interrupted(by: Interrupt) -> Error {
    let code = match by {
        Interrupt::Interrupt => Code::Sigint,
        Interrupt::Terminate => Code::Sigterm,
    };
    Error::new(code, format!("interrupted by {}", by.name()))
}

/// The value of `--wait`.
pub(super) fn longest_wait(option: Option<&str>) -> Result<Duration, Error> {
    match option.map(|text| duration("--wait", text)).transpose()? {
        None => Ok(transport::CLIENT_PATIENCE),
        Some(Duration::ZERO) => Err(Error::new(Code::Usage, "--wait: it must be longer than 0")),
        Some(longest) => Ok(longest),
    }
}

impl WaitingClient {
    /// Opens the transport of these settings.
    pub(super) fn open(config: &Config, longest: Duration) -> Result<Self, Error> {
        let internal = |error: std::io::Error| Error::new(Code::Internal, format!("cannot wait: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(internal)?;
        let (sender, events) = mpsc::unbounded_channel();
        let transport =
            transport::open_client(&config.transport, sender, longest).map_err(|error| from_transport_error(&error))?;
        transport::tell(&*transport, config.protocols());
        Ok(Self {
            transport: Some(transport),
            events,
            runtime,
            clock: Clock::start(),
            longest,
            waits_for: format!("an answer of {}", config.transport),
            interrupts: None,
            bar: ProgressBar::hidden(),
        })
    }

    /// From now on SIGINT and SIGTERM end a wait instead of the process.
    pub(super) fn listen(&mut self) -> Result<(), Error> {
        let listen = || {
            let interrupts = Interrupts::listen()?;
            let _inside = self.runtime.enter();
            let watch = interrupts.watch()?;
            Ok((interrupts, watch))
        };
        let listening = listen();
        let internal = |error: std::io::Error| Error::new(Code::Internal, format!("cannot hear signals: {error}"));
        self.interrupts = Some(listening.map_err(internal)?);
        Ok(())
    }

    /// Asks and waits for the answer.
    pub(super) fn call<T>(&mut self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, CallFailed<T>> {
        self.call_while(None, request)
    }

    /// [`Self::call`], with something at work until the answer is there that hears what the transport tells. What is not for it,
    /// it hands on.
    pub(super) fn call_beside<T>(
        &mut self,
        request: impl FnOnce(Reply<T>) -> Request,
        work: impl AsyncFnOnce(&dyn Transport, &mut mpsc::UnboundedReceiver<Event>, &mpsc::UnboundedSender<Event>),
    ) -> Result<T, CallFailed<T>> {
        let (hand_on, handed_on) = mpsc::unbounded_channel();
        let mut told = std::mem::replace(&mut self.events, handed_on);
        let ended = self.call_with(None, request, async |transport| {
            work(transport, &mut told, &hand_on).await;
            std::future::pending().await
        });
        self.events = told;
        ended
    }

    /// [`Self::call`] for what may take long: as long as there is progress, it goes on.
    fn call_while<T>(
        &mut self,
        progress: Option<&Visits>,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T, CallFailed<T>> {
        self.call_with(progress, request, async |_| std::future::pending().await)
    }

    fn call_with<T>(
        &mut self,
        progress: Option<&Visits>,
        request: impl FnOnce(Reply<T>) -> Request,
        work: impl AsyncFnOnce(&dyn Transport) -> std::convert::Infallible,
    ) -> Result<T, CallFailed<T>> {
        let (reply, mut answer) = oneshot::channel();
        match &self.transport {
            Some(transport) => transport.ask(request(reply)),
            None => drop(reply),
        }
        let Self { runtime, events, clock, longest, waits_for, interrupts, bar, transport, .. } = self;
        let waiting = wait(
            &mut answer,
            Waiting {
                events,
                clock: *clock,
                longest: *longest + GRACE,
                waits_for,
                interrupts: interrupts.as_ref(),
                bar,
                progress,
            },
        );
        let work = async {
            match transport {
                Some(transport) => work(&**transport).await,
                None => std::future::pending().await,
            }
        };
        let ended = runtime.block_on(async {
            tokio::select! {
                ended = waiting => ended,
                never = work => match never {},
            }
        });
        let ended = match ended {
            Ended::Answered(Ok(value)) => return Ok(value),
            Ended::Answered(Err(error)) => {
                return Err(CallFailed { why: Box::new(Why::Answer(error)), hung: false, done: None });
            }
            ended => ended,
        };
        drop(self.transport.take());
        let last = self.runtime.block_on(async { timeout(LAST_ANSWER, answer).await });
        let (done, last, hung) = match last {
            Ok(Ok(Ok(value))) => (Some(value), None, false),
            Ok(Ok(Err(error))) => (None, Some(error), false),
            // It was not even begun.
            Ok(Err(_)) => (None, None, false),
            Err(_) => (None, None, true),
        };
        let why = match ended {
            Ended::Interrupted(by) => Why::Interrupted { by, last },
            _ => Why::GaveUp { after: self.longest, waits_for: self.waits_for.clone(), last },
        };
        Err(CallFailed { why: Box::new(why), hung, done })
    }

    /// What lies in one queue.
    pub(super) fn depth(&mut self, queue: &DeadQueue) -> Result<Depth, Error> {
        let queues = vec![queue.clone()];
        let depths = self.call(|reply| Request::Depths { queues, reply });
        Ok(depths.map_err(|broken| broken.error())?.first().copied().unwrap_or_default())
    }

    /// Visits dead letters; each visit is progress, and what a visitor makes the transport wait is not waited for it.
    pub(super) fn walk(&mut self, queue: &DeadQueue, mut visit: Visitor) -> Result<Walked, CallFailed<Walked>> {
        let visits = Arc::new(Visits::default());
        let (queue, counted) = (queue.clone(), Arc::clone(&visits));
        let visit = Box::new(move |letter: &DeadLetter| {
            let verdict = visit(letter);
            counted.record(&verdict);
            verdict
        });
        let walked = |reply| Request::WalkDead { queue, visit, reply };
        match self.call_while(Some(&visits), walked) {
            Err(CallFailed { done: Some(walked), .. }) => Ok(walked),
            walked => walked,
        }
    }

    /// Tells the transport what is not answered.
    pub(super) fn tell(&self, request: Request) {
        if let Some(transport) = &self.transport {
            transport.ask(request);
        }
    }

    /// Waits for so long.
    pub(super) fn pause(&mut self, time: Duration) -> Result<(), Interrupt> {
        let Self { runtime, interrupts, .. } = self;
        runtime.block_on(async {
            tokio::select! {
                biased;
                by = interrupt(interrupts.as_ref()) => Err(by),
                () = tokio::time::sleep(time) => Ok(()),
            }
        })
    }

    /// What the next waits are for, in words that follow "waiting for".
    pub(super) fn waits_for(&mut self, what: &str) {
        what.clone_into(&mut self.waits_for);
    }

    /// No wait is given up earlier.
    pub(super) fn waits_at_least(&mut self, time: Duration) {
        self.longest = self.longest.max(time);
    }

    /// The clock that its waits go by.
    pub(super) const fn clock(&self) -> Clock {
        self.clock
    }

    /// Waits for the next item of another source, without a limit.
    pub(super) fn receive<T>(&mut self, source: &mut mpsc::Receiver<T>) -> Result<Option<T>, Interrupt> {
        let Self { runtime, interrupts, .. } = self;
        runtime.block_on(async {
            tokio::select! {
                biased;
                by = interrupt(interrupts.as_ref()) => Err(by),
                item = source.recv() => Ok(item),
            }
        })
    }
}

enum Ended<T> {
    Answered(Result<T, transport::Error>),
    TooLate,
    Interrupted(Interrupt),
}

struct Waiting<'a> {
    events: &'a mut mpsc::UnboundedReceiver<Event>,
    clock: Clock,
    longest: Duration,
    waits_for: &'a mut String,
    interrupts: Option<&'a (Interrupts, Watch)>,
    bar: &'a ProgressBar,
    progress: Option<&'a Visits>,
}

async fn wait<T>(answer: &mut oneshot::Receiver<Result<T, transport::Error>>, waiting: Waiting<'_>) -> Ended<T> {
    let Waiting { events, clock, longest, waits_for, interrupts, bar, progress } = waiting;
    let mut since = clock.now().at;
    let (mut seen, mut said) = (progress.map(Visits::count), None);
    loop {
        let now = clock.now().at;
        let visited = progress.map(Visits::count);
        if seen != visited {
            // It is not waited for before the visitor's pause is over.
            (seen, since) = (visited, now + progress.map(Visits::pause).unwrap_or_default());
        }
        if now >= since + longest {
            return Ended::TooLate;
        }
        if now >= since + TOLD_AFTER && said.as_ref() != Some(waits_for) {
            say(bar, &format!("waiting for {waits_for}"));
            said = Some(waits_for.clone());
        }
        let next = next_look(now, since, longest);
        let next = if progress.is_some() { next.min(LOOK) } else { next };
        tokio::select! {
            biased;
            answered = &mut *answer => return Ended::Answered(answered.unwrap_or(Err(transport::Error::Closed))),
            by = interrupt(interrupts) => return Ended::Interrupted(by),
            Some(event) = events.recv() => if let Event::Waits(what) = event {
                *waits_for = what;
            },
            () = tokio::time::sleep(next) => {}
        }
    }
}

/// Until there is something to say or to end.
fn next_look(now: Instant, since: Instant, longest: Duration) -> Duration {
    let due = if now < since + TOLD_AFTER { since + TOLD_AFTER } else { since + longest };
    due.since(now)
}

async fn interrupt(interrupts: Option<&(Interrupts, Watch)>) -> Interrupt {
    let Some((interrupts, watch)) = interrupts else { return std::future::pending().await };
    loop {
        if let Some(by) = interrupts.came() {
            return by;
        }
        if watch.readable().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// A line for a person, beside what a script reads.
pub(super) fn say(bar: &ProgressBar, text: &str) {
    bar.suspend(|| {
        // A closed stderr takes no message.
        let _ = writeln!(std::io::stderr(), "{}", redact(text));
    });
}
