//! Descriptors under the eyes of the event loop.

use std::{
    cell::{RefCell, RefMut},
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
};

use tokio::io::{Interest, unix::AsyncFd};

/// The owner of a descriptor behind a cell, so that a watching task and the performing shell can both use it.
#[derive(Debug)]
pub struct Watched<T> {
    inner: RefCell<T>,
    descriptor: RawFd,
}

impl<T> Watched<T> {
    /// The owner, for one use between two waits.
    pub fn get(&self) -> RefMut<'_, T> {
        self.inner.borrow_mut()
    }
}

impl<T> AsRawFd for Watched<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor
    }
}

/// Registers a descriptor with the event loop of this thread, edge-triggered, until it is dropped together with its
/// owner.
///
/// # Errors
/// What the operating system said.
pub fn watch<T: AsFd>(inner: T, interest: Interest) -> io::Result<AsyncFd<Watched<T>>> {
    let descriptor = inner.as_fd().as_raw_fd();
    let watched = Watched { inner: RefCell::new(inner), descriptor };
    // SAFETY: the descriptor belongs to `inner`, which lives in the AsyncFd as long as the registration does; the
    // types of this crate that are watched neither close nor exchange their descriptor while they live.
    unsafe { AsyncFd::register_with_interest(watched, interest) }.map_err(io::Error::from)
}
