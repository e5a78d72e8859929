//! Waiting for our descriptors in tokio's loop.
//!
//! A [`Watch`] shares its descriptor with the [`FrameChannel`](super::FrameChannel), [`Output`](super::Output) or
//! [`Signals`](super::Signals) that made it, costs no second one, and borrows nothing: the loop can wait on all watches while
//! it changes what is behind them. tokio's `AsyncFd` alone would be `unsafe` outside of this folder, because it
//! trusts its caller to keep the descriptor open.
//!
//! A watch waits for one thing. A socket becomes "more writable" with each frame that the other end reads, so one that is
//! watched for both wakes the loop once more for every task; room to write is therefore a [`Room`] of its own, made
//! while something waits to be sent.

use std::{
    io::{self, PipeReader},
    os::{
        fd::{AsFd, AsRawFd, RawFd},
        unix::net::UnixStream,
    },
    sync::Arc,
};

use nix::sys::inotify::Inotify;
use tokio::io::{Interest, unix::AsyncFd};

/// Tells when a descriptor can be read. Drop it with what it was made from: it keeps the descriptor open.
///
/// Each answer is given once. After [`readable`](Self::readable), read until `ReadState::Drained`; after a pause
/// (without a wait) read first and wait afterwards; after `ReadState::Closed` do not wait again.
#[derive(Debug)]
pub struct Watch(AsyncFd<Held>);

impl Watch {
    pub(super) fn socket(socket: &Arc<UnixStream>) -> io::Result<Self> {
        Self::register(Held::Socket(Arc::clone(socket)), Interest::READABLE)
    }

    pub(super) fn pipe(pipe: &Arc<PipeReader>) -> io::Result<Self> {
        Self::register(Held::Pipe(Arc::clone(pipe)), Interest::READABLE)
    }

    /// Tells of the files that are watched with it.
    pub(crate) fn inotify(inotify: &Arc<Inotify>) -> io::Result<Self> {
        Self::register(Held::Inotify(Arc::clone(inotify)), Interest::READABLE)
    }

    fn register(held: Held, interest: Interest) -> io::Result<Self> {
        // SAFETY: `held` keeps the descriptor open until the AsyncFd is dropped, and nobody can exchange what is in
        // the Arc, so its number stays the same.
        Ok(Self(unsafe { AsyncFd::register_with_interest(held, interest) }?))
    }

    /// Waits until there is something to read, or the end. May be cancelled without loss.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub async fn readable(&self) -> io::Result<()> {
        // Cleared before the caller reads: whatever comes from now on makes it ready again.
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}

/// Tells when a socket can be written. It has a descriptor of its own, because one can be watched only once.
#[derive(Debug)]
pub struct Room(AsyncFd<UnixStream>);

impl Room {
    pub(super) fn of(socket: &UnixStream) -> io::Result<Self> {
        // SAFETY: the stream is owned by the AsyncFd and never exchanged, so its descriptor stays open and the same.
        Ok(Self(unsafe { AsyncFd::register_with_interest(socket.try_clone()?, Interest::WRITABLE) }?))
    }

    /// Waits until something can be written. May be cancelled without loss; afterwards, flush.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub async fn writable(&self) -> io::Result<()> {
        self.0.writable().await?.clear_ready();
        Ok(())
    }
}

#[derive(Debug)]
enum Held {
    Socket(Arc<UnixStream>),
    Pipe(Arc<PipeReader>),
    Inotify(Arc<Inotify>),
}

impl AsRawFd for Held {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Socket(socket) => socket.as_raw_fd(),
            Self::Pipe(pipe) => pipe.as_raw_fd(),
            Self::Inotify(inotify) => inotify.as_fd().as_raw_fd(),
        }
    }
}
