//! Everything that touches the operating system's processes and needs `unsafe`.

pub mod inherited;
