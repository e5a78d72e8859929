//! The child's loop of a kind that does several tasks at once.
//!
//! A thread reads the socket, because blocking reads keep the other kinds free of a runtime and the frames in
//! one place; everything else, user code included, is on the runtime's one thread.

use std::{io, os::unix::net::UnixStream, rc::Rc, sync::Arc};

use tokio::{
    sync::mpsc,
    task::{JoinSet, LocalSet},
};

use super::{
    child_io::{Broken, answer, wait_until_readable},
    context::{Context, Surroundings},
    frame_writer::FrameWriter,
    kind::{RunMany, run_many},
    lines::{self, Lines},
};
use crate::frames::{
    LineBuffer, from_worker,
    to_worker::{self, ToWorker},
};

type Line = Result<Vec<u8>, Broken>;

/// Serves until a halt or the end of the socket.
pub(super) fn many_at_once(
    worker: &Rc<dyn RunMany>,
    socket: UnixStream,
    writer: &Arc<FrameWriter>,
    lines: &Lines,
) -> Result<(), Broken> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Bounded by the master: it sends no more tasks than were agreed on.
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::Builder::new().name("frames".to_owned()).spawn(move || read(&socket, &sender))?;
    let ended = LocalSet::new().block_on(&runtime, serve(worker, receiver, writer, lines));
    // User code may have left blocking calls behind; the process ends without them.
    runtime.shutdown_background();
    ended
}

fn read(socket: &UnixStream, lines: &mpsc::UnboundedSender<Line>) {
    let mut input = LineBuffer::new();
    loop {
        let line = match input.next_line() {
            Ok(Some(line)) => Ok(line.to_owned()),
            Ok(None) => match read_more(&mut input, socket) {
                Ok(true) => continue,
                Ok(false) => return,
                Err(error) => Err(error.into()),
            },
            Err(fault) => Err(fault.into()),
        };
        let last = line.is_err();
        if lines.send(line).is_err() || last {
            return;
        }
    }
}

/// `false` at the end of the stream.
fn read_more(input: &mut LineBuffer, mut socket: &UnixStream) -> io::Result<bool> {
    wait_until_readable(socket)?;
    match input.read_from(&mut socket) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
        read => read.map(|count| count > 0),
    }
}

async fn serve(
    worker: &Rc<dyn RunMany>,
    mut frames: mpsc::UnboundedReceiver<Line>,
    writer: &Arc<FrameWriter>,
    lines: &Lines,
) -> Result<(), Broken> {
    let surroundings = Surroundings::new(lines, writer);
    let mut tasks = JoinSet::new();
    loop {
        let next = tokio::select! {
            next = frames.recv() => next,
            Some(told) = tasks.join_next() => {
                told.unwrap_or_else(|error| Err(io::Error::other(error)))?;
                continue;
            }
        };
        let Some(frame) = next.transpose()? else { return Ok(()) };
        match to_worker::parse(&frame)? {
            ToWorker::Task(task) => {
                let context = Context::new(&task, &surroundings);
                let run =
                    run_many(Rc::clone(worker), task.json().map(ToOwned::to_owned), context.clone(), lines.clone());
                tasks.spawn_local(async move { context.report(&run.await) });
            }
            ToWorker::Halt(_) => break,
            other => answer(&other, writer, lines)?,
        }
    }
    while let Some(told) = tasks.join_next().await {
        told.unwrap_or_else(|error| Err(io::Error::other(error)))?;
    }
    lines::flush();
    Ok(writer.send(from_worker::bye)?)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        time::Duration,
    };

    use super::*;
    use crate::{
        level::Level,
        worker::{Context, Outcome, kind::Built, kind::Kind},
    };

    #[test]
    fn tasks_overlap_and_a_halt_waits_for_all_of_them() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let child = std::thread::spawn(move || {
            // The first task waits for the second, which only tasks that overlap survive.
            let kind = Kind::async_worker_fn(|first: bool, context: Context| async move {
                static SECOND: tokio::sync::Notify = tokio::sync::Notify::const_new();
                if first {
                    SECOND.notified().await;
                } else {
                    SECOND.notify_one();
                }
                assert!(context.id() != "panics");
                Ok(Outcome::Done)
            });
            let Built::Many(worker) = kind.build().unwrap() else { panic!() };
            let writer = Arc::new(FrameWriter::to(theirs.try_clone().unwrap()));
            many_at_once(&worker, theirs, &writer, &Lines::new("kind", Level::Error)).unwrap();
        });
        let frames = concat!(
            r#"{"task":{"id":"a","queue":"q","payload":true}}"#,
            "\n",
            r#"{"ping":{"n":1}}"#,
            "\n",
            r#"{"task":{"id":"shape","queue":"q","payload":7}}"#,
            "\n",
            r#"{"task":{"id":"panics","queue":"q","payload":false}}"#,
            "\n",
            r#"{"halt":{"reason":"stop"}}"#,
            "\n"
        );
        (&ours).write_all(frames.as_bytes()).unwrap();
        let lines = BufReader::new(&ours).lines().map(Result::unwrap);
        let mut told: Vec<String> = lines.take_while(|line| line != r#"{"bye":{}}"#).collect();
        child.join().unwrap();
        assert_eq!(told.remove(0), r#"{"pong":{"n":1}}"#);
        told.sort();
        assert_eq!(told[0], r#"{"done":{"id":"a"}}"#);
        assert!(told[1].starts_with(r#"{"error":{"id":"panics","error":"assertion failed"#), "{told:?}");
        assert!(told[2].starts_with(r#"{"malformed":{"id":"shape","#), "{told:?}");
    }
}
