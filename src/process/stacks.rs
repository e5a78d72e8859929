//! The size of the stacks of threads that libraries start.
//!
//! A broker's message may carry headers that are tables in tables, thousands deep, and the client library reads them
//! by recursion on a thread of its own. With the usual 2 MiB such a message ends the process, comes again, and ends it
//! again. The largest headers that fit a frame (128 KiB) nest about 20,000 deep, which takes some 40 MiB.
//!
//! The library has no setting for it, and the standard library reads `RUST_MIN_STACK` when it starts the first thread that
//! has no size of its own, and never again. So the variable has to be set before that thread is started.

use std::{
    env,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

/// The size of a stack that holds the recursion through such headers, in bytes. Only what is used of it costs memory. Code that was not optimized takes some 10 KiB a
/// level.
pub const LARGE: usize = if cfg!(debug_assertions) { 512 << 20 } else { 128 << 20 };

const VARIABLE: &str = "RUST_MIN_STACK";

/// Gives all threads that are started from now on and come without a size of their own a large stack, and says whether they
/// have one. To be called at the beginning of `main`: in a process that has several threads, or has had some, it is too
/// late. A value of `RUST_MIN_STACK` that the process was started with is kept and counts instead.
pub fn enlarge() -> bool {
    static ENLARGED: AtomicBool = AtomicBool::new(false);
    if ENLARGED.load(Ordering::Relaxed) {
        return true;
    }
    if let Some(configured) = env::var_os(VARIABLE) {
        return configured.to_str().and_then(|text| text.parse().ok()).is_some_and(|bytes: usize| bytes >= LARGE);
    }
    let is_alone = || std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
    if !is_alone() {
        return false;
    }
    // SAFETY: this is the only thread, so nobody reads the environment at the same time.
    unsafe { env::set_var(VARIABLE, LARGE.to_string()) };
    // The one for which it is read. It tells whether that was done before, for a thread that has ended since.
    let measured = thread::Builder::new().spawn(own_stack).map(thread::JoinHandle::join);
    // SAFETY: as above: the one thread that was started has ended. Children would inherit it as if it had been configured.
    unsafe { env::remove_var(VARIABLE) };
    let is_large = matches!(measured, Ok(Ok(bytes)) if bytes >= LARGE);
    ENLARGED.store(is_large, Ordering::Relaxed);
    is_large
}

/// The size of this thread's stack, in bytes; 0 if it cannot be told.
fn own_stack() -> usize {
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: the pointer is to room for the attributes of this thread, which lives.
    if unsafe { libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) } != 0 {
        return 0;
    }
    let mut bytes = 0;
    // SAFETY: the call above filled them in, and `bytes` is a whole number of that type.
    let told = unsafe { libc::pthread_attr_getstacksize(attributes.as_ptr(), &raw mut bytes) };
    // SAFETY: they were filled in above, and are used no more.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    if told == 0 { bytes } else { 0 }
}
