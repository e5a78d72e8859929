//! A limit on the connections that a listener of ours serves at once. Each connection has a task of its own; beyond the limit
//! the connection is closed whose last request is the oldest. One without a request counts from the moment it was accepted.

use std::{cell::RefCell, collections::VecDeque, future::Future, io, rc::Rc, time::Duration};

use nix::errno::Errno;
use tokio::task::AbortHandle;

/// The connections that are served at present, on a local set.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionLimit {
    most: usize,
    open: Rc<RefCell<Open>>,
}

/// The open connections, the one with the oldest request first.
#[derive(Debug, Default)]
struct Open {
    last_id: u64,
    tasks: VecDeque<(u64, AbortHandle)>,
}

impl ConnectionLimit {
    /// A limit of `most` connections, none of them open yet.
    pub(crate) fn at_most(most: usize) -> Self {
        Self { most, open: Rc::default() }
    }

    /// Serves one more connection in a task of its own. Aborts the task of the oldest one if there are too many.
    pub(crate) fn spawn<Served: Future<Output = ()> + 'static>(&self, serve: impl FnOnce(ConnectionGuard) -> Served) {
        let id = {
            let mut open = self.open.borrow_mut();
            open.last_id += 1;
            open.last_id
        };
        let served = serve(ConnectionGuard { id, open: Rc::clone(&self.open) });
        let closing = Rc::clone(&self.open);
        let task = tokio::task::spawn_local(async move {
            served.await;
            closing.borrow_mut().tasks.retain(|(connection, _)| *connection != id);
        });
        let mut open = self.open.borrow_mut();
        open.tasks.push_back((id, task.abort_handle()));
        if open.tasks.len() > self.most
            && let Some((_, oldest)) = open.tasks.pop_front()
        {
            oldest.abort();
        }
    }
}

/// One connection's place under the limit.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    id: u64,
    open: Rc<RefCell<Open>>,
}

impl ConnectionGuard {
    /// A whole request came: from now on all other connections are closed before this one.
    pub(crate) fn touch(&self) {
        let tasks = &mut self.open.borrow_mut().tasks;
        if let Some(position) = tasks.iter().position(|(connection, _)| *connection == self.id)
            && let Some(connection) = tasks.remove(position)
        {
            tasks.push_back(connection);
        }
    }
}

/// The pause before the next `accept(2)` when descriptors or memory are short.
const SHORTAGE: Duration = Duration::from_secs(1);

/// Accepts the next connection. `accept(2)` also reports the error of a connection that was closed before it was accepted: that
/// error is passed over and the next connection is accepted at once.
pub(crate) async fn accepted<Connection, Next: Future<Output = io::Result<Connection>>>(
    mut accept: impl FnMut() -> Next,
) -> Connection {
    loop {
        match accept().await {
            Ok(connection) => return connection,
            Err(error) if is_shortage(&error) => tokio::time::sleep(SHORTAGE).await,
            // An error that stays must not keep other tasks from this thread.
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
    async fn the_connection_with_the_oldest_request_is_closed() {
        let clients = ConnectionLimit::at_most(3);
        let (mut places, mut ends) = (Vec::new(), Vec::new());
        for number in 0..4 {
            let (here, end) = oneshot::channel::<()>();
            ends.push(end);
            clients.spawn(|guard| {
                places.push(guard);
                async move {
                    let _here = here;
                    std::future::pending::<()>().await;
                }
            });
            if number == 2 {
                places[0].touch();
            }
        }
        assert!((&mut ends[1]).await.is_err(), "the second sent no request, and is closed");
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
