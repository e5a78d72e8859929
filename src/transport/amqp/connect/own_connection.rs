//! What works beside the session on a connection of its own has in common: an orderly end of that connection, and the pause between two
//! tries to get what one process has at a time.

use std::time::Duration;

use lapin::Connection;
use tokio::{sync::mpsc, time::timeout};

/// An orderly end of a connection may take this long.
pub(crate) const DISCONNECT_TIMEOUT: Duration = Duration::from_millis(900);

/// Ends a connection in order, if the other side still takes part in that.
pub(crate) async fn disconnect(connection: Option<Connection>) {
    if let Some(connection) = connection {
        let _ = timeout(DISCONNECT_TIMEOUT, connection.close(200, "done".into())).await;
    }
}

/// Lets a pause pass. What is asked meanwhile is dropped, and so answered: what it needs is not held. `None`: nobody will ask any more.
pub(crate) async fn pass<T>(pause: Duration, requests: &mut mpsc::UnboundedReceiver<T>) -> Option<()> {
    let pause = tokio::time::sleep(pause);
    tokio::pin!(pause);
    loop {
        tokio::select! {
            () = &mut pause => return Some(()),
            request = requests.recv() => drop(request?),
        }
    }
}
