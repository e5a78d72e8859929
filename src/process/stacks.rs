//! Room for hostile messages: the stack of threads that libraries start.
//!
//! A broker's message may carry headers that are tables in tables, thousands deep, and the client library reads them
//! by recursion on a thread of its own. With the usual 2 MiB such a message ends the process, comes again, and ends it
//! again. The largest headers that fit a frame (128 KiB) nest about 20,000 deep, which takes some 40 MiB.

/// A stack with room for that, in bytes. Only what is used of it costs memory.
pub const LARGE: usize = 128 << 20;

/// Gives all threads that are started from now on that come without a size of their own a large stack. To be called
/// before the first thread is started; does nothing in a process that has several already, or a wish of its own in
/// `RUST_MIN_STACK`.
pub fn enlarge() {
    let is_alone = std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
    if is_alone && std::env::var_os("RUST_MIN_STACK").is_none() {
        // SAFETY: this is the only thread, so nobody reads the environment at the same time.
        unsafe { std::env::set_var("RUST_MIN_STACK", LARGE.to_string()) };
    }
}
