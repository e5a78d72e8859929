//! Asking the core: commands, each with its answer, and views of what runs.
//!
//! A view costs the master's loop something for each task that is here. So requests that come close together share one, which is
//! made after the last of them came, and there are ten in a second at most, however many ask.

use std::{cell::RefCell, rc::Rc, time::Duration};

use serde_json::Value;
use tokio::sync::oneshot;

use super::{state::State, view::View};
use crate::{
    clock::Instant,
    control::{
        server::Asked,
        types::{Answer, Command},
    },
};

/// Longest wait for an answer of the core.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two views.
const BETWEEN_VIEWS: Duration = Duration::from_millis(100);

/// Gives a command whose answer nobody waits for.
pub(super) fn tell(state: &State, command: Command) {
    let (reply, _) = oneshot::channel();
    // A master that is ending needs to hear nothing more.
    let _ = state.commands.send(Asked { command, by: state.by(), reply });
}

/// Gives a command, and waits for its answer.
///
/// # Errors
/// It was refused, or there is no answer.
pub(super) async fn command(state: &State, command: Command) -> Result<Value, String> {
    let (reply, answer) = oneshot::channel();
    let ending = || "the master is ending".to_owned();
    state.commands.send(Asked { command, by: state.by(), reply }).map_err(|_| ending())?;
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(Answer::Done(value))) => Ok(value),
        Ok(Ok(Answer::Refused { message })) => Err(message),
        Ok(Ok(Answer::Invalid { problems })) => Err(problems),
        Ok(Err(_)) => Err(ending()),
        Err(_) => Err(format!("the master does not answer within {} s", PATIENCE.as_secs())),
    }
}

type Seen = Result<Rc<View>, String>;

/// Views of what runs.
pub(super) struct Views {
    state: Rc<State>,
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    waiting: Vec<oneshot::Sender<Seen>>,
    /// Somebody fetches for all of them.
    fetching: bool,
    last: Option<Instant>,
}

impl Views {
    pub(super) fn new(state: Rc<State>) -> Self {
        Self { state, inner: RefCell::default() }
    }

    /// What runs after this was asked.
    ///
    /// # Errors
    /// The core does not answer.
    pub(super) async fn view(self: &Rc<Self>) -> Seen {
        let (waiting, seen) = oneshot::channel();
        let begins = {
            let mut inner = self.inner.borrow_mut();
            inner.waiting.push(waiting);
            !std::mem::replace(&mut inner.fetching, true)
        };
        if begins {
            // Not this request's own, which may end before the others have their view.
            let views = Rc::clone(self);
            tokio::task::spawn_local(async move { views.fetch().await });
        }
        seen.await.unwrap_or_else(|_| Err("the node is ending".to_owned()))
    }

    async fn fetch(&self) {
        loop {
            let now = self.state.now();
            let last = self.inner.borrow().last;
            if let Some(last) = last.filter(|last| *last + BETWEEN_VIEWS > now) {
                tokio::time::sleep(BETWEEN_VIEWS.saturating_sub(now.since(last))).await;
            }
            let waiting = std::mem::take(&mut self.inner.borrow_mut().waiting);
            let answer = command(&self.state, Command::CeleryView {}).await;
            let seen = answer.and_then(View::read).map(Rc::new);
            for request in waiting {
                let _ = request.send(seen.clone());
            }
            let mut inner = self.inner.borrow_mut();
            inner.last = Some(self.state.now());
            if inner.waiting.is_empty() {
                inner.fetching = false;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
