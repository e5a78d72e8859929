//! Strangers on a socket of ours, bounded in number: each has a task of its own, and when there are too many, the one
//! goes that has said nothing for longest; who never said anything counts from its coming.

use std::{cell::RefCell, collections::VecDeque, future::Future, io, rc::Rc, time::Duration};

use nix::errno::Errno;
use tokio::task::AbortHandle;

/// Those who are served at present. On a local set.
#[derive(Clone, Debug)]
pub(crate) struct Strangers {
    most: usize,
    present: Rc<RefCell<Present>>,
}

#[derive(Debug, Default)]
struct Present {
    last: u64,
    tasks: VecDeque<(u64, AbortHandle)>,
}

impl Strangers {
    /// Nobody yet, and never more than `most`.
    pub(crate) fn at_most(most: usize) -> Self {
        Self { most, present: Rc::default() }
    }

    /// Serves one more.
    pub(crate) fn admit<Served: Future<Output = ()> + 'static>(&self, serve: impl FnOnce(Presence) -> Served) {
        let id = {
            let mut present = self.present.borrow_mut();
            present.last += 1;
            present.last
        };
        let served = serve(Presence { id, present: Rc::clone(&self.present) });
        let leaving = Rc::clone(&self.present);
        let task = tokio::task::spawn_local(async move {
            served.await;
            leaving.borrow_mut().tasks.retain(|(client, _)| *client != id);
        });
        let mut present = self.present.borrow_mut();
        present.tasks.push_back((id, task.abort_handle()));
        if present.tasks.len() > self.most
            && let Some((_, silent)) = present.tasks.pop_front()
        {
            silent.abort();
        }
    }
}

/// The place of one of them.
#[derive(Debug)]
pub(crate) struct Presence {
    id: u64,
    present: Rc<RefCell<Present>>,
}

impl Presence {
    /// It said something whole: all others go before it.
    pub(crate) fn spoke(&self) {
        let tasks = &mut self.present.borrow_mut().tasks;
        if let Some(position) = tasks.iter().position(|(client, _)| *client == self.id)
            && let Some(client) = tasks.remove(position)
        {
            tasks.push_back(client);
        }
    }
}

/// Out of descriptors or memory: how long to wait for some to come back.
const SHORTAGE: Duration = Duration::from_secs(1);

/// The next one. `accept(2)` also hands on what went wrong with a connection that is not there any more; that says
/// nothing of the next one, which is taken at once.
pub(crate) async fn accepted<Stranger, Next: Future<Output = io::Result<Stranger>>>(
    mut accept: impl FnMut() -> Next,
) -> Stranger {
    loop {
        match accept().await {
            Ok(stranger) => return stranger,
            Err(error) if is_shortage(&error) => tokio::time::sleep(SHORTAGE).await,
            // Should it be an error that stays, the others on this thread still have their turns.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM))
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::{self, error::TryRecvError};

    use super::*;

    #[tokio::test(flavor = "local")]
    async fn who_has_said_nothing_for_longest_goes() {
        let clients = Strangers::at_most(3);
        let (mut places, mut ends) = (Vec::new(), Vec::new());
        for number in 0..4 {
            let (here, end) = oneshot::channel::<()>();
            ends.push(end);
            clients.admit(|presence| {
                places.push(presence);
                async move {
                    let _here = here;
                    std::future::pending::<()>().await;
                }
            });
            if number == 2 {
                places[0].spoke();
            }
        }
        assert!((&mut ends[1]).await.is_err(), "the second never spoke, and is gone");
        for number in [0, 2, 3] {
            assert_eq!(ends[number].try_recv(), Err(TryRecvError::Empty));
        }
    }

    #[tokio::test(flavor = "local")]
    async fn only_a_shortage_is_waited_out() {
        let clock = crate::clock::Clock::start();
        let mut errors = [Errno::ECONNABORTED, Errno::ENETDOWN, Errno::EPROTO].into_iter();
        let next = || std::future::ready(errors.next().map_or(Ok(7), |errno| Err(errno.into())));
        assert_eq!(accepted(next).await, 7);
        assert!(clock.now().at.since_start() < SHORTAGE);
        let mut errors = [Errno::EMFILE].into_iter();
        let next = || std::future::ready(errors.next().map_or(Ok(8), |errno| Err(errno.into())));
        assert_eq!(accepted(next).await, 8);
        assert!(clock.now().at.since_start() >= SHORTAGE);
    }
}
